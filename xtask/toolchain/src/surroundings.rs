//! Where to look, taken from the environment once so that tests can look elsewhere.

use std::{
    env,
    ffi::OsString,
    path::{Path, PathBuf},
};

use crate::compiler::Compiler;

/// The places in which compilers and tools may be.
#[derive(Clone, Debug, Default)]
pub struct Surroundings {
    /// `RUSTC`: set by the user, or by cargo for a build script.
    pub rustc: Option<PathBuf>,
    /// `CARGO`: set by cargo for everything it starts.
    pub cargo: Option<PathBuf>,
    /// `LB_BPF_LINKER`: the linker to use, wherever it is.
    pub linker: Option<PathBuf>,
    /// The folders of `PATH`.
    pub path: Vec<PathBuf>,
    /// Where a distribution's compiler is, which rustup's proxies hide from `PATH`.
    pub system_rustc: Option<PathBuf>,
    /// `RUSTUP_HOME`, or `~/.rustup`.
    pub rustup_home: Option<PathBuf>,
    /// `CARGO_HOME`, or `~/.cargo`.
    pub cargo_home: Option<PathBuf>,
}

impl Surroundings {
    /// What this process's environment says.
    pub fn from_environment() -> Self {
        let home = env::home_dir();
        let under_home = |variable: &str, folder: &str| {
            set(variable).map(PathBuf::from).or_else(|| home.as_ref().map(|home| home.join(folder)))
        };
        Self {
            rustc: set("RUSTC").map(PathBuf::from),
            cargo: set("CARGO").map(PathBuf::from),
            linker: set("LB_BPF_LINKER").map(PathBuf::from),
            path: env::var_os("PATH").map(|path| env::split_paths(&path).collect()).unwrap_or_default(),
            system_rustc: Some(PathBuf::from("/usr/bin/rustc")),
            rustup_home: under_home("RUSTUP_HOME", ".rustup"),
            cargo_home: under_home("CARGO_HOME", ".cargo"),
        }
    }

    /// The first executable file of that name in `PATH`.
    pub fn in_path(&self, name: &str) -> Option<PathBuf> {
        self.path.iter().map(|folder| folder.join(name)).find(|file| is_executable(file))
    }

    /// The folder in which `cargo install` puts programs.
    pub fn cargo_bin(&self) -> Option<PathBuf> {
        self.cargo_home.as_ref().map(|home| home.join("bin"))
    }

    /// The folders of rustup's toolchains, sorted by name.
    pub fn rustup_toolchains(&self) -> Vec<PathBuf> {
        let Some(folder) = self.rustup_home.as_ref().map(|home| home.join("toolchains")) else {
            return Vec::new();
        };
        let mut toolchains: Vec<PathBuf> = folder
            .read_dir()
            .map(|entries| entries.filter_map(Result::ok).map(|entry| entry.path()).collect())
            .unwrap_or_default();
        toolchains.sort();
        toolchains
    }

    /// The cargo that goes with a compiler: its own if it brings one (building `core` from source takes both of one
    /// version), else the one that started us, else the one in `PATH`.
    pub(crate) fn cargo_for(&self, compiler: &Compiler) -> PathBuf {
        let own = compiler.sysroot.join("bin/cargo");
        if compiler.builds_core() && is_executable(&own) {
            return own;
        }
        self.cargo.clone().or_else(|| self.in_path("cargo")).unwrap_or_else(|| PathBuf::from("cargo"))
    }
}

/// A variable that is set to something.
fn set(variable: &str) -> Option<OsString> {
    env::var_os(variable).filter(|value| !value.is_empty())
}

/// Whether a path names a file that somebody may execute.
pub(crate) fn is_executable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    path.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}

/// Folders with programs that answer like compilers and linkers.
#[cfg(test)]
pub(crate) mod fakes {
    use std::{
        fs,
        process::{self, Command},
    };

    use super::*;

    /// Removed when dropped.
    pub(crate) struct Fakes {
        root: PathBuf,
    }

    /// A folder like those of rustup.
    pub(crate) struct FakeToolchain {
        pub(crate) sysroot: PathBuf,
        pub(crate) rustc: PathBuf,
    }

    impl Fakes {
        pub(crate) fn new(name: &str) -> Self {
            let root = env::temp_dir().join(format!("xtask-toolchain-{}-{name}", process::id()));
            fs::create_dir_all(&root).expect("the folder for temporary files is writable");
            Self { root }
        }

        pub(crate) fn surroundings(&self) -> Surroundings {
            Surroundings {
                path: vec![self.root.join("path")],
                rustup_home: Some(self.root.join("rustup")),
                cargo_home: Some(self.root.join("cargo")),
                ..Surroundings::default()
            }
        }

        /// A program that prints one line, or its sysroot when asked for that.
        pub(crate) fn program(&self, path: &str, line: &str) -> PathBuf {
            let path = self.root.join(path);
            let folder = path.parent().expect("a file in a folder");
            fs::create_dir_all(folder).expect("the folder is ours");
            let sysroot = folder.parent().expect("a folder below the root");
            let script = format!(
                "#!/bin/sh\n[ \"$1\" = --print ] && echo '{}' && exit\necho '{line}'\n",
                sysroot.display()
            );
            // Written by another process: were it open for writing here while another test's thread forks, starting
            // it could fail as "text file busy".
            let status = Command::new("sh")
                .args(["-c", r#"printf %s "$1" > "$2" && chmod 755 "$2""#, "sh", &script])
                .arg(&path)
                .status()
                .expect("there is a shell");
            assert!(status.success(), "{} was not written", path.display());
            path
        }

        pub(crate) fn toolchain(&self, name: &str, version: &str) -> FakeToolchain {
            let rustc = self.program(
                &format!("rustup/toolchains/{name}/bin/rustc"),
                &format!("rustc {version} (0123abcd 2026-01-01)"),
            );
            self.program(&format!("rustup/toolchains/{name}/bin/cargo"), "cargo");
            FakeToolchain { sysroot: self.root.join("rustup/toolchains").join(name), rustc }
        }
    }

    impl FakeToolchain {
        pub(crate) fn with_core(self) -> Self {
            let folder = self.sysroot.join("lib/rustlib/bpfel-unknown-none/lib");
            fs::create_dir_all(folder).expect("the folder is ours");
            self
        }

        pub(crate) fn with_sources(self) -> Self {
            let folder = self.sysroot.join("lib/rustlib/src/rust/library/core");
            fs::create_dir_all(&folder).expect("the folder is ours");
            fs::write(folder.join("Cargo.toml"), "").expect("the folder is ours");
            self
        }
    }

    impl Drop for Fakes {
        fn drop(&mut self) {
            // A leftover in the folder for temporary files is no reason to fail.
            let _ = fs::remove_dir_all(&self.root);
        }
    }
}
