// SPDX-License-Identifier: AGPL-3.0-only
//! One story for each client, from a push that nobody signed to a release, and back in each way that there is. What each
//! shows of a denial stands here, because that is what people read: whoever changes the answer sees whom it hits.

use stella_tests::{Client, Image, Outcome};

use super::{CI, Production, READER, REPOSITORY, Registry, by_certificate};
use crate::login::{Buildah, Containerd, Crane, Docker, Helm, Oras, Podman, Regctl, Skopeo, TAG, Visitor};
use crate::verify::stage::{By, Way};

const BY_COSIGN_2: Way = Way { client: Client::Cosign2, is_bundle: false, by: By::Key };
const BY_COSIGN_3: Way = Way { client: Client::Cosign, is_bundle: true, by: By::Key };
const KEYLESS_2: Way = Way { client: Client::Cosign2, is_bundle: false, by: By::Certificate };
const KEYLESS_3: Way = Way { client: Client::Cosign, is_bundle: true, by: By::Certificate };

/// What a client is told when it may not pull.
struct Denial {
    /// What it asked for: host, repository and tag.
    reference: String,
    message: String,
    reason: String,
}

/// A client that shows people what the registry says.
trait Puller: Visitor {
    /// Whether it shows the warning that comes with the answer to its push.
    const SHOWS_WARNINGS: bool = false;

    /// How often it asks for what it is denied.
    const ASKS: usize = 1;

    /// What must stand on the terminal of a reader who is denied.
    fn shown(denial: &Denial) -> String;
}

impl Puller for Docker {
    // HEAD, and then GET.
    const ASKS: usize = 2;

    fn shown(Denial { reference, message, .. }: &Denial) -> String {
        let (repository, _) = reference.rsplit_once(':').unwrap();
        format!(
            "pull access denied for {repository}, repository does not exist or may require 'docker login': denied: {message}"
        )
    }
}

impl Puller for Podman {
    fn shown(denial: &Denial) -> String {
        of_containers_image(denial)
    }
}

impl Puller for Skopeo {
    fn shown(denial: &Denial) -> String {
        of_containers_image(denial)
    }
}

impl Puller for Buildah {
    fn shown(denial: &Denial) -> String {
        of_containers_image(denial)
    }
}

fn of_containers_image(Denial { reference, message, .. }: &Denial) -> String {
    let (repository, tag) = reference.rsplit_once(':').unwrap();
    format!("reading manifest {tag} in {repository}: denied: {message}")
}

impl Puller for Containerd {
    // It asks HEAD, whose answer has no body, and shows the status line.
    fn shown(Denial { reason, .. }: &Denial) -> String {
        // What is on a list is not for the image policies to say.
        let by = if reason == "denied-digest" { "" } else { " \"signed\"" };
        format!("403 Blocked by policy{by} ({reason})")
    }
}

impl Puller for Helm {
    fn shown(Denial { message, .. }: &Denial) -> String {
        format!("denied: {message}")
    }
}

impl Puller for Oras {
    const SHOWS_WARNINGS: bool = true;

    fn shown(Denial { message, .. }: &Denial) -> String {
        format!("denied: {message}")
    }
}

impl Puller for Crane {
    fn shown(Denial { message, .. }: &Denial) -> String {
        format!("DENIED: {message}")
    }
}

impl Puller for Regctl {
    const SHOWS_WARNINGS: bool = true;

    fn shown(Denial { message, .. }: &Denial) -> String {
        message.clone()
    }
}

#[test]
fn docker_pulls_what_is_released_and_says_why_not() {
    story::<Docker>(KEYLESS_3);
}

#[test]
fn podman_pulls_what_is_released_and_says_why_not() {
    story::<Podman>(KEYLESS_2);
}

#[test]
fn skopeo_pulls_what_is_released_and_says_why_not() {
    story::<Skopeo>(KEYLESS_3);
}

#[test]
fn buildah_pulls_what_is_released_and_says_why_not() {
    story::<Buildah>(KEYLESS_2);
}

#[test]
fn containerd_pulls_what_is_released_and_says_why_not() {
    story::<Containerd>(KEYLESS_3);
}

