// SPDX-License-Identifier: AGPL-3.0-only
//! The server: opens the store, starts what runs beside requests, takes signals, ends gracefully. Connections are
//! accepted in [`accept`].

use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use stella_storage::{Budget, Clock as _, Store, StoreOptions, SystemClock};
use tokio::net::TcpListener;

use crate::access::Access;
use crate::admin::Admin;
use crate::app::App;
use crate::audit::Audit;
use crate::config::{Config, Sources};
use crate::gate::Gate;
use crate::logging::Logging;
use crate::metrics::{self, Metrics};
use crate::notify::Notify;
use crate::proxy::Scheme;
use crate::reload::{Reload, parts};
use crate::signals::{Signals, Told};
use crate::tls::Tls;
use crate::{background, health};

use accept::{Phase, Server};

mod accept;

/// How long connections that are cut off may take to go.
const CUT: Duration = Duration::from_secs(2);

/// Serves the registry until SIGTERM or SIGINT. On SIGHUP `sources` are read again.
pub async fn serve(config: Config, sources: Sources, logging: Arc<Logging>) -> anyhow::Result<()> {
    let addresses = config.listen_addresses()?;
    let tls = Tls::load(&config)?.map(Arc::new);
    let metrics_addresses = config.metrics_addresses()?;
    let access = Access::load(&config)?;
    let mut signals = Signals::new()?;
    let notify = Arc::new(Notify::from_environment());
    raise_file_limit();
    let audit = Audit::open(config.audit.file.as_deref()).map_err(|error| {
        crate::cli::unopened(&config, config.audit.file.as_deref().unwrap_or("".as_ref()), &error)
    })?;
    let options = store_options(&config)?;
    let store = Store::open(&options).await.context("cannot open the store")?;
    if let Some(why) = store.why_collection_waits().await.context("cannot read the metadata")? {
        tracing::warn!("{why}");
    }
    let access = access.with_tokens(&store, &config.auth.token).await?;
    let gate = Gate::load(&config, &store).await.context("the policies cannot be used")?;
    let max_manifest = usize::try_from(config.push.max_manifest_size.bytes())?;
    let metrics = Metrics::new(config.data.clone(), tls.clone());
    let app = Arc::new(App::new(store, max_manifest, &config, metrics, audit, access, gate));
    let others = health::router(Arc::clone(&app), !metrics_addresses.is_empty());
    let server = Arc::new(Server::new(&app, others, tls.clone(), &config, options.memory.total()));
    let listeners = bind("listen", &addresses).await?;
    let monitoring = bind("metrics.listen", &metrics_addresses).await?;
    let admin = match Admin::listen(&config.data, Arc::clone(&app)) {
        Ok(admin) => Some(admin),
        Err(error) => {
            tracing::warn!(%error, "cannot listen for administration: `stella gc` and others will not work");
            None
        }
    };
    let mut urls = Vec::new();
    for listener in &listeners {
        let scheme = if tls.is_some() { Scheme::Https } else { Scheme::Http };
        let url = format!("{scheme}://{}", listener.local_addr()?);
        announce(&format!("listening on {url}"))?;
        urls.push(url);
    }
    let status = format!("serving {}", urls.join(", "));
    for listener in &monitoring {
        announce(&format!("metrics on http://{}/metrics", listener.local_addr()?))?;
    }
    let accepting: Vec<_> =
        listeners.into_iter().map(|listener| tokio::spawn(Arc::clone(&server).accept(listener))).collect();
    let router = health::monitoring_router(Arc::clone(&app));
    for listener in monitoring {
        // Until the very end, so that whoever watches sees it coming.
        tokio::spawn(metrics::serve(listener, router.clone()));
    }
    let mut background = Vec::from(background::begin(&app));
    if let Some(tokens) = app.access.token_service() {
        background.push(tokio::spawn(Arc::clone(tokens).watch(Arc::clone(&app))));
    }
    background.push(tokio::spawn(Gate::watch(Arc::clone(&app))));
    background.extend(app.access.watch_issuers());
    if let Some(passwords) = app.access.passwords() {
        background.push(tokio::spawn(passwords.watch()));
    }
    if let Some(tls) = tls.clone() {
        for warning in tls.warnings(&config, SystemClock.now()) {
            tracing::warn!("{warning}");
        }
        background.push(tokio::spawn(async move { tls.watch(|| SystemClock.now()).await }));
    }
    let alive = tokio::spawn({
        let (app, notify) = (Arc::clone(&app), Arc::clone(&notify));
        async move { notify.stay_alive(&app).await }
    });
    let mut reload = Reload::new(sources, config.clone(), parts(&app, &logging, tls));
    notify.ready(&status);
    let name = loop {
        match signals.next().await {
            Told::End(name) => break name,
            Told::Reload => {
                notify.reloading();
                reload.run(&app).await;
                notify.ready(&status);
            }
        }
    };
    tracing::info!(signal = name, "shutting down");
    app.drain();
    let ended = end(&server, &mut signals, &notify, accepting, admin.as_ref(), config.limits.connections);
    ended.await?;
    background.iter().for_each(tokio::task::JoinHandle::abort);
    alive.abort();
    app.audit.flush().await;
    app.store.flush_pulls().await.context("cannot record the last pulls")?;
    app.store.flush_robot_uses().await.context("cannot record the last uses of robots")?;
    Ok(())
}

