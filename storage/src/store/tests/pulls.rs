// SPDX-License-Identifier: AGPL-3.0-only
//! Last pulls: gathered, then written once a tag and day.

use super::*;

const DAY: Duration = Duration::from_hours(24);

#[tokio::test]
async fn a_pull_is_written_by_the_next_flush_and_once_a_day() {
    on_both(async |lab| {
        let (store, repo) = (&lab.store, repo("a"));
        lab.put_image(&repo, b"config", &["1"]).await;
        store.note_pull(&repo, &tag("1"));
        assert_eq!(store.last_pull(&repo, &tag("1")).await.unwrap(), None, "a pull writes nothing");
        store.flush_pulls().await.unwrap();
        assert_eq!(store.last_pull(&repo, &tag("1")).await.unwrap(), Some(START));
        lab.clock.advance(Duration::from_mins(1));
        store.note_pull(&repo, &tag("1"));
        store.flush_pulls().await.unwrap();
        assert_eq!(store.last_pull(&repo, &tag("1")).await.unwrap(), Some(START), "once a day");
        lab.clock.advance(DAY);
        store.note_pull(&repo, &tag("1"));
        store.flush_pulls().await.unwrap();
        assert_eq!(store.last_pull(&repo, &tag("1")).await.unwrap(), Some(lab.now()));
        assert_eq!(store.last_pull(&repo, &tag("2")).await.unwrap(), None);
        assert_eq!(store.last_pull(&super::repo("none"), &tag("1")).await.unwrap(), None);
    })
    .await;
}

#[tokio::test]
async fn many_pulls_are_flushed_but_not_those_of_unknown_repositories() {
    on_both(async |lab| {
        let (store, repo) = (&lab.store, repo("a"));
        lab.push(&repo, b"x").await;
        store.note_pull(&super::repo("none"), &tag("1"));
        for number in 0..2500 {
            store.note_pull(&repo, &tag(&format!("t{number}")));
        }
        store.flush_pulls().await.unwrap();
        assert_eq!(lab.rows(b"q").await.len(), 2500);
    })
    .await;
}
