// SPDX-License-Identifier: AGPL-3.0-only
//! Many policies and many digests: how long new policies take to hold, what readers wait for meanwhile, until when all is
//! judged, and the memory of it. Policies are in force that demand nothing; then the same demand a signature by a team's
//! own key for the team's own repository. `--policies 10000 --digests 100000 --patience 7200` is what a
//! large company has; the images take some ten minutes to push.

use std::fs;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use rustix::process::Signal;
use serde_json::Value;
use stella_policy::{PrivateKey, sign};
use stella_tests::{Rng, digest};

use crate::content::{Blob, Image};
use crate::gate::{FAMILY, Signature, basic, enforced, push, signed, start, write};
use crate::plan::Plan;
use crate::prepare;
use crate::rounds::{Aim, Cell, Figures, Measure, Row, median, progress, said, sync};
use crate::server::{Kind, Server};
use crate::usage::precise;
use crate::wire::Talk;

/// Repositories that the digests are spread over; each is about a policy of its own.
const REPOSITORIES: u64 = 100;
/// Policies in one file.
const IN_FILE: usize = 100;
/// Who pulls while all is judged.
const CLIENTS: usize = 4;

/// The figures, by the ends of the rows' names.
struct Found {
    holds: Figures,
    pulls: Figures,
    judged: Figures,
    memory: Figures,
}

pub(crate) fn rows(plan: &Plan) -> Vec<Row> {
    let (policies, digests) = (plan.sizes.policies, plan.sizes.judged);
    let ends = [
        ("until new ones hold", Measure::Until, 2_000.0),
        ("p99 of the first pulls then", Measure::Until, 50.0),
        ("until all are judged", Measure::Until, 600_000.0),
        ("memory", Measure::Memory, f64::INFINITY),
    ];
    let name = |end: &str| format!("{policies} policies and {digests} digests: {end}");
    let wanted = ends.map(|(end, _, _)| plan.wants(FAMILY, &name(end)));
    if wanted == [false; 4] || !plan.programs.iter().any(|program| program.kind == Kind::Stella) {
        return Vec::new();
    }
    let found = measure(plan).map_err(|error| format!("{error:#}"));
    let cell = |figures: &dyn Fn(&Found) -> Figures| match &found {
        Ok(found) => Cell::Figures(vec![figures(found)]),
        Err(why) => Cell::Failed(why.clone()),
    };
    let cells = [
        cell(&|found| found.holds.clone()),
        cell(&|found| found.pulls.clone()),
        cell(&|found| found.judged.clone()),
        cell(&|found| found.memory.clone()),
    ];
    let rows = ends.into_iter().zip(cells).zip(wanted).filter(|(_, wanted)| *wanted);
    let row = |(((end, measure, most), cell), _): (((&str, Measure, f64), Cell), bool)| {
        let aims = if most.is_finite() { vec![Aim::AtMost(most)] } else { Vec::new() };
        Row { family: FAMILY, name: name(end), measure, aims, cells: vec![(Kind::Stella, cell)] }
    };
    rows.map(row).collect()
}

fn repository(number: u64) -> String {
    format!("team-{number}/app")
}

fn measure(plan: &Plan) -> anyhow::Result<Found> {
    let folder = plan.folder.join("many-policies");
    fs::create_dir_all(&folder)?;
    let keys: Vec<_> =
        (0..plan.sizes.policies).map(|_| PrivateKey::generate()).collect::<stella_policy::Result<_>>()?;
    for (number, keys) in keys.chunks(IN_FILE).enumerate() {
        let first = number * IN_FILE;
        let texts = keys
            .iter()
            .zip(first..)
            .map(|(key, number)| signed(&format!("team-{number}"), &format!("team-{number}/**"), key));
        write(&folder, &format!("teams-{number}.yaml"), &texts.collect::<Vec<_>>().join("\n---\n"))?;
    }
    write(&folder, "all.yaml", &enforced("**", "off"))?;
    let server = start(plan, &folder)?;
    let idle = server.memory()?.resident;
    let manifests = fill(plan, &server, &keys)?;
    let filled = server.memory()?.resident;
    sync(&server)?;

    let mut owner = Talk::open(server.host())?.with_credentials(Some(&basic("bench")));
    let before = status(&mut owner)?.0;
    write(&folder, "all.yaml", &enforced("**", "enforce"))?;
    let (began, used) = (Instant::now(), server.processor_seconds()?);
    server.signal(Signal::HUP);
    while status(&mut owner)?.0 == before {
        ensure!(began.elapsed() < plan.patience(), "the policies were not loaded");
        thread::sleep(Duration::from_millis(1));
    }
    let holds = began.elapsed();
    progress(&format!("{FAMILY}: new policies hold after {holds:?}"));
    let holds = vec![(Measure::Until.name(), holds.as_secs_f64() * 1e3)];
    let judging = Instant::now();
    let pulls = first_pulls(&server, &manifests)?;
    progress(&format!("{FAMILY}: first pulls: {}", said(&pulls)));
    let judged = until_judged(plan, &mut owner, judging)?;
    let used = server.processor_seconds()? - used;
    let judged = vec![(Measure::Until.name(), judged.as_secs_f64() * 1e3), ("server_seconds", used)];
    let memory = server.memory()?;
    let mb = |kib: u64| precise(kib) * 1024.0 / 1e6;
    let memory = vec![
        (Measure::Memory.name(), mb(memory.resident)),
        ("peak_mb", mb(memory.peak)),
        ("with_policies_mb", mb(idle)),
        ("with_content_mb", mb(filled)),
    ];
    progress(&format!("{FAMILY}: {}; {}", said(&judged), said(&memory)));
    Ok(Found { holds, pulls, judged, memory })
}