/// Ends what is under way: first nobody notices but `/readyz`, then nobody is accepted and idle connections
/// are closed, and what is busy after `limits.shutdown_timeout` is cut off. Being told again cuts it short.
async fn end(
    server: &Server,
    signals: &mut Signals,
    notify: &Notify,
    accepting: Vec<tokio::task::JoinHandle<()>>,
    admin: Option<&Admin>,
    connections: usize,
) -> anyhow::Result<()> {
    let delay = server.app.live.drain_delay();
    let mut told_twice = None;
    if !delay.is_zero() {
        notify.stopping("shutting down: accepting until whoever balances load has noticed");
        tokio::select! {
            () = tokio::time::sleep(delay) => {}
            name = signals.end() => told_twice = Some(name),
        }
    }
    notify.stopping("shutting down: waiting for running transfers");
    for task in accepting {
        task.abort();
    }
    server.phase.send_replace(Phase::Draining);
    if let Some(admin) = admin {
        admin.stop();
    }
    // Every place is free again once every connection has ended.
    let all = u32::try_from(connections)?;
    let ended = async {
        let _all = server.places.acquire_many(all).await;
        if let Some(admin) = admin {
            admin.stopped().await;
        }
    };
    let busy = || connections.saturating_sub(server.places.available_permits());
    let limit = async {
        if told_twice.is_none() {
            tokio::time::sleep(server.app.live.shutdown_timeout()).await;
        }
    };
    tokio::select! {
        () = ended => return Ok(()),
        () = limit => match told_twice {
            None => tracing::warn!(connections = busy(), "connections were still busy and are cut off"),
            Some(name) => {
                tracing::warn!(signal = name, connections = busy(), "told twice: connections are cut off");
            }
        },
        name = signals.end() => {
            tracing::warn!(signal = name, connections = busy(), "told twice: connections are cut off");
        }
    }
    server.phase.send_replace(Phase::Cut);
    // Each tells in the audit trail what it was about.
    let _gone = tokio::time::timeout(CUT, server.places.acquire_many(all)).await.is_ok();
    Ok(())
}

/// How the configuration wants the store.
pub(crate) fn store_options(config: &Config) -> anyhow::Result<StoreOptions> {
    Ok(StoreOptions {
        memory: Budget::of(
            usize::try_from(config.limits.memory.bytes())?,
            usize::try_from(config.push.max_manifest_size.bytes())?,
        ),
        engine: config.engine()?,
        allow_missing: config.push.allow_missing,
        periods: config.collection.periods(),
        rules: config.rules(),
        disk_reserve: config.limits.disk_reserve.bytes(),
        upgrade: config.upgrade,
        ..StoreOptions::new(config.data.clone())
    })
}

/// Each connection and each blob that is read takes a file descriptor, and the usual soft limit of 1 024
/// is below `limits.connections`.
fn raise_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })
    {
        tracing::warn!(%error, "cannot raise the limit of open files");
    }
}

async fn bind(key: &str, addresses: &[SocketAddr]) -> anyhow::Result<Vec<TcpListener>> {
    let mut listeners = Vec::new();
    let mut failure = None;
    for &address in addresses {
        match TcpListener::bind(address).await {
            Ok(listener) => listeners.push(listener),
            // `localhost` may have an IPv6 address where IPv6 is off: one listener will do.
            Err(error) => {
                failure =
                    Some(anyhow::Error::new(error).context(format!("cannot listen on {address} (`{key}`)")));
            }
        }
    }
    match failure {
        Some(failure) if listeners.is_empty() || addresses.iter().all(SocketAddr::is_ipv4) => Err(failure),
        _ => Ok(listeners),
    }
}

/// Says where to connect, on stdout: with port 0 nobody else knows.
fn announce(line: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).context("cannot write to stdout")
}
