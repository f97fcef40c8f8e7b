// SPDX-License-Identifier: AGPL-3.0-only
//! Whether collection may go on: not while an operator has to confirm it, and not for one lease after
//! the clock jumped.
//!
//! A clock that jumps forward makes every lease look expired at once. Time that really passed is
//! therefore measured beside it; when the two differ by more than ten minutes, collection waits until
//! everyone who was promised something has had the time to use it. The pause is a row, so that a
//! restart does not end it.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::clock::{Clock, Timestamp};
use crate::error::{Error, Result};
use crate::keys;
use crate::kv::{ReadTx, WriteTx};
use crate::store::Store;

/// A jump of the clock over this stops collection for a while.
const JUMP: Duration = Duration::from_mins(10);

/// Where the clock stood when it was last looked at, and how much time had passed then.
#[derive(Default)]
pub(in crate::store) struct Pace(Mutex<Option<(Timestamp, Duration)>>);

impl Pace {
    /// The present moment, unless the clock jumped since the last call.
    fn look(&self, clock: &dyn Clock) -> Result<Timestamp, Jumped> {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (now, elapsed) = (clock.now(), clock.elapsed());
        let before = last.replace((now, elapsed));
        let Some((then, elapsed_then)) = before else { return Ok(now) };
        let expected = then.plus(elapsed.saturating_sub(elapsed_then));
        let millis = now.0.abs_diff(expected.0);
        let by = Duration::from_millis(millis);
        if by > JUMP { Err(Jumped { now, by, forward: now > expected }) } else { Ok(now) }
    }
}

struct Jumped {
    now: Timestamp,
    by: Duration,
    forward: bool,
}

/// Whether collection may go on.
pub(super) enum Turn {
    Go(Timestamp),
    /// It may not; the reason, for a person.
    Wait(String),
}

impl Store {
    /// The moment by which to judge next.
    pub(super) async fn collection_turn(&self) -> Result<Turn> {
        match self.pace.look(&*self.clock) {
            Ok(now) => Ok(Turn::Go(now)),
            Err(jumped) => {
                let until = jumped.now.plus(self.periods.lease);
                let write = async move |tx: &mut WriteTx| {
                    tx.put(keys::COLLECTION_PAUSE.to_vec(), until.0.to_be_bytes().to_vec())
                };
                self.engine.write(0, write).await?;
                let direction = if jumped.forward { "forward" } else { "back" };
                let seconds = jumped.by.as_secs();
                tracing::warn!(
                    seconds,
                    direction,
                    "the clock jumped; collection waits for the length of a lease"
                );
                Ok(Turn::Wait(format!("the clock jumped {direction} by {seconds} s")))
            }
        }
    }

    /// Why collection is off or waits now, if so: after a restore, or a jump of the clock.
    pub async fn why_collection_waits(&self) -> Result<Option<String>> {
        self.collection_paused(self.clock.now()).await
    }

    /// Why collection is off or waits, if so.
    pub(super) async fn collection_paused(&self, now: Timestamp) -> Result<Option<String>> {
        self.engine
            .read(async |tx: &mut ReadTx| {
                if let Some(reason) = tx.get(keys::COLLECTION_OFF).await? {
                    let reason = String::from_utf8_lossy(&reason);
                    return Ok(Some(format!(
                        "collection is off: {reason}; `stella gc --resume` turns it on again"
                    )));
                }
                let Some(until) = tx.get(keys::COLLECTION_PAUSE).await? else { return Ok(None) };
                let until = until.try_into().map(u64::from_be_bytes);
                let until =
                    until.map_err(|_| Error::Corrupt("the pause of collection cannot be read".to_owned()))?;
                Ok((now.0 < until).then(|| {
                    let seconds = (until - now.0) / 1000;
                    format!(
                        "the clock jumped, so collection waits {seconds} s more; `stella gc --resume` ends that"
                    )
                }))
            })
            .await
    }

    /// Turns collection on again, after a restore or a jump of the clock. Returns whether it was off.
    pub async fn resume_collection(&self) -> Result<bool> {
        self.engine
            .write(0, async move |tx: &mut WriteTx| {
                let mut was_off = false;
                for key in [keys::COLLECTION_OFF, keys::COLLECTION_PAUSE] {
                    was_off |= tx.get(key).await?.is_some();
                    tx.delete(key.to_vec())?;
                }
                Ok(was_off)
            })
            .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;

    #[test]
    fn a_clock_that_is_set_is_told_from_time_that_passes() {
        let clock = ManualClock::new(Timestamp(1_000_000_000));
        let pace = Pace::default();
        assert!(pace.look(&clock).is_ok());
        clock.advance(Duration::from_hours(1000));
        assert!(pace.look(&clock).is_ok());
        clock.set(clock.now().plus(JUMP));
        assert!(pace.look(&clock).is_ok());
        clock.set(clock.now().plus(JUMP + Duration::from_millis(1)));
        assert!(pace.look(&clock).is_err_and(|jumped| jumped.forward));
        assert!(pace.look(&clock).is_ok());
        clock.set(Timestamp(0));
        assert!(pace.look(&clock).is_err_and(|jumped| !jumped.forward));
    }
}