#[test]
fn helm_pulls_what_is_released_and_says_why_not() {
    story::<Helm>(KEYLESS_2);
}

#[test]
fn oras_pulls_what_is_released_and_says_why_not() {
    story::<Oras>(KEYLESS_3);
}

#[test]
fn crane_pulls_what_is_released_and_says_why_not() {
    story::<Crane>(KEYLESS_2);
}

#[test]
fn regctl_pulls_what_is_released_and_says_why_not() {
    story::<Regctl>(KEYLESS_3);
}

fn story<P: Puller>(keyless: Way) {
    let Some(production) = Production::prepare(&[]) else { return };
    let Some(mut client) = P::enter(&production.guard) else { return };
    // Some ask nobody, or for something that is not there.
    let _asked = client.log_in(&production.person(CI));
    let pushed = client.push(REPOSITORY).must_succeed();
    let _asked = client.log_in(&production.person(READER));
    let registry = production.open(client.bench());
    let reader = Reader { client: &client, registry: &registry };
    let digest = registry.explained(CI, TAG)["candidate"].as_str().unwrap().to_owned();
    if P::SHOWS_WARNINGS {
        let warning = "stored, and not released yet: it waits for policy 'signed' (no-evidence)";
        let said = unescaped(&pushed);
        assert!(said.contains(warning) && said.contains("cosign sign"), "no warning is shown: {pushed}");
    }

    reader.is_denied("no-evidence");
    let signed = registry.name(&digest);
    registry.sign(BY_COSIGN_2, &format!("sign {signed}"));
    reader.gets(&digest);

    // What is pushed next waits, and the release is served meanwhile.
    let next = Image::sample(7).build();
    let answer = registry.push(&next, TAG);
    assert_eq!(answer.must_have("stella-verdict"), "waiting");
    assert!(answer.must_have("warning").contains("cosign sign"), "{answer:?}");
    reader.gets(&digest);

    registry.delete_evidence(&digest);
    reader.is_denied("no-evidence");
    registry.sign(BY_COSIGN_3, &format!("sign {signed}"));
    reader.gets(&digest);
    registry.rule(&format!("  denyDigests: [\"{digest}\"]\n"));
    reader.is_denied("denied-digest");
    registry.rule("");
    reader.gets(&digest);
    registry.demand(&by_certificate());
    reader.is_denied("bad-signature");
    registry.sign(keyless, &format!("sign {signed}"));
    reader.gets(&digest);
    registry.delete_evidence(&digest);
    reader.is_denied("no-evidence");
}

struct Reader<'a, P> {
    client: &'a P,
    registry: &'a Registry<'a>,
}

impl<P: Puller> Reader<'_, P> {
    #[track_caller]
    fn gets(&self, digest: &str) {
        match self.client.pull(REPOSITORY) {
            Ok(pulled) => assert_eq!(pulled, digest),
            Err(outcome) => panic!("the pull failed:\n{outcome}"),
        }
    }

    /// The pull fails, at the first time of asking, and says why.
    #[track_caller]
    fn is_denied(&self, reason: &str) {
        let (message, found) = self.registry.denial(TAG);
        assert_eq!(found, reason, "{message}");
        assert!(message.contains(&format!("({reason})")), "{message}");
        let before = self.denials();
        let outcome = match self.client.pull(REPOSITORY) {
            Ok(digest) => panic!("{digest} was pulled"),
            Err(outcome) => outcome,
        };
        let reference = self.client.reference(REPOSITORY);
        let shown = P::shown(&Denial { reference, message, reason: found });
        assert!(unescaped(&outcome).contains(&shown), "{shown:?} is not shown:\n{outcome}");
        let denials = self.denials() - before;
        assert_eq!(denials, P::ASKS, "it asked {denials} times:\n{outcome}");
    }

    /// How often clients were denied.
    fn denials(&self) -> usize {
        let said = self.client.bench().server.said();
        said.lines().filter(|line| line.contains(" agent=") && line.contains("status=403")).count()
    }
}

/// What a client said, where a logger put quotes around it.
fn unescaped(outcome: &Outcome) -> String {
    outcome.said().replace("\\\"", "\"")
}
