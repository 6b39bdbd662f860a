//! What a running lab leaves for other commands to find: `/run/lb-lab/NAME`.
//!
//! The supervisor holds a lock on the folder for as long as it lives, so a folder without a lock is what a crash left, and
//! whoever meets it removes it.

use std::{
    collections::BTreeMap,
    fs::{self, File, TryLockError},
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde::{Deserialize, Serialize};

use super::{
    error::LabError,
    spec::{self, LabSpec},
    wait::wait_until,
};

const ROOT: &str = "/run/lb-lab";
const STATE: &str = "state.json";

/// How long a supervisor that was asked to end may take.
const DOWN_WITHIN: Duration = Duration::from_secs(10);

/// A running lab as its supervisor wrote it down.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LabState {
    /// What the lab was built from.
    pub spec: LabSpec,
    /// The supervisor.
    pub supervisor: i32,
    /// The first process of every node, by the node's name, as seen from the host.
    pub inits: BTreeMap<String, i32>,
    /// The first process of the namespace that holds the bridges.
    pub switch: i32,
}

/// The folder of a lab, held by its supervisor.
pub(crate) struct Claim {
    folder: PathBuf,
    _lock: File,
}

impl Claim {
    /// Makes the folder of lab `name` and locks it.
    pub(crate) fn new(name: &str) -> Result<Self, LabError> {
        spec::check_name(name)?;
        let root = lock_root()?;
        let folder = folder(name);
        if is_held(&folder)? {
            return Err(LabError::AlreadyUp(name.to_owned()));
        }
        remove(&folder)?;
        fs::create_dir(&folder).map_err(LabError::io(format!("making {}", folder.display())))?;
        let lock = open_folder(&folder)?;
        lock.lock().map_err(LabError::io(format!("locking {}", folder.display())))?;
        drop(root);
        Ok(Self { folder, _lock: lock })
    }

    /// Writes the state; from then on other commands find the lab.
    pub(crate) fn publish(&self, state: &LabState) -> Result<(), LabError> {
        let text = serde_json::to_vec_pretty(state)
            .map_err(|error| LabError::io("writing the state")(io::Error::other(error)))?;
        let (new, path) = (self.folder.join("state.new"), self.folder.join(STATE));
        fs::write(&new, text)
            .and_then(|()| fs::rename(&new, &path))
            .map_err(LabError::io(format!("writing {}", path.display())))
    }

    /// The folder.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        // What cannot be removed now is swept by the next command, which finds it without a lock.
        let _ = lock_root().and_then(|_root| remove(&self.folder));
    }
}

/// The folder of lab `name`.
pub(crate) fn folder(name: &str) -> PathBuf {
    Path::new(ROOT).join(name)
}

/// The state of lab `name`.
pub(crate) fn load(name: &str) -> Result<LabState, LabError> {
    spec::check_name(name)?;
    let folder = folder(name);
    if !is_held(&folder)? {
        return Err(LabError::NotUp(name.to_owned()));
    }
    let path = folder.join(STATE);
    match fs::read(&path) {
        Ok(text) => serde_json::from_slice(&text).map_err(|error| LabError::Unexpected {
            what: path.display().to_string(),
            detail: error.to_string(),
        }),
        // Still being built.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(LabError::NotUp(name.to_owned())),
        Err(error) => Err(LabError::io(format!("reading {}", path.display()))(error)),
    }
}

/// The names of all labs that are up, after removing what crashed ones left.
pub fn sweep() -> Result<Vec<String>, LabError> {
    let _root = lock_root()?;
    let entries = fs::read_dir(ROOT).map_err(LabError::io(format!("reading {ROOT}")))?;
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(LabError::io(format!("reading {ROOT}")))?;
        if is_held(&entry.path())? {
            names.push(entry.file_name().to_string_lossy().into_owned());
        } else {
            remove(&entry.path())?;
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// Ends lab `name` and waits until nothing of it is left. Returns whether it was up.
pub(crate) fn down(name: &str) -> Result<bool, LabError> {
    spec::check_name(name)?;
    let state = match load(name) {
        Ok(state) => state,
        Err(LabError::NotUp(_)) => {
            sweep()?;
            return Ok(false);
        }
        Err(error) => return Err(error),
    };
    let supervisor = Pid::from_raw(state.supervisor);
    let folder = folder(name);
    for signal in [Signal::SIGTERM, Signal::SIGKILL] {
        // Fails only if it has just ended, which the lock will tell.
        let _ = kill(supervisor, signal);
        let gone = wait_until("the supervisor has ended", DOWN_WITHIN, || {
            is_held(&folder).is_ok_and(|held| !held).then_some(())
        });
        if gone.is_ok() {
            break;
        }
    }
    sweep()?;
    Ok(true)
}

/// Serialises making and sweeping of folders.
fn lock_root() -> Result<File, LabError> {
    fs::create_dir_all(ROOT).map_err(|error| match error.kind() {
        io::ErrorKind::PermissionDenied => LabError::NotRoot,
        _ => LabError::io(format!("making {ROOT}"))(error),
    })?;
    let root = open_folder(Path::new(ROOT))?;
    root.lock().map_err(LabError::io(format!("locking {ROOT}")))?;
    Ok(root)
}

fn open_folder(path: &Path) -> Result<File, LabError> {
    File::open(path).map_err(LabError::io(format!("opening {}", path.display())))
}

/// Whether a supervisor lives that holds the folder.
fn is_held(folder: &Path) -> Result<bool, LabError> {
    let file = match File::open(folder) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(LabError::io(format!("opening {}", folder.display()))(error)),
    };
    // Shared, so that two commands that look at the same time do not take each other for the supervisor.
    match file.try_lock_shared() {
        Ok(()) => Ok(false),
        Err(TryLockError::WouldBlock) => Ok(true),
        Err(TryLockError::Error(error)) => Err(LabError::io(format!("locking {}", folder.display()))(error)),
    }
}

fn remove(folder: &Path) -> Result<(), LabError> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(LabError::io(format!("removing {}", folder.display()))(error))
        }
        _ => Ok(()),
    }
}
