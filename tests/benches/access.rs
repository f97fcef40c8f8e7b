// SPDX-License-Identifier: AGPL-3.0-only
//! Who asks: what it costs the registry that a client says who it is, beside one that does not, and how many tokens
//! `/token` gives, beside signing alone, and beside answers over HTTP that are signatures and nothing else. One rule
//! decides about all that is pulled here, so that nothing differs but the credentials. No other registry is asked: none
//! of them gives tokens.

use std::fs;
use std::time::Duration;

use anyhow::Context as _;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::Value;
use stella_tests::{media_type, noise};

use crate::content::{Blob, Image};
use crate::load::{Ask, Limit, ask};
use crate::pairs::{self, Load, Pair};
use crate::plan::{MIB, Plan};
use crate::prepare::{self, request};
use crate::pull_load::{Mode, Pull, pull};
use crate::rounds::{Aim, Measure, Row, Spec, Tally, measure};
use crate::server::{Kind, Server};
use crate::sign::{over_http, sign};
use crate::wire::Talk;

const FAMILY: &str = "access";
const REPOSITORY: &str = "bench/access";
const CLIENTS: usize = 16;
const ACCEPT: (&str, &str) = ("Accept", media_type::MANIFEST);

const USER: &str = "bench";
const PASSWORD: &str = "correct horse battery staple";
const RULES: &str = "[{allow: [pull], to: everyone}, {allow: all, to: {subject: bench}}]";
/// As Docker asks for a token to pull with: many clients who ask for the same at once may get the same.
const PULL: &str = "/token?account=bench&scope=repository%3Abench%2Faccess%3Apull&service=stella-registry";
/// The same to push with: each is signed for itself.
const PUSH: &str =
    "/token?account=bench&scope=repository%3Abench%2Faccess%3Apull%2Cpush&service=stella-registry";
/// Of bcrypt. What was proven is remembered: nothing that is measured hashes a password.
const COST: u32 = 10;
/// The bytes of a signature as tokens have it.
const SIGNATURE: usize = 86;

/// How many manifests are asked for in turn, and the layers of each, as in `manifests.rs`.
const MANIFESTS: u64 = 100;
const LAYERS: u64 = 8;

/// What is asked for.
#[derive(Clone, Copy, Debug)]
enum What {
    Manifest,
    Blob,
}

/// How a client says who it is.
#[derive(Clone, Copy, Debug)]
enum By {
    Token,
    Password,
    /// Not at all: a token's bytes stand in a header that nobody reads. What then costs more is HTTP.
    Nothing,
}

