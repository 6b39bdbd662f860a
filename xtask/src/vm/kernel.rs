//! Debian's kernels for virtual machines: found, fetched and unpacked, never installed.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};

use clap::ValueEnum;

use super::{
    modules::Modules,
    package::{self, only_entry},
};
use crate::{Error, privilege::Privilege, process, progress::Progress, setup::Apt, tools};

/// A long-term series that Debian 12 has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Series {
    /// Debian 12's own.
    #[value(name = "6.1")]
    V6_1,
    /// Debian 13's, also in Debian 12's security updates.
    #[value(name = "6.12")]
    V6_12,
}

impl Series {
    /// All, the oldest first.
    pub const ALL: [Self; 2] = [Self::V6_1, Self::V6_12];

    /// For a table of results.
    pub const fn heading(self) -> &'static str {
        match self {
            Self::V6_1 => "tier 2 on 6.1",
            Self::V6_12 => "tier 2 on 6.12",
        }
    }

    /// For instance `6.1`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::V6_1 => "6.1",
            Self::V6_12 => "6.12",
        }
    }
}

/// A kernel, unpacked.
#[derive(Debug)]
pub(super) struct Kernel {
    /// The compressed kernel.
    pub(super) image: PathBuf,
    /// The folder with a folder per release, as `/lib/modules` is one.
    pub(super) modules: PathBuf,
    /// `uname -r`.
    pub(super) release: String,
}

impl Kernel {
    /// The kernel of a series, fetched if it is not in `folder` yet.
    pub(super) fn provide(series: Series, folder: &Path, progress: &Progress) -> Result<Self, Error> {
        let home = folder.join(series.name());
        if !home.is_dir() {
            fetch(series, &home, progress)?;
        }
        Self::open(&home)
    }

    /// What `fetch` left.
    fn open(home: &Path) -> Result<Self, Error> {
        let modules = home.join("lib/modules");
        let release = only_entry(&modules)?;
        let image = home.join("boot").join(format!("vmlinuz-{release}"));
        if !image.is_file() {
            return Err(damaged(home, &format!("no {}", image.display())));
        }
        Ok(Self { image, modules, release })
    }

    /// Its modules.
    pub(super) fn index(&self) -> Result<Modules, Error> {
        let folder = self.modules.join(&self.release);
        Ok(Modules::parse(&read(&folder.join("modules.dep"))?, &read(&folder.join("modules.builtin"))?))
    }

    /// A module's bytes, uncompressed: the initramfs has nobody who could do that.
    pub(super) fn module(&self, file: &str) -> Result<Vec<u8>, Error> {
        let path = self.modules.join(&self.release).join(file);
        let program = match path.extension().and_then(|extension| extension.to_str()) {
            Some("xz") => "xz",
            Some("zst") => "zstd",
            Some("gz") => "gzip",
            _ => return fs::read(&path).map_err(|source| Error::File { path, source }),
        };
        let mut command = Command::new(program);
        command.args(["-dc"]).arg(&path);
        let start = |source| Error::Start { program: program.to_owned(), source };
        let output = command.output().map_err(start)?;
        if output.status.success() {
            return Ok(output.stdout);
        }
        Err(Error::Failed {
            what: format!("unpacking {}", path.display()),
            status: output.status.to_string(),
            command: process::describe(&command),
            output: String::from_utf8_lossy(&output.stderr).into_owned(),
            remedy: String::new(),
        })
    }
}

/// Downloads the newest package of a series and unpacks it. `home` appears last, so that it is whole if it is there.
fn fetch(series: Series, home: &Path, progress: &Progress) -> Result<(), Error> {
    let package = newest_package(series, progress)?;
    package::unpack(&package, home, progress, |root| {
        // Debian 13's packages have the modules where its /lib points to.
        if !root.join("lib").exists() {
            let lib = root.join("lib");
            symlink("usr/lib", &lib).map_err(|source| Error::File { path: lib, source })?;
        }
        let release = only_entry(&root.join("lib/modules"))?;
        let depmod = tools::find("depmod").unwrap_or_else(|| "depmod".into());
        let mut index = Command::new(depmod);
        index.arg("--basedir").arg(root).arg(&release);
        process::watch(&mut index, &format!("depmod for {release}"), |_| ())
    })
}

/// The newest package of a series that apt knows, after fresh lists if it knew none.
fn newest_package(series: Series, progress: &Progress) -> Result<String, Error> {
    let ask = || {
        let names = process::ask("apt-cache", &["pkgnames", &format!("linux-image-{}.", series.name())])?;
        newest(series, names.lines()).map(str::to_owned)
    };
    if let Some(package) = ask() {
        return Ok(package);
    }
    if let Some(mut apt) = Apt::detect(Privilege::detect()) {
        apt.update(progress)?;
    }
    ask().ok_or_else(|| Error::Missing {
        what: format!("apt knows no package linux-image-{}…-cloud-amd64", series.name()),
        remedies: vec!["Debian 12 with its security updates among apt's sources has it".to_owned()],
    })
}

/// The newest of some packages. Signed and unsigned ones differ in nothing we need; the unsigned one of a version
/// may be the only one.
fn newest<'a>(series: Series, packages: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    packages
        .filter_map(|package| Some((version(series, package)?, package)))
        .max()
        .map(|(_, package)| package)
}

/// `linux-image-6.1.0-56-cloud-amd64` → 6, 1, 0, 56 and whether it is signed.
fn version(series: Series, package: &str) -> Option<(Vec<u32>, bool)> {
    let rest = package.strip_prefix("linux-image-")?;
    let (rest, signed) = match rest.strip_suffix("-unsigned") {
        Some(rest) => (rest, false),
        None => (rest, true),
    };
    let version = rest.strip_suffix("-cloud-amd64")?;
    if !version.strip_prefix(series.name())?.starts_with('.') {
        return None;
    }
    // What stands behind a plus sign (`+deb12`) names the distribution.
    let numbers = version.split_once('+').map_or(version, |(version, _)| version);
    let numbers: Option<Vec<u32>> = numbers.split(['.', '-']).map(|number| number.parse().ok()).collect();
    Some((numbers?, signed))
}

fn damaged(folder: &Path, what: &str) -> Error {
    Error::Missing {
        what: format!("{}: {what}", folder.display()),
        remedies: vec!["remove the folder; it is fetched anew".to_owned()],
    }
}

fn read(path: &Path) -> Result<String, Error> {
    fs::read_to_string(path).map_err(|source| Error::File { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_package_of_a_series_is_taken() {
        let packages = [
            "linux-image-6.1.0-9-cloud-amd64",
            "linux-image-6.1.0-56-cloud-amd64-dbg",
            "linux-image-6.1.0-56-cloud-amd64-unsigned",
            "linux-image-6.1.0-56-cloud-amd64",
            "linux-image-6.1.0-56-amd64",
            "linux-image-6.1.0-55-rt-amd64",
            "linux-image-6.12.99+deb12-cloud-amd64",
            "linux-image-6.12.117+deb12-cloud-amd64-unsigned",
            "linux-image-6.12-cloud-amd64",
            "linux-image-cloud-amd64",
        ];
        let newest = |series| newest(series, packages.into_iter());
        assert_eq!(newest(Series::V6_1), Some("linux-image-6.1.0-56-cloud-amd64"));
        assert_eq!(newest(Series::V6_12), Some("linux-image-6.12.117+deb12-cloud-amd64-unsigned"));
        assert_eq!(super::newest(Series::V6_1, std::iter::empty()), None);
    }
}
