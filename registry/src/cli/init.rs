// SPDX-License-Identifier: AGPL-3.0-only
//! `stella init --require-signature`: from nothing to a registry that gives readers only what is signed. It writes a key
//! pair, policies, a user, and a configuration that names them; it replaces nothing, and tells beforehand what it will do.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, BufRead as _, IsTerminal as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;
use stella_policy::{PrivateKey, RepositoryGlob};
use stella_storage::{Error, RepoName, Store, StoreOptions, Upgrade};
use zeroize::Zeroizing;

use super::connection::{AllVariables, run};
use super::key_files::{Readers, write_key};
use super::signing::{failed, usage};
use super::{Outcome, note, password, print};
use crate::access::{COST, Htpasswd, check_new_name, secret};
use crate::admin::{Impact, client};
use crate::config::{Config, Overrides};
use crate::server;

/// Repositories, and tags, that are read at once.
const AT_ONCE: usize = 500;

#[derive(Args)]
#[command(after_help = "\
The password of the new private key is taken from COSIGN_PASSWORD, else asked for. Nothing that is there is replaced.

Examples:
  stella init --require-signature 'prod/**'
  COSIGN_PASSWORD=… stella init --require-signature 'prod/**' --dir /etc/stella --host registry.example --yes")]
pub(super) struct InitArgs {
    /// Where readers shall get only what is signed: a pattern of repositories; may be given several times
    #[arg(long, value_name = "PATTERN", required = true, value_parser = RepositoryGlob::parse)]
    require_signature: Vec<RepositoryGlob>,
    /// Where to write it
    #[arg(long, value_name = "DIR", default_value = ".")]
    dir: PathBuf,
    /// The directory that holds what the registry keeps [default: DIR/stella-data]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// What clients call the registry
    #[arg(long, value_name = "HOST[:PORT]", default_value = "127.0.0.1:5000")]
    host: String,
    /// Who may push and sign; a password is made and printed once
    #[arg(long, value_name = "NAME", default_value = "ci")]
    user: String,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
}

/// What is to be written.
struct Plan {
    dir: PathBuf,
    data: PathBuf,
    host: String,
    user: String,
    globs: Vec<RepositoryGlob>,
}

pub(super) fn init(args: InitArgs, env: &AllVariables) -> Outcome {
    let InitArgs { require_signature, dir, data, host, user, yes } = args;
    check_new_name(&user).map_err(usage)?;
    if !host.chars().all(|c| c.is_ascii_alphanumeric() || "-.:[]".contains(c)) || host.is_empty() {
        return Err(usage(format!("{host:?} is no HOST[:PORT]")));
    }
    let dir = std::path::absolute(&dir).with_context(|| format!("cannot find {}", dir.display()))?;
    let data = data.unwrap_or_else(|| dir.join("stella-data"));
    let data = std::path::absolute(&data).with_context(|| format!("cannot find {}", data.display()))?;
    for path in [&dir, &data] {
        if path.to_str().is_none() {
            return Err(usage(format!("{}: the configuration can only name paths in UTF-8", path.display())));
        }
    }
    let plan = Plan { dir, data, host, user, globs: require_signature };
    if let Some(there) = plan.files().iter().find(|path| path.symlink_metadata().is_ok()) {
        return Err(usage(format!("{} is there already, and stays; choose another --dir", there.display())));
    }
    note(&plan.told());
    run(async move {
        note(&plan.impact().await?);
        write(&plan, yes, env)
    })
}

fn write(plan: &Plan, yes: bool, env: &AllVariables) -> Outcome {
    if !yes && !agreed()? {
        return Err(usage("nothing was written"));
    }
    let password = password::new(env)?;
    let key = PrivateKey::generate().map_err(|error| failed(&error))?;
    let sealed = Zeroizing::new(key.to_encrypted_pem(&password).map_err(|error| failed(&error))?);
    let login = secret("stella_").ok_or_else(|| anyhow::anyhow!("the system gives no random numbers"))?;
    let [private, public, signed, enforced, users, config] = plan.files();
    let folder = |path: &Path| {
        let made = std::fs::DirBuilder::new().recursive(true).mode(0o755).create(path);
        made.map_err(|error| usage(format!("cannot make {}: {error}", path.display())))
    };
    folder(&plan.dir.join("policies"))?;
    write_key(&private, sealed.as_bytes(), Readers::Owner, false)?;
    write_key(&public, key.public_pem().as_bytes(), Readers::Everybody, false)?;
    write_key(&signed, plan.signed(&key.public_pem()).as_bytes(), Readers::Everybody, false)?;
    write_key(&enforced, plan.enforced().as_bytes(), Readers::Everybody, false)?;
    let mut names = Htpasswd::default();
    names.set(&plan.user, &bcrypt::hash(&login, COST).context("cannot hash the password")?);
    names.write(&users)?;
    // The last: without it nothing of this is in force.
    write_key(&config, plan.config().as_bytes(), Readers::Everybody, false)?;
    print(&plan.next(&login))?;
    Ok(0)
}

