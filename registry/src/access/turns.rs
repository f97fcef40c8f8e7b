// SPDX-License-Identifier: AGPL-3.0-only
//! Turns at checking passwords: few at once, and few that wait for one.
//!
//! Who guesses must not keep strangers from logging in. So turns go round by network: a waiting attempt stands behind
//! those of its own network, and behind as many rounds as its network has failed of late, never behind another network's
//! whole queue. Within a round whoever names somebody whom fewer others name comes first. When too many wait, the last
//! one in that order gives up its place, be it the newcomer or not. The order does not depend on whether a name exists.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

/// How long an attempt waits for its turn.
const PATIENCE: Duration = Duration::from_secs(5);
/// Attempts that may wait for each that is under way: about as many as get their turn in time.
const WAITING: usize = 32;

/// Who is checked, and who waits.
pub(super) struct Turns(Arc<Shared>);

struct Shared {
    at_once: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    under_way: usize,
    /// The round of whoever had the last turn.
    round: u64,
    /// Numbers whoever comes.
    arrived: u64,
    waiting: Vec<Waiting>,
}

struct Waiting {
    network: IpAddr,
    name: String,
    place: Place,
    told: oneshot::Sender<Turn>,
}

/// Less is sooner: the round, how many waited who named the same, and who came first.
type Place = (u64, usize, u64);

/// A turn, which ends with this value.
pub(crate) struct Turn(Option<Arc<Shared>>);

/// No turn came: others are logging in.
#[derive(Debug)]
pub(crate) struct TooBusy;

/// Whose attempt it is.
#[derive(Clone, Copy)]
pub(crate) struct Attempt<'a> {
    /// Where it comes from.
    pub(crate) network: IpAddr,
    /// How often that has failed of late.
    pub(crate) failures: u32,
    /// The name that it claims.
    pub(crate) name: &'a str,
}

impl Turns {
    pub(super) fn new(at_once: usize) -> Self {
        Turns(Arc::new(Shared { at_once: at_once.max(1), state: Mutex::default() }))
    }

    /// Waits for a turn.
    pub(super) async fn take(&self, attempt: Attempt<'_>) -> Result<Turn, TooBusy> {
        let turn = match self.0.ask(attempt)? {
            Ok(turn) => return Ok(turn),
            Err(turn) => turn,
        };
        // Without an answer it has given up its place.
        tokio::time::timeout(PATIENCE, turn).await.ok().and_then(Result::ok).ok_or(TooBusy)
    }
}

impl Shared {
    /// A turn, or what will bring it.
    fn ask(self: &Arc<Self>, attempt: Attempt<'_>) -> Result<Result<Turn, oneshot::Receiver<Turn>>, TooBusy> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.under_way < self.at_once {
            state.under_way += 1;
            return Ok(Ok(Turn(Some(Arc::clone(self)))));
        }
        let told = state.queue(attempt, self.at_once * WAITING)?;
        Ok(Err(told))
    }

    /// Hands a turn that has ended to whoever is next.
    fn pass_on(self: Arc<Self>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(Waiting { place: (round, ..), told, .. }) = state.next() {
            state.round = state.round.max(round);
            match told.send(Turn(Some(Arc::clone(&self)))) {
                Ok(()) => return,
                // Who gave up needs no turn, which must not end a second time.
                Err(mut turn) => turn.0 = None,
            }
        }
        state.under_way -= 1;
    }
}

impl State {
    fn queue(&mut self, attempt: Attempt<'_>, most: usize) -> Result<oneshot::Receiver<Turn>, TooBusy> {
        let Attempt { network, failures, name } = attempt;
        self.waiting.retain(|other| !other.told.is_closed());
        let theirs = self.waiting.iter().filter(|other| other.network == network);
        let last = theirs.map(|other| other.place.0).max().unwrap_or_default();
        let alike = self.waiting.iter().filter(|other| other.name == name).count();
        self.arrived += 1;
        let place = (self.round.max(last) + 1 + u64::from(failures), alike, self.arrived);
        if self.waiting.len() >= most {
            let last = self.waiting.iter().enumerate().max_by_key(|(_, other)| other.place);
            match last {
                Some((index, other)) if other.place > place => drop(self.waiting.swap_remove(index)),
                _ => return Err(TooBusy),
            }
        }
        let (told, turn) = oneshot::channel();
        self.waiting.push(Waiting { network, name: name.to_owned(), place, told });
        Ok(turn)
    }

