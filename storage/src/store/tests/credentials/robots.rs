// SPDX-License-Identifier: AGPL-3.0-only
//! Robots: making, revoking and replacing one, pages of them, and when they were last used.

use super::*;

pub(super) fn robot(name: &str) -> Robot {
    Robot {
        name: name.to_owned(),
        secret_sha256: [201; 32],
        grants: vec![Grant { actions: vec!["pull".to_owned()], repositories: vec!["team/**".to_owned()] }],
        created: START,
        expires: Some(START.plus(HOUR)),
        revoked: None,
        last_used: None,
    }
}

async fn used(lab: &Lab, name: &str) -> Option<Timestamp> {
    lab.store.robot(name).await.unwrap().unwrap().last_used
}

#[tokio::test]
async fn a_robot_is_made_once_and_again_after_it_was_revoked() {
    on_both(async |lab| {
        let store = &lab.store;
        assert_eq!(store.robot("ci").await.unwrap(), None);
        assert!(!store.revoke_robot("ci").await.unwrap());
        store.create_robot(robot("ci")).await.unwrap();
        assert_eq!(store.robot("ci").await.unwrap(), Some(robot("ci")));
        // A client that lost the answer asks again.
        store.create_robot(robot("ci")).await.unwrap();
        let other = Robot { secret_sha256: [9; 32], ..robot("ci") };
        let refused = store.create_robot(other.clone()).await.unwrap_err();
        assert_eq!(refused.to_string(), "the robot ci exists: revoke it first, or choose another name");
        lab.clock.advance(HOUR);
        assert!(store.revoke_robot("ci").await.unwrap());
        assert!(!store.revoke_robot("ci").await.unwrap());
        let revoked = Robot { revoked: Some(lab.now()), ..robot("ci") };
        assert_eq!(store.robot("ci").await.unwrap(), Some(revoked));
        store.create_robot(other.clone()).await.unwrap();
        assert_eq!(store.robot("ci").await.unwrap(), Some(other));
        is_clean(&lab).await;
    })
    .await;
}

#[tokio::test]
async fn names_and_grants_of_robots_are_bounded() {
    on_both(async |lab| {
        let grant = Grant { actions: Vec::new(), repositories: vec!["x".repeat(70_000)] };
        for bad in [robot(""), robot(&"x".repeat(129)), Robot { grants: vec![grant], ..robot("ci") }] {
            let refused = lab.store.create_robot(bad).await;
            assert!(matches!(refused, Err(Error::TooLarge(_))), "{refused:?}");
        }
        assert_eq!(lab.store.robot("").await.unwrap(), None);
        assert_eq!(lab.store.robot(&"x".repeat(9000)).await.unwrap(), None);
        lab.store.create_robot(robot(&"x".repeat(128))).await.unwrap();
        is_clean(&lab).await;
    })
    .await;
}

#[tokio::test]
async fn pages_of_robots_are_in_byte_order() {
    on_both(async |lab| {
        for name in ["b", "a", "ab", "robot$x"] {
            lab.store.create_robot(robot(name)).await.unwrap();
        }
        lab.store.note_robot_use("ab");
        lab.store.flush_robot_uses().await.unwrap();
        let names = |page: Vec<Robot>| page.into_iter().map(|robot| robot.name).collect::<Vec<_>>();
        assert_eq!(names(lab.store.robots(None, 2).await.unwrap()), ["a", "ab"]);
        let page = lab.store.robots(Some("a".to_owned()), 10).await.unwrap();
        assert_eq!(page[0].last_used, Some(START));
        assert_eq!(names(page), ["ab", "b", "robot$x"]);
        assert!(lab.store.robots(Some("robot$x".to_owned()), 10).await.unwrap().is_empty());
    })
    .await;
}

#[tokio::test]
async fn a_use_is_written_by_the_next_flush_and_once_an_hour() {
    on_both(async |lab| {
        let store = &lab.store;
        store.create_robot(robot("ci")).await.unwrap();
        store.note_robot_use("ci");
        store.note_robot_use("nobody");
        assert_eq!(used(&lab, "ci").await, None, "a use writes nothing");
        store.flush_robot_uses().await.unwrap();
        assert_eq!(used(&lab, "ci").await, Some(START));
        assert_eq!(lab.rows(b"w").await.len(), 1, "nothing is kept of a robot that is not");
        lab.clock.advance(Duration::from_mins(1));
        store.note_robot_use("ci");
        store.flush_robot_uses().await.unwrap();
        assert_eq!(used(&lab, "ci").await, Some(START), "once an hour");
        lab.clock.advance(HOUR);
        store.note_robot_use("ci");
        // Another replica wrote in this hour.
        let other = lab.now().minus(Duration::from_secs(30));
        lab.put_row(keys::robot_use("ci"), &rows::RobotUse { at: other }).await;
        store.flush_robot_uses().await.unwrap();
        assert_eq!(used(&lab, "ci").await, Some(other));
        lab.clock.advance(HOUR);
        store.note_robot_use("ci");
        store.flush_robot_uses().await.unwrap();
        assert_eq!(used(&lab, "ci").await, Some(lab.now()));
    })
    .await;
}

#[tokio::test]
async fn a_use_keeps_no_robot_from_being_revoked_and_is_not_its_successors() {
    on_both(async |lab| {
        let store = &lab.store;
        store.create_robot(robot("ci")).await.unwrap();
        store.note_robot_use("ci");
        let (flushed, revoked) = tokio::join!(store.flush_robot_uses(), store.revoke_robot("ci"));
        flushed.unwrap();
        assert!(revoked.unwrap());
        assert!(store.robot("ci").await.unwrap().unwrap().revoked.is_some());
        lab.clock.advance(Duration::from_secs(1));
        store.create_robot(Robot { created: lab.now(), ..robot("ci") }).await.unwrap();
        assert_eq!(used(&lab, "ci").await, None);
        lab.clock.advance(HOUR);
        store.note_robot_use("ci");
        store.flush_robot_uses().await.unwrap();
        assert_eq!(used(&lab, "ci").await, Some(lab.now()));
    })
    .await;
}

#[tokio::test]
async fn what_is_gathered_of_uses_is_bounded() {
    let lab = Lab::new(Kind::Memory).await;
    for number in 0..30_000 {
        lab.store.note_robot_use(&format!("robot-{number}"));
    }
    lab.store.note_robot_use(&"x".repeat(1 << 20));
    lab.store.create_robot(robot("robot-29999")).await.unwrap();
    lab.store.flush_robot_uses().await.unwrap();
    assert_eq!(used(&lab, "robot-29999").await, None, "there was no place");
    lab.clock.advance(HOUR);
    lab.store.flush_robot_uses().await.unwrap();
    lab.store.note_robot_use("robot-29999");
    lab.store.flush_robot_uses().await.unwrap();
    assert_eq!(used(&lab, "robot-29999").await, Some(lab.now()), "those of the hour before gave theirs up");
}
