// SPDX-License-Identifier: AGPL-3.0-only
//! Pages of lists, asked for by one client, each page from another place of the list: what it costs should follow the
//! page, not the list. Whether a server gives pages at all is seen before the clock runs.

use std::time::Duration;

use serde_json::Value;

use crate::content::{Blob, Image};
use crate::load::{Ask, Limit, ask};
use crate::plan::Plan;
use crate::prepare::{self, fill, request};
use crate::rounds::{Aim, Cell, Measure, Row, Spec, Tally, measure, progress};
use crate::server::{Kind, Server};
use crate::wire::Talk;

const FAMILY: &str = "pages";
const TAGS: &str = "tags";
const REFERRERS: &str = "referrers";

/// Rows of a page of tags or repositories.
const PAGE: u64 = 50;
/// Tags or repositories of a short list.
const FEW: u64 = 2 * PAGE;
/// Referrers of a page, and of a short list.
const FEW_REFERRERS: u64 = 10;
/// How many pages are asked for in turn.
const PAGES: u64 = 50;

/// What is listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Of {
    Tags,
    Repositories,
    Referrers,
}

/// A list of some length.
#[derive(Clone, Debug)]
struct List {
    of: Of,
    length: u64,
    name: String,
}

/// Who has no such list, and why.
type Absent = Vec<(Kind, String)>;

pub(crate) fn rows(plan: &Plan) -> anyhow::Result<Vec<Row>> {
    let sizes = plan.sizes;
    let mut rows = Vec::new();
    for (of, few, many) in [
        (Of::Tags, FEW, sizes.tags),
        (Of::Repositories, FEW, sizes.repositories),
        (Of::Referrers, FEW_REFERRERS, sizes.referrers),
    ] {
        let lists = [few, many].map(|length| List::new(of, length));
        let growth = format!("{}, times of the two before", of.name());
        // A growth needs both; else each list may be asked for alone.
        let wanted = plan.wants(FAMILY, &growth);
        let wanted: Vec<_> =
            lists.iter().filter(|list| plan.wants(FAMILY, &list.name) || wanted).cloned().collect();
        if wanted.is_empty() {
            continue;
        }
        let servers = Server::start_all(plan, &Kind::REGISTRIES)?;
        let mut measured = Vec::new();
        // One after the other, because a catalog is the whole server's.
        for list in &wanted {
            let absent = servers.iter().filter_map(|server| list.prepare(plan, server)).collect::<Absent>();
            let turn = |server: &Server, part: f64| list.ask(server, plan.turn.mul_f64(part));
            let spec = Spec::new(list.name.clone(), Measure::Latency, turn).without(&absent);
            measured.extend(measure(plan, FAMILY, &servers, &[spec]));
        }
        if let [few, many] = &measured[..] {
            let growth = compare(growth, few, many);
            measured.push(growth);
        }
        rows.extend(measured);
    }
    Ok(rows)
}

/// How many times longer a page of `many` takes than one of `few`, in each round.
fn compare(name: String, few: &Row, many: &Row) -> Row {
    let figure = Measure::Latency.name();
    let cells = many.cells.iter().map(|(kind, cell)| {
        let times = few.values(*kind, figure).into_iter().zip(many.values(*kind, figure));
        let times = times.map(|(few, many)| vec![(Measure::Growth.name(), many / few)]).collect();
        (*kind, if matches!(cell, Cell::Figures(_)) { Cell::Figures(times) } else { cell.clone() })
    });
    let cells = cells.collect();
    Row { family: FAMILY, name, measure: Measure::Growth, aims: vec![Aim::AtMost(1.2)], cells }
}

impl Of {
    fn name(self) -> &'static str {
        match self {
            Self::Tags => "tags",
            Self::Repositories => "repositories",
            Self::Referrers => "referrers",
        }
    }
}

impl List {
    fn new(of: Of, length: u64) -> Self {
        let rows = if of == Of::Referrers { FEW_REFERRERS } else { PAGE };
        Self { of, length, name: format!("{rows} of {length} {}", of.name()) }
    }

