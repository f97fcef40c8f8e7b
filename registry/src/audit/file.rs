// SPDX-License-Identifier: AGPL-3.0-only
//! The file of the audit trail, and the one thread that writes it.
//!
//! Lines are only ever appended, whole. One that cannot be written goes to the log, and the next ones are
//! tried all the same. The thread ends, after what is queued, when its [`AuditFile`] is dropped.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use tokio::sync::{mpsc, oneshot};

/// Lines that may wait. Each has a few hundred bytes; fifty tags, the most, make it a few thousand.
const WAITING: usize = 256;
/// Lines are written together up to about so many bytes.
const TOGETHER: usize = 64 << 10;

pub(super) struct AuditFile(mpsc::Sender<Message>);

enum Message {
    Line(String),
    Reopen,
    Flush(oneshot::Sender<()>),
}

impl AuditFile {
    /// Opens the file and starts the thread, which tells `on_failure` how many lines it could not write.
    pub(super) fn open(path: PathBuf, on_failure: impl Fn(u64) + Send + 'static) -> io::Result<Self> {
        let file = append(&path)?;
        let (sender, messages) = mpsc::channel(WAITING);
        let mut writer = Writer { file, path, torn: false, waiting: Vec::new(), lines: 0 };
        std::thread::Builder::new()
            .name("audit-writer".to_owned())
            .spawn(move || writer.run(messages, &on_failure))?;
        Ok(AuditFile(sender))
    }

    /// Queues a line; waits for a place.
    pub(super) async fn push(&self, line: String) {
        self.send(Message::Line(line)).await;
    }

    /// Queues a line, or gives it back if there is no place.
    pub(super) fn try_push(&self, line: String) -> Result<(), String> {
        self.0.try_send(Message::Line(line)).map_err(|error| match error.into_inner() {
            Message::Line(line) => line,
            _ => String::new(),
        })
    }

    pub(super) async fn reopen(&self) {
        self.send(Message::Reopen).await;
    }

    /// Returns once everything that was queued is written.
    pub(super) async fn flush(&self) {
        let (done, wait) = oneshot::channel();
        self.send(Message::Flush(done)).await;
        // Without an answer the thread is gone, and said so.
        let _done = wait.await;
    }

    async fn send(&self, message: Message) {
        if self.0.send(message).await.is_err() {
            tracing::error!("the writer of the audit file has ended");
        }
    }
}

struct Writer {
    file: File,
    path: PathBuf,
    /// Whether the file ends within a line.
    torn: bool,
    waiting: Vec<u8>,
    lines: u64,
}

impl Writer {
    fn run(&mut self, mut messages: mpsc::Receiver<Message>, on_failure: &impl Fn(u64)) {
        while let Some(first) = messages.blocking_recv() {
            let mut next = Some(first);
            while let Some(message) = next.take() {
                match message {
                    Message::Line(line) => {
                        self.waiting.extend_from_slice(line.as_bytes());
                        self.lines += 1;
                        if self.waiting.len() < TOGETHER {
                            next = messages.try_recv().ok();
                        }
                    }
                    Message::Reopen => {
                        self.write(on_failure);
                        match append(&self.path) {
                            Ok(file) => (self.file, self.torn) = (file, false),
                            Err(error) => tracing::error!(
                                %error,
                                path = %self.path.display(),
                                "cannot open the audit file anew; the old one goes on"
                            ),
                        }
                    }
                    Message::Flush(done) => {
                        self.write(on_failure);
                        if let Err(error) = self.file.sync_data() {
                            tracing::error!(%error, "cannot sync the audit file");
                        }
                        // Whoever asked may have given up.
                        let _gone = done.send(());
                    }
                }
            }
            self.write(on_failure);
        }
    }

    fn write(&mut self, on_failure: &impl Fn(u64)) {
        if self.waiting.is_empty() {
            return;
        }
        if self.torn {
            self.waiting.insert(0, b'\n');
        }
        if let Err(error) = self.file.write_all(&self.waiting) {
            on_failure(self.lines);
            let lines = String::from_utf8_lossy(&self.waiting);
            tracing::error!(%error, %lines, path = %self.path.display(), "cannot write the audit file");
            // How much of it got there is unknown.
            self.torn = true;
        } else {
            self.torn = false;
        }
        self.waiting.clear();
        self.lines = 0;
    }
}

fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o640).open(path)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    #[tokio::test]
    async fn lines_are_written_in_order_and_follow_a_renamed_file() {
        let folder = tempfile::TempDir::new().unwrap();
        let (path, old) = (folder.path().join("audit.log"), folder.path().join("audit.log.1"));
        std::fs::write(&path, "before\n").unwrap();
        let file = AuditFile::open(path.clone(), |_| panic!("nothing fails")).unwrap();
        for number in 0..1_000 {
            file.push(format!("{number}\n")).await;
        }
        std::fs::rename(&path, &old).unwrap();
        file.push("still there\n".to_owned()).await;
        file.reopen().await;
        file.push("new\n".to_owned()).await;
        file.flush().await;
        let numbers: String = (0..1_000).map(|number| number.to_string() + "\n").collect();
        assert_eq!(std::fs::read_to_string(&old).unwrap(), format!("before\n{numbers}still there\n"));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "new\n");
    }

    #[tokio::test]
    async fn a_line_that_cannot_be_written_is_counted_and_the_next_is_tried() {
        let failed = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&failed);
        let file = AuditFile::open("/dev/full".into(), move |lines| {
            count.fetch_add(lines, Ordering::SeqCst);
        });
        let file = file.unwrap();
        file.push("one\n".to_owned()).await;
        file.flush().await;
        file.push("two\n".to_owned()).await;
        file.flush().await;
        assert_eq!(failed.load(Ordering::SeqCst), 2);
    }
}
