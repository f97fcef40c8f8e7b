// SPDX-License-Identifier: AGPL-3.0-only
//! Uploads that are cut off: the registry keeps what it has acknowledged, says how far it got, and takes
//! the rest from there, also when it was killed in between.

use std::time::Duration;

use stella_tests::{Bench, Client, Connection, Server, Transport, Upload, digest, noise, over, poll};

over! {
    [Plain, Tls, TlsHttp1]
    oras_pulls_a_blob_whose_upload_was_resumed,
}

const MIB: usize = 1 << 20;

/// Sends the bytes from `from` on, but closes the connection half-way.
fn cut_off(server: &Server, upload: &Upload, from: usize, bytes: &[u8]) {
    let mut connection = Connection::open(server.host());
    connection.send_head(&upload.patch(from, bytes.len()), Some((bytes.len() - from) as u64));
    connection.write(&bytes[from..from.midpoint(bytes.len())]).unwrap();
}

/// The same, but streamed: nobody knows the length.
fn cut_off_stream(server: &Server, upload: &Upload, from: usize, bytes: &[u8]) {
    let mut connection = Connection::open(server.host());
    connection.send_head(&upload.request("PATCH"), None);
    connection.write_chunk(&bytes[from..from.midpoint(bytes.len())]).unwrap();
}

/// Asks how far the upload got and sends the rest. The server may still be busy with what was cut off:
/// then it says 416, and how far it got by now.
fn resume(server: &Server, upload: &mut Upload, acknowledged: usize, bytes: &[u8]) {
    poll("the upload to go on", Duration::from_secs(30), || {
        let at = upload.received();
        let sent = acknowledged.midpoint(bytes.len());
        assert!((acknowledged..=sent).contains(&at), "{at} bytes are there, not {acknowledged} to {sent}");
        let answer =
            server.send(&upload.patch(at, bytes.len()).body(&bytes[at..])).must_be_one_of(&[202, 416]);
        upload.go_on(&answer);
        (answer.status == 202).then_some(())
    });
    assert_eq!(upload.received(), bytes.len());
}

#[test]
fn an_upload_cut_off_in_a_patch_is_resumed() {
    let server = Server::start();
    let repository = server.repository("app");
    for (seed, cut) in [(1, cut_off as fn(&_, &_, _, &_)), (2, cut_off_stream)] {
        let bytes = noise(seed, 12 * MIB as u64 + 321);
        let mut upload = repository.upload();
        upload.append(0, &bytes[..3 * MIB]);
        cut(&server, &upload, 3 * MIB, &bytes);
        resume(&server, &mut upload, 3 * MIB, &bytes);
        let digest = upload.finish(&[], &digest(&bytes));
        assert!(repository.blob(&digest) == bytes);
    }
}

#[test]
fn an_upload_cut_off_in_its_closing_put_is_resumed() {
    let server = Server::start();
    let repository = server.repository("app");
    let bytes = noise(3, 8 * MIB as u64 + 1);
    let mut upload = repository.upload();
    upload.append(0, &bytes[..MIB]);
    let put = upload.request("PUT").query("digest", &digest(&bytes));
    let mut connection = Connection::open(server.host());
    connection.send_head(&put, Some((bytes.len() - MIB) as u64));
    connection.write(&bytes[MIB..MIB.midpoint(bytes.len())]).unwrap();
    drop(connection);

    assert_eq!(repository.blob_status(&digest(&bytes)), 404, "a blob is there that was never finished");
    resume(&server, &mut upload, MIB, &bytes);
    let digest = upload.finish(&[], &digest(&bytes));
    assert!(repository.blob(&digest) == bytes);
}

#[test]
fn an_upload_goes_on_after_a_restart() {
    let mut server = Server::start();
    let repository = server.repository("app");
    let bytes = noise(4, 4 * MIB as u64 + 5);
    let mut upload = repository.upload();
    for (from, to) in [(0, 1), (1, MIB), (MIB, 3 * MIB)] {
        upload.append(from, &bytes[from..to]);
        server.restart();
        assert_eq!(upload.received(), to);
    }
    let digest = upload.finish(&bytes[3 * MIB..], &digest(&bytes));
    assert!(repository.blob(&digest) == bytes);
    server.restart();
    assert!(repository.blob(&digest) == bytes);
}

#[test]
fn an_upload_cut_off_by_a_crash_is_resumed() {
    let mut server = Server::start();
    let repository = server.repository("app");
    for (seed, cut) in [(5, cut_off as fn(&_, &_, _, &_)), (6, cut_off_stream)] {
        let bytes = noise(seed, 12 * MIB as u64 + 321);
        let mut upload = repository.upload();
        upload.append(0, &bytes[..3 * MIB]);
        cut(&server, &upload, 3 * MIB, &bytes);
        server.kill();
        server.start_again();
        resume(&server, &mut upload, 3 * MIB, &bytes);
        server.kill();
        server.start_again();
        assert_eq!(upload.received(), bytes.len());
        let digest = upload.finish(&[], &digest(&bytes));
        server.kill();
        server.start_again();
        assert!(repository.blob(&digest) == bytes);
    }
}

fn oras_pulls_a_blob_whose_upload_was_resumed(over: Transport) {
    let Some(mut bench) = Bench::with(&[Client::Oras], over) else { return };
    let bytes = noise(7, 12 * MIB as u64 + 321);
    let mut upload = bench.server.repository("app").upload();
    upload.append(0, &bytes[..3 * MIB]);
    cut_off(&bench.server, &upload, 3 * MIB, &bytes);
    bench.server.kill();
    bench.server.start_again();
    resume(&bench.server, &mut upload, 3 * MIB, &bytes);
    let digest = upload.finish(&[], &digest(&bytes));

    let reference = format!("{}/app@{digest}", bench.server.host());
    bench.tool(Client::Oras).run(&format!("blob fetch --plain-http -o pulled {reference}"));
    assert!(bench.read("pulled") == bytes);
}