    /// An image whose only blob is its configuration and its layer.
    fn image() -> Image {
        let blob = Blob::new(br#"{"architecture":"amd64","os":"linux"}"#.to_vec());
        Image { config: blob.clone(), layers: vec![blob] }
    }

    /// What the referrers of this list refer to.
    fn subject(&self) -> Blob {
        Blob::new(Self::image().manifests(None).number(self.length))
    }

    /// Fills a server; gives why it does not take part, if it does not.
    fn prepare(&self, plan: &Plan, server: &Server) -> Option<(Kind, String)> {
        progress(&format!("{FAMILY}: preparing {} on {}", self.name, server.kind.name()));
        let reason = match self.fill(server, plan.patience()) {
            Ok(()) => self.look(server).err()?,
            Err(error) => error,
        };
        Some((server.kind, format!("{reason:#}")))
    }

    fn fill(&self, server: &Server, patience: Duration) -> anyhow::Result<()> {
        let (host, image) = (server.host(), Self::image());
        let stamped = image.manifests(None);
        match self.of {
            Of::Tags => {
                let repository = self.repository();
                prepare::image(host, &repository, &image)?;
                let manifest = stamped.number(0);
                fill(host, self.length, patience, |talk, number| {
                    prepare::manifest(talk, &repository, &tag(number), &manifest)
                })
            }
            Of::Repositories => {
                prepare::image(host, "a", &image)?;
                let manifest = stamped.number(0);
                fill(host, self.length, patience, |talk, number| {
                    let repository = repository_name(number);
                    prepare::mount(talk, &repository, "a", &image.config.digest)?;
                    prepare::manifest(talk, &repository, "1", &manifest)
                })
            }
            Of::Referrers => {
                let (repository, subject) = (self.repository(), self.subject());
                if Talk::open(host)?.ask("GET", &self.target(0), &[], &[])?.status == 404 {
                    anyhow::bail!("has no referrers");
                }
                prepare::image(host, &repository, &image)?;
                let mut talk = Talk::open(host)?;
                prepare::manifest(&mut talk, &repository, &subject.digest, &subject.bytes)?;
                let stamped = image.manifests(Some(&subject));
                fill(host, self.length, patience, |talk, number| {
                    let manifest = Blob::new(stamped.number(number));
                    prepare::manifest(talk, &repository, &manifest.digest, &manifest.bytes)
                })
            }
        }
    }

    /// Looks whether a server gives pages, and the right ones.
    fn look(&self, server: &Server) -> anyhow::Result<()> {
        let mut talk = Talk::open(server.host())?;
        for number in [0, PAGES - 1] {
            let body = talk.ask("GET", &self.target(number), &[], &[])?.must_be(200)?.body;
            let body: Value = serde_json::from_slice(&body)?;
            let (field, rows) = match self.of {
                Of::Tags => ("tags", PAGE),
                Of::Repositories => ("repositories", PAGE),
                Of::Referrers => ("manifests", FEW_REFERRERS),
            };
            let given = body[field].as_array().map_or(0, Vec::len);
            anyhow::ensure!(given as u64 == rows, "gives {given} rows where a page of {rows} is asked for");
            let first = match self.of {
                Of::Tags => tag(self.before(number) + 1),
                Of::Repositories => repository_name(self.before(number) + 1),
                Of::Referrers => continue,
            };
            anyhow::ensure!(
                body[field][0] == first,
                "begins a page with {} instead of {first}",
                body[field][0]
            );
        }
        Ok(())
    }

    fn ask(&self, server: &Server, time: Duration) -> anyhow::Result<Tally> {
        let (host, limit) = (server.host(), Limit::Time(time));
        let requests: Vec<_> =
            (0..PAGES).map(|number| request("GET", host, &self.target(number), &[])).collect();
        let mut requests = requests.iter().cycle();
        let next = |out: &mut Vec<u8>| out.extend(requests.next().into_iter().flatten());
        ask(Ask { host, clients: 1, limit, next, status: 200, length: None, bodiless: false })
    }

    fn repository(&self) -> String {
        let kind = if self.of == Of::Tags { TAGS } else { REFERRERS };
        format!("{kind}/{}", self.length)
    }

    /// The number of the row before a page: pages begin all over the list.
    fn before(&self, page: u64) -> u64 {
        page * (self.length - PAGE - 1) / (PAGES - 1)
    }

    fn target(&self, page: u64) -> String {
        let repository = self.repository();
        match self.of {
            Of::Tags => format!("/v2/{repository}/tags/list?n={PAGE}&last={}", tag(self.before(page))),
            Of::Repositories => format!("/v2/_catalog?n={PAGE}&last={}", repository_name(self.before(page))),
            Of::Referrers => {
                format!("/v2/{repository}/referrers/{}?n={FEW_REFERRERS}", self.subject().digest)
            }
        }
    }
}

fn tag(number: u64) -> String {
    format!("t{number:06}")
}

fn repository_name(number: u64) -> String {
    format!("r{number:06}")
}
