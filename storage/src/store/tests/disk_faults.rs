// SPDX-License-Identifier: AGPL-3.0-only
//! A disk that fails: requests fail clearly, nothing that was acknowledged is lost or served wrongly,
//! sessions stand where they were acknowledged, and when the disk works again so does everything.

use rustix::io::Errno;

use super::power_cuts::open;
use super::*;
use crate::disk::Disk;
use crate::disk::simulated::{Call, Machine, Unsynced};

/// Larger than what is read or written at once on the simulated disk.
fn content(seed: u8) -> Vec<u8> {
    (0..40_000u32).map(|at| u8::try_from(at % 251).unwrap() ^ seed).collect()
}

async fn lab() -> (Lab, Machine) {
    let machine = Machine::new();
    (open(&machine, Memory::new(), Arc::new(ManualClock::new(START))).await, machine)
}

/// The store after a power cut that takes all that was not synced.
async fn after_power_cut(lab: &Lab, machine: &Machine) -> Lab {
    let Engine::Memory(memory) = &*lab.store.engine else { panic!("another engine") };
    let clock = Arc::new(ManualClock::new(lab.now()));
    open(&machine.cut(Unsynced::Lost), memory.fork(), clock).await
}

fn failed(error: &Error) -> bool {
    matches!(error, Error::Io { .. } | Error::Full)
}

#[tokio::test]
async fn bytes_that_cannot_be_read_are_an_error_and_never_others() {
    let (lab, machine) = lab().await;
    let (app, whole) = (repo("app"), content(1).repeat(20));
    let digest = lab.push(&app, &whole).await;
    let blob = lab.store.blob(&app, &digest).await.unwrap();
    for broken_at in [0, 1, 2] {
        let range = 0..u64::MAX;
        let mut reader = lab.store.read_blob(&blob, std::slice::from_ref(&range)).await.unwrap().remove(0);
        let mut read = Vec::new();
        for _ in 0..broken_at {
            read.extend(reader.try_next().await.unwrap().unwrap());
        }
        machine.fail(Call::Read, Some(Errno::IO));
        let error = reader.try_next().await.unwrap_err();
        assert!(matches!(&error, Error::Io { cause, .. } if cause.raw_os_error() == Some(5)), "{error}");
        assert!(read.len() < whole.len() && whole.starts_with(&read));
        assert!(lab.read(&app, &digest).await.is_err());
        machine.fail(Call::Read, None);
        assert_eq!(lab.read(&app, &digest).await.unwrap(), whole);
    }
    machine.fail(Call::Open, Some(Errno::IO));
    assert!(failed(&lab.read(&app, &digest).await.unwrap_err()));
}

#[tokio::test]
async fn a_push_onto_a_failing_disk_fails_and_leaves_no_blob() {
    for (call, error) in [
        (Call::Open, Errno::IO),
        (Call::Create, Errno::IO),
        (Call::Create, Errno::NOSPC),
        (Call::Create, Errno::ROFS),
        (Call::Write, Errno::IO),
        (Call::Write, Errno::NOSPC),
        (Call::Write, Errno::DQUOT),
        (Call::WriteDirect, Errno::IO),
        (Call::WriteDirect, Errno::NOSPC),
        (Call::Sync, Errno::IO),
        (Call::Sync, Errno::NOSPC),
        (Call::SyncFolder, Errno::IO),
    ] {
        let (lab, machine) = lab().await;
        let app = repo("app");
        let before = lab.push(&app, &content(1)).await;
        machine.fail(call, Some(error));
        let (new, who) = (content(2).repeat(4), actor("ci"));
        let digest = sha256(&new);
        let pushed = lab.store.push_blob(&app, &digest, None, body(&new), &who).await;
        assert!(pushed.as_ref().is_err_and(failed), "{call:?} {error:?}: {pushed:?}");
        let full = matches!(error, Errno::NOSPC | Errno::DQUOT);
        assert_eq!(matches!(pushed, Err(Error::Full)), full, "{call:?} {error:?}");
        assert!(matches!(lab.store.blob(&app, &digest).await, Err(Error::NotFound(_))));
        assert!(lab.rows(b"p").await.is_empty(), "the session was only for this request");
        machine.fail(call, None);
        invariants::check(&lab).await;
        lab.push(&app, &new).await;
        for lab in [&lab, &after_power_cut(&lab, &machine).await] {
            assert_eq!(lab.read(&app, &before).await.unwrap(), content(1));
            assert_eq!(lab.read(&app, &digest).await.unwrap(), new);
            invariants::check(lab).await;
        }
    }
}

