//! Starts processes, in a thread of its own.
//!
//! There are two reasons for the thread. Forking a large process and asking the user database take time that
//! the control plane's timers do not have. And PR_SET_PDEATHSIG, which takes a script down with a killed
//! daemon, acts when the *thread* that forked ends; this one lives as long as the [`Spawner`].

use std::{
    fs, io,
    os::{
        fd::OwnedFd,
        unix::{fs::PermissionsExt, process::CommandExt},
    },
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::mpsc,
    thread,
};

use nix::{
    sys::{prctl, signal::Signal},
    unistd::{getpid, getppid, setgroups, setresgid, setresuid, setsid},
};
use tokio::sync::oneshot;

use super::{process::Process, user::Identity};
use crate::pidfd::pidfd_open;

/// Where programs without a slash are looked for, and the scripts' own `PATH`.
pub const SAFE_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Why a script could not be started, and what to do about it.
#[derive(Debug, thiserror::Error)]
pub(super) enum StartError {
    #[error("the command is empty; give a program")]
    Empty,
    #[error("{0}: not found in {SAFE_PATH}; install it or give its absolute path")]
    NotFound(String),
    #[error("{0}: a path must be absolute; write it from / on")]
    Relative(String),
    #[error("{}: {error}; correct the path", path.display())]
    Missing { path: PathBuf, error: io::Error },
    #[error("{}: there, but its interpreter or loader is not; look at its #! line", .0.display())]
    NoInterpreter(PathBuf),
    #[error("{}: neither a program nor a script with a #! line", .0.display())]
    NotAProgram(PathBuf),
    #[error("{}: user {user} may not execute it; chmod +x it and its folders, or set `user`", path.display())]
    Forbidden { path: PathBuf, user: String },
    #[error(
        "may not become user {0}; give lb CAP_SETUID and CAP_SETGID, or set `user` to the one it runs as"
    )]
    NoSwitch(String),
    #[error("user {0} does not exist; create it or correct `user`")]
    NoUser(String),
    #[error("neither user lb_script nor nobody exists; create lb_script or set `user`")]
    NoDefaultUser,
    #[error("cannot run as user {0}, for lb is not root; run lb as root or remove `user`")]
    NotRoot(String),
    #[error("looking up user {0} failed: {1}")]
    UserDatabase(String, io::Error),
    #[error("{}: cannot be started: {error}", path.display())]
    Start { path: PathBuf, error: io::Error },
    #[error("the thread that starts scripts is gone")]
    Stopped,
}

/// A handle on the thread; it ends with the last handle.
#[derive(Clone, Debug)]
pub(crate) struct Spawner {
    requests: mpsc::Sender<Request>,
}

#[derive(Debug)]
struct Request {
    command: Vec<String>,
    user: Option<String>,
    reply: oneshot::Sender<Result<Process, StartError>>,
}

impl Spawner {
    pub(crate) fn new() -> io::Result<Self> {
        let (requests, queue) = mpsc::channel::<Request>();
        thread::Builder::new().name("lb-track".into()).spawn(move || {
            for request in queue {
                let started = start(&request.command, request.user.as_deref());
                // Nobody waits any more: the process comes back, is dropped and so killed.
                drop(request.reply.send(started));
            }
        })?;
        Ok(Self { requests })
    }

    /// Starts `command` as `user`; the process is in a session of its own.
    pub(super) async fn start(&self, command: &[String], user: Option<&str>) -> Result<Process, StartError> {
        let (reply, answer) = oneshot::channel();
        let request = Request { command: command.to_vec(), user: user.map(str::to_owned), reply };
        self.requests.send(request).map_err(|_| StartError::Stopped)?;
        answer.await.map_err(|_| StartError::Stopped)?
    }
}

