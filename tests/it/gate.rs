// SPDX-License-Identifier: AGPL-3.0-only
//! The gate, as people meet it: who builds pushes with a client, who signs uses cosign, who deploys pulls with a client and
//! gets what is released, or reads on the terminal why not. Over TLS with a private CA, with tokens of the registry's own
//! service. `prod/**` is under policies; what those say is in the files below, beside what is tested with them.

use std::fs;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};
use stella_tests::{
    Bench, Client, Clock, Content, Credentials, Guard, Repository, Request, Response, Tool, Transport,
    Workshop, media_type, poll,
};

use crate::verify::stage::{ISSUER, PASSWORD, SUBJECT, Way, furnish};

mod attached;
mod indexes;
mod pipeline;
mod pullers;
mod signatures;

/// What the registry is called in its policies, whatever clients call it.
const HOST: &str = "registry.test";
const REPOSITORY: &str = "prod/app";
const PATIENCE: Duration = Duration::from_secs(30);

/// Reads what is released.
const READER: &str = "reader";
/// Pushes, and reads what is released.
const CI: &str = "ci";
/// Signs, and reads everything.
const SIGNER: &str = "signer";
/// A pipeline that does all of that.
const JOB: &str = "job";
/// May do everything.
const OPERATOR: &str = "operator";

const RULES: &str = "[{allow: [pull], to: {subject: reader}}, {allow: [push, pull], to: {subject: ci}}, \
                     {allow: [sign], to: {subject: signer}}, {allow: [push, pull, sign], to: {subject: job}}, \
                     {allow: all, to: {subject: operator}}]";

/// Everything around a registry with policies: who signs and by what, whose certificates count, whom it knows.
struct Production {
    workshop: Workshop,
    clock: Clock,
    guard: Guard,
}

impl Production {
    /// With the policy that everything in `prod` must be signed with a key. `None`, once that was said, where a client is
    /// missing; `others` come along with the one that is tested.
    #[track_caller]
    fn prepare(others: &[Client]) -> Option<Self> {
        let others = [others, &[Client::Cosign, Client::Cosign2]].concat();
        let workshop = Workshop::with(&[&others[..], &[Client::TimestampServer]].concat())?;
        let clock = Clock::start(&workshop.program("timestamp-server"), &workshop.path("clock.log"))?;
        let [cosign, cosign2] =
            ["cosign", "cosign2"].map(|name| workshop.program(name).env("COSIGN_PASSWORD", PASSWORD));
        furnish(&cosign, &cosign2, &clock, |name, text| {
            workshop.write(name, text);
        });
        fs::create_dir(workshop.path("policies")).unwrap();
        let paths = format!("[{}]", workshop.path("policies").display());
        let roots = format!("{{ours: {}}}", workshop.path("root.json").display());
        let settings = [
            ("STELLA_POLICY__HOST", HOST),
            ("STELLA_POLICY__PATHS", paths.as_str()),
            ("STELLA_POLICY__TRUST_ROOTS", roots.as_str()),
        ];
        let guard = Guard::of(&[READER, CI, SIGNER, JOB, OPERATOR], RULES, &settings, &others);
        let production = Self { workshop, clock, guard };
        production.write_image_policy(&production.by_key(""));
        production.write_registry_policy("");
        Some(production)
    }

    fn person(&self, name: &str) -> Credentials {
        self.guard.person(name)
    }

    /// The registry, once it runs around a bench.
    fn open<'p>(&'p self, bench: &'p Bench) -> Registry<'p> {
        for file in fs::read_dir(self.workshop.folder()).unwrap() {
            let file = file.unwrap();
            if file.file_type().unwrap().is_file() {
                fs::copy(file.path(), bench.path(file.file_name().to_str().unwrap())).unwrap();
            }
        }
        for name in [READER, CI, SIGNER, JOB] {
            let Credentials { name, secret } = self.person(name);
            let auth = BASE64_STANDARD.encode(format!("{name}:{secret}"));
            let known = json!({"auths": {bench.server.host().to_string(): {"auth": auth}}});
            bench.write(&format!("logins/{name}/config.json"), known.to_string());
        }
        Registry { production: self, bench }
    }

