//! `cargo xtask image`: the images of the tutorial in containers.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use clap::Args;

use super::{base, base::BaseOptions, engine::Engine};
use crate::{
    Error, process,
    progress::Progress,
    setup::{self, Level},
    tools,
    workspace::{self, Profile},
};

/// nginx and `lb`.
pub const NODE_IMAGE: &str = "lbtutorial-node";
/// haproxy, on the same base.
const HAPROXY_IMAGE: &str = "lbtutorial-haproxy";

/// The targets of `deploy/tutorial/Dockerfile` and what they are called in the engine.
const IMAGES: [(&str, &str); 2] = [("node", NODE_IMAGE), ("haproxy", HAPROXY_IMAGE)];

/// `cargo xtask image`.
#[derive(Args, Debug)]
pub struct Options {
    #[command(flatten)]
    base: BaseOptions,
    /// Compile quickly instead of for speed and size
    #[arg(long)]
    debug: bool,
}

/// Carries the command out.
pub fn execute(options: &Options) -> Result<ExitCode, Error> {
    setup::ensure(Level::Build)?;
    let profile = if options.debug { Profile::Debug } else { Profile::Release };
    let lb = workspace::build_lb(profile)?;
    let progress = Progress::detect();
    eprintln!("── image ──");
    let engine = Engine::provide(&progress, &folder()?)?;
    provide(&engine, &lb, &options.base, &progress)?;
    eprintln!("  next: cd deploy/tutorial && docker-compose up");
    Ok(ExitCode::SUCCESS)
}

/// `target/image`, where the base is kept.
pub(crate) fn folder() -> Result<PathBuf, Error> {
    let folder = workspace::root().join("target/image");
    fs::create_dir_all(&folder).map_err(|source| Error::File { path: folder.clone(), source })?;
    Ok(folder)
}

/// Builds both images with an `lb` that was built already.
///
/// # Errors
/// There is no base and none can be made, or the build fails.
pub(crate) fn provide(
    engine: &Engine,
    lb: &Path,
    options: &BaseOptions,
    progress: &Progress,
) -> Result<(), Error> {
    let folder = folder()?;
    let base = base::provide(engine, options, &folder, progress)?;
    let context = folder.join("context");
    assemble(&context, lb)?;
    for (target, name) in IMAGES {
        let step = progress.step(name, "docker build");
        let mut command = engine.docker(&["build", "--target", target, "--tag", name]);
        command.args(["--build-arg", &format!("BASE={base}")]).arg(&context);
        process::watch(&mut command, &format!("building {name}"), |line| step.note(line))?;
        step.done(&size(engine, name).map_or_else(String::new, |bytes| format!("{} MB", bytes / 1_000_000)));
    }
    Ok(())
}

/// How many bytes an image has, the base's included.
pub(crate) fn size(engine: &Engine, image: &str) -> Option<u64> {
    engine.ask(&["image", "inspect", "--format", "{{.Size}}", image])?.parse().ok()
}

/// What the Dockerfile copies: the files beside it, and `lb` without its debugging information.
fn assemble(context: &Path, lb: &Path) -> Result<(), Error> {
    let source = workspace::root().join("deploy/tutorial");
    let error = |path: &Path| {
        let path = path.to_owned();
        move |source| Error::File { path, source }
    };
    fs::create_dir_all(context.join("image")).map_err(error(context))?;
    let pieces = source.join("image");
    let names = fs::read_dir(&pieces).map_err(error(&pieces))?.filter_map(Result::ok);
    let mut files: Vec<PathBuf> = names.map(|entry| Path::new("image").join(entry.file_name())).collect();
    files.push("Dockerfile".into());
    for file in files {
        fs::copy(source.join(&file), context.join(&file)).map_err(error(&source.join(&file)))?;
    }
    let target = context.join("lb");
    match tools::find("strip") {
        Some(strip) => {
            let mut command = Command::new(strip);
            command.arg("-o").arg(&target).arg(lb);
            process::run(&mut command, "stripping lb")
        }
        None => fs::copy(lb, &target).map(drop).map_err(error(lb)),
    }
}
