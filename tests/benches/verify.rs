// SPDX-License-Identifier: AGPL-3.0-only
//! Verifying signatures: the processor time that the library takes to gather, check and judge what is said of an image in
//! memory, and that of the whole program, with its start and its requests, beside `cosign verify` of the same image at
//! the same registry with the same trust. Nobody asks anything but that registry.

use std::collections::HashMap;
use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, ensure};
use rustix::time::{ClockId, clock_gettime};
use stella_policy::{
    Authority, Descriptor, Digest, Identity, LogRule, Manifest, Pattern, PublicKey, Reference, Roots, Source,
    Time, Trust, TrustRoot, Verifier,
};
use stella_storage::{Clock as _, SystemClock};
use stella_tests::{Client, Clock, Fulcio, Host, Tool, Workshop, find, media_type};

use crate::content::{Blob, Image};
use crate::plan::Plan;
use crate::prepare;
use crate::rounds::{Aim, Cell, Measure, Row, median, progress};
use crate::server::{Kind, Server};
use crate::usage::{ended_seconds, precise};

const FAMILY: &str = "verify";
const TAG: &str = "1";
const SUBJECT: &str = "https://git.test/acme/app";
const ISSUER: &str = "https://git.test";
const SINCE: &str = "2024-01-01T00:00:00Z";
/// Processor time is counted in hundredths of a second; so many runs of a program are counted at once.
const RUNS: u32 = 20;
const QUICK_RUNS: u32 = 2;

pub(crate) fn rows(plan: &Plan) -> anyhow::Result<Vec<Row>> {
    let mut rows = Vec::new();
    let cases = [
        ("an image signed with a P-256 key", 1.0, Case::keyed as Prepare),
        ("a keyless bundle", 5.0, Case::keyless as Prepare),
    ];
    for (what, most, prepare) in cases {
        let (library, program) = (format!("{what}, in the library"), format!("{what}, the program"));
        let [wants_library, wants_program] = [&library, &program].map(|name| plan.wants(FAMILY, name));
        if !wants_library && !wants_program {
            continue;
        }
        let servers = Server::start_all(plan, &[Kind::Stella])?;
        let Some(server) = servers.first() else { continue };
        let case = prepare(plan, server).with_context(|| format!("{FAMILY}: {what}"))?;
        let aims = |most: Option<f64>| most.map(Aim::AtMost).into_iter().collect();
        let row = |name, aims, cells| Row { family: FAMILY, name, measure: Measure::Processor, aims, cells };
        if wants_library {
            let cell = figures(plan, &library, Kind::Stella, || case.call(plan.turn));
            rows.push(row(library, aims(Some(most)), vec![(Kind::Stella, cell)]));
        }
        if wants_program {
            let runs = if plan.arguments.quick { QUICK_RUNS } else { RUNS };
            let cells = [(Kind::Stella, Some(&case.ours)), (Kind::Cosign, case.theirs.as_ref())].map(
                |(kind, command)| {
                    let cell = match command {
                        Some(command) => figures(plan, &program, kind, || command.time(runs)),
                        None => Cell::Absent("not installed".to_owned()),
                    };
                    (kind, cell)
                },
            );
            rows.push(row(program, aims(None), cells.into()));
        }
    }
    Ok(rows)
}

/// Measures in rounds, after one that does not count.
fn figures(plan: &Plan, name: &str, kind: Kind, measure: impl Fn() -> anyhow::Result<f64>) -> Cell {
    let mut figures = Vec::new();
    for round in 0..=plan.rounds {
        match measure() {
            Ok(_) if round == 0 => {}
            Ok(ms) => {
                progress(&format!("{FAMILY}: {name}, round {round}, {}: {ms:.3} ms of CPU", kind.name()));
                figures.push(vec![(Measure::Processor.name(), ms)]);
            }
            Err(error) => {
                progress(&format!("{FAMILY}: {name}, {}: FAILED: {error:#}", kind.name()));
                return Cell::Failed(format!("{error:#}"));
            }
        }
    }
    Cell::Figures(figures)
}

type Prepare = fn(&Plan, &Server) -> anyhow::Result<Case>;

/// A signed image, and who verifies it.
struct Case {
    held: Held,
    digest: Digest,
    verifier: Verifier,
    authority: Authority,
    ours: Command,
    theirs: Option<Command>,
    // Where the programs find their files, as long as they run.
    _shop: Workshop,
}

/// A program with what it is told.
struct Command {
    tool: Tool,
    arguments: String,
}

