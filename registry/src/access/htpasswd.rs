// SPDX-License-Identifier: AGPL-3.0-only
//! The file of names and password hashes: `NAME:HASH` on each line, as Apache's `htpasswd -B` writes it. Of its
//! hashes bcrypt alone is taken, because the others can be guessed too fast. Comments and empty lines stay where they are
//! when a line is changed.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::unseen::{is_unseen, visible};

/// A file with more is no list of people.
const MAX_SIZE: u64 = 4 << 20;
/// A name has no more bytes.
pub(super) const MAX_NAME: usize = 128;
/// bcrypt takes no more of a password.
pub(crate) const MAX_PASSWORD: usize = 72;
/// A hash that costs more takes seconds at each login.
const MAX_COST: u32 = 15;
/// What a new hash costs: about a tenth of a second.
pub(crate) const COST: u32 = 11;

/// Why a file, or a change to it, was refused.
#[derive(Debug, Error)]
pub(crate) enum HtpasswdError {
    #[error("cannot read {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("cannot write {}", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("{} is larger than 4 MiB", .0.display())]
    TooLarge(PathBuf),
    #[error("{}, line {line}: {what}", path.display())]
    Line { path: PathBuf, line: usize, what: String },
    #[error(
        "{} is there: another command is changing the file, or was interrupted; remove it if none runs", .0.display()
    )]
    Busy(PathBuf),
}

/// The file as it was read.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Htpasswd {
    lines: Vec<String>,
    /// The hash of each name.
    hashes: HashMap<String, String>,
}

impl Htpasswd {
    /// Reads a file and checks each line.
    pub(crate) fn read(path: &Path) -> Result<Self, HtpasswdError> {
        let failed = |source| HtpasswdError::Read { path: path.to_owned(), source };
        let mut text = String::new();
        let read = File::open(path)
            .and_then(|file| file.take(MAX_SIZE + 1).read_to_string(&mut text))
            .map_err(failed)?;
        if read as u64 > MAX_SIZE {
            return Err(HtpasswdError::TooLarge(path.to_owned()));
        }
        Self::parse(&text).map_err(|(line, what)| HtpasswdError::Line { path: path.to_owned(), line, what })
    }

    fn parse(text: &str) -> Result<Self, (usize, String)> {
        let mut file = Self::default();
        for (index, line) in text.lines().enumerate() {
            file.lines.push(line.to_owned());
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let wrong = |what: String| (index + 1, what);
            let (name, hash) =
                line.split_once(':').ok_or_else(|| wrong("there is no NAME:HASH".to_owned()))?;
            check_name(name).map_err(wrong)?;
            check_hash(hash).map_err(|what| wrong(format!("{name}: {what}")))?;
            if file.hashes.insert(name.to_owned(), hash.to_owned()).is_some() {
                return Err(wrong(format!("{name} stands here for the second time")));
            }
        }
        Ok(file)
    }

    /// The hash of a name's password.
    pub(crate) fn hash(&self, name: &str) -> Option<&str> {
        self.hashes.get(name).map(String::as_str)
    }

    /// The names, in the file's order.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.lines.iter().filter_map(|line| Some(name_of(line)?.1))
    }

    /// What most hashes cost; what a new one costs if there are none.
    pub(crate) fn usual_cost(&self) -> u32 {
        let mut counts: HashMap<u32, usize> = HashMap::new();
        for cost in self.hashes.values().filter_map(|hash| cost_of(hash)) {
            *counts.entry(cost).or_default() += 1;
        }
        counts.into_iter().max_by_key(|&(cost, count)| (count, cost)).map_or(COST, |(cost, _)| cost)
    }

    /// Sets a name's hash; whether it had one.
    pub(crate) fn set(&mut self, name: &str, hash: &str) -> bool {
        let line = format!("{name}:{hash}");
        let place = self.lines.iter_mut().find(|line| name_of(line).is_some_and(|(_, other)| other == name));
        match place {
            Some(place) => *place = line,
            None => self.lines.push(line),
        }
        self.hashes.insert(name.to_owned(), hash.to_owned()).is_some()
    }

    /// Removes a name; whether it was there.
    pub(crate) fn remove(&mut self, name: &str) -> bool {
        self.lines.retain(|line| name_of(line).is_none_or(|(_, other)| other != name));
        self.hashes.remove(name).is_some()
    }

    /// Writes the file anew: there is the old one or the new one, also after a power cut.
    pub(crate) fn write(&self, path: &Path) -> Result<(), HtpasswdError> {
        let failed = |source| HtpasswdError::Write { path: path.to_owned(), source };
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(".new");
        let draft = path.with_file_name(name);
        let before = fs::metadata(path).ok();
        let mode = before.as_ref().map_or(0o600, |before| before.permissions().mode() & 0o777);
        let mut file = match OpenOptions::new().write(true).create_new(true).mode(mode).open(&draft) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                return Err(HtpasswdError::Busy(draft));
            }
            opened => opened.map_err(failed)?,
        };
        let written = (|| {
            for line in &self.lines {
                writeln!(file, "{line}")?;
            }
            if let Some(before) = before {
                // The server may read it as somebody else than who changes it.
                std::os::unix::fs::fchown(&file, Some(before.uid()), Some(before.gid()))?;
            }
            file.sync_all()?;
            fs::rename(&draft, path)?;
            let folder =
                path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
            File::open(folder)?.sync_all()
        })();
        written.map_err(|error| {
            // Gone already if the rename was done.
            let _gone = fs::remove_file(&draft);
            failed(error)
        })
    }
}