pub(crate) fn rows(plan: &Plan) -> anyhow::Result<Vec<Row>> {
    let cases = [
        (What::Manifest, By::Token),
        (What::Blob, By::Token),
        (What::Manifest, By::Password),
        (What::Manifest, By::Nothing),
        (What::Blob, By::Password),
    ];
    let cases: Vec<_> = cases
        .into_iter()
        .map(|(what, by)| (what, by, name(what, by)))
        .filter(|(_, _, name)| plan.wants(FAMILY, name))
        .collect();
    let to_pull = format!("/token for the same pull, {CLIENTS} clients");
    let to_push = format!("/token to push, {CLIENTS} clients");
    let beside_http = format!("/token to push beside HTTP and a signature, {CLIENTS} clients");
    let wants = [&to_pull, &to_push, &beside_http].map(|name| plan.wants(FAMILY, name));
    if cases.is_empty() && wants == [false; 3] {
        return Ok(Vec::new());
    }
    let users = plan.folder.join("users");
    fs::write(&users, format!("{USER}:{}\n", bcrypt::hash(PASSWORD, COST)?))?;
    let users = users.to_str().context("a folder's name is not UTF-8")?;
    let settings = [("STELLA_ACCESS", RULES), ("STELLA_AUTH__HTPASSWD", users)];
    let start = |kind| {
        let program = plan.programs.iter().find(|program| program.kind == kind);
        program.map(|program| Server::start(plan, program, &settings)).transpose()
    };
    let Some(server) = start(Kind::Stella)? else { return Ok(Vec::new()) };
    let credentials = Credentials::of(&server)?;
    let mut rows = Vec::new();
    if !cases.is_empty() {
        let content = Content::new(plan);
        content.fill(&server, &credentials)?;
        let pairs: Vec<_> = cases
            .into_iter()
            .map(|(what, by, name)| {
                let aims = match by {
                    By::Token => vec![Aim::AtMost(1.03)],
                    By::Password | By::Nothing => Vec::new(),
                };
                let anonymous = content.load(&server, what, None);
                let known = content.load(&server, what, Some((by.header(), credentials.value(by))));
                Pair { name, measure: Measure::Cost, aims, plain: anonymous, other: known }
            })
            .collect();
        rows = pairs::measure(plan, FAMILY, &server, &pairs);
    }
    if wants != [false; 3] {
        let servers: Vec<_> = [server].into_iter().chain(start(Kind::Bare)?).collect();
        let sign = |target| {
            let credentials = &credentials;
            move |server: &Server, part: f64| credentials.sign(server, target, plan.turn.mul_f64(part))
        };
        let to_answer = |server: &Server, part| credentials.answer(server, plan.turn.mul_f64(part));
        let specs = [
            Spec::new(to_pull, Measure::Rate, sign(PULL)).aim(Aim::Times(Kind::Bare, 0.5)),
            Spec::new(to_push, Measure::Rate, sign(PUSH)),
            Spec::new(beside_http, Measure::Requests, to_answer),
        ];
        let specs = specs.into_iter().zip(wants).filter_map(|(spec, wanted)| wanted.then_some(spec));
        rows.extend(measure(plan, FAMILY, &servers, &specs.collect::<Vec<_>>()));
    }
    Ok(rows)
}

fn name(what: What, by: By) -> String {
    let what = match what {
        What::Manifest => "manifest GET by tag",
        What::Blob => "blob pull 1 MiB",
    };
    let by = match by {
        By::Token => "a token",
        By::Password => "a password",
        By::Nothing => "a header as long as a token, which nobody reads",
    };
    format!("{what} with {by}, {CLIENTS} clients")
}

impl By {
    fn header(self) -> &'static str {
        match self {
            By::Token | By::Password => "Authorization",
            By::Nothing => "X-Nobody-Reads",
        }
    }
}

/// The values of `Authorization`.
struct Credentials {
    token: String,
    password: String,
    /// As many bytes of a token are signed.
    signed: usize,
    /// As many bytes has an answer of `/token`.
    answered: usize,
}

impl Credentials {
    /// Gets a token of a server, by which the password becomes known there.
    fn of(server: &Server) -> anyhow::Result<Self> {
        let password = format!("Basic {}", BASE64_STANDARD.encode(format!("{USER}:{PASSWORD}")));
        let headers = [("Authorization", password.as_str())];
        let answer = Talk::open(server.host())?.ask("GET", PULL, &headers, &[])?.must_be(200)?;
        let answered = answer.body.len();
        let answer: Value = serde_json::from_slice(&answer.body)?;
        let token = answer["token"].as_str().context("no token")?;
        let signed = token.rfind('.').context("not a token")?;
        Ok(Self { token: format!("Bearer {token}"), password, signed, answered })
    }

    fn value(&self, by: By) -> &str {
        match by {
            By::Token | By::Nothing => &self.token,
            By::Password => &self.password,
        }
    }

    /// Has a server give tokens, or sign what a token says.
    fn sign(&self, server: &Server, target: &str, time: Duration) -> anyhow::Result<Tally> {
        if server.kind == Kind::Bare {
            sign(server.host(), self.signed, time)
        } else {
            self.ask(server.host(), target, time)
        }
    }