    /// A bench for the clients that come along.
    #[track_caller]
    fn bench(&self) -> Option<Bench> {
        Bench::with_settings(self.guard.others(), Transport::Tls, &self.guard.settings())
    }

    fn write_image_policy(&self, text: &str) {
        self.workshop.write("policies/signed.yaml", text);
    }

    fn write_registry_policy(&self, fields: &str) {
        let text = format!(
            "apiVersion: policy.stella-ops.org/v1\nkind: RegistryPolicy\nmetadata: {{name: production}}\nspec:\n  \
             repositories: [\"prod/**\"]\n  transparency: ignored\n{fields}"
        );
        self.workshop.write("policies/production.yaml", text);
    }

    /// A policy for signatures with `theirs.key`; `more` are fields of its authority.
    fn by_key(&self, more: &str) -> String {
        let pem = String::from_utf8(self.workshop.read("theirs.pub")).unwrap();
        let lines = pem.trim().replace('\n', "\n        ");
        image_policy(&format!("    key:\n      data: |\n        {lines}\n{more}"))
    }
}

/// A policy for signatures of whom `leaf.pem` names, by the authority that `root.json` has.
fn by_certificate() -> String {
    image_policy(&format!(
        "    keyless:\n      trustRootRef: ours\n      insecureIgnoreSCT: true\n\
         \u{20}     identities: [{{subject: \"{SUBJECT}\", issuer: \"{ISSUER}\"}}]\n\
         \u{20}   rfc3161timestamp: {{trustRootRef: ours}}\n"
    ))
}

fn image_policy(authority: &str) -> String {
    format!(
        "apiVersion: policy.sigstore.dev/v1beta1\nkind: ClusterImagePolicy\nmetadata: {{name: signed}}\nspec:\n  \
         images: [{{glob: \"{HOST}/prod/**\"}}]\n  authorities:\n  - name: us\n{authority}"
    )
}

/// A registry that runs.
struct Registry<'p> {
    production: &'p Production,
    bench: &'p Bench,
}