#[tokio::test]
async fn an_upload_on_a_failing_disk_stands_where_it_was_acknowledged() {
    for (call, error) in [
        (Call::Open, Errno::IO),
        (Call::Write, Errno::IO),
        (Call::Write, Errno::NOSPC),
        (Call::Sync, Errno::IO),
    ] {
        let (lab, machine) = lab().await;
        let (app, whole) = (repo("app"), content(3));
        let id = lab.store.begin_upload(&app, Algorithm::Sha256, &actor("ci")).await.unwrap();
        let chunk = |start: usize| Chunk { start: Some(start as u64), len: None };
        lab.store.append_upload(&app, id, chunk(0), body(&whole[..10_000])).await.unwrap();
        machine.fail(call, Some(error));
        for _ in 0..2 {
            let appended =
                lab.store.append_upload(&app, id, chunk(10_000), body(&whole[10_000..30_000])).await;
            assert!(appended.as_ref().is_err_and(failed), "{call:?}: {appended:?}");
            assert_eq!(lab.store.upload_status(&app, id).await.unwrap().offset, 10_000);
            let digest = sha256(&whole);
            let finished =
                lab.store.finish_upload(&app, id, chunk(10_000), body(&whole[10_000..]), &digest).await;
            assert!(finished.as_ref().is_err_and(failed), "{call:?}: {finished:?}");
            assert_eq!(lab.store.upload_status(&app, id).await.unwrap().offset, 10_000);
        }
        let rebooted = after_power_cut(&lab, &machine).await;
        machine.fail(call, None);
        for lab in [&lab, &rebooted] {
            let status = lab.store.append_upload(&app, id, chunk(10_000), body(&whole[10_000..30_000])).await;
            assert_eq!(status.unwrap().offset, 30_000);
            let digest = sha256(&whole);
            lab.store.finish_upload(&app, id, chunk(30_000), body(&whole[30_000..]), &digest).await.unwrap();
            assert_eq!(lab.read(&app, &digest).await.unwrap(), whole);
            invariants::check(lab).await;
        }
    }
}

#[tokio::test]
async fn a_sync_that_succeeds_after_one_that_failed_proves_nothing() {
    let (lab, machine) = lab().await;
    let (app, whole) = (repo("app"), content(4));
    let id = lab.store.begin_upload(&app, Algorithm::Sha256, &actor("ci")).await.unwrap();
    let chunk = |start: usize| Chunk { start: Some(start as u64), len: None };
    lab.store.append_upload(&app, id, chunk(0), body(&whole[..9_000])).await.unwrap();
    // What was written is in memory only and forgotten by the kernel: it must be written anew.
    machine.fail(Call::Sync, Some(Errno::IO));
    lab.store.append_upload(&app, id, chunk(9_000), body(&whole[9_000..20_000])).await.unwrap_err();
    machine.fail(Call::Sync, None);
    lab.store.append_upload(&app, id, Chunk::default(), body(b"")).await.unwrap();
    assert_eq!(lab.store.upload_status(&app, id).await.unwrap().offset, 9_000);
    lab.store.append_upload(&app, id, chunk(9_000), body(&whole[9_000..20_000])).await.unwrap();
    let digest = sha256(&whole);
    machine.fail(Call::Sync, Some(Errno::IO));
    lab.store.finish_upload(&app, id, chunk(20_000), body(&whole[20_000..]), &digest).await.unwrap_err();
    machine.fail(Call::Sync, None);
    // The same request without the bytes: they are not there, whatever the kernel shows.
    let empty = lab.store.finish_upload(&app, id, Chunk::default(), body(b""), &digest).await;
    assert!(matches!(empty, Err(Error::DigestMismatch { .. })), "{empty:?}");
    lab.store.finish_upload(&app, id, chunk(20_000), body(&whole[20_000..]), &digest).await.unwrap();
    let lab = after_power_cut(&lab, &machine).await;
    assert_eq!(lab.read(&app, &digest).await.unwrap(), whole);
}

