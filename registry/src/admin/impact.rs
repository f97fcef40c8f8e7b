// SPDX-License-Identifier: AGPL-3.0-only
//! Which tags would stop under other policies. It takes a running server: what is enforced now is part of the answer.

use std::collections::BTreeMap;
use std::fmt::{self, Display};
use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use stella_storage::{Error, Result, Store};
use tokio::sync::mpsc;

use super::{Operation, Request};
use crate::app::App;
use crate::gate::Stopped;
use crate::unseen::visible;

/// What to judge by.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Impact {
    /// Absolute, because the server works somewhere else.
    pub(crate) paths: Vec<PathBuf>,
    /// Trust roots by name; without any, those of the server.
    pub(crate) roots: BTreeMap<String, PathBuf>,
    /// What those policies call the registry; without it, what the server's own do.
    pub(crate) host: Option<String>,
}

/// A tag that would stop.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Stops {
    pub(crate) repository: String,
    pub(crate) tag: String,
    digest: String,
    reason: String,
    why: String,
    fix: Option<String>,
    last_pull: Option<String>,
}

/// How many.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Counted {
    pub(crate) stopped: usize,
}

impl Operation for Impact {
    const NAME: &'static str = "judgement of an impact";

    type Item = Stops;
    type Summary = Counted;

    fn request(self) -> Request {
        Request::Impact(self)
    }

    fn audited(&self) -> Option<&'static str> {
        None
    }

    async fn run(&self, _: &Store, _: mpsc::Sender<Stops>) -> Result<Counted> {
        let why = "no server runs on this data; start it with the policies that it has, and ask then";
        Err(Error::Refused(why.to_owned()))
    }

    async fn serve(&self, app: &Arc<App>, items: mpsc::Sender<Stops>) -> Result<Counted> {
        let all = self.paths.iter().chain(self.roots.values());
        if let Some(relative) = all.into_iter().find(|path| !path.is_absolute()) {
            return Err(Error::Refused(format!("{} is no absolute path", relative.display())));
        }
        let stopped = app.gate.impact(app, self.paths.clone(), self.roots.clone(), self.host.clone()).await;
        let stopped = stopped.map_err(|error| Error::Refused(format!("{error:#}")))?;
        let count = stopped.len();
        for one in stopped {
            let Stopped { repository, tag, digest, reason, why, fix, last_pull } = one;
            let last_pull = last_pull.map(stella_storage::Timestamp::rfc3339);
            if items.send(Stops { repository, tag, digest, reason, why, fix, last_pull }).await.is_err() {
                break;
            }
        }
        Ok(Counted { stopped: count })
    }

    fn faults(_: &Counted) -> bool {
        false
    }
}

impl Display for Stops {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Stops { repository, tag, digest, reason, why, last_pull, .. } = self;
        let pulled = last_pull.as_deref().unwrap_or("never");
        write!(f, "{repository}:{tag}  {digest}  pulled {pulled}  {reason}: {}", visible(why))
    }
}

impl Display for Counted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.stopped {
            0 => f.write_str("no tag would stop"),
            1 => f.write_str("1 tag would stop"),
            more => write!(f, "{more} tags would stop"),
        }
    }
}