/// Whether a name can stand in the file and in a header.
pub(crate) fn check_name(name: &str) -> Result<(), String> {
    if name.is_empty() || name.len() > MAX_NAME {
        return Err(format!("a name has 1 to {MAX_NAME} characters"));
    }
    if name.starts_with('#') || name.chars().any(|c| c == ':' || c.is_control() || c.is_whitespace()) {
        return Err(format!(
            "{name:?} is no name: it must not begin with '#', nor have ':', spaces or control characters"
        ));
    }
    Ok(())
}

/// Whether a name may be given to somebody. Names from before are taken as they are.
pub(crate) fn check_new_name(name: &str) -> Result<(), String> {
    check_name(name)?;
    if name.chars().any(is_unseen) {
        let name = visible(name);
        return Err(format!("the name has characters that nobody sees, as \"{name}\" shows; leave them out"));
    }
    Ok(())
}

fn check_hash(hash: &str) -> Result<(), String> {
    let bcrypt = ["$2a$", "$2b$", "$2x$", "$2y$"].iter().any(|prefix| hash.starts_with(prefix));
    if !bcrypt {
        return Err(
            "the hash is not of bcrypt; make it with `stella user passwd` or `htpasswd -B`".to_owned()
        );
    }
    match hash.parse::<bcrypt::HashParts>().ok().and_then(|_| cost_of(hash)) {
        None => Err("the bcrypt hash is damaged".to_owned()),
        Some(cost) if cost > MAX_COST => Err(format!(
            "the hash has cost {cost}, which takes seconds at each login; at most {MAX_COST} is taken"
        )),
        Some(_) => Ok(()),
    }
}

fn cost_of(hash: &str) -> Option<u32> {
    hash.get(4..6)?.parse().ok()
}

/// A line's name, and the line without the spaces around it.
fn name_of(line: &str) -> Option<(&str, &str)> {
    let line = line.trim();
    if line.starts_with('#') {
        return None;
    }
    line.split_once(':').map(|(name, _)| (line, name))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HASH: &str = "$2y$05$abcdefghijklmnopqrstuuPvAoHGV7ZjPdkrfQ8eSL5g7qC0BfHNq";

    #[test]
    fn a_file_is_read_with_its_comments_and_changed_in_place() {
        let text = format!("# people\nalice:{HASH}\n\nbob:{HASH}\n");
        let mut file = Htpasswd::parse(&text).unwrap();
        assert_eq!(file.names().collect::<Vec<_>>(), ["alice", "bob"]);
        assert!(
            file.set("alice", &HASH.replace("05", "06")) && !file.set("carol", HASH) && file.remove("bob")
        );
        assert!(!file.remove("bob"));
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("users");
        file.write(&path).unwrap();
        let expected = format!("# people\nalice:{}\n\ncarol:{HASH}\n", HASH.replace("05", "06"));
        assert_eq!(fs::read_to_string(&path).unwrap(), expected);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(Htpasswd::read(&path).unwrap(), file);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        file.write(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
        fs::write(folder.path().join("users.new"), "").unwrap();
        assert!(matches!(file.write(&path), Err(HtpasswdError::Busy(_))));
    }

    #[test]
    fn what_is_no_entry_is_refused_by_line() {
        for (text, line, what) in [
            ("alice", 1, "NAME:HASH"),
            ("#\n:x", 2, "a name has"),
            ("a b:x", 1, "no name"),
            ("alice:{SHA}x", 1, "not of bcrypt"),
            ("alice:$apr1$x$y", 1, "not of bcrypt"),
            ("alice:$2y$05$short", 1, "damaged"),
            (&format!("alice:{}", HASH.replace("$05$", "$31$")), 1, "seconds at each login"),
            (&format!("alice:{HASH}\nalice:{HASH}"), 2, "second time"),
        ] {
            let (found, reason) = Htpasswd::parse(text).unwrap_err();
            assert!(found == line && reason.contains(what), "{text}: {found} {reason}");
            assert!(!reason.contains(HASH), "hashes are not for the log");
        }
    }

    #[test]
    fn a_new_name_shows_all_that_is_in_it() {
        assert!(check_new_name("zoë").is_ok());
        for name in ["ecila\u{202e}", "a\u{200b}lice", "alice\u{feff}", "a\u{ad}b", "a\u{2066}b", "a\u{fe0f}"]
        {
            assert!(check_name(name).is_ok(), "a file that has it is still read");
            let error = check_new_name(name).unwrap_err();
            assert!(error.contains("nobody sees") && error.contains("\\u{"), "{error}");
            assert!(!error.chars().any(is_unseen), "{error:?}");
        }
    }

    proptest! {
        #[test]
        fn no_file_makes_the_parser_panic(text in "([a-z#: $2y0-9./]{0,80}\n){0,5}") {
            let _ = Htpasswd::parse(&text);
        }
    }
}
