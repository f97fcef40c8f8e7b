// SPDX-License-Identifier: AGPL-3.0-only
//! SIGHUP: the configuration is read again, and what can change while the server runs does so.
//!
//! What cannot is named in the log, at each reload, until the server is restarted or the file put back. A
//! configuration that is wrong changes nothing. Parts with files of their own (the audit file, to be
//! rotated) are told at each reload, whether anything changed or not. Each part is one line in
//! `parts`: a name, and a function of the new configuration that says what it could not do.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures_util::future::BoxFuture;
use stella_storage::{Clock as _, SystemClock};

use crate::app::App;
use crate::config::{Config, Sources};
use crate::logging::Logging;
use crate::tls::Tls;

/// Takes a new configuration over; fails with a sentence for a person, and then goes on as before.
pub(crate) type Part = Box<dyn Fn(&Config) -> BoxFuture<'static, anyhow::Result<()>> + Send + Sync>;

/// What a server needs to read its configuration again.
pub(crate) struct Reload {
    sources: Sources,
    /// The configuration that is in force.
    running: Config,
    parts: Vec<(&'static str, Part)>,
}

impl Reload {
    pub(crate) fn new(sources: Sources, running: Config, parts: Vec<(&'static str, Part)>) -> Self {
        Reload { sources, running, parts }
    }

    /// Reads the configuration again and takes over what can change. All of it is told in the log.
    pub(crate) async fn run(&mut self, app: &App) {
        let outcome = self.try_run(app).await;
        let reloads = &app.metrics.reloads;
        let counter = if matches!(outcome, Ok(true)) { &reloads.succeeded } else { &reloads.failed };
        counter.fetch_add(1, Ordering::Relaxed);
        match outcome {
            Ok(true) => tracing::info!("the configuration was reloaded"),
            Ok(false) => {
                tracing::warn!("the configuration was reloaded, without the parts that could not be");
            }
            Err(error) => {
                let error = format!("{error:#}");
                tracing::error!(error, "the configuration was not reloaded, and everything stays as it was");
            }
        }
    }

    /// Whether every part took it over.
    async fn try_run(&mut self, app: &App) -> anyhow::Result<bool> {
        // Small files, and at times a name to resolve: it would hold up a thread of the runtime.
        let sources = self.sources.clone();
        let loaded = tokio::task::spawn_blocking(move || sources.load()).await?;
        let new = loaded?;
        let mut adopted = self.running.clone();
        adopted.adopt(&new);
        for key in self.running.differences(&adopted)? {
            tracing::info!(key, "the configuration changed");
        }
        for key in adopted.differences(&new)? {
            tracing::warn!(key, "the configuration changed, and this key needs a restart");
        }
        app.live.set(&adopted);
        app.store.set_allow_missing(adopted.push.allow_missing);
        app.store.set_disk_reserve(adopted.limits.disk_reserve.bytes());
        app.store.set_rules(adopted.rules());
        self.running = adopted;
        let mut all = true;
        for (name, part) in &self.parts {
            // What needs a restart is not for them; what has files of its own reads them anew.
            if let Err(error) = part(&self.running).await {
                tracing::error!(part = name, error = format!("{error:#}"), "could not be reloaded");
                all = false;
            }
        }
        Ok(all)
    }
}

/// What has files of its own to read again, or is changed elsewhere than in the store.
pub(crate) fn parts(
    app: &Arc<App>,
    logging: &Arc<Logging>,
    tls: Option<Arc<Tls>>,
) -> Vec<(&'static str, Part)> {
    let (app, reloaded, judging) = (Arc::clone(app), Arc::clone(app), Arc::clone(app));
    let logging = Arc::clone(logging);
    let level: Part = Box::new(move |config| {
        let set = logging.set_level(&config.log).map_err(anyhow::Error::from);
        Box::pin(std::future::ready(set))
    });
    let audit: Part = Box::new(move |_| {
        let app = Arc::clone(&app);
        Box::pin(async move {
            app.audit.reopen().await;
            Ok(())
        })
    });
    let passwords: Part = Box::new(move |config| {
        reloaded.access.set_rules(config);
        let passwords = reloaded.access.passwords();
        Box::pin(async move {
            match passwords {
                Some(passwords) => passwords.reload().await.map_err(anyhow::Error::from),
                None => Ok(()),
            }
        })
    });
    let policies: Part = Box::new(move |config| {
        let (app, config) = (Arc::clone(&judging), config.clone());
        Box::pin(async move { app.gate.reload(&app, &config).await })
    });
    let mut parts =
        vec![("log.level", level), ("audit.file", audit), ("auth.htpasswd", passwords), ("policy", policies)];
    if let Some(tls) = tls {
        let certificates: Part = Box::new(move |_| {
            let tls = Arc::clone(&tls);
            Box::pin(async move {
                // What is wrong with which file is in the log already.
                let good = tls.reload(SystemClock.now()).await;
                anyhow::ensure!(good, "the certificates from before are served on");
                Ok(())
            })
        });
        parts.push(("tls.certificates", certificates));
    }
    parts
}
