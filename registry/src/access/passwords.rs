// SPDX-License-Identifier: AGPL-3.0-only
//! Passwords: proven against the htpasswd file, which is read again when it changes.
//!
//! bcrypt is slow on purpose. So what was proven is remembered, by a keyed hash of name, password and the file's
//! hash: a client that sends its password with each request costs a microsecond, and a changed line ends what was
//! proven by the old one. Unknown names take as long as known ones. At most a few hashes are computed at once; who is next
//! says `access/turns.rs`.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use arc_swap::ArcSwap;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use super::claims::brief;
use super::htpasswd::{Htpasswd, HtpasswdError};
use super::turns::{Attempt, TooBusy, Turn, Turns};

/// How often the file is looked at.
const POLL: Duration = Duration::from_secs(3);
/// Passwords that are remembered; then all are forgotten.
const REMEMBERED: usize = 10_000;

/// Who has which password.
pub(crate) struct Passwords {
    path: PathBuf,
    users: ArcSwap<Users>,
    /// How often they have changed.
    generation: AtomicU64,
    /// Keyed hashes of what was proven.
    proven: Mutex<HashSet<Mark>>,
    /// Of this process alone.
    key: [u8; 32],
    turns: Turns,
    /// Hashes that were computed.
    #[cfg(test)]
    computed: std::sync::atomic::AtomicUsize,
}

struct Users {
    file: Htpasswd,
    /// What an unknown name's password is compared with.
    nobody: String,
    /// What tells each name's password from one that comes after it.
    stamps: HashMap<String, Arc<str>>,
}

type Mark = [u8; 32];

impl Passwords {
    /// Reads the file.
    pub(crate) fn load(path: &Path) -> Result<Self, HtpasswdError> {
        let users = Users::of(Htpasswd::read(path)?);
        let key = [Uuid::new_v4(), Uuid::new_v4()].map(Uuid::into_bytes).concat();
        let turns = thread::available_parallelism().map_or(1, |cores| cores.get().div_ceil(2));
        Ok(Passwords {
            path: path.to_owned(),
            users: ArcSwap::from_pointee(users),
            generation: AtomicU64::new(0),
            proven: Mutex::default(),
            key: key.try_into().unwrap_or_default(),
            turns: Turns::new(turns),
            #[cfg(test)]
            computed: 0.into(),
        })
    }

    /// How often the file has changed.
    pub(super) fn generation(&self) -> u64 {
        self.generation.load(Ordering::SeqCst)
    }

    /// What stamp this password of this name has, if it is known already that it is the right one. A file that is read
    /// meanwhile has no part in it: what is proven by an old password must not have the stamp of a new one.
    pub(crate) fn proven(&self, name: &str, password: &str) -> Option<Arc<str>> {
        let users = self.users.load();
        let mark = self.mark(name, password, users.file.hash(name)?);
        let is_proven = self.proven.lock().unwrap_or_else(PoisonError::into_inner).contains(&mark);
        users.stamps.get(name).filter(|_| is_proven).cloned()
    }

    /// What tells a name's present password from any other; none if there is no such name.
    pub(crate) fn stamp(&self, name: &str) -> Option<Arc<str>> {
        self.users.load().stamps.get(name).cloned()
    }

    /// Whether this, or as much of it as a token has, is the stamp of a name's present password.
    pub(super) fn has_stamp(&self, name: &str, stamp: &str) -> bool {
        self.users.load().stamps.get(name).is_some_and(|present| brief(present) == brief(stamp))
    }

    /// Waits until a password may be checked.
    pub(crate) async fn turn(&self, attempt: Attempt<'_>) -> Result<Turn, TooBusy> {
        self.turns.take(attempt).await
    }

    /// The stamp of this password of this name, if it is the right one. Slow, and so done in turn.
    pub(crate) async fn prove(&self, turn: Turn, name: &str, password: &str) -> Option<Arc<str>> {
        // While it waited, another client may have proven the same.
        if let Some(stamp) = self.proven(name, password) {
            return Some(stamp);
        }
        let users = self.users.load_full();
        let known = users.file.hash(name).map(str::to_owned);
        let (hash, given) = (known.clone().unwrap_or_else(|| users.nobody.clone()), password.to_owned());
        #[cfg(test)]
        self.computed.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        // The turn goes with the work, also if the client has gone away, and ends once whoever is next can know of it.
        let work = move || (bcrypt::verify(given, &hash).unwrap_or(false), turn);
        let done = tokio::task::spawn_blocking(work).await;
        let (Some(hash), Ok((true, _turn))) = (known, done) else { return None };
        let mark = self.mark(name, password, &hash);
        let mut proven = self.proven.lock().unwrap_or_else(PoisonError::into_inner);
        if proven.len() >= REMEMBERED {
            proven.clear();
        }
        proven.insert(mark);
        users.stamps.get(name).cloned()
    }

    /// Looks for changes, for ever.
    pub(crate) async fn watch(self: Arc<Self>) {
        let mut bad: Option<String> = None;
        loop {
            tokio::time::sleep(POLL).await;
            match self.reload().await {
                Ok(()) => bad = None,
                Err(error) => {
                    let text = chain(&error);
                    if bad.as_ref() != Some(&text) {
                        tracing::error!(
                            error = text,
                            "cannot reload the passwords; those from before are still taken"
                        );
                    }
                    bad = Some(text);
                }
            }
        }
    }

