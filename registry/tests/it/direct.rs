// SPDX-License-Identifier: AGPL-3.0-only
//! Large blobs go out straight from the kernel's memory: whatever parts are asked for in whatever order,
//! whether the kernel still has them or not, and whatever happens to the file meanwhile.

use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use rustix::fs::{Advice, fadvise};

use crate::client::{get, head};
use crate::role::noise;
use crate::server::{Server, eventually};

/// The file that holds a blob of `size` bytes; the only one of that size.
fn file_of(data: &Path, size: usize) -> PathBuf {
    fn walk(folder: &Path, size: u64) -> Option<PathBuf> {
        fs::read_dir(folder).unwrap().find_map(|entry| {
            let entry = entry.unwrap();
            let about = entry.metadata().unwrap();
            if about.is_dir() {
                return walk(&entry.path(), size);
            }
            (about.len() == size).then(|| entry.path())
        })
    }
    walk(&data.join("blobs"), size as u64).unwrap()
}

/// Drops a file from the kernel's memory, as far as nobody holds it.
fn drop_from_memory(file: &Path) {
    let file = File::open(file).unwrap();
    file.sync_all().unwrap();
    fadvise(&file, 0, None, Advice::DontNeed).unwrap();
}

#[test]
fn any_parts_in_any_order_on_one_connection_are_right() {
    let server = Server::start();
    let repo = server.repo("team/app");
    let image = repo.push_image("v1", "x");
    let bytes = noise((3 << 20) + 12_345);
    let digest = repo.push_blob(&bytes);
    let file = file_of(server.data(), bytes.len());
    let at = 0..bytes.len();
    let range = (at.clone(), at).prop_map(|(one, other)| one.min(other)..=one.max(other));
    // Ranges to ask for at once; an empty list is a request for a manifest between them.
    let requests = prop::collection::vec((prop::collection::vec(range, 0..4), any::<bool>()), 1..6);
    let config = Config { cases: 30, failure_persistence: None, ..Config::default() };
    TestRunner::new(config)
        .run(&requests, |requests| {
            let mut wire = server.connect();
            for (ranges, cold) in &requests {
                if *cold {
                    drop_from_memory(&file);
                }
                // Pipelined: nobody waits for an answer.
                wire.send(match ranges.as_slice() {
                    [] => get(repo.manifest("v1")).bytes(),
                    ranges => {
                        let list: Vec<_> =
                            ranges.iter().map(|part| format!("{}-{}", part.start(), part.end())).collect();
                        get(repo.blob(&digest)).header("Range", format!("bytes={}", list.join(","))).bytes()
                    }
                });
                wire.send(head(repo.blob(&digest)).bytes());
            }
            for (ranges, _) in &requests {
                let answer = wire.answer();
                match ranges.as_slice() {
                    [] => assert!(answer.is(200).body == image.bytes),
                    [part] => assert!(answer.is(206).body == bytes[part.clone()], "{part:?}"),
                    parts if answer.status == 206 => {
                        let mut rest = answer.body.as_slice();
                        for part in parts {
                            let head = rest.windows(4).position(|end| end == b"\r\n\r\n").unwrap() + 4;
                            let length = part.end() - part.start() + 1;
                            assert!(rest[head..head + length] == bytes[part.clone()], "{part:?}");
                            rest = &rest[head + length..];
                        }
                    }
                    // So many overlapping bytes may be answered with all of them.
                    _ => assert!(answer.is(200).body == bytes),
                }
                wire.answer_to("HEAD").is(200);
            }
            Ok(())
        })
        .unwrap();
}

#[test]
fn a_slow_client_gets_what_the_kernel_dropped_meanwhile_and_holds_no_memory() {
    let server = Server::start();
    let repo = server.repo("team/app");
    // More than the sockets' buffers take.
    let bytes = noise(48 << 20);
    let digest = repo.push_blob(&bytes);
    let file = file_of(server.data(), bytes.len());
    let mut got = vec![0; bytes.len()];
    let mut wire = server.connect();
    wire.send(get(repo.blob(&digest)).bytes());
    let mut head = Vec::new();
    let mut stream = wire.stream();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    let mut filled = 0;
    for part in [1000, 9 << 20, 10 << 20, bytes.len()] {
        drop_from_memory(&file);
        stream.read_exact(&mut got[filled..part]).unwrap();
        filled = part;
        eventually("no memory is held", || memory_held(&server) == 0);
    }
    assert!(got == bytes);
}

/// What `/metrics` says of held memory.
fn memory_held(server: &Server) -> u64 {
    let page = String::from_utf8(get("/metrics").to(server).is(200).body).unwrap();
    let name = "stella_memory_budget_used_bytes ";
    page.lines().find_map(|line| line.strip_prefix(name)).unwrap().parse().unwrap()
}

#[test]
fn a_file_that_ends_too_early_ends_the_connection_and_nothing_else() {
    let server = Server::start();
    let repo = server.repo("team/app");
    let bytes = noise(48 << 20);
    let digest = repo.push_blob(&bytes);
    let file = file_of(server.data(), bytes.len());
    let mut wire = server.connect();
    wire.send(get(repo.blob(&digest)).bytes());
    let mut got = vec![0; 4096];
    wire.stream().read_exact(&mut got).unwrap();
    File::options().write(true).open(&file).unwrap().set_len(24 << 20).unwrap();
    let _cut = wire.stream().read_to_end(&mut got);
    let body = got.windows(4).position(|end| end == b"\r\n\r\n").unwrap() + 4;
    let body = &got[body..];
    assert!(body.len() < bytes.len() && *body == bytes[..body.len()], "{} bytes", body.len());
    get("/v2/").to(&server).is(200);
    eventually("the log says why", || server.log().contains("ends at byte"));
}
