// SPDX-License-Identifier: AGPL-3.0-only
//! Lists that come in pages, each naming the next (`Link: <…>; rel="next"`, RFC 8288): tags (end-8).

use http::{HeaderMap, Method, header};
use reqwest::Url;
use serde::Deserialize;

use super::error::{Error, Result};
use super::registry::{Call, Exchange};
use super::text::printable;
use super::{Access, Remote};

/// The size of a page, which a registry may make smaller.
const PAGE: u32 = 1000;
pub(super) const MAX_PAGE: usize = 16 << 20;
/// More pages than any list has.
const MAX_PAGES: u32 = 100_000;

/// The pages of a list of tags.
pub(crate) struct TagPages {
    pages: Pages,
}

/// The pages of any list.
pub(super) struct Pages {
    remote: Remote,
    next: Option<Call>,
    read: u32,
}

impl Remote {
    /// The tags of the repository, in the registry's order.
    pub(crate) fn tags(&self) -> Result<TagPages> {
        let call = self.call(Method::GET, Access::Pull, &format!("tags/list?n={PAGE}"))?;
        Ok(TagPages { pages: self.pages(call) })
    }

    pub(super) fn pages(&self, first: Call) -> Pages {
        Pages { remote: self.clone(), next: Some(first), read: 0 }
    }
}

impl TagPages {
    /// The next page; `None` after the last.
    pub(crate) async fn next(&mut self) -> Result<Option<Vec<String>>> {
        #[derive(Deserialize)]
        struct Page {
            tags: Option<Vec<String>>,
        }
        let Some(answer) = self.pages.next().await? else { return Ok(None) };
        let page: Page = serde_json::from_slice(&answer.body).map_err(|error| {
            Error::Failed(format!(
                "the list of tags is not understood: {}",
                printable(&error.to_string(), 200)
            ))
        })?;
        Ok(Some(page.tags.unwrap_or_default()))
    }
}

impl Pages {
    /// The next page; `None` after the last.
    pub(super) async fn next(&mut self) -> Result<Option<Exchange>> {
        let Some(call) = self.next.take() else { return Ok(None) };
        let answer = self.remote.registry.exchange(&call, MAX_PAGE).await?;
        self.read += 1;
        if let Some(url) = next_of(&answer.headers, &answer.url)? {
            if !self.remote.registry.is_ours(&url) {
                return Err(Error::Failed("the next page is said to be at another registry".to_owned()));
            }
            if url == call.url || self.read == MAX_PAGES {
                return Err(Error::Failed("the list never ends".to_owned()));
            }
            self.next = Some(Call { url, ..call });
        }
        Ok(Some(answer))
    }
}

/// The URL of the next page, if there is one.
fn next_of(headers: &HeaderMap, base: &Url) -> Result<Option<Url>> {
    let mut lines = headers.get_all(header::LINK).iter().filter_map(|line| line.to_str().ok());
    let target = lines.find_map(target);
    let join = |target: &str| base.join(target).map_err(|_| Error::Failed("a Link is no URL".to_owned()));
    target.map(join).transpose()
}

/// The target of `<target>; rel="next"`. Targets of registries hold neither `>` nor commas that matter.
fn target(line: &str) -> Option<&str> {
    line.split('<').skip(1).find_map(|link| {
        let (target, parameters) = link.split_once('>')?;
        let mut parameters =
            parameters.split([';', ',']).map(|parameter| parameter.trim().to_ascii_lowercase());
        parameters
            .any(|parameter| matches!(parameter.as_str(), "rel=\"next\"" | "rel=next"))
            .then_some(target)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_names_the_next_page_relative_to_this_one() {
        let next = |link: &str| {
            let mut headers = HeaderMap::new();
            headers.append(header::LINK, link.parse().unwrap());
            next_of(&headers, &"https://r.test/v2/a/tags/list?n=1".parse().unwrap())
                .unwrap()
                .map(|url| url.to_string())
        };
        let page = Some("https://r.test/v2/a/tags/list?last=x&n=1".to_owned());
        assert_eq!(next(r#"</v2/a/tags/list?last=x&n=1>; rel="next""#), page);
        assert_eq!(next("<list?last=x&n=1>;rel=next"), page);
        assert_eq!(next(r#"<https://r.test/v2/a/tags/list?last=x&n=1>; rel="next""#), page);
        assert_eq!(next(r#"</first>; rel="first", <list?last=x&n=1>; rel="next""#), page);
        assert_eq!(next(r#"</first>; rel="first""#), None);
        assert_eq!(next("nonsense"), None);
    }
}