    /// Reads the file again. If it is wrong, everything stays as it was.
    pub(crate) async fn reload(&self) -> Result<(), HtpasswdError> {
        let path = self.path.clone();
        let read = tokio::task::spawn_blocking(move || Htpasswd::read(&path)).await;
        let Ok(read) = read else { return Ok(()) };
        let file = read?;
        if file != self.users.load().file {
            let users = file.names().count();
            // A hash for unknown names costs what a login costs.
            let Ok(new) = tokio::task::spawn_blocking(move || Users::of(file)).await else { return Ok(()) };
            self.users.store(Arc::new(new));
            self.generation.fetch_add(1, Ordering::SeqCst);
            tracing::info!(users, "the passwords changed");
        }
        Ok(())
    }

    fn mark(&self, name: &str, password: &str, hash: &str) -> Mark {
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(&self.key) else { return Mark::default() };
        for part in [name, hash, password] {
            mac.update(&(part.len() as u64).to_le_bytes());
            mac.update(part.as_bytes());
        }
        mac.finalize().into_bytes().into()
    }
}

impl Users {
    fn of(file: Htpasswd) -> Self {
        let password = Uuid::new_v4().to_string();
        let nobody = bcrypt::hash(password, file.usual_cost()).unwrap_or_default();
        let stamp = |name: &str| -> Option<Arc<str>> {
            let mut hash = Sha256::digest(file.hash(name)?).to_vec();
            hash.truncate(16);
            Some(hex::encode(hash).into())
        };
        let stamps = file.names().filter_map(|name| Some((name.to_owned(), stamp(name)?))).collect();
        Users { file, nobody, stamps }
    }
}

fn chain(error: &HtpasswdError) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    async fn prove(passwords: &Passwords, name: &str, password: &str) -> bool {
        let attempt = Attempt { network: [127, 0, 0, 1].into(), failures: 0, name };
        let turn = passwords.turn(attempt).await.unwrap();
        passwords.prove(turn, name, password).await.is_some()
    }

    fn line(name: &str, password: &str, cost: u32) -> String {
        format!("{name}:{}\n", bcrypt::hash(password, cost).unwrap())
    }

    #[tokio::test]
    async fn a_password_is_proven_once_and_known_until_its_line_changes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("users");
        fs::write(&path, line("alice", "secret", 4) + &line("bob", "other", 4)).unwrap();
        let passwords = Passwords::load(&path).unwrap();
        for (name, password, right) in [
            ("alice", "wrong", false),
            ("alice", "secret", true),
            ("alice", "other", false),
            ("carol", "secret", false),
        ] {
            assert!(passwords.proven(name, password).is_none());
            assert_eq!(prove(&passwords, name, password).await, right, "{name} {password}");
            assert_eq!(passwords.proven(name, password).is_some(), right);
        }
        let stamp = passwords.stamp("alice").unwrap();
        for (name, stamp, has) in [
            ("alice", &*stamp, true),
            ("alice", brief(&stamp), true),
            ("alice", &stamp[..15], false),
            ("alice", "", false),
            ("bob", &stamp, false),
            ("carol", &stamp, false),
        ] {
            assert_eq!(passwords.has_stamp(name, stamp), has, "{name} {stamp}");
        }
        let generation = passwords.generation();
        passwords.reload().await.unwrap();
        assert_eq!(passwords.generation(), generation, "nothing changed");
        fs::write(&path, line("alice", "changed", 4)).unwrap();
        passwords.reload().await.unwrap();
        assert_ne!(passwords.generation(), generation, "tokens are looked at again");
        assert!(!passwords.has_stamp("alice", &stamp) && !passwords.has_stamp("alice", brief(&stamp)));
        assert!(passwords.proven("alice", "secret").is_none() && !prove(&passwords, "alice", "secret").await);
        assert!(prove(&passwords, "alice", "changed").await);
        fs::write(&path, "alice").unwrap();
        assert!(passwords.reload().await.is_err());
        assert!(passwords.proven("alice", "changed").is_some(), "a file that is wrong changes nothing");
        fs::remove_file(&path).unwrap();
        assert!(passwords.reload().await.is_err());
        assert!(passwords.proven("alice", "changed").is_some());
    }

    #[tokio::test]
    async fn clients_that_log_in_at_once_with_one_password_are_little_work() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("users");
        fs::write(&path, line("alice", "secret", 8)).unwrap();
        let passwords = Passwords::load(&path).unwrap();
        let clients = (0..16).map(|_| prove(&passwords, "alice", "secret"));
        assert!(futures_util::future::join_all(clients).await.into_iter().all(|right| right));
        let at_once = thread::available_parallelism().map_or(1, |cores| cores.get().div_ceil(2));
        let computed = passwords.computed.into_inner();
        assert!(computed <= at_once, "{computed}");
    }

    #[tokio::test]
    async fn an_unknown_name_is_compared_with_a_hash_of_the_usual_cost() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("users");
        fs::write(&path, line("alice", "a", 8)).unwrap();
        let passwords = Passwords::load(&path).unwrap();
        assert_eq!(passwords.users.load().nobody.get(4..6), Some("08"));
        assert!(!bcrypt::verify("x", &passwords.users.load().nobody).unwrap(), "a hash as any other");
        assert!(!prove(&passwords, "nobody", "x").await);
        assert_eq!(passwords.computed.into_inner(), 1, "a name that is not there is work too");
    }
}
