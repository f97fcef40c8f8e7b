// SPDX-License-Identifier: AGPL-3.0-only
//! Pages of names: `?n=` and `?last=` (OCI distribution-spec, "Listing tags"; `_catalog` likewise).

use stella_storage::Result;

use crate::error::ApiError;
use crate::query::Query;

/// Names in one answer, however many were asked for.
const MAX_NAMES: usize = 10_000;
/// Names that one snapshot gives.
const AT_ONCE: usize = 1_000;

/// One page and where the next one begins.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Page {
    pub(super) names: Vec<String>,
    /// The last name, when there are more.
    pub(super) next: Option<String>,
}

/// Collects the page that a request asks for; `fetch(after, limit)` gives names in byte order, and of each whether it
/// is there for the client; of those such are in it that are `shown` too.
pub(super) async fn page<F>(
    query: &Query,
    default: usize,
    fetch: impl Fn(Option<String>, usize) -> F,
    shown: impl Fn(&str) -> bool,
) -> Result<Page, ApiError>
where
    F: Future<Output = Result<Vec<(String, bool)>>>,
{
    let wanted = query.number("n")?.unwrap_or(default).min(MAX_NAMES);
    let mut after = query.get("last").map(str::to_owned);
    let mut names: Vec<String> = Vec::new();
    let mut hidden = false;
    if wanted == 0 {
        // The repository must exist all the same.
        fetch(after, 0).await?;
        return Ok(Page { names, next: None });
    }
    loop {
        // One more than wanted tells whether there is a next page.
        let limit = if hidden { AT_ONCE } else { (wanted + 1 - names.len()).min(AT_ONCE) };
        let fetched = fetch(after, limit).await?;
        let exhausted = fetched.len() < limit;
        after = fetched.last().map(|(name, _)| name.clone());
        let before = names.len() + fetched.len();
        let there = fetched.into_iter().filter_map(|(name, there)| there.then_some(name));
        names.extend(there.filter(|name| shown(name)));
        hidden |= names.len() < before;
        if exhausted || names.len() > wanted {
            break;
        }
    }
    let more = names.len() > wanted;
    names.truncate(wanted);
    Ok(Page { next: names.last().filter(|_| more).cloned(), names })
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn of(query: &str, count: usize) -> Page {
        let all: Vec<String> = (0..count).map(|number| format!("{number:06}")).collect();
        let fetch = |after: Option<String>, limit: usize| {
            let names = all.iter().filter(|name| after.as_ref().is_none_or(|after| *name > after));
            std::future::ready(Ok(names.take(limit).map(|name| (name.clone(), true)).collect()))
        };
        page(&Query::parse(Some(query)).unwrap(), 100, fetch, |_| true).await.unwrap()
    }

    #[tokio::test]
    async fn a_page_is_full_or_the_last_one() {
        assert_eq!(
            of("n=2", 3).await,
            Page { names: vec!["000000".into(), "000001".into()], next: Some("000001".into()) }
        );
        assert_eq!(of("n=2&last=000001", 3).await, Page { names: vec!["000002".into()], next: None });
        assert_eq!(of("n=3", 3).await.next, None);
        assert_eq!(of("n=0", 3).await, Page { names: vec![], next: None });
        assert_eq!(of("", 101).await.names.len(), 100);
        assert_eq!(of("n=2500", 4000).await.names.len(), 2500);
        let huge = of("n=99999999999", 10_001).await;
        assert_eq!((huge.names.len(), huge.next.is_some()), (MAX_NAMES, true));
    }
}
