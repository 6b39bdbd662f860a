//! Debian's and Ubuntu's packages.

use std::{fs, path::Path};

use crate::{Error, privilege::Privilege, process, progress::Progress, tools};

/// Installs the packages given as arguments without starting the services in them: a web server on port 80 or a VRRP
/// daemon is not what somebody asks for who wants to try this. `policy-rc.d` is the administrator's way to say so; one
/// that is there already stays as it is. Under systemd the new services are disabled too, or they would start with the
/// next boot.
const INSTALL: &str = r#"
set -e
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    trap 'rm -f "$policy"' EXIT
    trap 'exit 130' INT TERM HUP
    printf '#!/bin/sh\nexit 101\n' > "$policy"
    chmod 755 "$policy"
fi
DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends -o DPkg::Lock::Timeout=120 "$@" < /dev/null
if [ -d /run/systemd/system ]; then
    for package in "$@"; do
        case "$package" in
            haproxy) systemctl disable --quiet haproxy.service ;;
            nginx-light) systemctl disable --quiet nginx.service ;;
            keepalived) systemctl disable --quiet keepalived.service ;;
            frr) systemctl disable --quiet frr.service ;;
            docker.io) systemctl disable --quiet docker.service docker.socket containerd.service ;;
        esac
    done
fi
"#;

/// `apt-get`, and the right to use it.
#[derive(Debug)]
pub struct Apt {
    privilege: Privilege,
    updated: bool,
}

impl Apt {
    /// `None` where there is no apt-get, or no way to root's rights.
    pub fn detect(privilege: Privilege) -> Option<Self> {
        let there = tools::find("apt-get").is_some() && privilege.available();
        there.then_some(Self { privilege, updated: false })
    }

    /// Whether all of these could be installed. Fetches the lists of packages if they name one that is not known.
    pub fn offers(&mut self, progress: &Progress, packages: &[&str]) -> Result<bool, Error> {
        if unknown(packages).is_empty() {
            return Ok(true);
        }
        self.update(progress)?;
        Ok(unknown(packages).is_empty())
    }

    /// Installs packages.
    pub fn install(&mut self, progress: &Progress, name: &str, packages: &[&str]) -> Result<(), Error> {
        if !self.offers(progress, packages)? {
            return Err(Error::Missing {
                what: format!("this distribution has no package {}", unknown(packages).join(", ")),
                remedies: vec!["install the programs by hand; `cargo xtask doctor` lists them".to_owned()],
            });
        }
        if let Err(error) = self.try_install(progress, name, packages) {
            // Lists older than the mirror name files that are gone. Fresh lists cure that, and nothing else.
            if self.updated {
                return Err(error);
            }
            self.update(progress)?;
            self.try_install(progress, name, packages)?;
        }
        Ok(())
    }

    fn try_install(&self, progress: &Progress, name: &str, packages: &[&str]) -> Result<(), Error> {
        self.privilege.acquire()?;
        let step = progress.step(name, &format!("apt-get install {}", packages.join(" ")));
        let mut command = self.privilege.command("sh");
        command.args(["-c", INSTALL, "sh"]).args(packages);
        let result = process::watch(&mut command, "installing packages", |line| step.note(line));
        result.map_err(|error| with_remedy(error, &typed(packages)))?;
        step.done("installed");
        Ok(())
    }

    /// Fetches the lists of packages, once.
    pub fn update(&mut self, progress: &Progress) -> Result<(), Error> {
        if self.updated {
            return Ok(());
        }
        self.privilege.acquire()?;
        let step = progress.step("lists of packages", "apt-get update");
        let mut command = self.privilege.command("apt-get");
        command.args(["update", "-o", "DPkg::Lock::Timeout=120"]);
        let result = process::watch(&mut command, "fetching the lists of packages", |line| step.note(line));
        result.map_err(|error| with_remedy(error, "apt-get update"))?;
        self.updated = true;
        step.done("fetched");
        Ok(())
    }
}

/// The command for a user who does it by hand.
pub(super) fn typed(packages: &[&str]) -> String {
    format!("apt-get install --no-install-recommends {}", packages.join(" "))
}

/// Those of some packages that are not installed.
pub(super) fn not_installed<'a>(packages: &[&'a str]) -> Vec<&'a str> {
    let installed = |package: &str| {
        process::ask("dpkg-query", &["--show", "--showformat=${db:Status-Status}", package])
            .is_some_and(|status| status == "installed")
    };
    packages.iter().copied().filter(|package| !installed(package)).collect()
}

/// Those of some packages that apt knows no version of.
fn unknown<'a>(packages: &[&'a str]) -> Vec<&'a str> {
    let arguments: Vec<&str> = ["policy"].iter().chain(packages).copied().collect();
    let policy = if Path::new("/var/lib/apt/lists").is_dir() {
        process::ask("apt-cache", &arguments).unwrap_or_default()
    } else {
        String::new()
    };
    let known = candidates(&policy);
    packages.iter().copied().filter(|package| !known.contains(package)).collect()
}

/// The packages in the output of `apt-cache policy` that have a candidate.
fn candidates(policy: &str) -> Vec<&str> {
    let mut known = Vec::new();
    let mut current = None;
    for line in policy.lines() {
        if let Some(package) = line.strip_suffix(':').filter(|package| !package.starts_with(' ')) {
            current = Some(package);
        } else if let Some(candidate) = line.trim().strip_prefix("Candidate: ") {
            known.extend(current.filter(|_| candidate != "(none)"));
        }
    }
    known
}

/// Repeats the command for somebody who may do more than we.
fn with_remedy(error: Error, command: &str) -> Error {
    match error {
        Error::Failed { what, status, command: failed, output, .. } => Error::Failed {
            what,
            status,
            // The whole script would bury the message.
            command: failed.lines().next().unwrap_or_default().to_owned(),
            output,
            remedy: format!("  → as root: {command}"),
        },
        other => other,
    }
}

/// Whether this is Debian or one of its children, for messages.
pub(super) fn is_debian() -> bool {
    fs::metadata("/usr/bin/apt-get").is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_packages_with_a_candidate_can_be_installed() {
        let policy = "\
rustc-web:
  Installed: (none)
  Candidate: 1.96.0+dfsg1-1~deb12u2
  Version table:
     1.96.0+dfsg1-1~deb12u2 500
        500 mirror bookworm-security/main amd64 Packages
llvm-22-dev:
  Installed: (none)
  Candidate: (none)
  Version table:
";
        assert_eq!(candidates(policy), ["rustc-web"]);
        assert!(candidates("").is_empty());
    }

    #[test]
    fn a_failed_installation_tells_the_command_to_type_not_the_script() {
        let error = Error::Failed {
            what: "installing packages".into(),
            status: "exit status: 100".into(),
            command: format!("sh -c {INSTALL} sh nginx-light"),
            output: "  | E: no space left\n".into(),
            remedy: String::new(),
        };
        let text = with_remedy(error, &typed(&["nginx-light"])).to_string();
        assert!(text.contains("→ as root: apt-get install --no-install-recommends nginx-light"), "{text}");
        assert!(text.contains("no space left") && !text.contains("policy-rc.d"), "{text}");
    }
}
