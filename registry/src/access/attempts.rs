// SPDX-License-Identifier: AGPL-3.0-only
//! Failed logins of each address: after some, it waits. What was proven before is not asked of here, so that who
//! guesses passwords behind the same address locks nobody out whose password is known to be right.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Failures that an address has free ...
const FREE: u32 = 10;
/// ... and how long it takes until one is forgotten.
const FORGOTTEN: Duration = Duration::from_secs(6);
/// Addresses that are remembered.
const MOST: usize = 10_000;

/// Who has failed how often.
#[derive(Default)]
pub(crate) struct Attempts(Mutex<HashMap<IpAddr, Failures>>);

#[derive(Clone, Copy)]
struct Failures {
    count: u32,
    /// Up to when failures were forgotten.
    since: Instant,
}

impl Failures {
    fn forget(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.since);
        let forgotten = u32::try_from(passed.as_nanos() / FORGOTTEN.as_nanos()).unwrap_or(u32::MAX);
        self.count = self.count.saturating_sub(forgotten);
        self.since += FORGOTTEN.saturating_mul(forgotten.min(FREE * 2));
        if self.count == 0 {
            self.since = now;
        }
    }
}

impl Attempts {
    /// Seconds that an address has to wait before it may try again; none if it may now.
    pub(crate) fn must_wait(&self, address: IpAddr, now: Instant) -> Option<u64> {
        let mut table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let failures = table.get_mut(&network(address))?;
        failures.forget(now);
        if failures.count < FREE {
            return None;
        }
        let left = FORGOTTEN.saturating_sub(now.saturating_duration_since(failures.since));
        Some(left.as_secs().max(1))
    }

    /// How often an address has failed of late.
    pub(crate) fn failures(&self, address: IpAddr, now: Instant) -> u32 {
        let mut table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        table.get_mut(&network(address)).map_or(0, |failures| {
            failures.forget(now);
            failures.count
        })
    }

    /// An address has named somebody and could not prove it.
    pub(crate) fn failed(&self, address: IpAddr, now: Instant) {
        let mut table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if table.len() >= MOST {
            table.retain(|_, failures| {
                failures.forget(now);
                failures.count > 0
            });
            // All of them are guessing: the least guilty goes.
            if table.len() >= MOST
                && let Some(least) =
                    table.iter().min_by_key(|(_, failures)| failures.count).map(|(key, _)| *key)
            {
                table.remove(&least);
            }
        }
        let failures = table.entry(network(address)).or_insert(Failures { count: 0, since: now });
        failures.forget(now);
        failures.count = failures.count.saturating_add(1).min(FREE * 2);
    }
}

/// Of IPv6 the network: a client has many addresses in one.
pub(super) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(v4) => IpAddr::V4(v4),
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_fails_often_waits_and_others_do_not() {
        let (attempts, now) = (Attempts::default(), Instant::now());
        let (guesser, other): (IpAddr, IpAddr) = ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
        for _ in 0..FREE {
            assert_eq!(attempts.must_wait(guesser, now), None);
            attempts.failed(guesser, now);
        }
        assert!(attempts.must_wait(guesser, now).is_some_and(|seconds| (1..=6).contains(&seconds)));
        assert_eq!(attempts.must_wait(other, now), None);
        assert_eq!(attempts.must_wait(guesser, now + FORGOTTEN), None, "one is forgotten");
        attempts.failed(guesser, now + FORGOTTEN);
        assert!(attempts.must_wait(guesser, now + FORGOTTEN).is_some());
        assert_eq!(attempts.must_wait(guesser, now + FORGOTTEN * 100), None);
    }

    #[test]
    fn one_client_with_many_addresses_of_ipv6_is_one() {
        let (attempts, now) = (Attempts::default(), Instant::now());
        for host in 0..u16::try_from(FREE).unwrap() {
            attempts.failed(IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 1, 0, 0, 0, host)), now);
        }
        assert!(attempts.must_wait("2001:db8:0:1::ffff".parse().unwrap(), now).is_some());
        assert_eq!(attempts.must_wait("2001:db8:0:2::1".parse().unwrap(), now), None);
    }

    #[test]
    fn the_table_does_not_grow_without_end() {
        let (attempts, now) = (Attempts::default(), Instant::now());
        for number in 0..u32::try_from(MOST).unwrap() + 100 {
            attempts.failed(IpAddr::from(number.to_be_bytes()), now);
        }
        assert!(attempts.0.lock().unwrap().len() <= MOST);
    }
}