impl Registry<'_> {
    /// The repository of all these tests, as somebody sees it.
    fn seen_by(&self, name: &str) -> Repository {
        self.bench.server.host().logged_in(&self.production.person(name)).repository(REPOSITORY)
    }

    /// What is called so, for clients.
    fn name(&self, reference: &str) -> String {
        let separator = if reference.contains(':') { '@' } else { ':' };
        format!("{}/{REPOSITORY}{separator}{reference}", self.bench.server.host())
    }

    /// Pushes as `ci`, without a client; what that is told.
    #[track_caller]
    fn push(&self, content: &Content, tag: &str) -> Response {
        let repository = self.seen_by(CI);
        repository.push(content, tag);
        repository.put_manifest(tag, content.media_type(), content.bytes())
    }

    /// The status of a pull by a reader, without a client.
    #[track_caller]
    fn pull(&self, reference: &str) -> u16 {
        self.manifest_for_reader(reference).status
    }

    /// The digest that a reader pulls, without a client.
    #[track_caller]
    fn pulled(&self, reference: &str) -> String {
        self.manifest_for_reader(reference).must_be(200).must_have("docker-content-digest").to_owned()
    }

    /// What a reader is told who may not pull: the message, and the reason in one word.
    #[track_caller]
    fn denial(&self, reference: &str) -> (String, String) {
        let answer = self.manifest_for_reader(reference).must_be(403);
        let error = &answer.json()["errors"][0];
        assert_eq!(error["code"], "DENIED", "{error}");
        let message = error["message"].as_str().unwrap();
        // The digest that it is about: a tag has a release and a candidate.
        let (_, digest) = message.split_once('@').unwrap();
        let explained = self.explained(READER, digest.split(' ').next().unwrap());
        assert_eq!(explained["readable"], false, "{explained:#}");
        (message.to_owned(), explained["reason"].as_str().unwrap().to_owned())
    }

    #[track_caller]
    fn manifest_for_reader(&self, reference: &str) -> Response {
        let repository = self.seen_by(READER);
        let accepted =
            [media_type::MANIFEST, media_type::INDEX, media_type::DOCKER_MANIFEST, media_type::DOCKER_LIST]
                .join(", ");
        repository
            .send(&repository.request("GET", &format!("manifests/{reference}")).header("Accept", &accepted))
    }

    #[track_caller]
    fn explained(&self, name: &str, reference: &str) -> Value {
        let separator = if reference.contains(':') { '@' } else { ':' };
        let target = format!("/api/stella/v1/policy/explain?ref={REPOSITORY}{separator}{reference}");
        self.ask(name, &target)
    }

    #[track_caller]
    fn ask(&self, name: &str, target: &str) -> Value {
        let host = self.bench.server.host().logged_in(&self.production.person(name));
        Request::get(target).send(&host).must_be(200).json()
    }

    /// A client of somebody's, of those that find credentials where docker keeps them.
    fn logged_in(&self, client: Client, name: &str) -> Tool {
        let config = self.bench.path(&format!("logins/{name}"));
        let tool = self.bench.tool(client).env("DOCKER_CONFIG", &config);
        tool.env("REGISTRY_AUTH_FILE", config.join("config.json"))
    }

    /// Our own command line, logged in.
    fn stella(&self, name: &str) -> Tool {
        self.bench.stella().env("DOCKER_CONFIG", self.bench.path(&format!("logins/{name}")))
    }

    fn cosign(&self, way: Way, name: &str) -> Tool {
        self.logged_in(way.client, name).env("COSIGN_PASSWORD", PASSWORD)
    }

    /// Has cosign sign as `signer`; `what` is the command with what is about its object alone.
    #[track_caller]
    fn sign(&self, way: Way, what: &str) {
        self.sign_as(SIGNER, way, what);
    }

    #[track_caller]
    fn sign_as(&self, name: &str, way: Way, what: &str) {
        let command = way.command(way.who_signs(), &self.production.clock.url(), what);
        self.cosign(way, name).run(&command);
    }

    /// Deletes what was said of a digest, as referrers and below its tags.
    #[track_caller]
    fn delete_evidence(&self, digest: &str) {
        let repository = self.seen_by(OPERATOR);
        let mut found = 0;
        for referrer in repository.referrers(digest) {
            repository.delete_manifest(referrer["digest"].as_str().unwrap());
            found += 1;
        }
        let prefix = digest.replace(':', "-");
        for tag in repository.tags().iter().filter(|tag| tag.starts_with(&prefix)) {
            repository.delete_manifest(tag);
            found += 1;
        }
        assert!(found > 0, "{digest} has no evidence");
    }

    /// Changes the registry's own policy to one with these fields.
    fn rule(&self, fields: &str) {
        self.production.write_registry_policy(fields);
        self.reload();
    }

    /// Changes whose signatures count.
    fn demand(&self, policy: &str) {
        self.production.write_image_policy(policy);
        self.reload();
    }

    /// Has the policies read again, and waits until they are in force; they must be others than before.
    fn reload(&self) {
        let status = || self.ask(OPERATOR, "/api/stella/v1/policy/status");
        let set = |status: &Value| status["policySet"].as_str().unwrap().to_owned();
        let before = status();
        self.bench.server.reload();
        poll("other policies to be in force", PATIENCE, || {
            let now = status();
            assert_eq!(now["error"], Value::Null, "{now:#}");
            (set(&now) != set(&before)).then_some(())
        });
    }
}
