//! `cargo xtask vm`: virtual machines with Debian's kernels in which the host's files, and so its programs, are there.
//!
//! The machine's root is the host's, read-only, with a layer in memory on top: whatever runs in there changes nothing
//! out here. Everything fetched for it is kept in `target/vm`; no kernel is installed.

mod archive;
mod kernel;
mod kernel_tests;
mod machine;
mod modules;
mod package;

use std::{
    env,
    path::PathBuf,
    process::ExitCode,
    time::{Duration, Instant},
};

use clap::{Args, ValueEnum};

pub use self::kernel::Series;
pub(crate) use self::kernel_tests::TestMachine;
use self::{kernel::Kernel, machine::Job};
use crate::{Error, privilege::Privilege, progress::Progress, setup::Apt, tools, workspace};

/// `cargo xtask vm`.
#[derive(Args, Debug)]
pub struct Options {
    /// The kernel's series
    #[arg(long, value_enum, default_value_t = Choice::V6_1)]
    kernel: Choice,
    /// Seconds after which a machine that runs a command is switched off
    #[arg(long, default_value_t = 1_800)]
    timeout: u64,
    /// Memory in MiB
    #[arg(long, default_value_t = 2_048)]
    memory: u32,
    /// Processors
    #[arg(long, default_value_t = 2)]
    processors: u32,
    /// Count instructions: one processor, whose clock advances by a nanosecond with each
    #[arg(long)]
    count_instructions: bool,
    /// What runs in there, as root, in this folder; a shell if nothing is given
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<String>,
}

/// One series or all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Choice {
    /// Debian 12's own
    #[value(name = "6.1")]
    V6_1,
    /// Debian 13's
    #[value(name = "6.12")]
    V6_12,
    /// One after the other
    All,
}

impl Choice {
    /// The series, one after the other.
    pub(crate) fn series(self) -> &'static [Series] {
        match self {
            Self::V6_1 => &[Series::V6_1],
            Self::V6_12 => &[Series::V6_12],
            Self::All => &Series::ALL,
        }
    }
}

/// Carries the command out. The exit code is the command's; of several machines, the first that is not 0.
pub fn execute(options: &Options) -> Result<ExitCode, Error> {
    let progress = Progress::detect();
    let host = Host::provide(&progress)?;
    let mut exit = 0;
    for &series in options.kernel.series() {
        let kernel = Kernel::provide(series, &host.folder.join("kernels"), &progress)?;
        let script = script(&options.command);
        let job = Job {
            script: &script,
            interactive: options.command.is_empty(),
            timeout: if options.command.is_empty() {
                Duration::MAX
            } else {
                Duration::from_secs(options.timeout)
            },
            memory: options.memory,
            processors: options.processors,
            instruction_counting: options.count_instructions,
        };
        eprintln!("── Linux {} ──", kernel.release);
        let started = Instant::now();
        let status = machine::run(&host, series, &kernel, &job, None)?;
        eprintln!("── exit status {status}, after {:.1} s ──", started.elapsed().as_secs_f32());
        if exit == 0 {
            exit = status;
        }
    }
    Ok(ExitCode::from(exit))
}

/// What runs in a machine without anybody at its console.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Errand<'a> {
    /// The command, as root, in this folder.
    pub(crate) command: &'a [String],
    /// When the machine is switched off at the latest.
    pub(crate) timeout: Duration,
    /// Whether its clock is its count of instructions.
    pub(crate) instruction_counting: bool,
}

/// Runs a command on a kernel, whose release is returned with the exit status; each line it prints goes to `line`.
pub(crate) fn run_errand(
    series: Series,
    errand: Errand<'_>,
    line: &mut machine::Listener<'_>,
) -> Result<(String, u8), Error> {
    let progress = Progress::detect();
    let host = Host::provide(&progress)?;
    let kernel = Kernel::provide(series, &host.folder.join("kernels"), &progress)?;
    let script = script(errand.command);
    let job = Job {
        script: &script,
        interactive: false,
        timeout: errand.timeout,
        memory: 2_048,
        processors: 2,
        instruction_counting: errand.instruction_counting,
    };
    let status = machine::run(&host, series, &kernel, &job, Some(line))?;
    Ok((kernel.release, status))
}

