// SPDX-License-Identifier: AGPL-3.0-only
//! `stella wait`: until readers get an image. For CI: push, sign, wait, deploy what it prints.

use std::time::Duration;

use clap::Args;
use tokio::time::{Instant, sleep};

use super::connection::{AllVariables, run, told};
use super::decision::{Decided, connect};
use super::signing::AtRegistry;
use super::{Outcome, note, print};
use crate::admin::Failed;
use crate::config::Period;
use crate::exit;
use crate::remote::{Error, ImageName};
use stella_policy::Verdict;

/// The pause between two questions: at first, and at most.
const FIRST: Duration = Duration::from_millis(200);
const MOST: Duration = Duration::from_secs(3);

#[derive(Args)]
#[command(after_help = "\
With a tag it waits until that is released; with a digest, until readers get that; with both, until the tag is released
with that digest. The digest alone goes to stdout. It ends with 9, and says why and what mends it, when time is up, when
evidence cannot mend it, or when the tag was pushed over. It takes `pull` in the repository.

Examples:
  stella wait registry.example/prod/app:1.0
  digest=$(stella wait --timeout 2m registry.example/prod/app:1.0@$PUSHED)")]
pub(super) struct WaitArgs {
    /// The image: HOST[:PORT]/NAME[:TAG][@DIGEST]
    #[arg(value_name = "REF")]
    image: String,
    /// How long to wait, such as 90s
    #[arg(long, value_name = "PERIOD", default_value = "10m")]
    timeout: Period,
    #[command(flatten)]
    registry: AtRegistry,
}

/// How it stands.
#[derive(Debug, PartialEq, Eq)]
enum Stand {
    /// Readers get this.
    Out(String),
    /// Not yet.
    Waits(String),
    /// Waiting does not help.
    Over(String),
}

pub(super) fn wait(args: WaitArgs, env: &AllVariables) -> Outcome {
    let WaitArgs { image, timeout, registry } = args;
    let options = registry.options(env);
    run(async move {
        let (name, remote) = connect(&options, &image).await?;
        // By the tag, if there is one: a digest that readers get need not be what the tag gives them.
        let asked = ImageName { digest: name.digest.clone().filter(|_| name.tag.is_none()), ..name.clone() };
        let deadline = Instant::now() + timeout.duration();
        let mut pause = FIRST;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let why = match Decided::ask(&remote, &asked).await {
                Ok((decided, _)) => match stand(&name, &decided) {
                    Stand::Out(digest) => {
                        print(&format!("{digest}\n"))?;
                        return Ok(0);
                    }
                    Stand::Over(why) => return refused(why),
                    Stand::Waits(why) if left.is_zero() => {
                        return refused(format!("{why}\nnot released within {timeout}"));
                    }
                    Stand::Waits(why) => why,
                },
                Err(error @ Error::Transient { .. }) if !left.is_zero() => error.to_string(),
                Err(error) => return told(Err(error), &name),
            };
            if pause == FIRST {
                note(&format!("waiting: {why}"));
            }
            sleep(pause.min(left)).await;
            pause = (pause * 2).min(MOST);
        }
    })
}

fn refused(error: String) -> Outcome {
    Err(Failed { error, exit: exit::POLICY }.into())
}

/// How it stands with what was asked for.
fn stand(name: &ImageName, decided: &Decided) -> Stand {
    let wanted = name.digest.as_ref().filter(|_| name.tag.is_some()).map(ToString::to_string);
    let is_wanted = |digest: &Option<String>| wanted.is_none() || *digest == wanted;
    if decided.is_out() && (wanted.is_none() || is_wanted(&decided.released)) {
        let released = decided.released.as_ref().unwrap_or(&decided.digest);
        return Stand::Out(super::decision::clean(released));
    }
    if !is_wanted(&decided.candidate) {
        let candidate = decided.candidate.as_deref().unwrap_or("nothing");
        let candidate = super::decision::clean(candidate);
        return Stand::Over(format!("{name}: the tag was pushed over, and names {candidate} now"));
    }
    let mut why = format!("{name}: {}", decided.verdict());
    if let Some(fix) = decided.fix() {
        why.push_str("\nfix: ");
        why.push_str(&fix);
    }
    match decided.verdict {
        Verdict::Denied => Stand::Over(why),
        Verdict::Waiting | Verdict::Allowed => Stand::Waits(why),
    }
}
