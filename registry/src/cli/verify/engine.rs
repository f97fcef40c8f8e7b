// SPDX-License-Identifier: AGPL-3.0-only
//! The one place where the verifying commands call the engine, [`stella_policy::Verifier`] for signatures and
//! `PolicySet` for policies; what comes back is turned into an exit code here and nowhere else.
//!
//! [`check`] is handed the call by the command: it says what is asked, and gets what was proven and what was not.

use stella_policy::{Fact, Reason, Rejected, Verified};

use super::identity::Demand;
use crate::admin::Failed;
use crate::exit;

/// What the engine found.
pub(crate) struct Answer {
    /// What was proven, and is what was demanded.
    pub(crate) proven: Vec<Verified<Fact>>,
    /// What proves nothing, or not that.
    pub(crate) rejected: Vec<Rejected>,
}

/// Calls the engine with a demand. At least one proof is needed; none is a failure whose exit code is that of the most
/// telling reason.
pub(crate) async fn check<F>(
    demand: &Demand,
    verify: impl FnOnce(&Demand) -> F,
) -> anyhow::Result<Vec<Verified<Fact>>>
where
    F: Future<Output = stella_policy::Result<Answer>>,
{
    let answer = verify(demand).await.map_err(|error| crate::cli::signing::failed(&error))?;
    if !answer.proven.is_empty() {
        return Ok(answer.proven);
    }
    let (reason, why) = most_telling(&answer.rejected);
    Err(Failed { error: format!("{}: {why}", reason.as_str()), exit: exit::of_reason(reason) }.into())
}

/// The rejection of what came closest: it was read, signed by whom was wanted, and fails for one reason only.
fn most_telling(rejected: &[Rejected]) -> (Reason, String) {
    let nearness = |reason: Reason| match exit::of_reason(reason) {
        exit::POLICY => 4,
        exit::LOG => 3,
        exit::SIGNATURE if reason == Reason::BadSignature => 1,
        exit::SIGNATURE => 2,
        _ => 0,
    };
    rejected.iter().max_by_key(|rejected| nearness(rejected.reason)).map_or_else(
        || (Reason::NoEvidence, "no signature was found".to_owned()),
        |rejected| (rejected.reason, rejected.why.clone()),
    )
}

#[cfg(test)]
mod tests {
    use stella_policy::{Digest, Form};

    use super::*;
    use crate::cli::verify::identity::{Root, Who};

    fn exit_of(reasons: &[Reason]) -> u8 {
        let rejected = reasons.iter().map(|reason| Rejected {
            evidence: Digest::of(b""),
            form: Form::Bundle,
            said_signer: None,
            reason: *reason,
            why: "why".to_owned(),
        });
        let answer = Answer { proven: Vec::new(), rejected: rejected.collect() };
        let demand =
            Demand { who: Who::Key("k".into()), root: Root::None, ignore_log: true, timestamps: false };
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let error = runtime.block_on(check(&demand, |_| async { Ok(answer) })).unwrap_err();
        error.downcast_ref::<Failed>().unwrap().exit
    }

    #[test]
    fn nothing_proven_is_a_failure_with_the_code_of_the_nearest_miss() {
        assert_eq!(exit_of(&[]), exit::SIGNATURE);
        assert_eq!(exit_of(&[Reason::Malformed]), exit::INTEGRITY);
        assert_eq!(exit_of(&[Reason::Malformed, Reason::WrongIdentity]), exit::SIGNATURE);
        assert_eq!(exit_of(&[Reason::TlogInvalid, Reason::BadSignature]), exit::LOG);
        assert_eq!(exit_of(&[Reason::Expired, Reason::TooOld]), exit::POLICY);
    }
}
