// SPDX-License-Identifier: AGPL-3.0-only
//! cosign, with a key and without a network. Who signs needs to be let in for nothing else: cosign asks for leave to
//! push, and the registry takes signatures alone.

use stella_tests::{Bench, Client, Credentials, Guard, Image, Login, Outcome, Repository, Tool, Who};

use super::{NOBODY, NOT_BELIEVED, TAG, guarded, repository, with_secret};

each_way! {
    cosign_3_signs_and_verifies,
    cosign_2_signs_and_verifies,
}

/// Version 3 makes bundles that refer to the image. It asks the network unless it is told of no services at all.
fn cosign_3_signs_and_verifies(login: Login) {
    let Some(signer) = Signer::enter(Client::Cosign, login) else { return };
    signer.cosign.run("signing-config create --out services.json");
    let image =
        signer.story("sign -y --key cosign.key --signing-config services.json --trusted-root root.json");
    let referrers = signer.repository("group/app").referrers(&image);
    let types: Vec<_> = referrers.iter().map(|referrer| referrer["artifactType"].clone()).collect();
    assert_eq!(types, ["application/vnd.dev.sigstore.bundle.v0.3+json"]);
}

/// Version 2 makes a tag of the image's digest.
fn cosign_2_signs_and_verifies(login: Login) {
    let Some(signer) = Signer::enter(Client::Cosign2, login) else { return };
    let image = signer.story("sign -y --key cosign.key --tlog-upload=false");
    let tags = signer.repository("group/app").tags();
    assert_eq!(tags, [TAG.to_owned(), format!("{}.sig", image.replace(':', "-"))]);
}

struct Signer {
    bench: Bench,
    guard: Guard,
    cosign: Tool,
}

impl Signer {
    fn enter(client: Client, login: Login) -> Option<Self> {
        let guard = Guard::new(login);
        let bench = guarded(&[client, Client::Crane], &guard)?;
        let cosign = bench.tool(client).env("COSIGN_PASSWORD", "");
        cosign.run("generate-key-pair");
        // Empty; without one it asks the network whom to trust.
        cosign.run("trusted-root create --out root.json");
        Some(Self { bench, guard, cosign })
    }

    fn repository(&self, name: &str) -> Repository {
        repository(&self.bench, &self.guard, name)
    }

    /// Remembers who somebody is; cosign asks nobody on that occasion.
    fn log_in(&self, who: &Credentials) {
        let arguments = format!("login {} -u {} --password-stdin", self.bench.server.host(), who.name);
        with_secret(&self.bench, &self.cosign, who, &arguments).must_succeed();
    }

    /// Signs an image by this command, verifies it, and tries what the signer may not do. Gives the image's digest.
    fn story(&self, sign: &str) -> String {
        let Self { bench, guard, cosign } = self;
        let image = Image::sample(1).build();
        for name in ["group/app", "group/base"] {
            self.repository(name).push(&image, TAG);
        }
        let host = bench.server.host();
        let app = format!("{host}/group/app@{}", image.digest());
        let sign = |what: &str| -> Outcome { cosign.try_run(&format!("{sign} {what}")) };
        let verify = "verify --key cosign.pub --insecure-ignore-tlog --trusted-root root.json";
        let verify = || cosign.try_run(&format!("{verify} {app}"));

        sign(&app).must_fail_saying(&NOBODY);
        self.log_in(&guard.forged(Who::Signer));
        sign(&app).must_fail_saying(&NOT_BELIEVED);

        self.log_in(&guard.credentials(Who::Signer));
        verify().must_fail_saying(&["no signatures found"]);
        sign(&app).must_succeed();
        verify().must_succeed();
        let reason = format!("{} may not pull in group/base", guard.subject(Who::Signer));
        sign(&format!("{host}/group/base@{}", image.digest())).must_fail_saying(&[&reason]);
        Image::sample(2).build().write_layout(&bench.path("other"), "1");
        let crane = bench.tool(Client::Crane);
        let reason = format!("{} may push to group/app only signatures", guard.subject(Who::Signer));
        crane.try_run(&format!("push other {host}/group/app:2")).must_fail_saying(&[&reason]);
        crane.try_run(&format!("tag {app} 2")).must_fail_saying(&[&reason]);

        self.log_in(&guard.credentials(Who::Builder));
        verify().must_succeed();
        bench.write("docker/config.json", "{}");
        verify().must_fail_saying(&NOBODY);
        image.digest().to_owned()
    }
}