fn start(command: &[String], user: Option<&str>) -> Result<Process, StartError> {
    let (program, arguments) = command.split_first().ok_or(StartError::Empty)?;
    let identity = Identity::find(user)?;
    let path = find_program(program)?;
    let failed = |error| StartError::Start { path: path.clone(), error };

    let (output, writer) = io::pipe().map_err(failed)?;
    let mut command = Command::new(&path);
    command
        .arg0(program)
        .args(arguments)
        .current_dir("/")
        .env_clear()
        .env("PATH", SAFE_PATH)
        .env("LANG", "C.UTF-8")
        .stdin(Stdio::null())
        .stdout(writer.try_clone().map_err(failed)?)
        .stderr(writer);
    isolate(&mut command, identity.clone());
    let child = command.spawn().map_err(|error| explain(error, &path, &identity))?;
    drop(command); // It holds the pipe's writing end; without it gone there is no end of file.
    let pidfd = pidfd_open(child.id());
    // From here on the drop of `Process` takes care of the child.
    Process::new(child, pidfd, OwnedFd::from(output)).map_err(failed)
}

/// The path to execute, symbolic links and all: a program may go by the name it was called with.
fn find_program(program: &str) -> Result<PathBuf, StartError> {
    if !program.contains('/') {
        return SAFE_PATH
            .split(':')
            .map(|folder| Path::new(folder).join(program))
            .find(|path| fs::metadata(path).is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0))
            .ok_or_else(|| StartError::NotFound(program.to_owned()));
    }
    let path = PathBuf::from(program);
    if path.is_absolute() { Ok(path) } else { Err(StartError::Relative(program.to_owned())) }
}

/// A session of its own (to be killed as a whole), the identity, and death together with the daemon.
fn isolate(command: &mut Command, identity: Identity) {
    let parent = getpid();
    let prepare = move || {
        setsid()?;
        if let Identity::Other { uid, gid, groups, .. } = &identity {
            setgroups(groups)?;
            setresgid(*gid, *gid, *gid)?;
            setresuid(*uid, *uid, *uid)?;
        }
        // After the change of user, which resets it.
        prctl::set_pdeathsig(Signal::SIGKILL)?;
        // The daemon may have died before.
        if getppid() != parent {
            return Err(io::Error::from_raw_os_error(libc::ESRCH));
        }
        Ok(())
    };
    // SAFETY: between fork and exec the closure only makes system calls; it neither allocates nor takes a
    // lock.
    unsafe { command.pre_exec(prepare) };
}

fn explain(error: io::Error, path: &Path, identity: &Identity) -> StartError {
    let path = path.to_owned();
    match error.raw_os_error() {
        Some(libc::ENOENT | libc::ENOTDIR) => {
            match fs::symlink_metadata(&path).and_then(|_| fs::metadata(&path)) {
                Ok(_) => StartError::NoInterpreter(path),
                Err(error) => StartError::Missing { path, error },
            }
        }
        Some(libc::ENOEXEC) => StartError::NotAProgram(path),
        Some(libc::EACCES) => StartError::Forbidden { path, user: identity.name().to_owned() },
        Some(libc::EPERM) if *identity != Identity::Own => StartError::NoSwitch(identity.name().to_owned()),
        _ => StartError::Start { path, error },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(command: &[&str]) -> String {
        let command: Vec<String> = command.iter().map(ToString::to_string).collect();
        start(&command, None).unwrap_err().to_string()
    }

    #[test]
    fn what_cannot_be_started_is_explained() {
        let folder = tempfile::tempdir().unwrap();
        // The unprivileged user must be able to enter it.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let file = |name: &str, text: &str, mode: u32| {
            let path = folder.path().join(name);
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            path.to_str().unwrap().to_owned()
        };
        let plain = file("plain", "#!/bin/sh\n", 0o644);
        let lost = file("lost", "#!/no/such/interpreter\n", 0o755);
        let missing = folder.path().join("missing").to_str().unwrap().to_owned();
        let cases = [
            (vec![], "the command is empty".to_owned()),
            (vec!["no-such-program-here"], "no-such-program-here: not found in /usr/local/sbin:".to_owned()),
            (vec!["./check"], "./check: a path must be absolute".to_owned()),
            (vec![&missing], format!("{missing}: No such file or directory")),
            (vec![&plain], format!("{plain}: user ")),
            (vec![&lost], format!("{lost}: there, but its interpreter or loader is not")),
        ];
        for (command, expected) in cases {
            let error = error(&command);
            assert!(error.starts_with(&expected), "{command:?}: {error}");
        }
    }

    #[test]
    fn programs_are_found_by_name_and_links_are_not_resolved() {
        let path = find_program("sh").unwrap();
        assert!(path.ends_with("sh"), "{}", path.display());
    }
}
