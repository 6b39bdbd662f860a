//! The workspace, and calling cargo in it.

use std::{
    env,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::{Error, process};

/// The folder with the workspace's `Cargo.toml`.
pub fn root() -> PathBuf {
    // xtask is run from the sources it was compiled from: the alias in .cargo/config.toml builds it each time.
    let xtask = Path::new(env!("CARGO_MANIFEST_DIR"));
    xtask.parent().unwrap_or(xtask).to_owned()
}

/// A cargo command in the workspace: the cargo that started us, so that no other toolchain comes in.
pub fn cargo(arguments: &[&str]) -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root()).args(arguments);
    // `cargo run` describes xtask to us; a cargo started from here would pass it on to build scripts.
    for (variable, _) in env::vars_os() {
        if variable
            .to_str()
            .is_some_and(|name| name.starts_with("CARGO_PKG_") || name == "CARGO_MANIFEST_DIR")
        {
            command.env_remove(variable);
        }
    }
    command
}

/// How to compile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// Quick to compile.
    Debug,
    /// Quick to run.
    Release,
}

/// Builds the `lb` binary, showing cargo's progress, and returns its path.
///
/// # Errors
/// The build fails; cargo has said why on stderr.
pub fn build_lb(profile: Profile) -> Result<PathBuf, Error> {
    build("lb", if profile == Profile::Release { &["--release"] } else { &[] })
}

/// Builds the program that measures, likewise.
///
/// # Errors
/// As for [`build_lb`].
pub fn build_bench(profile: Profile) -> Result<PathBuf, Error> {
    let release: &[&str] = if profile == Profile::Release { &["--release"] } else { &[] };
    build("lb-bench", &[&["--features", "bench"], release].concat())
}

fn build(binary: &'static str, options: &[&str]) -> Result<PathBuf, Error> {
    let mut command = cargo(&["build", "--locked", "--package", "lb-user", "--bin", binary]);
    command.args(options).arg("--message-format=json-render-diagnostics").stdin(Stdio::null());
    let messages = process::capture_stdout(&mut command, &format!("building {binary}"))?;
    messages.lines().filter_map(executable).next_back().ok_or(Error::NoExecutable(binary))
}

/// The `executable` of one of cargo's messages.
fn executable(message: &str) -> Option<PathBuf> {
    let message: serde_json::Value = serde_json::from_str(message).ok()?;
    message.get("executable")?.as_str().map(PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_holds_the_workspace() {
        let manifest = std::fs::read_to_string(root().join("Cargo.toml")).expect("there is a manifest");
        assert!(manifest.contains("[workspace]"));
    }

    #[test]
    fn the_executable_is_found_among_cargos_messages() {
        for (message, expected) in [
            (
                r#"{"reason":"compiler-artifact","executable":"/t/debug/lb","fresh":true}"#,
                Some("/t/debug/lb"),
            ),
            (r#"{"reason":"compiler-artifact","executable":null}"#, None),
            (r#"{"reason":"build-finished","success":true}"#, None),
            ("   Compiling lb-user", None),
        ] {
            assert_eq!(executable(message).as_deref(), expected.map(Path::new), "{message}");
        }
    }
}
