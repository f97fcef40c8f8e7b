// SPDX-License-Identifier: AGPL-3.0-only
//! What was done and seen, and when; and what may, or must, have been so at an instant.
//!
//! A change takes effect somewhere between its request and its answer. So something *may* be there if some order of these
//! changes has it there, and it *must* be there if all have. What a reader got must be what may have been so at one instant
//! between its request and its answer: evidence, manifests and policies of the same instant.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// From a request to its answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    pub(super) start: Duration,
    pub(super) end: Duration,
}

/// When something came, and when it went.
#[derive(Debug, Default)]
struct Life {
    came: Vec<Span>,
    went: Vec<Span>,
}

impl Life {
    fn may_be(&self, at: Duration) -> bool {
        let gone = |came: &Span| self.went.iter().any(|went| went.start > came.end && went.end < at);
        self.came.iter().any(|came| came.start <= at && !gone(came))
    }

    fn must_be(&self, at: Duration) -> bool {
        let gone = |came: &Span| self.went.iter().any(|went| went.end >= came.start && went.start <= at);
        self.came.iter().any(|came| came.end < at && !gone(came))
    }

    fn spans(&self) -> impl Iterator<Item = &Span> {
        self.came.iter().chain(&self.went)
    }
}

/// What comes and goes. Images are known by their numbers.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Thing {
    Manifest(usize),
    /// A signature by one of the keys, by its digest; or below a tag, with none.
    Signature {
        of: usize,
        key: usize,
        digest: Option<String>,
    },
}

/// What a reader asked for.
#[derive(Clone, Debug)]
pub(super) enum Asked {
    Digest(usize),
    Tag,
    Blob(String),
}

#[derive(Clone, Debug)]
pub(super) enum Event {
    Came(Thing),
    Went(Thing),
    /// The status, and the image that was got.
    Read(Asked, u16, Option<usize>),
    /// A push that was refused because of a list of denied digests.
    Refused(usize),
}

/// A registry policy.
#[derive(Clone, Debug, Default)]
pub(super) struct Policy {
    pub(super) off: bool,
    pub(super) count: usize,
    pub(super) denied: Vec<String>,
}

/// An image or an index, as it was made.
#[derive(Clone, Debug)]
pub(super) struct Image {
    pub(super) repo: String,
    pub(super) digest: String,
    pub(super) bytes: String,
    pub(super) media_type: &'static str,
    pub(super) blobs: Vec<String>,
    pub(super) children: Vec<usize>,
}

/// All of it, in no particular order.
pub(super) struct Record {
    images: Vec<Image>,
    policies: Vec<(Policy, Span)>,
    lives: BTreeMap<Thing, Life>,
    /// The signatures of each image.
    signatures: Vec<Vec<(usize, Thing)>>,
    above: Vec<Vec<usize>>,
    reads: Vec<(Asked, u16, Option<usize>, Span)>,
    refused: Vec<(usize, Span)>,
}

impl Record {
    /// Policies come one after another.
    pub(super) fn new(images: &[Image], policies: Vec<(Policy, Span)>, events: Vec<(Event, Span)>) -> Self {
        let mut record = Record {
            images: images.to_vec(),
            policies,
            lives: BTreeMap::new(),
            signatures: vec![Vec::new(); images.len()],
            above: vec![Vec::new(); images.len()],
            reads: Vec::new(),
            refused: Vec::new(),
        };
        for (index, image) in images.iter().enumerate() {
            image.children.iter().for_each(|&child| record.above[child].push(index));
        }
        for (event, span) in events {
            record.add(event, span);
        }
        record
    }

    pub(super) fn add(&mut self, event: Event, span: Span) {
        match event {
            Event::Came(thing) => {
                if let Thing::Signature { of, key, .. } = &thing
                    && !self.lives.contains_key(&thing)
                {
                    self.signatures[*of].push((*key, thing.clone()));
                }
                self.lives.entry(thing).or_default().came.push(span);
            }
            Event::Went(thing) => self.lives.entry(thing).or_default().went.push(span),
            Event::Read(asked, status, got) => self.reads.push((asked, status, got, span)),
            Event::Refused(image) => self.refused.push((image, span)),
        }
    }