impl Case {
    fn keyed(plan: &Plan, server: &Server) -> anyhow::Result<Self> {
        let shop = Workshop::with(&[]).context("no scratch directory")?;
        let (stella, cosign) = (ours(plan, &shop)?, find("cosign").map(|path| shop.at(path)));
        let image = push(server, "bench/key")?;
        run(&stella, "generate-key-pair")?;
        run(&stella, &format!("sign --key cosign.key {image}"))?;
        let key = PublicKey::from_pem(&fs::read_to_string(shop.path("cosign.pub"))?)?;
        let mut trust = Trust::new();
        trust.add_key(key.clone());
        let authority = Authority::of_keys("key", vec![key.into()]).with_log(LogRule::Ignored);
        let flags = format!("verify --key cosign.pub --insecure-ignore-tlog {image}");
        let theirs = cosign.map(|tool| {
            // Without a root it would ask the Internet for one.
            run(&tool, "trusted-root create --out empty.json")?;
            Ok::<_, anyhow::Error>(Command { tool, arguments: format!("{flags} --trusted-root empty.json") })
        });
        let theirs = theirs.transpose()?;
        let ours = Command { tool: stella, arguments: flags };
        Self::new(server, ("bench/key", &image), &trust, authority, (ours, theirs), shop)
    }

    fn keyless(plan: &Plan, server: &Server) -> anyhow::Result<Self> {
        let shop = Workshop::with(&[Client::Cosign, Client::TimestampServer])
            .context("cosign and timestamp-server are needed to sign; tests/benches/run.sh installs them")?;
        let (stella, cosign) = (ours(plan, &shop)?, shop.program("cosign"));
        let image = push(server, "bench/keyless")?;
        let clock = Clock::start(&shop.program("timestamp-server"), &shop.path("clock.log"))
            .context("a timestamp authority needs a network of its own, and so root")?;
        let fulcio = Fulcio::new();
        let leaf = fulcio.issue(SUBJECT, ISSUER);
        for (name, text) in [
            ("chain.pem", fulcio.chain()),
            ("clock.pem", clock.chain()),
            ("leaf.pem", leaf.certificate),
            ("plain.key", leaf.key),
        ] {
            shop.write(name, text);
        }
        let url = clock.url();
        run(&cosign, "import-key-pair --key plain.key --output-key-prefix leaf")?;
        run(
            &cosign,
            &format!(
                "trusted-root create --out root.json \
                 --fulcio url=https://fulcio.test,certificate-chain=chain.pem,start-time={SINCE} \
                 --tsa url={url},certificate-chain=clock.pem,start-time={SINCE}"
            ),
        )?;
        run(
            &cosign,
            &format!(
                "signing-config create --with-default-services=false --out services.json --tsa-config ANY \
                 --tsa url={url},api-version=1,start-time={SINCE},operator=bench"
            ),
        )?;
        run(
            &cosign,
            &format!(
                "sign -y --key leaf.key --certificate leaf.pem --signing-config services.json --trusted-root root.json {image}"
            ),
        )?;
        let root = TrustRoot::from_json("root", &fs::read(shop.path("root.json"))?)?;
        let identity = Identity {
            issuer: Pattern::exact(ISSUER).map_err(|why| anyhow!("{why}"))?,
            subject: Pattern::exact(SUBJECT).map_err(|why| anyhow!("{why}"))?,
        };
        let authority = Authority::of_identities("keyless", vec![identity], Roots::one("root"))
            .with_log(LogRule::Ignored)
            .with_timestamp(Roots::Any)
            .with_unlogged_certificates();
        let mut trust = Trust::new();
        trust.add_root(root)?;
        let flags = format!(
            "verify --certificate-identity {SUBJECT} --certificate-oidc-issuer {ISSUER} --trusted-root root.json \
             --insecure-ignore-tlog --use-signed-timestamps {image}"
        );
        let theirs = Command { tool: cosign, arguments: format!("{flags} --insecure-ignore-sct") };
        let ours = Command { tool: stella, arguments: flags };
        Self::new(server, ("bench/keyless", &image), &trust, authority, (ours, Some(theirs)), shop)
    }

    fn new(
        server: &Server,
        (repository, image): (&str, &str),
        trust: &Trust,
        authority: Authority,
        (ours, theirs): (Command, Option<Command>),
        shop: Workshop,
    ) -> anyhow::Result<Self> {
        let digest: Digest = image.rsplit_once('@').context("no digest")?.1.parse()?;
        let held = Held::of(server, repository, &digest)?;
        let verifier = Verifier::new(trust)?;
        Ok(Self { held, digest, verifier, authority, ours, theirs, _shop: shop })
    }