    /// Has a server make tokens, or answer with as much that has a signature in it.
    fn answer(&self, server: &Server, time: Duration) -> anyhow::Result<Tally> {
        if server.kind != Kind::Bare {
            return self.ask(server.host(), PUSH, time);
        }
        let host = over_http(server.host())?;
        // What stands beside the signature.
        let rest = self.answered.saturating_sub(SIGNATURE);
        let target = format!("/{}/{rest}?{}", self.signed, PUSH.trim_start_matches("/token?"));
        self.ask(&host, &target, time)
    }

    fn ask(&self, host: &str, target: &str, time: Duration) -> anyhow::Result<Tally> {
        let request = request("GET", host, target, &[("Authorization", &self.password)]);
        let next = |out: &mut Vec<u8>| out.extend(&request);
        let limit = Limit::Time(time);
        ask(Ask { host, clients: CLIENTS, limit, next, status: 200, length: None, bodiless: false })
    }
}

/// What the server has.
struct Content {
    image: Image,
    manifests: Vec<Vec<u8>>,
    blobs: Vec<Blob>,
}

impl Content {
    fn new(plan: &Plan) -> Self {
        let image = Image::new(LAYERS);
        let stamped = image.manifests(None);
        let manifests = (0..MANIFESTS).map(|number| stamped.number(number)).collect();
        let blobs = (0..plan.sizes.smalls).map(|number| Blob::new(noise(number, MIB))).collect();
        Self { image, manifests, blobs }
    }

    /// Puts everything onto a server, and looks whether everybody gets it back as it was.
    fn fill(&self, server: &Server, credentials: &Credentials) -> anyhow::Result<()> {
        let talk = |who| Ok::<_, std::io::Error>(Talk::open(server.host())?.with_credentials(who));
        let all = [None, Some(credentials.value(By::Token)), Some(credentials.value(By::Password))];
        let mut owner = talk(Some(credentials.value(By::Password)))?;
        for blob in self.image.blobs().chain(&self.blobs) {
            prepare::blob(&mut owner, REPOSITORY, blob)?;
        }
        for (bytes, number) in self.manifests.iter().zip(0..) {
            prepare::manifest(&mut owner, REPOSITORY, &tag(number), bytes)?;
        }
        for who in all {
            let mut talk = talk(who)?;
            for (bytes, number) in self.manifests.iter().zip(0..) {
                prepare::expect(&mut talk, &manifest(&tag(number)), &[ACCEPT], bytes)?;
            }
            for Blob { digest, bytes } in &self.blobs {
                prepare::expect(&mut talk, &blob(digest), &[], bytes)?;
            }
        }
        Ok(())
    }

    /// Asks a server for one kind of thing again and again, with one header more.
    fn load<'a>(&self, server: &'a Server, what: What, header: Option<(&str, &str)>) -> Load<'a> {
        let host = server.host();
        let get = |target: String, headers: &[(&str, &str)]| {
            let headers: Vec<_> = headers.iter().copied().chain(header).collect();
            request("GET", host, &target, &headers)
        };
        match what {
            What::Manifest => {
                let length = self.manifests.first().map(|bytes| bytes.len() as u64);
                let requests: Vec<_> =
                    (0..MANIFESTS).map(|number| get(manifest(&tag(number)), &[ACCEPT])).collect();
                Box::new(move |limit| {
                    let mut requests = requests.iter().cycle();
                    let next = |out: &mut Vec<u8>| out.extend(requests.next().into_iter().flatten());
                    ask(Ask { host, clients: CLIENTS, limit, next, status: 200, length, bodiless: false })
                })
            }
            What::Blob => {
                let requests: Vec<_> = self.blobs.iter().map(|known| get(blob(&known.digest), &[])).collect();
                let (length, clients, mode) = (MIB, CLIENTS, Mode::Read);
                Box::new(move |limit| pull(Pull { host, requests: &requests, length, clients, mode, limit }))
            }
        }
    }
}

fn tag(number: u64) -> String {
    format!("v{number}")
}

fn manifest(reference: &str) -> String {
    format!("/v2/{REPOSITORY}/manifests/{reference}")
}

fn blob(digest: &str) -> String {
    format!("/v2/{REPOSITORY}/blobs/{digest}")
}