    /// The policies that may have been in force.
    fn policies(&self, at: Duration) -> impl Iterator<Item = &Policy> {
        let ends = self.policies.iter().skip(1).map(|(_, next)| next.end).chain([Duration::MAX]);
        let known = self.policies.iter().zip(ends);
        known.filter(move |((_, span), end)| span.start <= at && at <= *end).map(|((policy, _), _)| policy)
    }

    fn life(&self, thing: &Thing, is: impl Fn(&Life) -> bool) -> bool {
        self.lives.get(thing).is_some_and(is)
    }

    pub(super) fn may_be(&self, image: usize, at: Duration) -> bool {
        self.life(&Thing::Manifest(image), |life| life.may_be(at))
    }

    pub(super) fn must_be(&self, image: usize, at: Duration) -> bool {
        self.life(&Thing::Manifest(image), |life| life.must_be(at))
    }

    fn signers(&self, image: usize, is: impl Fn(&Life) -> bool) -> usize {
        let there = self.signatures[image].iter().filter(|(_, thing)| self.life(thing, &is));
        there.map(|(key, _)| key).collect::<BTreeSet<_>>().len()
    }

    /// Whether a list denies it, for its own digest or one below it; with `surely`, whatever of that is here.
    fn denies(&self, policy: &Policy, image: usize, at: Duration, surely: bool) -> bool {
        let is_listed = |digest: &String| policy.denied.contains(digest);
        let Image { digest, blobs, children, .. } = &self.images[image];
        is_listed(digest)
            || blobs.iter().any(is_listed)
            || children.iter().any(|&child| {
                let is_here = if surely { self.must_be(child, at) } else { self.may_be(child, at) };
                is_listed(&self.images[child].digest) || is_here && self.denies(policy, child, at, surely)
            })
    }

    fn may_by(&self, policy: &Policy, image: usize, at: Duration) -> bool {
        if policy.off {
            return true;
        }
        if self.denies(policy, image, at, true) {
            return false;
        }
        self.signers(image, |life| life.may_be(at)) >= policy.count
            || self.above[image].iter().any(|&above| self.may_be(above, at) && self.may_by(policy, above, at))
    }

    fn must_by(&self, policy: &Policy, image: usize, at: Duration) -> bool {
        if policy.off {
            return true;
        }
        if self.denies(policy, image, at, false) {
            return false;
        }
        self.signers(image, |life| life.must_be(at)) >= policy.count
            || self.above[image]
                .iter()
                .any(|&above| self.must_be(above, at) && self.must_by(policy, above, at))
    }

    /// Whether some order of the changes allows readers an image.
    pub(super) fn may_read(&self, image: usize, at: Duration) -> bool {
        self.policies(at).any(|policy| self.may_by(policy, image, at))
    }

    /// Whether every order does.
    pub(super) fn must_read(&self, image: usize, at: Duration) -> bool {
        self.policies(at).all(|policy| self.must_by(policy, image, at))
    }

    /// Whether a list of denied digests may name an image, or something that it names.
    fn may_deny(&self, image: usize, at: Duration) -> bool {
        let Image { digest, blobs, children, .. } = &self.images[image];
        let children = children.iter().map(|&child| &self.images[child].digest);
        let named: Vec<_> = blobs.iter().chain(children).chain([digest]).collect();
        self.policies(at).any(|policy| named.iter().any(|named| policy.denied.contains(named)))
    }

    fn may_read_blob(&self, blob: &str, at: Duration) -> bool {
        let naming = |image: usize| self.images[image].blobs.iter().any(|named| named == blob);
        self.policies(at).any(|policy| {
            policy.off
                || (0..self.images.len())
                    .any(|image| naming(image) && self.may_be(image, at) && self.may_by(policy, image, at))
        })
    }

