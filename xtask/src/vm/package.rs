//! Debian's packages, downloaded and unpacked without installing them.

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{Error, privilege::Privilege, process, progress::Progress, setup::Apt};

/// Downloads a package and unpacks it to `home`, which appears last: if it is there it is whole. `finish` is shown
/// the unpacked files before that.
pub(super) fn unpack(
    package: &str,
    home: &Path,
    progress: &Progress,
    finish: impl FnOnce(&Path) -> Result<(), Error>,
) -> Result<(), Error> {
    let draft = Temporary(home.with_file_name(format!(".draft-{}", std::process::id())));
    let download_folder = draft.0.join("download");
    create(&download_folder)?;
    let step = progress.step(package, "apt-get download");
    let download = || {
        let mut command = Command::new("apt-get");
        // Root may write where the user `_apt` may not.
        command.args(["download", "-o", "APT::Sandbox::User=root", package]).current_dir(&download_folder);
        process::watch(&mut command, &format!("downloading {package}"), |line| step.note(line))
    };
    if let Err(error) = download() {
        // Lists older than the mirror name files that are gone.
        let Some(mut apt) = Apt::detect(Privilege::detect()) else { return Err(error) };
        apt.update(progress)?;
        download()?;
    }
    let root = draft.0.join("root");
    let mut command = Command::new("dpkg-deb");
    command.arg("--extract").arg(download_folder.join(only_entry(&download_folder)?)).arg(&root);
    process::watch(&mut command, &format!("unpacking {package}"), |line| step.note(line))?;
    finish(&root)?;
    fs::rename(&root, home).map_err(|source| Error::File { path: home.to_owned(), source })?;
    step.done("unpacked");
    Ok(())
}

/// The name of the only thing in a folder.
pub(super) fn only_entry(folder: &Path) -> Result<String, Error> {
    let error = |source| Error::File { path: folder.to_owned(), source };
    let mut names =
        fs::read_dir(folder).map_err(error)?.filter_map(Result::ok).map(|entry| entry.file_name());
    match (names.next().map(OsString::into_string), names.next()) {
        (Some(Ok(name)), None) => Ok(name),
        _ => Err(error(std::io::Error::other("there is not exactly one thing in this folder"))),
    }
}

/// Makes a folder and those above it.
pub(super) fn create(folder: &Path) -> Result<(), Error> {
    fs::create_dir_all(folder).map_err(|source| Error::File { path: folder.to_owned(), source })
}

/// A folder that goes when this does.
#[derive(Debug)]
pub(super) struct Temporary(pub(super) PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        // What is left over takes room and does no harm.
        let _ = fs::remove_dir_all(&self.0);
    }
}