/// Pushes all images, each signed with its team's key; gives where each manifest is.
fn fill(plan: &Plan, server: &Server, keys: &[PrivateKey]) -> anyhow::Result<Vec<String>> {
    let repositories = REPOSITORIES.min(keys.len() as u64);
    let image = Image::new(1);
    let stamped = image.manifests(None);
    let owner = basic("bench");
    prepare::fill(server.host(), repositories, plan.patience(), |talk, number| {
        talk.authorize(&owner);
        let empty = Blob::new(sign::EMPTY_CONFIG.to_vec());
        image.blobs().chain([&empty]).try_for_each(|blob| push(talk, &repository(number), blob))
    })?;
    prepare::fill(server.host(), plan.sizes.judged, plan.patience(), |talk, number| {
        talk.authorize(&owner);
        let (team, manifest) = (number % repositories, stamped.number(number));
        let repo = repository(team);
        let key = usize::try_from(team).ok().and_then(|team| keys.get(team));
        let key = key.ok_or_else(|| std::io::Error::other("no key"))?;
        let signature = Signature::of(key, &manifest).map_err(std::io::Error::other)?;
        prepare::manifest(talk, &repo, &format!("v{number}"), &manifest)?;
        signature.prepare(talk, &repo)?;
        signature.put(talk, &repo)
    })?;
    let place = |number| {
        format!("/v2/{}/manifests/{}", repository(number % repositories), digest(&stamped.number(number)))
    };
    Ok((0..plan.sizes.judged).map(place).collect())
}

/// The epoch, and the tags that are still to be judged.
fn status(talk: &mut Talk) -> anyhow::Result<(u64, u64)> {
    let answer = talk.ask("GET", "/api/stella/v1/policy/status", &[], &[])?.must_be(200)?;
    let status: Value = serde_json::from_slice(&answer.body)?;
    ensure!(status["error"].is_null(), "{status}");
    let number = |name: &str| status[name].as_u64().with_context(|| format!("no {name}: {status}"));
    Ok((number("epoch")?, number("pendingRecompute")?))
}

/// Pulls manifests that nobody has asked for since, in no order, until all are pulled or some seconds are over.
fn first_pulls(server: &Server, manifests: &[String]) -> anyhow::Result<Figures> {
    let mut rng = Rng::new(1);
    let mut order: Vec<&String> = manifests.iter().collect();
    for place in (1..order.len()).rev() {
        order.swap(place, rng.index(place + 1).unwrap_or_default());
    }
    let (next, deadline) = (AtomicU64::new(0), Instant::now() + Duration::from_secs(5));
    let client = || -> std::io::Result<Vec<f64>> {
        let mut talk = Talk::open(server.host())?.with_credentials(Some(&basic("reader")));
        let mut took = Vec::new();
        while Instant::now() < deadline {
            let number = usize::try_from(next.fetch_add(1, Ordering::Relaxed)).unwrap_or(usize::MAX);
            let Some(target) = order.get(number) else { break };
            let began = Instant::now();
            talk.ask("GET", target, &[], &[])?.must_be(200)?;
            took.push(began.elapsed().as_secs_f64() * 1e3);
        }
        Ok(took)
    };
    let took: std::io::Result<Vec<Vec<f64>>> = thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(client)).collect();
        let failed = |_| std::io::Error::other("a client failed");
        clients.into_iter().map(|client| client.join().map_err(failed)?).collect()
    });
    let mut took = took?.concat();
    took.sort_by(f64::total_cmp);
    let last = took.len() - 1 - took.len() / 100;
    let p99 = took.get(last).copied().context("nothing was pulled")?;
    let most = took.last().copied().unwrap_or_default();
    let middle = median(&took).unwrap_or_default();
    let count = precise(took.len() as u64);
    Ok(vec![(Measure::Until.name(), p99), ("p50_ms", middle), ("most_ms", most), ("pulls", count)])
}

fn until_judged(plan: &Plan, owner: &mut Talk, began: Instant) -> anyhow::Result<Duration> {
    let deadline = began + plan.patience().max(Duration::from_mins(15));
    loop {
        let (_, pending) = status(owner)?;
        if pending == 0 {
            return Ok(began.elapsed());
        }
        ensure!(Instant::now() < deadline, "{pending} are not judged yet");
        thread::sleep(Duration::from_millis(20));
    }
}