fn agreed() -> anyhow::Result<bool> {
    if !io::stdin().is_terminal() {
        return Err(usage("nothing was written: say --yes, or answer at a terminal"));
    }
    let mut err = io::stderr().lock();
    write!(err, "Write it? [y/N] ").and_then(|()| err.flush()).context("cannot ask")?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer).context("cannot read the answer")?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

impl Plan {
    /// The keys, the policies, the users, the configuration.
    fn files(&self) -> [PathBuf; 6] {
        ["cosign.key", "cosign.pub", "policies/signed.yaml", "policies/enforced.yaml", "users", "stella.yaml"]
            .map(|name| self.dir.join(name))
    }

    fn told(&self) -> String {
        let [private, public, signed, enforced, users, config] = self.files();
        let patterns: Vec<_> = self.globs.iter().map(RepositoryGlob::as_str).collect();
        format!(
            "It will write:\n  {}\n  {}  a key pair\n  {}  what must be signed, with the public key\n  {}  where that is \
             enforced: {}\n  {}  the user {}\n  {}  everyone pulls what is released; {} pushes and signs\n",
            private.display(),
            public.display(),
            signed.display(),
            enforced.display(),
            patterns.join(", "),
            users.display(),
            self.user,
            config.display(),
            self.user
        )
    }

    /// What stops, if there is data already: nothing is signed with a key that does not exist yet.
    async fn impact(&self) -> anyhow::Result<String> {
        if !self.data.join("lock").exists() {
            return Ok(format!("There is no data at {} yet, so nothing stops.\n", self.data.display()));
        }
        let overrides = Overrides { listen: None, data: Some(self.data.clone()) };
        let config = Config::load(None, [], overrides)?;
        let options = StoreOptions { upgrade: Upgrade::Wait, ..server::store_options(&config)? };
        let store = match Store::open(&options).await {
            Ok(store) => store,
            Err(Error::Locked { holder, .. }) => return Ok(self.impact_at(&holder)),
            Err(error) => return Err(crate::admin::Failed::from(error).into()),
        };
        let (count, first) = self.stopped(&store).await.map_err(crate::admin::Failed::from)?;
        Ok(self.stops(count, &first))
    }

    fn stops(&self, count: usize, first: &[String]) -> String {
        match first {
            [] => format!("No tag in {} is in these repositories, so nothing stops.\n", self.data.display()),
            first => format!(
                "{count} {} in {} will answer readers nothing until signed with the new key: {}{}\n",
                if count == 1 { "tag" } else { "tags" },
                self.data.display(),
                first.join(", "),
                if count > first.len() { ", and others" } else { "" }
            ),
        }
    }

    /// The same of data that a server holds, which is asked.
    fn impact_at(&self, holder: &str) -> String {
        self.asked(holder).unwrap_or_else(|error| {
            format!(
                "{} is in use by {holder}, and what stops could not be asked: {error:#}. Before you start it with this \
                 configuration:\n  stella policy impact --policy {} --host {} --data {}\n",
                self.data.display(),
                self.dir.join("policies").display(),
                self.host,
                self.data.display()
            )
        })
    }

    fn asked(&self, holder: &str) -> anyhow::Result<String> {
        // For the server to read, whoever it is. What these ask for is a key that signed nothing, as the new one.
        let readable = std::fs::Permissions::from_mode(0o755);
        let folder = tempfile::Builder::new().permissions(readable).tempdir()?;
        let key = PrivateKey::generate()?;
        let written = [("signed.yaml", self.signed(&key.public_pem())), ("enforced.yaml", self.enforced())];
        for (name, text) in written {
            write_key(&folder.path().join(name), text.as_bytes(), Readers::Everybody, false)?;
        }
        let paths = vec![folder.path().to_owned()];
        let new = Impact { paths, roots: BTreeMap::new(), host: Some(self.host.clone()) };
        let mut first = Vec::new();
        let count = client::ask(&self.data, holder, new, |stops| {
            if first.len() < 5 {
                first.push(format!("{}:{}", stops.repository, stops.tag));
            }
            Ok(())
        })?;
        Ok(self.stops(count.stopped, &first))
    }

