// SPDX-License-Identifier: AGPL-3.0-only
//! Tests of what only the sled engine does: snapshots, pieces, its folder.

use super::*;
use crate::kv::{Engine, MAX_WRITE_BYTES, ReadTx, suite};

fn options(folder: &tempfile::TempDir) -> SledOptions {
    SledOptions { path: folder.path().join("metadata.sled"), cache: 4 << 20 }
}

#[test]
fn the_sled_engine_keeps_the_contract() {
    let folder = tempfile::tempdir().unwrap();
    let count = std::sync::atomic::AtomicU32::new(0);
    suite::run(&async || {
        let number = count.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        let path = folder.path().join(number.to_string());
        Engine::Sled(Sled::open(&SledOptions { path, cache: 4 << 20 }).unwrap())
    });
}

#[test]
fn what_was_committed_is_there_after_reopening() {
    let folder = tempfile::tempdir().unwrap();
    suite::reopens(&async || Engine::Sled(Sled::open(&options(&folder)).unwrap()));
}

fn value(byte: u8, len: usize) -> Vec<u8> {
    vec![byte; len]
}

async fn put(engine: &Engine, key: &'static [u8], value: Vec<u8>) {
    engine.write(0, async move |tx: &mut WriteTx| tx.put(key.to_vec(), value.clone())).await.unwrap();
}

async fn get(engine: &Engine, key: &[u8]) -> Option<Vec<u8>> {
    engine.read(async |tx: &mut ReadTx| tx.get(key).await).await.unwrap()
}

fn pieces(engine: &Engine) -> usize {
    let Engine::Sled(sled) = engine else { panic!("another engine") };
    sled.shared.tree.scan_prefix([PIECES]).count()
}

#[tokio::test]
async fn large_values_are_cut_into_pieces_and_no_file_is_made_that_is_never_synced() {
    let folder = tempfile::tempdir().unwrap();
    let engine = Engine::Sled(Sled::open(&options(&folder)).unwrap());
    for (byte, len) in (1..).zip([0, 1, PIECE, PIECE + 1, 3 * PIECE, 5 << 20, MAX_WRITE_BYTES - 1]) {
        put(&engine, b"k", value(byte, len)).await;
        assert_eq!(get(&engine, b"k").await, Some(value(byte, len)));
        assert_eq!(pieces(&engine), if len > PIECE { len.div_ceil(PIECE) } else { 0 });
    }
    // Many neighbours that are as large as they may be without pieces.
    for number in 0..200u8 {
        let put = async move |tx: &mut WriteTx| tx.put(vec![b'n', number], value(number, PIECE));
        engine.write(0, put).await.unwrap();
    }
    let files = std::fs::read_dir(options(&folder).path.join("blobs")).unwrap();
    assert_eq!(files.count(), 0, "sled made files that it does not sync");
    drop(engine);
    let engine = Engine::Sled(Sled::open(&options(&folder)).unwrap());
    assert_eq!(get(&engine, b"k").await, Some(value(7, MAX_WRITE_BYTES - 1)));
    put(&engine, b"other", value(9, PIECE + 1)).await;
    assert_eq!(get(&engine, b"k").await, Some(value(7, MAX_WRITE_BYTES - 1)));
    engine.write(0, async |tx: &mut WriteTx| tx.delete(b"k".to_vec())).await.unwrap();
    assert_eq!(pieces(&engine), 2);
}

#[tokio::test]
async fn what_a_commit_replaced_is_kept_as_long_as_somebody_reads_the_state_before() {
    let folder = tempfile::tempdir().unwrap();
    let engine = Engine::Sled(Sled::open(&options(&folder)).unwrap());
    let Engine::Sled(sled) = &engine else { panic!("another engine") };
    let kept = || sled.shared.versions().replaced.len();
    put(&engine, b"a", value(1, 9000)).await;
    assert_eq!(kept(), 0);
    let mut first = engine.snapshot().unwrap();
    put(&engine, b"a", value(2, 9000)).await;
    put(&engine, b"b", value(2, 1)).await;
    let mut second = engine.snapshot().unwrap();
    engine.write(0, async |tx: &mut WriteTx| tx.delete(b"a".to_vec())).await.unwrap();
    assert_eq!(kept(), 3);
    assert_eq!(first.range(b"", None, 9).await.unwrap(), [(b"a".to_vec(), value(1, 9000))]);
    let rows = [(b"a".to_vec(), value(2, 9000)), (b"b".to_vec(), value(2, 1))];
    assert_eq!(second.range(b"", None, 9).await.unwrap(), rows);
    assert_eq!(second.range(b"", Some(b"a"), 1).await.unwrap(), rows[1..]);
    drop(first);
    assert_eq!(kept(), 1);
    assert_eq!(second.get(b"a").await.unwrap(), Some(value(2, 9000)));
    drop(second);
    assert_eq!(kept(), 0);
    assert_eq!(get(&engine, b"a").await, None);
}

#[test]
fn a_newer_format_and_another_programs_folder_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    drop(Sled::open(&options(&folder)).unwrap());
    let db = ::sled::open(&options(&folder).path).unwrap();
    db.insert(FORMAT_KEY, &(FORMAT + 1).to_be_bytes()).unwrap();
    drop(db);
    let error = Sled::open(&options(&folder)).err().unwrap();
    assert!(matches!(error, Error::NewerSchema { found: 2, supported: 1 }), "{error}");
    let theirs = tempfile::tempdir().unwrap();
    ::sled::open(options(&theirs).path).unwrap().insert("theirs", "x").unwrap();
    assert!(matches!(Sled::open(&options(&theirs)).err().unwrap(), Error::Corrupt(_)));
}

#[tokio::test]
async fn after_a_failed_commit_nothing_is_written_any_more_and_readers_see_the_state_before() {
    let folder = tempfile::tempdir().unwrap();
    let engine = Engine::Sled(Sled::open(&options(&folder)).unwrap());
    put(&engine, b"k", value(1, 1)).await;
    let Engine::Sled(sled) = &engine else { panic!("another engine") };
    let shared = Arc::clone(&sled.shared);
    // A file that cannot be synced stands for a disk that fails.
    let file = File::from(std::os::fd::OwnedFd::from(std::io::pipe().unwrap().0));
    let mut writer = Writer { shared, file, next_number: 0, broken: None };
    let replaced = Changes::from([(b"k".to_vec(), Some(value(1, 1)))]);
    let mut batch = Batch::default();
    batch.insert(row_key(b"k"), [WHOLE, 2].as_slice());
    let error = writer.apply(batch, replaced).unwrap_err();
    assert!(matches!(error, Error::CommitUnknown(_)), "{error}");
    assert_eq!(get(&engine, b"k").await, Some(value(1, 1)));
    writer.broken = Some(error);
    assert!(matches!(writer.commit(&mut []), Err(Error::Unavailable(_))));
}
