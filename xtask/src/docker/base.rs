//! The image that ours are built on: Debian's slim one from a registry, or one made here by debootstrap.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use clap::Args;

use super::engine::Engine;
use crate::{Error, privilege::Privilege, process, progress::Progress, setup::Apt, tools};

const SUITE: &str = "bookworm";
/// What a registry has.
const PUBLIC: &str = "debian:bookworm-slim";
/// What we make, by a name that nobody takes for Debian's.
const OWN: &str = "lbtutorial-base:bookworm";
/// Where nothing else is known.
const PUBLIC_MIRROR: &str = "http://deb.debian.org/debian";

/// What Debian's slim image leaves out as well: packages that are installed later bring none of it either.
const LEFT_OUT: &str = "\
path-exclude /usr/share/doc/*
path-include /usr/share/doc/*/copyright
path-exclude /usr/share/info/*
path-exclude /usr/share/locale/*
path-exclude /usr/share/man/*
";
/// In the base itself, besides: what can be fetched again, and what the engine provides.
const NOT_PACKED: [&str; 10] = [
    "./usr/share/doc/*",
    "./usr/share/info/*",
    "./usr/share/locale/*",
    "./usr/share/man/*",
    "./var/cache/apt/*.bin",
    "./var/cache/apt/archives/*.deb",
    "./var/lib/apt/lists/*",
    "./var/log/*",
    "./dev/*",
    "./etc/resolv.conf",
];

/// Where the base comes from.
#[derive(Args, Clone, Debug, Default)]
pub struct BaseOptions {
    /// Build on this image, of Debian or a child of it, instead of debian:bookworm-slim
    #[arg(long, value_name = "IMAGE", conflicts_with = "debootstrap")]
    base: Option<String>,
    /// Make the base by debootstrap, whether a registry can be reached or not
    #[arg(long)]
    debootstrap: bool,
    /// Where debootstrap fetches packages, and apt in the image; what apt's sources on this machine name, unless given
    #[arg(long, value_name = "URL")]
    mirror: Option<String>,
}

/// The name of an image in the engine to build on.
pub(super) fn provide(
    engine: &Engine,
    options: &BaseOptions,
    folder: &Path,
    progress: &Progress,
) -> Result<String, Error> {
    if let Some(name) = &options.base {
        return Ok(name.clone());
    }
    if !options.debootstrap && (is_there(engine, PUBLIC) || pull(engine, progress)) {
        progress.found("base", PUBLIC);
        return Ok(PUBLIC.to_owned());
    }
    if !is_there(engine, OWN) {
        let archive = folder.join(format!("base-{SUITE}.tar"));
        if !archive.is_file() {
            bootstrap(&archive, options.mirror.as_deref(), progress)?;
        }
        let step = progress.step("base", "docker import");
        let mut command = engine.docker(&["import"]);
        command.arg(&archive).arg(OWN);
        process::watch(&mut command, "importing the base image", |line| step.note(line))?;
        step.done(OWN);
    }
    progress.found("base", OWN);
    Ok(OWN.to_owned())
}

fn is_there(engine: &Engine, image: &str) -> bool {
    engine.ask(&["image", "inspect", "--format", "{{.Id}}", image]).is_some()
}

/// A registry out of reach is no error.
fn pull(engine: &Engine, progress: &Progress) -> bool {
    let step = progress.step("base", &format!("docker pull {PUBLIC}"));
    let pulled = process::watch(&mut engine.docker(&["pull", PUBLIC]), "pulling the base image", |line| {
        step.note(line);
    });
    match pulled {
        Ok(()) => step.done("pulled"),
        Err(_) => step.done("no registry can be reached; debootstrap makes one"),
    }
    matches!(engine.ask(&["image", "inspect", "--format", "{{.Id}}", PUBLIC]), Some(id) if !id.is_empty())
}

/// Makes the base and packs it into `archive`, which appears last: if it is there it is whole.
fn bootstrap(archive: &Path, mirror: Option<&str>, progress: &Progress) -> Result<(), Error> {
    let privilege = Privilege::detect();
    if !privilege.available() {
        return Err(Error::Missing {
            what: "no registry can be reached, and making a base image by debootstrap takes root or sudo"
                .to_owned(),
            remedies: vec!["give the name of an image that is there: --base IMAGE".to_owned()],
        });
    }
    if tools::find("debootstrap").is_none() {
        let Some(mut apt) = Apt::detect(privilege) else {
            return Err(Error::Missing {
                what: "no registry can be reached, and there is no debootstrap to make a base image by"
                    .to_owned(),
                remedies: vec!["install debootstrap, or give an image: --base IMAGE".to_owned()],
            });
        };
        apt.install(progress, "debootstrap", &["debootstrap", "debian-archive-keyring"])?;
    }
    privilege.acquire()?;
    let mirror = mirror.map_or_else(default_mirror, str::to_owned);
    let draft = Draft { folder: archive.with_extension(format!("draft-{}", std::process::id())), privilege };
    let step = progress.step("base", &format!("debootstrap {SUITE}"));
    let root = draft.folder.to_string_lossy().into_owned();
    let program = tools::find("debootstrap").unwrap_or_else(|| "debootstrap".into());
    let mut command = privilege.command(&program.to_string_lossy());
    command.args(["--variant=minbase", SUITE, &root, &mirror]);
    process::watch(&mut command, "making the base image", |line| step.note(line))?;
    pack(&draft, archive)?;
    step.done("made, and kept");
    Ok(())
}

/// Adds the rule about documentation, and packs.
fn pack(draft: &Draft, archive: &Path) -> Result<(), Error> {
    let error = |path: &Path| {
        let path = path.to_owned();
        move |source| Error::File { path, source }
    };
    let rule = archive.with_extension("left-out");
    fs::write(&rule, LEFT_OUT).map_err(error(&rule))?;
    let target = draft.folder.join("etc/dpkg/dpkg.cfg.d/slim");
    let mut install = draft.privilege.command("install");
    install.args(["-m", "644"]).arg(&rule).arg(&target);
    process::watch(&mut install, "writing dpkg's configuration", |_| ())?;
    fs::remove_file(&rule).map_err(error(&rule))?;

    let unfinished = archive.with_extension("part");
    let mut tar = draft.privilege.command("tar");
    tar.arg("--create").arg("--numeric-owner").arg("--file").arg(&unfinished);
    tar.args(NOT_PACKED.map(|pattern| format!("--exclude={pattern}")));
    tar.arg("--directory").arg(&draft.folder).arg(".");
    process::watch(&mut tar, "packing the base image", |_| ())?;
    fs::rename(&unfinished, archive).map_err(error(archive))
}

/// The mirror that this machine's own packages come from, if it runs this suite; Debian's public one otherwise.
fn default_mirror() -> String {
    let arguments =
        ["indextargets", "--format", "$(REPO_URI) $(CODENAME) $(COMPONENT)", "Created-By: Packages"];
    process::ask("apt-get", &arguments)
        .as_deref()
        .and_then(mirror_in)
        .unwrap_or_else(|| PUBLIC_MIRROR.to_owned())
}

/// The mirror in lines such as `http://mirror/debian/ bookworm main`.
fn mirror_in(targets: &str) -> Option<String> {
    targets.lines().find_map(|line| {
        let mut words = line.split(' ');
        let (mirror, suite, component) = (words.next()?, words.next()?, words.next()?);
        (suite == SUITE && component == "main").then(|| mirror.trim_end_matches('/').to_owned())
    })
}

/// A folder of root's that goes when this does.
struct Draft {
    folder: PathBuf,
    privilege: Privilege,
}

impl Drop for Draft {
    fn drop(&mut self) {
        let mut remove: Command = self.privilege.command("rm");
        // --one-file-system: what debootstrap mounted and could not unmount stays as it is.
        remove.args(["-rf", "--one-file-system", "--"]).arg(&self.folder);
        // What is left over takes room and does no harm.
        let _ = remove.stdin(Stdio::null()).stderr(Stdio::null()).status();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mirror_is_the_one_of_the_suite_itself() {
        let targets = "\
http://mirror.example/debian-security/ bookworm-security main
http://mirror.example/other/ bookworm contrib
http://mirror.example/debian/ bookworm main
";
        assert_eq!(mirror_in(targets).as_deref(), Some("http://mirror.example/debian"));
        assert_eq!(mirror_in("http://mirror.example/ubuntu/ noble main\n"), None);
        assert_eq!(mirror_in(""), None);
    }
}