    fn next(&mut self) -> Option<Waiting> {
        let (index, _) = self.waiting.iter().enumerate().min_by_key(|(_, other)| other.place)?;
        Some(self.waiting.swap_remove(index))
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(shared) = self.0.take() {
            shared.pass_on();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Asked = Result<Result<Turn, oneshot::Receiver<Turn>>, TooBusy>;

    fn ask(turns: &Turns, network: [u8; 4], failures: u32, name: &str) -> Asked {
        turns.0.ask(Attempt { network: network.into(), failures, name })
    }

    fn wait(asked: Asked) -> oneshot::Receiver<Turn> {
        match asked {
            Ok(Err(turn)) => turn,
            Ok(Ok(_)) => panic!("it has its turn"),
            Err(TooBusy) => panic!("it may not wait"),
        }
    }

    /// How many turns end until this one comes, `turn` being the one that is under way.
    fn passed(
        mut turn: Turn,
        queue: &mut [oneshot::Receiver<Turn>],
        mut mine: oneshot::Receiver<Turn>,
    ) -> usize {
        for passed in 0.. {
            drop(turn);
            if mine.try_recv().is_ok() {
                return passed;
            }
            turn = queue.iter_mut().find_map(|other| other.try_recv().ok()).unwrap();
        }
        unreachable!()
    }

    #[test]
    fn a_stranger_is_next_however_many_wait_that_one_network_has_sent() {
        let turns = Turns::new(1);
        let Ok(Ok(turn)) = ask(&turns, [192, 0, 2, 1], 0, "bob") else { panic!() };
        let names = (0..WAITING).map(|number| format!("name{number}"));
        let mut queue: Vec<_> = names.map(|name| wait(ask(&turns, [192, 0, 2, 1], 0, &name))).collect();
        assert!(ask(&turns, [192, 0, 2, 1], 0, "one more").is_err(), "a bounded number waits");
        let mine = wait(ask(&turns, [198, 51, 100, 1], 0, "alice"));
        assert!(queue.last_mut().unwrap().try_recv().is_err(), "the last one has given up its place");
        assert!(passed(turn, &mut queue, mine) <= 1);
    }

    #[test]
    fn networks_that_fail_stand_behind_one_that_does_not() {
        let turns = Turns::new(1);
        let Ok(Ok(turn)) = ask(&turns, [192, 0, 2, 1], 0, "bob") else { panic!() };
        let guess = |host: u8| wait(ask(&turns, [203, 0, 113, host], 1, "alice"));
        let mut queue: Vec<_> = (0..32).map(guess).collect();
        let mine = wait(ask(&turns, [198, 51, 100, 1], 0, "alice"));
        assert_eq!(passed(turn, &mut queue, mine), 0);
    }

    #[test]
    fn many_strangers_that_name_one_are_one_to_whoever_names_another() {
        let turns = Turns::new(1);
        let Ok(Ok(turn)) = ask(&turns, [192, 0, 2, 1], 0, "bob") else { panic!() };
        let mut queue: Vec<_> =
            (0..32).map(|host| wait(ask(&turns, [203, 0, 113, host], 0, "alice"))).collect();
        let mine = wait(ask(&turns, [198, 51, 100, 1], 0, "carol"));
        assert!(passed(turn, &mut queue, mine) <= 1);
    }

    #[test]
    fn who_gives_up_takes_no_turn_with_it() {
        let turns = Turns::new(1);
        let Ok(Ok(turn)) = ask(&turns, [192, 0, 2, 1], 0, "a") else { panic!() };
        let gone = wait(ask(&turns, [192, 0, 2, 2], 0, "b"));
        let late = wait(ask(&turns, [192, 0, 2, 3], 0, "c"));
        let mut next = wait(ask(&turns, [192, 0, 2, 4], 0, "d"));
        drop(gone);
        drop(turn);
        // Told, and gone before it looked.
        drop(late);
        let turn = next.try_recv().unwrap();
        drop(turn);
        assert!(matches!(ask(&turns, [192, 0, 2, 5], 0, "e"), Ok(Ok(_))));
    }

    #[test]
    fn nobody_waits_for_ever_behind_strangers_that_keep_coming() {
        let turns = Turns::new(1);
        let Ok(Ok(mut turn)) = ask(&turns, [192, 0, 2, 1], 0, "bob") else { panic!() };
        let mut mine = wait(ask(&turns, [192, 0, 2, 1], 5, "alice"));
        for host in 0..=255 {
            let mut stranger = wait(ask(&turns, [203, 0, 113, host], 0, &format!("name{host}")));
            drop(turn);
            if mine.try_recv().is_ok() {
                assert!(host <= 8, "{host}");
                return;
            }
            turn = stranger.try_recv().unwrap();
        }
        panic!("it never had its turn");
    }
}
