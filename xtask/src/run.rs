//! `cargo xtask run`: the tutorial in a lab, or the daemon on this host.

use std::{
    env,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::Args;

use crate::{
    Error, lab,
    play::{self, PlayOptions},
    privilege::Privilege,
    process,
    setup::{self, Level},
    workspace::{self, Profile},
};

/// `cargo xtask run`.
#[derive(Args, Debug)]
pub struct Options {
    /// Run the daemon on this host with this configuration, instead of playing the tutorial in a lab
    #[arg(long, value_name = "FILE", conflicts_with = "once")]
    config: Option<PathBuf>,
    /// End after the play instead of staying until Ctrl-C; the exit code tells whether all of it worked
    #[arg(long)]
    once: bool,
    /// Compile quickly instead of for speed; the play does so by itself, with the build that the tests share
    #[arg(long)]
    debug: bool,
    /// Compile for speed, for the play too
    #[arg(long, conflicts_with = "debug")]
    release: bool,
}

/// Carries the command out.
pub fn execute(options: Options) -> Result<ExitCode, Error> {
    if let Some(config) = options.config {
        let profile = if options.debug { Profile::Debug } else { Profile::Release };
        // Looked at before minutes are spent on building.
        let config = config.canonicalize().map_err(|source| Error::File { path: config, source })?;
        setup::ensure(Level::Build)?;
        return daemon(&workspace::build_lb(profile)?, &config);
    }
    setup::ensure(Level::Lab)?;
    // The XDP program is the same in both; what is optimised less is the daemon.
    let profile = if options.release { Profile::Release } else { Profile::Debug };
    play(options.once, &workspace::build_lb(profile)?)
}

/// Becomes the daemon, so that signals and the exit code are its own.
fn daemon(lb: &Path, config: &Path) -> Result<ExitCode, Error> {
    let privilege = Privilege::detect();
    if !privilege.available() {
        return Err(Error::Missing {
            what: "lb loads a program into the kernel and moves addresses, which takes root; sudo is not there or \
                   may not be used"
                .to_owned(),
            remedies: vec![format!("as root: {} run --config {}", lb.display(), config.display())],
        });
    }
    privilege.acquire()?;
    let mut command = privilege.command(&lb.to_string_lossy());
    command.arg("run").arg("--config").arg(config);
    for (variable, _) in env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("CARGO")) {
        command.env_remove(variable);
    }
    eprintln!("── {} ──", process::describe(&command));
    let source = command.exec();
    Err(Error::Start { program: process::describe(&command), source })
}

/// Gives the play, in a process of root's where we are not root.
fn play(once: bool, lb: &Path) -> Result<ExitCode, Error> {
    let privilege = Privilege::detect();
    if privilege == Privilege::Root {
        play::run(&PlayOptions { once, ..PlayOptions::default() }, lb)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut words = vec!["lab".into(), "play".into(), "--lb".into(), lb.as_os_str().to_owned()];
    if once {
        words.push("--once".into());
    }
    lab::become_root(privilege, &words)
}