    fn must_read_blob(&self, blob: &str, at: Duration) -> bool {
        let naming = |image: usize| self.images[image].blobs.iter().any(|named| named == blob);
        self.policies(at).all(|policy| {
            policy.off
                || (0..self.images.len())
                    .any(|image| naming(image) && self.must_be(image, at) && self.must_by(policy, image, at))
        })
    }

    /// The instants at which the answers above change for an image: those of changes to it and around it.
    fn turns(&self, image: usize, policies: &[Duration]) -> Vec<Duration> {
        let around = self.above[image].iter().flat_map(|&above| &self.images[above].children);
        let around: BTreeSet<usize> = around
            .chain(&self.above[image])
            .chain(&self.images[image].children)
            .chain([&image])
            .copied()
            .collect();
        let things = around.iter().flat_map(|&near| {
            self.signatures[near].iter().map(|(_, thing)| thing.clone()).chain([Thing::Manifest(near)])
        });
        let lives: Vec<_> = things.filter_map(|thing| self.lives.get(&thing)).collect();
        let mut turns: Vec<_> = lives.iter().flat_map(|life| life.spans()).flat_map(ends).collect();
        turns.extend(policies);
        turns.sort_unstable();
        turns.dedup();
        turns
    }

    /// Every answer that no order of the changes explains.
    pub(super) fn wrong(&self) -> Vec<String> {
        let policies: Vec<Duration> = self.policies.iter().flat_map(|(_, span)| ends(span)).collect();
        let turns: Vec<_> = (0..self.images.len()).map(|image| self.turns(image, &policies)).collect();
        let instants = |images: &[usize], span: &Span| {
            let mut found = vec![span.start, span.end];
            for &image in images {
                let turns = &turns[image];
                let first = turns.partition_point(|turn| *turn < span.start);
                let within = turns[first..].iter().take_while(|turn| **turn <= span.end);
                // What ends at an instant is over right after it.
                found.extend(within.flat_map(|turn| [*turn, *turn + Duration::from_nanos(1)]));
            }
            found
        };
        let mut wrong = Vec::new();
        for (asked, status, got, span) in &self.reads {
            let images: Vec<usize> = match asked {
                Asked::Digest(image) => vec![*image],
                Asked::Tag => got.iter().copied().collect(),
                Asked::Blob(blob) => {
                    (0..self.images.len()).filter(|&image| self.images[image].blobs.contains(blob)).collect()
                }
            };
            let instants = instants(&images, span);
            let any = |is: &dyn Fn(Duration) -> bool| instants.iter().any(|&at| is(at));
            let explained = match (asked, *status, got) {
                (Asked::Digest(_) | Asked::Tag, 200, Some(image)) => any(&|at| self.may_read(*image, at)),
                (Asked::Blob(blob), 200, _) => any(&|at| self.may_read_blob(blob, at)),
                (Asked::Digest(image), 403, _) => any(&|at| !self.must_read(*image, at)),
                (Asked::Digest(image), 404, _) => any(&|at| !self.must_be(*image, at)),
                (Asked::Blob(blob), 403, _) => any(&|at| !self.must_read_blob(blob, at)),
                // Which tag means what is left to the end; until then it may be anything that is allowed.
                (Asked::Tag, 403 | 404 | 503, _) => true,
                _ => false,
            };
            if !explained {
                wrong.push(format!("{status} for {asked:?} (got {got:?}) in {span:?}"));
            }
        }
        for (image, span) in &self.refused {
            if !instants(&[*image], span).iter().any(|&at| self.may_deny(*image, at)) {
                wrong.push(format!("a push of {image} was refused in {span:?}"));
            }
        }
        wrong
    }

    pub(super) fn count(&self, status: u16) -> usize {
        self.reads.iter().filter(|read| read.1 == status).count()
    }
}

fn ends(span: &Span) -> [Duration; 2] {
    [span.start, span.end]
}
