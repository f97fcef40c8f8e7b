// SPDX-License-Identifier: AGPL-3.0-only
//! The ranges that keep a slip of the keyboard from becoming an outage. They are wide: what stands
//! here is senseless outside them, not merely unusual.

use std::fmt::Display;
use std::ops::RangeInclusive;

use super::decode::Fault;
use super::{ByteSize, Config, Period};

/// Finds the first value that is out of range.
pub(super) fn check(config: &Config) -> Result<(), Fault> {
    let Config { listen, metrics, data, audit, push, limits, collection, scrub, repositories, .. } = config;
    let Config { tls, access, auth, .. } = config;
    let trusted_proxies = &config.trusted_proxies;
    if data.as_os_str().is_empty() {
        return Err(Fault::bad_value("data", "the path is empty; name a directory".to_owned()));
    }
    if audit.file.as_ref().is_some_and(|file| file.as_os_str().is_empty()) {
        return Err(Fault::bad_value("audit.file", "the path is empty; name a file".to_owned()));
    }
    if metrics.listen.as_ref().is_some_and(|other| other == listen && other.port() != 0) {
        return Err(Fault::bad_value(
            "metrics.listen",
            format!("{listen} is `listen` too; choose another port"),
        ));
    }
    let day = Period::seconds(24 * 60 * 60);
    let hour = Period::seconds(60 * 60);
    let moment = Period::millis(10);
    within("push.max_manifest_size", push.max_manifest_size, ByteSize::kib(4)..=ByteSize::mib(7))?;
    within("limits.connections", limits.connections, 1..=1_000_000)?;
    within("limits.header_timeout", limits.header_timeout, moment..=hour)?;
    within("limits.idle_timeout", limits.idle_timeout, moment..=day)?;
    within("limits.shutdown_timeout", limits.shutdown_timeout, moment..=day)?;
    within("limits.drain_delay", limits.drain_delay, Period::seconds(0)..=hour)?;
    within("limits.memory", limits.memory, ByteSize::mib(16)..=ByteSize::mib(1024 * 1024))?;
    within("limits.disk_reserve", limits.disk_reserve, ByteSize::new(0)..=ByteSize::mib(1024 * 1024 * 1024))?;
    let (second, year) = (Period::seconds(1), Period::seconds(365 * 24 * 60 * 60));
    within("collection.interval", collection.interval, second..=day)?;
    within("collection.lease", collection.lease, second..=year)?;
    within("collection.grace", collection.grace, Period::seconds(0)..=year)?;
    within("collection.uploads", collection.uploads, second..=year)?;
    within("scrub.rate", scrub.rate, ByteSize::new(0)..=ByteSize::mib(1024 * 1024))?;
    within("policy.max_evidence", config.policy.max_evidence, 100..=100_000)?;
    at_most(MAX_ENTRIES, "policy.paths", config.policy.paths.len())?;
    at_most(MAX_ENTRIES, "policy.trust_roots", config.policy.trust_roots.len())?;
    if config.policy.host.as_ref().is_some_and(|host| host.is_empty() || host.contains(['/', '@', ' '])) {
        return Err(Fault::bad_value(
            "policy.host",
            "write HOST or HOST:PORT, as images are called".to_owned(),
        ));
    }
    at_most(MAX_ENTRIES, "repositories", repositories.len())?;
    at_most(MAX_ENTRIES, "tls.certificates", tls.certificates.len())?;
    at_most(MAX_ENTRIES, "access", access.len())?;
    for (index, rule) in access.iter().enumerate() {
        if rule.allow.is_some() == rule.deny.is_some() {
            return Err(Fault::bad_value(
                "access",
                format!("rule {} must have one of `allow` and `deny`", index + 1),
            ));
        }
        if rule.to.0.is_empty() {
            return Err(Fault::bad_value(
                "access",
                format!("rule {} is about nobody; name somebody in `to`", index + 1),
            ));
        }
        at_most(MAX_ENTRIES, "access", rule.to.0.len().max(rule.repositories.len()))?;
    }
    if auth.htpasswd.as_ref().is_some_and(|file| file.as_os_str().is_empty()) {
        return Err(Fault::bad_value("auth.htpasswd", "the path is empty; name a file".to_owned()));
    }
    let (minute, token) = (Period::seconds(60), &auth.token);
    within("auth.token.lifetime", token.lifetime, minute..=day)?;
    within("auth.token.refresh", token.refresh, hour..=year)?;
    within("auth.token.rotation", token.rotation, day..=year)?;
    at_most(MAX_ENTRIES, "trusted_proxies", trusted_proxies.len())
}

/// Each may be tried: a rule for each manifest that is reviewed, a network for each request; the files of
/// certificates are read every few seconds.
const MAX_ENTRIES: usize = 1_000;

fn at_most(most: usize, key: &str, count: usize) -> Result<(), Fault> {
    if count <= most {
        return Ok(());
    }
    Err(Fault::bad_value(key, format!("{count} entries; at most {most} are allowed")))
}

fn within<T: Copy + PartialOrd + Display>(
    key: &str,
    value: T,
    range: RangeInclusive<T>,
) -> Result<(), Fault> {
    if range.contains(&value) {
        return Ok(());
    }
    let (least, most) = range.into_inner();
    Err(Fault::bad_value(key, format!("{value} is out of range; allowed is {least} to {most}")))
}
