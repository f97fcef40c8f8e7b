// SPDX-License-Identifier: AGPL-3.0-only
//! A registry with all that signing and verifying needs around it: keys, certificates, a clock, trust roots; and how both
//! versions of cosign are told to use them and nothing else.

use serde_json::Value;
use stella_tests::{Bench, Client, Clock, Content, Fulcio, Tool, Transport};

pub(crate) const PASSWORD: &str = "a p\u{e4}ssword";
pub(crate) const SUBJECT: &str = "https://git.test/acme/app/.ci.yml@refs/heads/main";
pub(crate) const ISSUER: &str = "https://git.test";
const SINCE: &str = "2024-01-01T00:00:00Z";

/// Who signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum By {
    /// Who has `theirs.key`.
    Key,
    /// Whom `leaf.pem` names.
    Certificate,
}

/// How cosign signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Way {
    pub(crate) client: Client,
    pub(crate) is_bundle: bool,
    pub(crate) by: By,
}

/// All ways but one: cosign 2 puts no certificate that it is given into a bundle.
pub(crate) const WAYS: [Way; 7] = [
    Way { client: Client::Cosign, is_bundle: true, by: By::Key },
    Way { client: Client::Cosign, is_bundle: true, by: By::Certificate },
    Way { client: Client::Cosign, is_bundle: false, by: By::Key },
    Way { client: Client::Cosign, is_bundle: false, by: By::Certificate },
    Way { client: Client::Cosign2, is_bundle: true, by: By::Key },
    Way { client: Client::Cosign2, is_bundle: false, by: By::Key },
    Way { client: Client::Cosign2, is_bundle: false, by: By::Certificate },
];

/// What stella is told of roots, logs and clocks, as long as nothing is wrong with them.
pub(super) const TRUST: &str = "--trusted-root root.json --insecure-ignore-tlog --use-signed-timestamps";

pub(super) struct Stage {
    pub(super) bench: Bench,
    pub(super) stella: Tool,
    clock: Clock,
}

impl Stage {
    #[track_caller]
    pub(super) fn enter() -> Option<Self> {
        let clients = [Client::Cosign, Client::Cosign2, Client::TimestampServer];
        let bench = Bench::with(&clients, Transport::Plain)?;
        let clock = Clock::start(&bench.tool(Client::TimestampServer), &bench.path("clock.log"))?;
        let stella = bench.stella().env("COSIGN_PASSWORD", PASSWORD);
        let stage = Self { bench, stella, clock };
        stage.furnish();
        Some(stage)
    }

    /// For what has nothing to do with a registry.
    #[track_caller]
    pub(super) fn enter_without_registry() -> Option<Self> {
        let stage = Self::enter()?;
        Some(Self { bench: stage.bench.quiet(), ..stage })
    }

    fn furnish(&self) {
        let [cosign, cosign2] = [Client::Cosign, Client::Cosign2].map(|client| self.cosign(client));
        furnish(&cosign, &cosign2, &self.clock, |name, text| {
            self.bench.write(name, text);
        });
    }

    pub(super) fn cosign(&self, client: Client) -> Tool {
        self.bench.tool(client).env("COSIGN_PASSWORD", PASSWORD)
    }

    /// Pushes an image, and gives its name by digest.
    pub(super) fn push(&self, repository: &str, content: &Content, tag: &str) -> String {
        self.bench.server.repository(repository).push(content, tag);
        self.name(repository, content)
    }

    pub(super) fn name(&self, repository: &str, content: &Content) -> String {
        format!("{}/{repository}@{}", self.bench.server.host(), content.digest())
    }

    /// Has cosign sign; `what` is the command with what is about its object alone.
    #[track_caller]
    pub(super) fn sign(&self, way: Way, what: &str) {
        self.sign_as(way, way.who_signs(), what);
    }

    /// The same, as somebody else.
    #[track_caller]
    pub(super) fn sign_as(&self, way: Way, who: &str, what: &str) {
        self.cosign(way.client).run(&way.command(who, &self.clock.url(), what));
    }

    /// Lets stella run one of its commands that verify, about what was signed in that way.
    #[track_caller]
    pub(super) fn verifies(&self, way: Way, what: &str) -> String {
        let (command, rest) = what.split_once(' ').unwrap();
        self.stella.run(&format!("{command} {} {TRUST} {rest}", way.by.wanted()))
    }

    /// The same, which must end with that exit code, and say that word.
    #[track_caller]
    pub(super) fn refuses(&self, code: i32, word: &str, arguments: &str) {
        let (found, said) = self.stella.failure(arguments);
        assert!(found == code && said.contains(word), "{code} {word:?}: {arguments}: {found}: {said}");
    }

    /// A command of cosign's that verifies, told about the same roots and clocks.
    pub(super) fn cosign_verify(reader: Client, way: Way, command: &str) -> String {
        let forms = match (reader, way.is_bundle) {
            (Client::Cosign2, true) => "--new-bundle-format --trusted-root root.json",
            (_, true) => "--trusted-root root.json",
            (Client::Cosign2, false) => "--timestamp-certificate-chain clock.pem",
            (_, false) => "--new-bundle-format=false --timestamp-certificate-chain clock.pem",
        };
        let roots = match way.by {
            By::Key => "",
            By::Certificate if way.is_bundle => "--insecure-ignore-sct",
            By::Certificate => "--insecure-ignore-sct --ca-roots ca.pem --ca-intermediates above.pem",
        };
        let who = way.by.wanted();
        format!("{command} {who} {forms} {roots} --insecure-ignore-tlog --use-signed-timestamps")
    }
}

