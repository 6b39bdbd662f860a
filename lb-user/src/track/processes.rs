//! Finding processes, and noticing their end.
//!
//! The kernel's connector would tell of each process that begins and ends, but only in the first pid and network
//! namespaces, so not in a container. So the end of a process is noticed by its pidfd, at once, and its beginning by a look
//! through `/proc`.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs, io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::{Path, PathBuf},
};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::{config::ProcessMatch, pidfd::pidfd_open};

/// The kernel keeps so many bytes of a process's name.
const NAME_BYTES: usize = 15;
/// What follows the path of a program that was replaced while it runs.
const DELETED: &[u8] = b" (deleted)";

/// The processes that run, of those that are meant by a [`ProcessMatch`].
#[derive(Debug, Default)]
pub(super) struct Found {
    running: BTreeMap<u32, OwnedFd>,
}

impl Found {
    /// How many they are.
    pub(super) fn count(&self) -> usize {
        self.running.len()
    }

    /// Readable when one of them ends.
    pub(super) fn ends(&self) -> impl Iterator<Item = &OwnedFd> {
        self.running.values()
    }

    /// Takes the processes of a new look, and leaves out those that have ended and wait to be buried.
    fn update(&mut self, pids: &[u32]) {
        self.running.retain(|pid, _| pids.contains(pid));
        for pid in pids {
            if !self.running.contains_key(pid)
                // Fails for one that is gone by now.
                && let Ok(pidfd) = pidfd_open(*pid)
            {
                self.running.insert(*pid, pidfd);
            }
        }
        self.running.retain(|_, pidfd| !is_readable(pidfd));
    }
}

fn is_readable(fd: &impl AsFd) -> bool {
    poll(&mut [PollFd::new(fd.as_fd(), PollFlags::POLLIN)], PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
}

/// Looks through `/proc` for the processes of each match.
pub(super) fn look(wanted: &mut [(&ProcessMatch, &mut Found)]) -> io::Result<()> {
    let mut pids: Vec<Vec<u32>> = vec![Vec::new(); wanted.len()];
    for entry in fs::read_dir("/proc")? {
        let entry = entry?;
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let folder = entry.path();
        for ((process, _), pids) in wanted.iter().zip(&mut pids) {
            if matches(process, &folder) {
                pids.push(pid);
            }
        }
    }
    for ((_, found), pids) in wanted.iter_mut().zip(&pids) {
        found.update(pids);
    }
    Ok(())
}

/// Whether the process behind a folder of `/proc` is meant; `false` for one that is gone.
fn matches(process: &ProcessMatch, folder: &Path) -> bool {
    match process {
        ProcessMatch::Name(name) => fs::read(folder.join("comm")).is_ok_and(|comm| {
            let name = name.as_bytes();
            comm.strip_suffix(b"\n") == Some(&name[..name.len().min(NAME_BYTES)])
        }),
        ProcessMatch::Program(path) => fs::read_link(folder.join("exe")).is_ok_and(|exe| {
            let exe = exe.as_os_str().as_bytes();
            let exe = PathBuf::from(OsStr::from_bytes(exe.strip_suffix(DELETED).unwrap_or(exe)));
            exe == *path || fs::canonicalize(path).is_ok_and(|path| path == exe)
        }),
        ProcessMatch::Arguments(words) => fs::read(folder.join("cmdline")).is_ok_and(|line| {
            let line = line.strip_suffix(b"\0").unwrap_or(&line);
            line.split(|byte| *byte == 0).eq(words.iter().map(String::as_bytes))
        }),
    }
}

#[cfg(test)]
mod tests {
    use std::{
        ffi::OsStr,
        fs,
        process::{Child, Command},
        thread,
        time::{Duration, Instant},
    };

    use super::*;

    struct Sleeper(Child);

    impl Drop for Sleeper {
        fn drop(&mut self) {
            self.0.kill().unwrap();
            self.0.wait().unwrap();
        }
    }

    /// A process with arguments that no other has, once they are there to be seen: the kernel lets a parent go on before
    /// it has given the child its new name and arguments.
    fn sleeper(program: impl AsRef<OsStr>, seconds: &str) -> Sleeper {
        let sleeper = Sleeper(Command::new(program).arg(seconds).spawn().unwrap());
        let arguments = format!("/proc/{}/cmdline", sleeper.0.id());
        let deadline = Instant::now() + Duration::from_secs(20);
        while !fs::read_to_string(&arguments).unwrap().ends_with(&format!("\0{seconds}\0")) {
            assert!(Instant::now() < deadline, "{seconds}: not started");
            thread::yield_now();
        }
        sleeper
    }

    fn found(process: &ProcessMatch) -> Found {
        let mut found = Found::default();
        look(&mut [(process, &mut found)]).unwrap();
        found
    }

    #[test]
    fn processes_are_found_by_their_arguments_and_program() {
        let sleepers = [sleeper("sleep", "86017"), sleeper("sleep", "86017")];
        let words = |second: &str| ProcessMatch::Arguments(vec!["sleep".to_owned(), second.to_owned()]);
        assert_eq!(found(&words("86017")).count(), 2);
        assert_eq!(found(&words("8601")).count(), 0);
        assert_eq!(found(&words("860170")).count(), 0);
        let own: Vec<u32> = sleepers.iter().map(|sleeper| sleeper.0.id()).collect();
        for process in
            [ProcessMatch::Program("/usr/bin/sleep".into()), ProcessMatch::Program("/bin/sleep".into())]
        {
            let found = found(&process);
            assert!(own.iter().all(|pid| found.running.contains_key(pid)), "{process:?} {found:?}");
        }
    }

    #[test]
    fn processes_are_found_by_a_name_of_which_the_kernel_keeps_the_beginning() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a-name-longer-than-the-kernel-keeps");
        std::os::unix::fs::symlink("/bin/sleep", &path).unwrap();
        let mut sleeper = sleeper(&path, "86018");
        for (name, count) in
            [("a-name-longer-than-the-kernel-keeps", 1), ("a-name-longer-t", 1), ("a-name-longer", 0)]
        {
            assert_eq!(found(&ProcessMatch::Name(name.to_owned())).count(), count, "{name}");
        }
        // One that has ended and waits to be buried does not run.
        let name = ProcessMatch::Name("a-name-longer-t".to_owned());
        let mut known = found(&name);
        sleeper.0.kill().unwrap();
        let ends: Vec<_> = known.ends().map(|fd| PollFd::new(fd.as_fd(), PollFlags::POLLIN)).collect();
        assert_eq!(poll(&mut { ends }, PollTimeout::from(20_000_u16)), Ok(1), "its end is noticed");
        look(&mut [(&name, &mut known)]).unwrap();
        assert_eq!(known.count(), 0);
        assert_eq!(found(&name).count(), 0);
    }
}