    async fn stopped(&self, store: &Store) -> Result<(usize, Vec<String>), Error> {
        let (mut count, mut first, mut after) = (0, Vec::new(), None);
        loop {
            let page = store.repositories(after, AT_ONCE).await?;
            after = page.last().cloned();
            let about = |name: &&String| self.globs.iter().any(|glob| glob.matches(name));
            for repo in page.iter().filter(about).filter_map(|name| name.parse::<RepoName>().ok()) {
                let mut last = None;
                loop {
                    let tags = store.tag_states(&repo, last.as_ref(), AT_ONCE).await?;
                    last = tags.last().map(|state| state.tag.clone());
                    let is_last = tags.len() < AT_ONCE;
                    for state in
                        tags.iter().filter(|state| state.released.is_some() && state.tag.subject().is_none())
                    {
                        count += 1;
                        if first.len() < 5 {
                            first.push(format!("{repo}:{}", state.tag));
                        }
                    }
                    if is_last {
                        break;
                    }
                }
            }
            if page.len() < AT_ONCE {
                return Ok((count, first));
            }
        }
    }

    fn signed(&self, key: &str) -> String {
        let key: String = key.lines().flat_map(|line| ["\n        ", line]).collect();
        format!(
            "# What an image must satisfy. `stella policy check` tells what this demands.\n\
             apiVersion: policy.sigstore.dev/v1beta1\nkind: ClusterImagePolicy\nmetadata:\n  name: signed\nspec:\n  images:\n  \
             - glob: {}\n  authorities:\n  - name: our-key\n    key:\n      data: |{key}\n",
            quoted(&format!("{}/**", self.host))
        )
    }

    fn enforced(&self) -> String {
        let globs: String =
            self.globs.iter().flat_map(|glob| ["\n  - ".to_owned(), quoted(glob.as_str())]).collect();
        format!(
            "# Where it is enforced, and what is asked beyond it.\n\
             apiVersion: policy.stella-ops.org/v1\nkind: RegistryPolicy\nmetadata:\n  name: enforced\nspec:\n  \
             repositories:{globs}\n  # A signature by our own key needs no transparency log.\n  transparency: ignored\n"
        )
    }

    fn config(&self) -> String {
        let path = |path: PathBuf| quoted(&path.to_string_lossy());
        let [.., users, _] = self.files();
        let mut text = String::from("# Written by `stella init`. docs/gate.md tells what it means.\n");
        // Text grows without fail.
        let _always = write!(
            text,
            "listen: 127.0.0.1:5000\ndata: {}\nauth:\n  htpasswd: {}\npolicy:\n  host: {}\n  paths: [{}]\naccess:\n\
             # With the key, this user releases what it pushes. Give `push` and `sign` to two users to part them.\n\
             - {{allow: [pull, push, sign, delete], to: {{subject: {}}}}}\n- {{allow: [pull], to: everyone}}\n",
            path(self.data.clone()),
            path(users),
            quoted(&self.host),
            path(self.dir.join("policies")),
            quoted(&self.user)
        );
        text
    }

    /// The commands that come next, to be typed as they are.
    fn next(&self, login: &str) -> String {
        let Plan { dir, host, user, .. } = self;
        let pattern = self.globs.first().map_or("prod/**", RepositoryGlob::as_str);
        let repo: Vec<&str> =
            pattern.split('/').map(|part| if is_name(part) { part } else { "app" }).collect();
        let image = format!("{host}/{}:1", repo.join("/"));
        let dir = dir.display();
        format!(
            "The password of {user}, which is not shown again: {login}\n\n\
             stella serve --config {dir}/stella.yaml\n\n\
             docker login -u {user} {host}\n\
             docker push {image}                # stored, and waits\n\
             stella status {image}              # what readers get, and why\n\
             stella sign --key {dir}/cosign.key {image}\n\
             stella wait {image}                # until it is released\n\
             docker logout {host} && docker pull {image}\n"
        )
    }
}

fn is_name(part: &str) -> bool {
    !part.is_empty()
        && part.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_.".contains(c))
}

/// A text as YAML has it, whatever is in it.
fn quoted(text: &str) -> String {
    serde_json::Value::String(text.to_owned()).to_string()
}
