//! Reading numbers from files, and noticing when they change.

use std::{
    collections::BTreeSet,
    fs::OpenOptions,
    io::{self, Read},
    os::{fd::AsFd, unix::fs::OpenOptionsExt},
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    fcntl::OFlag,
    sys::inotify::{AddWatchFlags, InitFlags, Inotify},
};

use crate::config::TrackFile;

/// A number and white space around it need no more.
const MOST_BYTES: u64 = 256;

/// What a file says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Content {
    /// The number in it, or the one that counts instead.
    pub(super) value: i64,
    /// The same in words.
    pub(super) detail: String,
}

/// Reads the number; what is no file, or holds none, counts as its initial value. Never waits.
pub(super) fn read(file: &TrackFile) -> Content {
    let instead = |why: &str| Content { value: file.initial, detail: format!("{} ({why})", file.initial) };
    match first_bytes(&file.path) {
        Ok(text) => match std::str::from_utf8(&text).ok().and_then(|text| text.trim().parse::<i64>().ok()) {
            Some(value) => Content { value, detail: value.to_string() },
            None => instead("no number in the file"),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => instead("no file"),
        Err(error) => instead(&error.to_string()),
    }
}

fn first_bytes(path: &Path) -> io::Result<Vec<u8>> {
    // A FIFO without a writer would keep the thread.
    let file = OpenOptions::new().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(path)?;
    let mut text = Vec::new();
    file.take(MOST_BYTES).read_to_end(&mut text)?;
    Ok(text)
}

/// Notices changes in the folders of some files.
#[derive(Debug)]
pub(super) struct Folders {
    inotify: Inotify,
}

impl Folders {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self { inotify: Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)? })
    }

    /// Watches the folders of `files`, so far as they are there, as well as those watched before. A folder that was
    /// made anew is watched anew.
    pub(super) fn watch<'f>(&self, files: impl Iterator<Item = &'f TrackFile>) {
        let wanted = AddWatchFlags::IN_CLOSE_WRITE
            | AddWatchFlags::IN_MOVE
            | AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_DELETE
            | AddWatchFlags::IN_ONLYDIR;
        let folders: BTreeSet<PathBuf> =
            files.filter_map(|file| file.path.parent().map(Path::to_owned)).collect();
        for folder in folders {
            // One that is not there, or cannot be watched, is looked into now and then.
            let _ = self.inotify.add_watch(&folder, wanted);
        }
    }

    /// Takes the events that wait; what they are about is found out by reading.
    pub(super) fn drain(&self) {
        loop {
            match self.inotify.read_events() {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(_) => return,
            }
        }
    }

    /// Readable when something changed.
    pub(super) fn as_fd(&self) -> impl AsFd + '_ {
        self.inotify.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn the_number_is_read_and_anything_else_is_the_initial_value() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("load");
        let file = TrackFile { name: "load".to_owned(), path: path.clone(), initial: 7 };
        assert_eq!(read(&file), Content { value: 7, detail: "7 (no file)".to_owned() });
        for (text, value, detail) in [
            ("42\n", 42, "42"),
            ("  -3  ", -3, "-3"),
            ("+5", 5, "5"),
            ("", 7, "7 (no number in the file)"),
            ("many", 7, "7 (no number in the file)"),
            ("1 2", 7, "7 (no number in the file)"),
            ("99999999999999999999", 7, "7 (no number in the file)"),
        ] {
            fs::write(&path, text).unwrap();
            assert_eq!(read(&file), Content { value, detail: detail.to_owned() }, "{text:?}");
        }
        fs::remove_file(&path).unwrap();
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert_eq!(read(&file).value, 7, "a FIFO does not keep the reader");
    }
}