/// Makes keys, certificates and trust roots, in the working directory of both versions of cosign; `write` writes there.
pub(crate) fn furnish(cosign: &Tool, cosign2: &Tool, clock: &Clock, write: impl Fn(&str, &str)) {
    cosign.run("generate-key-pair --output-key-prefix theirs");
    cosign2.run("generate-key-pair --output-key-prefix other");
    write("clock.pem", &clock.chain());
    let (fulcio, strange) = (Fulcio::new(), Fulcio::new());
    write("chain.pem", &fulcio.chain());
    write("ca.pem", fulcio.root());
    write("above.pem", fulcio.intermediate());
    write("strange-chain.pem", &strange.chain());
    for (name, authority) in [("leaf", &fulcio), ("strange", &strange)] {
        let leaf = authority.issue(SUBJECT, ISSUER);
        write(&format!("{name}.pem"), &leaf.certificate);
        write(&format!("{name}-plain.key"), &leaf.key);
        cosign.run(&format!("import-key-pair --key {name}-plain.key --output-key-prefix {name}"));
    }
    let url = clock.url();
    let ca = |chain: &str| {
        format!("--fulcio url=https://fulcio.test,certificate-chain={chain},start-time={SINCE}")
    };
    let clock = format!("--tsa url={url},certificate-chain=clock.pem,start-time={SINCE}");
    let root = |name: &str, what: &str| cosign.run(&format!("trusted-root create --out {name} {what}"));
    root("root.json", &format!("{} {clock}", ca("chain.pem")));
    root("strange-root.json", &format!("{} {clock}", ca("strange-chain.pem")));
    root("timeless-root.json", &ca("chain.pem"));
    let config = "signing-config create --with-default-services=false --out";
    let clock = format!("--tsa url={url},api-version=1,start-time={SINCE},operator=test --tsa-config ANY");
    cosign.run(&format!("{config} services.json {clock}"));
}

impl Way {
    /// How cosign is told to sign in this way, as `who`; `what` is the command with what is about its object alone, and
    /// `clock` the URL of who says when.
    pub(crate) fn command(self, who: &str, clock: &str, what: &str) -> String {
        let (command, rest) = what.split_once(' ').unwrap();
        // cosign looks whether its certificate is of the root.
        let root = if who.contains("strange") { "strange-root.json" } else { "root.json" };
        let services = match (self.client, self.is_bundle) {
            (Client::Cosign2, true) => {
                format!("--new-bundle-format --signing-config services.json --trusted-root {root}")
            }
            (_, true) => format!("--signing-config services.json --trusted-root {root}"),
            (client, false) => {
                let old = if client == Client::Cosign {
                    "--new-bundle-format=false --use-signing-config=false"
                } else {
                    ""
                };
                format!("{old} --tlog-upload=false --timestamp-server-url {clock}")
            }
        };
        format!("{command} -y {who} {services} {rest}")
    }

    pub(crate) fn who_signs(self) -> &'static str {
        match (self.by, self.is_bundle) {
            (By::Key, _) => "--key theirs.key",
            (By::Certificate, true) => "--key leaf.key --certificate leaf.pem",
            (By::Certificate, false) => "--key leaf.key --certificate leaf.pem --certificate-chain chain.pem",
        }
    }

    /// Somebody whom nobody here trusts, and whose certificate says the same.
    pub(crate) fn stranger(self) -> &'static str {
        match (self.by, self.is_bundle) {
            (By::Key, _) => "--key other.key",
            (By::Certificate, true) => "--key strange.key --certificate strange.pem",
            (By::Certificate, false) => {
                "--key strange.key --certificate strange.pem --certificate-chain strange-chain.pem"
            }
        }
    }

    /// For the name of a repository.
    pub(super) fn word(self) -> String {
        let version = if self.client == Client::Cosign { 3 } else { 2 };
        let form = if self.is_bundle { "bundle" } else { "legacy" };
        format!("by{version}/{form}/{}", if self.by == By::Key { "key" } else { "certificate" })
    }
}

impl By {
    /// Whom a command that verifies is told to want.
    pub(super) fn wanted(self) -> String {
        match self {
            By::Key => "--key theirs.pub".to_owned(),
            By::Certificate => {
                format!("--certificate-identity {SUBJECT} --certificate-oidc-issuer {ISSUER}")
            }
        }
    }

    /// What it can be told instead, each of which is not who signed.
    pub(super) fn unwanted(self) -> Vec<String> {
        match self {
            By::Key => {
                let certificate = By::Certificate.wanted();
                vec!["--key other.pub".to_owned(), certificate]
            }
            By::Certificate => [
                (
                    "--certificate-identity https://git.test/other",
                    "--certificate-oidc-issuer https://git.test",
                ),
                ("--certificate-identity-regexp git[.]test", "--certificate-oidc-issuer https://git.test"),
                ("--certificate-identity-regexp .*", "--certificate-oidc-issuer https://git.test/"),
                ("--certificate-identity-regexp .*", "--certificate-oidc-issuer-regexp https://git"),
            ]
            .into_iter()
            .map(|(subject, issuer)| format!("{subject} {issuer}"))
            .chain(["--key theirs.pub".to_owned()])
            .collect(),
        }
    }
}

pub(super) fn json(text: &str) -> Value {
    serde_json::from_str(text.trim()).unwrap_or_else(|error| panic!("{error}: {text}"))
}