    /// Milliseconds of processor time that one verification takes: the median of all that fit into `turn`.
    fn call(&self, turn: Duration) -> anyhow::Result<f64> {
        let runtime = tokio::runtime::Builder::new_current_thread().build()?;
        let now = Time(i64::try_from(SystemClock.now().0 / 1_000)?);
        let (began, mut all) = (Instant::now(), Vec::new());
        while began.elapsed() < turn || all.is_empty() {
            let before = nanoseconds();
            let findings = runtime.block_on(self.verifier.examine(&self.held, &self.digest))?;
            let examined = self.authority.examine(&self.digest, &findings.facts, &findings.rejected, now);
            all.push(precise(nanoseconds() - before) / 1e6);
            ensure!(examined.outcome.passed, "not verified: {:?}", examined.outcome);
        }
        median(&all).context("nothing was measured")
    }
}

impl Command {
    /// Milliseconds of processor time of one run.
    fn time(&self, runs: u32) -> anyhow::Result<f64> {
        let before = ended_seconds()?;
        for _ in 0..runs {
            run(&self.tool, &self.arguments)?;
        }
        Ok((ended_seconds()? - before) * 1e3 / f64::from(runs))
    }
}

/// Of this thread, on a processor.
fn nanoseconds() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    let whole = u64::try_from(time.tv_sec).unwrap_or_default() * 1_000_000_000;
    whole + u64::try_from(time.tv_nsec).unwrap_or_default()
}

fn ours(plan: &Plan, shop: &Workshop) -> anyhow::Result<Tool> {
    let program = plan.programs.iter().find(|program| program.kind == Kind::Stella);
    let program = program.context("stella is not measured")?;
    Ok(shop.at(program.path().to_owned()).env("COSIGN_PASSWORD", ""))
}

fn run(tool: &Tool, arguments: &str) -> anyhow::Result<()> {
    let tool = tool.clone().env("COSIGN_PASSWORD", "");
    tool.try_run(arguments).succeeded().map(|_| ()).map_err(|outcome| anyhow!("{outcome}"))
}

/// Pushes an image, and gives its name by digest.
fn push(server: &Server, repository: &str) -> anyhow::Result<String> {
    let image = Image::new(1);
    prepare::image(server.host(), repository, &image)?;
    let manifest = Blob::new(image.manifests(None).number(0));
    prepare::manifest(&mut server.talk()?, repository, TAG, &manifest.bytes)?;
    Ok(format!("{}/{repository}@{}", server.host(), manifest.digest))
}

/// A repository in memory, as far as an image and what is said of it go.
struct Held {
    manifests: HashMap<Digest, Manifest>,
    referrers: Vec<Descriptor>,
    blobs: HashMap<Digest, Vec<u8>>,
}

impl Held {
    fn of(server: &Server, repository: &str, digest: &Digest) -> anyhow::Result<Self> {
        let repository = Host::plain(server.host()).repository(repository);
        let mut held = Self { manifests: HashMap::new(), referrers: Vec::new(), blobs: HashMap::new() };
        for value in repository.referrers(digest.as_str()) {
            held.referrers.push(serde_json::from_value(value)?);
        }
        ensure!(held.referrers.len() == 1, "{} signatures", held.referrers.len());
        let signatures = held.referrers.iter().map(|descriptor| &descriptor.digest);
        for digest in [digest].into_iter().chain(signatures) {
            let found =
                repository.send(&repository.request("GET", &format!("manifests/{digest}"))).must_be(200);
            for layer in found.json()["layers"].as_array().into_iter().flatten() {
                let layer = layer["digest"].as_str().context("a layer without a digest")?;
                held.blobs.insert(layer.parse()?, repository.blob(layer));
            }
            let media_type = media_type::MANIFEST.to_owned();
            let manifest = Manifest { digest: digest.clone(), media_type, bytes: found.body };
            held.manifests.insert(digest.clone(), manifest);
        }
        Ok(held)
    }
}

impl Source for Held {
    async fn manifest(&self, reference: &Reference) -> stella_policy::Result<Option<Manifest>> {
        Ok(match reference {
            Reference::Digest(digest) => self.manifests.get(digest).cloned(),
            Reference::Tag(_) => None,
        })
    }

    async fn referrers(&self, _: &Digest, limit: usize) -> stella_policy::Result<Vec<Descriptor>> {
        Ok(self.referrers.iter().take(limit).cloned().collect())
    }

    async fn blob(&self, digest: &Digest, _: u64) -> stella_policy::Result<Option<Vec<u8>>> {
        Ok(self.blobs.get(digest).cloned())
    }
}