#[tokio::test]
async fn a_disk_that_fills_up_during_an_upload_leaves_what_was_acknowledged() {
    let (lab, machine) = lab().await;
    let (app, whole) = (repo("app"), content(5));
    let id = lab.store.begin_upload(&app, Algorithm::Sha256, &actor("ci")).await.unwrap();
    let chunk = |start: usize| Chunk { start: Some(start as u64), len: None };
    lab.store.append_upload(&app, id, chunk(0), body(&whole[..1000])).await.unwrap();
    machine.set_room(Some(20_000));
    let full = lab.store.append_upload(&app, id, chunk(1000), body(&whole[1000..])).await;
    assert!(matches!(full, Err(Error::Full)), "{full:?}");
    assert_eq!(lab.store.upload_status(&app, id).await.unwrap().offset, 1000);
    machine.set_room(None);
    let digest = sha256(&whole);
    lab.store.finish_upload(&app, id, chunk(1000), body(&whole[1000..]), &digest).await.unwrap();
    let lab = after_power_cut(&lab, &machine).await;
    assert_eq!(lab.read(&app, &digest).await.unwrap(), whole);
}

#[tokio::test]
async fn a_blob_that_cannot_be_read_once_more_is_not_taken_for_another() {
    let (lab, machine) = lab().await;
    let (app, whole) = (repo("app"), content(6));
    let id = lab.store.begin_upload(&app, Algorithm::Sha256, &actor("ci")).await.unwrap();
    lab.store.append_upload(&app, id, Chunk::default(), body(&whole)).await.unwrap();
    machine.fail(Call::Read, Some(Errno::IO));
    let finished = lab.store.finish_upload(&app, id, Chunk::default(), body(b""), &sha512(&whole)).await;
    assert!(matches!(finished, Err(Error::Io { .. })), "{finished:?}");
    machine.fail(Call::Read, None);
    lab.store.finish_upload(&app, id, Chunk::default(), body(b""), &sha512(&whole)).await.unwrap();
    assert_eq!(lab.read(&app, &sha512(&whole)).await.unwrap(), whole);
}

#[tokio::test]
async fn what_cannot_be_deleted_keeps_its_row() {
    for call in [Call::Remove, Call::SyncFolder] {
        let (lab, machine) = lab().await;
        let app = repo("app");
        let digest = lab.push(&app, &content(7)).await;
        lab.store.delete_blob(&app, &digest).await.unwrap();
        lab.clock.advance(Duration::from_hours(2));
        machine.fail(call, Some(Errno::IO));
        assert_eq!(lab.store.collect().await.unwrap().files, 0, "{call:?}");
        assert_eq!(lab.garbage().await.len(), 1);
        machine.fail(call, None);
        assert_eq!(lab.store.collect().await.unwrap().files, 1);
        for lab in [&lab, &after_power_cut(&lab, &machine).await] {
            assert!(lab.files().is_empty() && lab.garbage().await.is_empty());
        }
    }
}

#[tokio::test]
async fn large_pushes_go_past_the_page_cache() {
    let (lab, machine) = lab().await;
    let (app, whole) = (repo("app"), content(1).repeat(60));
    let digest = lab.push(&app, &whole).await;
    assert_eq!(machine.written_directly(), whole.len() / 4096 * 4096);
    assert_eq!(lab.read(&app, &digest).await.unwrap(), whole);
}

#[test]
fn the_program_itself_knows_one_disk_only() {
    // The simulated disk exists in tests alone, so the choice costs nothing elsewhere.
    assert!(matches!(Disk::default(), Disk::Real));
}
