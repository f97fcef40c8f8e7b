// SPDX-License-Identifier: AGPL-3.0-only
//! A scratch directory for programs that are no registry's clients, such as Prometheus, or that work on files alone. They see nothing of
//! the user's own configuration.

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::client::{Client, find, path_variable, usable};
use crate::program::stella;
use crate::tool::Tool;

/// A scratch directory, and what can be run in it.
#[derive(Debug)]
pub struct Workshop(TempDir);

impl Workshop {
    /// An empty one for `programs`, or `None`, once that was said, if one of them cannot be used here.
    #[track_caller]
    pub fn with(programs: &[Client]) -> Option<Self> {
        usable(programs).then(|| Self(TempDir::with_prefix("stella-test-").unwrap()))
    }

    /// The directory itself.
    pub fn folder(&self) -> &Path {
        self.0.path()
    }

    /// A path in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Reads a file from it.
    #[track_caller]
    pub fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap_or_else(|error| panic!("cannot read {name}: {error}"))
    }

    /// Writes a file into it.
    pub fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, bytes).unwrap();
        path
    }

    /// A program, ready to run there. What it asks of other machines fails at once.
    pub fn program(&self, name: &str) -> Tool {
        self.at(find(name).unwrap_or_else(|| panic!("{name} is not installed")))
    }

    /// Our own command line.
    pub fn stella(&self) -> Tool {
        self.at(stella().to_owned())
    }

    /// A program by its path.
    pub fn at(&self, path: PathBuf) -> Tool {
        let tool = Tool::new(path, self.folder()).env("PATH", path_variable()).env("HOME", self.folder());
        tool.env("HTTPS_PROXY", "http://127.0.0.1:9")
    }
}