/// What a machine needs of the host.
#[derive(Debug)]
struct Host {
    /// `target/vm`
    folder: PathBuf,
    qemu: PathBuf,
    virtiofsd: PathBuf,
    /// A busybox without libraries.
    busybox: PathBuf,
    privilege: Privilege,
}

impl Host {
    /// Finds the programs, or installs what is missing.
    fn provide(progress: &Progress) -> Result<Self, Error> {
        if !cfg!(target_arch = "x86_64") {
            return Err(Error::Missing {
                what: "the virtual machines are x86-64 and run the host's programs".to_owned(),
                remedies: vec!["use an x86-64 host".to_owned()],
            });
        }
        let privilege = Privilege::detect();
        if !privilege.available() {
            return Err(Error::Missing {
                what: "showing the host's files to a virtual machine takes root or sudo".to_owned(),
                remedies: vec!["run this as root".to_owned()],
            });
        }
        install(privilege, progress)?;
        let folder = workspace::root().join("target/vm");
        package::create(&folder.join("kernels"))?;
        let busybox = folder.join("busybox");
        if !busybox.is_dir() {
            package::unpack("busybox-static", &busybox, progress, |_| Ok(()))?;
        }
        let busybox = ["bin/busybox", "usr/bin/busybox"]
            .iter()
            .map(|path| busybox.join(path))
            .find(|path| path.is_file());
        let found = |program: &str, path: Option<PathBuf>| {
            path.ok_or_else(|| Error::Missing {
                what: format!("{program} is not where its package should have put it"),
                remedies: vec!["install it by hand".to_owned()],
            })
        };
        Ok(Self {
            qemu: found("qemu-system-x86_64", tools::find("qemu-system-x86_64"))?,
            virtiofsd: found("virtiofsd", virtiofsd())?,
            busybox: found("busybox", busybox)?,
            folder,
            privilege,
        })
    }
}

/// Installs the programs that are missing.
fn install(privilege: Privilege, progress: &Progress) -> Result<(), Error> {
    let mut missing = Vec::new();
    for (program, package) in
        [("qemu-system-x86_64", "qemu-system-x86"), ("modprobe", "kmod"), ("xz", "xz-utils")]
    {
        if tools::find(program).is_none() {
            missing.push(package);
        }
    }
    let mut apt = Apt::detect(privilege);
    if virtiofsd().is_none() {
        // Debian 13 has it in a package of its own.
        let own = match &mut apt {
            Some(apt) => apt.offers(progress, &["virtiofsd"])?,
            None => false,
        };
        missing.push(if own { "virtiofsd" } else { "qemu-system-common" });
    }
    if missing.is_empty() {
        return Ok(());
    }
    let Some(mut apt) = apt else {
        return Err(Error::Missing {
            what: format!("virtual machines need {}, and there is no apt-get", missing.join(", ")),
            remedies: vec!["install the packages that bring these programs".to_owned()],
        });
    };
    apt.install(progress, "virtual machines", &missing)
}

fn virtiofsd() -> Option<PathBuf> {
    ["/usr/lib/qemu/virtiofsd", "/usr/libexec/virtiofsd"]
        .iter()
        .map(PathBuf::from)
        .find(|path| path.is_file())
}

/// A shell script that runs a command where we are, with the environment that cargo's programs go by.
fn script(command: &[String]) -> String {
    let folder = env::current_dir().unwrap_or_else(|_| workspace::root());
    let folder = quoted(&folder.to_string_lossy());
    if command.is_empty() {
        return format!("cd {folder}\nexec /bin/sh -i\n");
    }
    let words: Vec<String> = command.iter().map(|word| quoted(word)).collect();
    format!("cd {folder}\nexec {}\n", words.join(" "))
}

/// A word as a shell takes it literally.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}
