//! The FIFO that gets a line for each change of state.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt},
    path::PathBuf,
};

use nix::{fcntl::OFlag, sys::stat::Mode, unistd::mkfifo};
use tracing::warn;

/// A FIFO that is written without ever waiting.
#[derive(Debug)]
pub(super) struct Fifo {
    path: PathBuf,
    /// The open FIFO, and which file it is.
    open: Option<(File, (u64, u64))>,
    dropped: u64,
    problem: Option<String>,
}

impl Fifo {
    /// Makes and opens it, if that can be done.
    pub(super) fn new(path: PathBuf) -> Self {
        let mut fifo = Self { path, open: None, dropped: 0, problem: None };
        let outcome = fifo.reopen();
        fifo.note(outcome);
        fifo
    }

    /// Writes a line, or drops it where nobody has read for a long time.
    pub(super) fn write(&mut self, line: &str) {
        let outcome = self.try_write(line);
        self.dropped += u64::from(outcome.is_err());
        self.note(outcome);
    }

    /// Lines that were not written.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Why the last one was not.
    pub(super) fn problem(&self) -> Option<&str> {
        self.problem.as_deref()
    }

    fn try_write(&mut self, line: &str) -> io::Result<()> {
        self.reopen()?;
        let Some((file, _)) = &mut self.open else { return Err(io::ErrorKind::NotFound.into()) };
        // A pipe takes what is shorter than PIPE_BUF as a whole or not at all.
        match file.write(line.as_bytes()) {
            Ok(_) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                Err(io::Error::other("nobody reads it, and it is full"))
            }
            Err(error) => Err(error),
        }
    }

    /// Makes sure that what is open is what the path names.
    fn reopen(&mut self) -> io::Result<()> {
        match fs::metadata(&self.path) {
            Ok(found) if !found.file_type().is_fifo() => {
                self.open = None;
                return Err(io::Error::other("it is no FIFO; remove it, or name another path"));
            }
            Ok(found) => {
                if self.open.as_ref().is_some_and(|(_, known)| *known == (found.dev(), found.ino())) {
                    return Ok(());
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                mkfifo(&self.path, Mode::S_IRUSR | Mode::S_IWUSR)?;
            }
            Err(error) => return Err(error),
        }
        // Also for reading: without a reader of its own the open would fail, and what is written would be lost.
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(OFlag::O_NONBLOCK.bits())
            .open(&self.path)?;
        let opened = file.metadata()?;
        self.open = Some((file, (opened.dev(), opened.ino())));
        Ok(())
    }

    fn note(&mut self, outcome: io::Result<()>) {
        let before = self.problem.take();
        self.problem = outcome.err().map(|error| format!("{}: {error}", self.path.display()));
        if let Some(problem) = self.problem.as_ref().filter(|problem| Some(*problem) != before.as_ref()) {
            warn!("notify_fifo: {problem}");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    fn read_all(path: &std::path::Path) -> String {
        let mut reader =
            OpenOptions::new().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(path).unwrap();
        let mut bytes = vec![0; 1 << 20];
        // All that waits comes with one read.
        let length = reader.read(&mut bytes).unwrap();
        String::from_utf8(bytes[..length].to_vec()).unwrap()
    }

    #[test]
    fn lines_wait_for_a_reader_and_are_dropped_and_counted_once_it_is_full() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let mut fifo = Fifo::new(path.clone());
        assert_eq!(fifo.problem(), None);
        fifo.write("one\n");
        fifo.write("two\n");
        assert_eq!(read_all(&path), "one\ntwo\n");
        let line = format!("{}\n", "x".repeat(1_000));
        while fifo.dropped() == 0 {
            fifo.write(&line);
        }
        assert!(fifo.problem().is_some_and(|problem| problem.ends_with("nobody reads it, and it is full")));
        let waiting = read_all(&path);
        assert!(waiting.len() >= 4_096 && waiting.lines().all(|line| line.len() == 1_000), "no half lines");
        fifo.write("again\n");
        assert_eq!((read_all(&path).as_str(), fifo.dropped(), fifo.problem()), ("again\n", 1, None));
    }

    #[test]
    fn a_fifo_that_was_removed_is_made_again_and_a_file_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let mut fifo = Fifo::new(path.clone());
        fs::remove_file(&path).unwrap();
        fifo.write("new\n");
        assert_eq!(read_all(&path), "new\n");
        fs::remove_file(&path).unwrap();
        fs::write(&path, "").unwrap();
        fifo.write("lost\n");
        assert_eq!(fifo.dropped(), 1);
        assert!(fifo.problem().is_some_and(|problem| problem.contains("no FIFO")), "{:?}", fifo.problem());
        assert_eq!(fs::read_to_string(&path).unwrap(), "");
    }
}
