//! The Docker engine: the one that runs, or one that we start and end.

use std::{
    fs::File,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use crate::{Error, lab::wait_until, privilege::Privilege, process, progress::Progress, setup::Apt, tools};

/// How long dockerd takes to answer on a slow machine, once started.
const START: Duration = Duration::from_mins(1);
/// It stops its containers first.
const STOP: Duration = Duration::from_mins(1);

/// Debian's and Ubuntu's packages; newer releases have the client in one of its own.
const PACKAGES: [&str; 2] = ["docker.io", "docker-compose"];
const CLIENT_PACKAGE: &str = "docker-cli";

/// A Docker engine that answers. If it was started here it is ended with this.
#[derive(Debug)]
pub struct Engine {
    privilege: Privilege,
    started: Option<Child>,
}

impl Engine {
    /// Installs Docker and docker-compose if they are missing, and starts dockerd if none answers; it then writes its log
    /// to `folder`.
    ///
    /// # Errors
    /// Something is missing and cannot be installed, or dockerd does not start.
    pub fn provide(progress: &Progress, folder: &Path) -> Result<Self, Error> {
        let privilege = Privilege::detect();
        install(privilege, progress)?;
        // Whoever may use the socket needs no other rights.
        let user = Self { privilege: Privilege::Root, started: None };
        if let Some(version) = user.version() {
            progress.found("docker", &version);
            return Ok(user);
        }
        let mut engine = Self { privilege, started: None };
        if !privilege.available() {
            return Err(Error::Missing {
                what: "no Docker engine answers, and using or starting one takes root or sudo".to_owned(),
                remedies: vec!["as root: dockerd".to_owned()],
            });
        }
        privilege.acquire()?;
        if let Some(version) = engine.version() {
            progress.found("docker", &version);
            return Ok(engine);
        }
        engine.start(progress, folder)?;
        Ok(engine)
    }

    fn start(&mut self, progress: &Progress, folder: &Path) -> Result<(), Error> {
        install_engine(self.privilege, progress)?;
        let step = progress.step("docker", "starting dockerd");
        let path = folder.join("dockerd.log");
        let log = File::create(&path).map_err(|source| Error::File { path: path.clone(), source })?;
        let second = log.try_clone().map_err(|source| Error::File { path: path.clone(), source })?;
        let program = tools::find("dockerd").unwrap_or_else(|| "dockerd".into());
        let mut command = self.privilege.command(&program.to_string_lossy());
        command.stdin(Stdio::null()).stdout(log).stderr(second);
        let child =
            command.spawn().map_err(|source| Error::Start { program: "dockerd".to_owned(), source })?;
        self.started = Some(child);
        let version = wait_until("dockerd answers", START, || self.version());
        match version {
            Ok(version) => step.done(&version),
            Err(_) => {
                return Err(Error::Missing {
                    what: format!("dockerd does not start; it says why in {}", path.display()),
                    remedies: vec!["start a Docker engine by hand".to_owned()],
                });
            }
        }
        Ok(())
    }

    /// For instance `engine 20.10.24`; `None` while none answers.
    fn version(&self) -> Option<String> {
        let mut command = self.docker(&["version", "--format", "{{.Server.Version}}"]);
        let output = command.stdin(Stdio::null()).output().ok()?;
        let version = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        (output.status.success() && !version.is_empty()).then(|| format!("engine {version}"))
    }

    /// Whether we started it.
    pub fn is_ours(&self) -> bool {
        self.started.is_some()
    }

    /// A command of Docker's client.
    pub fn docker(&self, arguments: &[&str]) -> Command {
        let mut command = self.privilege.command("docker");
        command.args(arguments);
        command
    }

    /// What a command of Docker's client prints, or `None` if it fails.
    pub fn ask(&self, arguments: &[&str]) -> Option<String> {
        let output = self.docker(arguments).stdin(Stdio::null()).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        let Some(child) = &mut self.started else { return };
        let pid = child.id().to_string();
        // Its own process may be root's. One that has ended already needs no signal.
        let _ = self.privilege.command("kill").args(["-TERM", &pid]).stderr(Stdio::null()).status();
        let _ = wait_until("dockerd has ended", STOP, || child.try_wait().ok().flatten());
    }
}

/// The words that start Docker Compose here: Docker's plugin, or the program of its own that it once was.
pub(crate) fn compose_words() -> Option<Vec<&'static str>> {
    if process::ask("docker", &["compose", "version"]).is_some() {
        return Some(vec!["docker", "compose"]);
    }
    tools::find("docker-compose").map(|_| vec!["docker-compose"])
}

/// A client may be there without an engine: it may be meant for one elsewhere.
fn install_engine(privilege: Privilege, progress: &Progress) -> Result<(), Error> {
    if tools::find("dockerd").is_some() {
        return Ok(());
    }
    match Apt::detect(privilege) {
        Some(mut apt) => apt.install(progress, "docker", &PACKAGES[..1]),
        None => Err(Error::Missing {
            what: "no Docker engine answers, and there is no dockerd to start".to_owned(),
            remedies: vec!["install Docker's engine, or start one: docker info must answer".to_owned()],
        }),
    }
}

fn install(privilege: Privilege, progress: &Progress) -> Result<(), Error> {
    let client = tools::find("docker").is_some();
    if client && compose_words().is_some() {
        return Ok(());
    }
    let mut missing = Vec::new();
    let mut apt = Apt::detect(privilege);
    if !client {
        missing.push(PACKAGES[0]);
        if let Some(apt) = &mut apt
            && apt.offers(progress, &[CLIENT_PACKAGE])?
        {
            missing.push(CLIENT_PACKAGE);
        }
    }
    if compose_words().is_none() {
        missing.push(PACKAGES[1]);
    }
    let Some(mut apt) = apt else {
        return Err(Error::Missing {
            what: format!("containers need {}, and they cannot be installed from here", missing.join(", ")),
            remedies: vec!["install Docker and Docker Compose".to_owned()],
        });
    };
    apt.install(progress, "docker", &missing)
}
