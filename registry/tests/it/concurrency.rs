// SPDX-License-Identifier: AGPL-3.0-only
//! Many at once: the same blob, the same tags, the same condition.

use std::sync::Barrier;
use std::thread;

use crate::client::{get, patch, put};
use crate::role::{OCI_MANIFEST, noise, refused, sha256};
use crate::server::Server;

/// Runs `work` on as many threads at the same moment; gives what each returned.
fn together<T: Send>(count: usize, work: impl Fn(usize) -> T + Sync) -> Vec<T> {
    let start = Barrier::new(count);
    thread::scope(|scope| {
        let run = |number| {
            let (start, work) = (&start, &work);
            scope.spawn(move || {
                start.wait();
                work(number)
            })
        };
        let threads: Vec<_> = (0..count).map(run).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

#[test]
fn the_same_blob_from_many_at_once_is_one_blob() {
    let server = Server::start();
    let bytes = noise(700_000);
    let digest = sha256(&bytes);
    let names = ["a", "a", "a", "b", "b", "c", "d", "e"];
    together(names.len(), |number| server.repo(names[number]).push_blob(&bytes));
    for name in names {
        assert!(get(server.repo(name).blob(&digest)).to(&server).is(200).body == bytes);
    }
}

#[test]
fn many_tags_that_move_at_once_end_where_someone_put_them() {
    let server = Server::start();
    let repo = server.repo("team/app");
    let images: Vec<_> = (0..4).map(|number| repo.draft_image(&number.to_string())).collect();
    let tags: Vec<_> = (0..10).map(|number| format!("t{number}")).collect();
    together(8, |number| {
        for round in 0..5 {
            let image = &images[(number + round) % images.len()];
            let query = tags.iter().map(|tag| format!("tag={tag}")).collect::<Vec<_>>().join("&");
            repo.put_manifest(&format!("{}?{query}", image.digest), OCI_MANIFEST, &image.bytes).is(201);
        }
    });
    assert_eq!(repo.tags(), tags);
    // Each request moved all ten in one step, so they stand together.
    let ends: Vec<_> = tags.iter().map(|tag| repo.resolve(tag).unwrap()).collect();
    assert!(ends.iter().all(|end| *end == ends[0]), "{ends:?}");
    assert!(images.iter().any(|image| image.digest == ends[0]));
}

#[test]
fn of_many_who_create_a_tag_exactly_one_wins() {
    let server = Server::start();
    let repo = server.repo("team/app");
    let images: Vec<_> = (0..8).map(|number| repo.draft_image(&number.to_string())).collect();
    let answers = together(images.len(), |number| {
        let request = put(repo.manifest("v1")).header("Content-Type", OCI_MANIFEST);
        request.header("If-None-Match", "*").body(&images[number].bytes).to(&server)
    });
    let winners: Vec<_> = (0..images.len()).filter(|&number| answers[number].status == 201).collect();
    assert_eq!(winners.len(), 1);
    for (number, answer) in answers.iter().enumerate().filter(|(number, _)| *number != winners[0]) {
        refused(answer, 412, "DENIED");
        assert!(!repo.has_manifest(&images[number].digest));
    }
    assert_eq!(repo.resolve("v1").as_ref(), Some(&images[winners[0]].digest));
}

#[test]
fn an_index_updated_by_compare_and_swap_loses_nothing() {
    let server = Server::start();
    let repo = server.repo("team/app");
    let config = repo.push_blob("{}");
    let write = |count: u64| {
        let mut manifest = crate::role::image((&config, 2), &[]);
        manifest["annotations"] = serde_json::json!({"count": count.to_string()});
        manifest.to_string()
    };
    repo.put_manifest("counter", OCI_MANIFEST, write(0)).is(201);
    together(4, |_| {
        for _ in 0..5 {
            loop {
                let seen = get(repo.manifest("counter")).to(&server).is(200);
                let count: u64 = seen.json()["annotations"]["count"].as_str().unwrap().parse().unwrap();
                let request = put(repo.manifest("counter")).header("Content-Type", OCI_MANIFEST);
                let moved = request.header("If-Match", seen.must("etag")).body(write(count + 1)).to(&server);
                if moved.status == 201 {
                    break;
                }
                refused(&moved, 412, "DENIED");
            }
        }
    });
    let count = get(repo.manifest("counter")).to(&server).json()["annotations"]["count"].clone();
    assert_eq!(count, "20");
}

#[test]
fn of_many_who_append_the_same_chunk_it_is_appended_once() {
    let server = Server::start();
    let repo = server.repo("team/app");
    let location = repo.begin();
    repo.chunk(&location, 0, b"hello").is(202);
    let answers =
        together(6, |_| patch(&location).header("Content-Range", "5-10").body(" world").to(&server));
    let won = answers.iter().filter(|answer| answer.status == 202).count();
    for answer in answers.iter().filter(|answer| answer.status != 202) {
        refused(answer, 416, "BLOB_UPLOAD_INVALID");
        assert!(answer.header("location").is_some() && answer.header("range").is_some(), "{answer}");
    }
    assert_eq!(won, 1);
    assert_eq!(repo.holds(&location), 11);
    repo.close(&location, &sha256("hello world")).is(201);
}

#[test]
fn deletes_and_pushes_at_once_leave_a_whole_image_or_none() {
    let server = Server::start();
    let repo = server.repo("team/app");
    let image = repo.push_image("v1", "x");
    together(6, |number| {
        for _ in 0..5 {
            let status = if number % 2 == 0 {
                repo.put_manifest("v1", OCI_MANIFEST, &image.bytes).status
            } else {
                repo.delete_manifest(&image.digest).status
            };
            assert!(matches!(status, 201 | 202 | 404), "{status}");
        }
    });
    let listed = repo.tags().contains(&"v1".to_owned());
    assert_eq!((repo.has_manifest("v1"), repo.has_manifest(&image.digest)), (listed, listed));
}
