//! `cargo xtask test`: the tests in tiers, each under a heading, with what was skipped said plainly.
//!
//! A test that needs root is marked `#[ignore = "needs root: …"]`. Tier 1 runs what is not ignored; tier 2 (the loaded
//! program in the kernel) and tier 3 (network namespaces; the files named `network*`) run what is. The files named `vm*`
//! need what not every kernel has, and run with tier 2 in virtual machines. The files named `docker*` run with a Docker
//! engine, by `--docker` only.

mod results;

use std::{
    env, fs,
    io::{BufRead as _, BufReader, IsTerminal as _, Write as _},
    path::Path,
    process::{Command, ExitCode, Stdio},
};

use clap::Args;

use self::results::{Counts, Failed};
use crate::{
    Error,
    docker::{self, BaseOptions, Engine},
    privilege,
    privilege::Privilege,
    process,
    progress::Progress,
    setup::{self, Level},
    vm::{Series, TestMachine},
    workspace::{self, Profile},
};

/// `cargo xtask test`.
#[derive(Args, Debug)]
pub struct Options {
    /// Only tier 1, which needs no rights
    #[arg(long)]
    host: bool,
    /// Only tier 2, in virtual machines with older kernels
    #[arg(long, conflicts_with = "host")]
    vm: bool,
    /// Only the tutorial in containers, with a Docker engine, which is started or installed if need be
    #[arg(long, conflicts_with_all = ["host", "vm"])]
    docker: bool,
    #[command(flatten)]
    base: BaseOptions,
    /// Passed on to the tests: parts of names, or options such as --nocapture
    #[arg(last = true, value_name = "FILTER")]
    filters: Vec<String>,
}

/// The tier whose clients wait for answers.
const NETWORK: &str = "tier 3 network";

/// What became of a tier.
enum Outcome {
    /// `again` are the tests that passed on the second try only.
    Ran {
        counts: Counts,
        success: bool,
        again: Vec<String>,
    },
    Skipped {
        reason: String,
    },
}

/// Carries the command out. The exit code is a failure if anything failed; skipping is no failure.
pub fn execute(options: &Options) -> Result<ExitCode, Error> {
    if options.vm {
        return in_virtual_machines(&options.filters);
    }
    if options.docker {
        return in_containers(options);
    }
    let privilege = Privilege::detect();
    let obstacle = if options.host { Some("--host was given".to_owned()) } else { obstacle(privilege) };
    setup::ensure(if obstacle.is_none() { Level::Tests } else { Level::Build })?;

    let host = run_tier("tier 1: host", cargo_test(&["--workspace"], &[], &options.filters))?;
    let mut tiers = vec![("tier 1 host", host)];
    let targets = Targets::list(&workspace::root());
    for (name, heading, arguments, test_arguments) in [
        ("tier 2 kernel", "tier 2: kernel", Some(targets.kernel()), vec!["--ignored"]),
        // Each network test builds nodes of its own; more at once than CPUs would disturb their timing.
        (NETWORK, "tier 3: network", targets.network(), vec!["--ignored", "--test-threads=2"]),
    ] {
        let outcome = match (&obstacle, arguments) {
            (Some(reason), _) => Outcome::Skipped { reason: reason.clone() },
            (None, None) => Outcome::Skipped { reason: "the workspace has no such tests".to_owned() },
            (None, Some(arguments)) => {
                let lb = workspace::build_lb(Profile::Debug)?;
                let bench = workspace::build_bench(Profile::Debug)?;
                let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
                let command = |test_arguments: &[&str], filters: &[String]| {
                    let mut command = cargo_test(&arguments, test_arguments, filters);
                    command.env("LB_BINARY", &lb).env("LB_BENCH_BINARY", &bench);
                    as_root(&mut command, privilege)?;
                    Ok(command)
                };
                if name == NETWORK {
                    run_tier_twice(heading, &test_arguments, &options.filters, command)?
                } else {
                    run_tier(heading, command(&test_arguments, &options.filters)?)?
                }
            }
        };
        tiers.push((name, outcome));
    }
    Ok(close(&tiers))
}

/// Tier 2 on other kernels than this host's. That this host or its way to Debian's packages lacks something is no failure.
fn in_virtual_machines(filters: &[String]) -> Result<ExitCode, Error> {
    setup::ensure(Level::Lab)?;
    let lb = workspace::build_lb(Profile::Debug)?;
    let arguments = Targets::list(&workspace::root()).machine();
    let mut tiers = Vec::new();
    for series in Series::ALL {
        println!("\n── tier 2: Linux {} ──", series.name());
        let mut counts = Counts::default();
        let mut show = |line: &[u8]| show_line(&mut counts, line);
        let outcome = match TestMachine::provide(series) {
            Err(error) => Outcome::Skipped { reason: error.to_string() },
            Ok(machine) => match machine.run(&arguments, filters, &lb, &mut show) {
                Ok(success) => Outcome::Ran { counts, success, again: Vec::new() },
                Err(error) => {
                    eprintln!("error: {error}");
                    Outcome::Ran { counts, success: false, again: Vec::new() }
                }
            },
        };
        tiers.push((series.heading(), outcome));
    }
    Ok(close(&tiers))
}

/// The tutorial in containers. The images are built as `cargo xtask image` builds them.
fn in_containers(options: &Options) -> Result<ExitCode, Error> {
    let privilege = Privilege::detect();
    if let Some(reason) = obstacle(privilege) {
        return Ok(close(&[("docker", Outcome::Skipped { reason })]));
    }
    setup::ensure(Level::Lab)?;
    // Given one, for instance what a user is to get, it is tested instead.
    let lb =
        env::var_os("LB_BINARY").map_or_else(|| workspace::build_lb(Profile::Debug), |lb| Ok(lb.into()))?;
    let progress = Progress::detect();
    eprintln!("── image ──");
    let provided = docker::folder().and_then(|folder| {
        let engine = Engine::provide(&progress, &folder)?;
        docker::provide(&engine, &lb, &options.base, &progress)?;
        Ok(engine)
    });
    // One that was started here ends with this function, after the tests.
    let _engine = match provided {
        Ok(engine) => engine,
        // What a machine lacks is no failure of a test.
        Err(error @ Error::Missing { .. }) => {
            return Ok(close(&[("docker", Outcome::Skipped { reason: error.to_string() })]));
        }
        Err(error) => return Err(error),
    };
    let targets = Targets::list(&workspace::root()).docker;
    let arguments: Vec<String> = targets.iter().map(|name| format!("--test={name}")).collect();
    let mut words = vec!["--package", "xtask"];
    words.extend(arguments.iter().map(String::as_str));
    // The containers have fixed names and addresses: one test at a time. What they measure is to be seen.
    let arguments = ["--ignored", "--test-threads=1", "--nocapture"];
    let outcome =
        run_tier_twice("the tutorial in containers", &arguments, &options.filters, |arguments, filters| {
            let mut command = cargo_test(&words, arguments, filters);
            as_root(&mut command, privilege)?;
            Ok(command)
        })?;
    Ok(close(&[("docker", outcome)]))
}

/// Why the tests that need root cannot run, if so.
fn obstacle(privilege: Privilege) -> Option<String> {
    match privilege {
        Privilege::Root => {
            let lacking = privilege::lacking(privilege::effective());
            (!lacking.is_empty()).then(|| format!("we are root, but without {}", lacking.join(", ")))
        }
        Privilege::Sudo | Privilege::SudoAsks => None,
        Privilege::None => Some("they need root, and sudo is not there or may not be used".to_owned()),
    }
}

/// `cargo test` with its output as the terminal would get it.
fn cargo_test(arguments: &[&str], test_arguments: &[&str], filters: &[String]) -> Command {
    let mut command = workspace::cargo(&["test", "--locked", "--no-fail-fast"]);
    command.args(arguments).arg("--").args(test_arguments);
    if std::io::stdout().is_terminal() {
        command.arg("--color=always");
    }
    command.args(filters);
    command
}

/// Lets cargo build as the user and start the test programs by sudo.
fn as_root(command: &mut Command, privilege: Privilege) -> Result<(), Error> {
    if privilege == Privilege::Root {
        return Ok(());
    }
    privilege.acquire()?;
    let verbose = process::ask("rustc", &["--version", "--verbose"]).unwrap_or_default();
    let host = verbose.lines().find_map(|line| line.strip_prefix("host: ")).unwrap_or(env::consts::ARCH);
    let variable = format!("CARGO_TARGET_{}_RUNNER", host.to_uppercase().replace('-', "_"));
    command.env(variable, "sudo -E --");
    Ok(())
}

/// Runs a tier's command, showing what it prints and counting its results.
fn run_tier(heading: &str, command: Command) -> Result<Outcome, Error> {
    let (counts, success, _) = run_once(heading, command)?;
    Ok(Outcome::Ran { counts, success, again: Vec::new() })
}

/// The same for tests in which clients wait for answers, on a machine that others may use too: what failed is run once more,
/// one test at a time, and has failed if it does so again. `command` takes arguments for the test programs and filters.
fn run_tier_twice(
    heading: &str,
    arguments: &[&str],
    filters: &[String],
    command: impl Fn(&[&str], &[String]) -> Result<Command, Error>,
) -> Result<Outcome, Error> {
    let (mut counts, mut success, again) = run_once(heading, command(arguments, filters)?)?;
    if success || again.is_empty() || again.len() != counts.failed {
        return Ok(Outcome::Ran { counts, success, again: Vec::new() });
    }
    let one_by_one = ["--ignored", "--nocapture", "--test-threads=1", "--exact"];
    let heading = format!("{heading}, what failed once more");
    let (second, second_success, _) = run_once(&heading, command(&one_by_one, &again)?)?;
    success = second_success && second.passed == again.len();
    counts.passed += second.passed;
    counts.failed -= second.passed.min(counts.failed);
    Ok(Outcome::Ran { counts, success, again: if success { again } else { Vec::new() } })
}

/// Counts, success and the names of what failed.
fn run_once(heading: &str, mut command: Command) -> Result<(Counts, bool, Vec<String>), Error> {
    println!("\n── {heading} ──");
    let start_error = |source| Error::Start { program: "cargo test".to_owned(), source };
    let mut child = command.stdout(Stdio::piped()).spawn().map_err(start_error)?;
    let (mut counts, mut failed) = (Counts::default(), Failed::default());
    if let Some(stdout) = child.stdout.take() {
        for line in BufReader::new(stdout).split(b'\n') {
            let line = line.map_err(start_error)?;
            show_line(&mut counts, &line);
            failed.add_line(&String::from_utf8_lossy(&line));
        }
    }
    let success = child.wait().map_err(start_error)?.success();
    Ok((counts, success, failed.names))
}

/// Shows a line that a test program printed, and counts what it says.
fn show_line(counts: &mut Counts, line: &[u8]) {
    let mut terminal = std::io::stdout().lock();
    // Nobody reading our output is no reason to stop the tests half-way.
    let _ = terminal.write_all(line).and_then(|()| terminal.write_all(b"\n"));
    counts.add_line(&String::from_utf8_lossy(line));
}

/// Prints a line per tier and the sum, and judges.
fn close(tiers: &[(&str, Outcome)]) -> ExitCode {
    println!("\n── results ──");
    let (mut total, mut ran_ignored, mut success) = (Counts::default(), 0, true);
    for (index, (name, outcome)) in tiers.iter().enumerate() {
        match outcome {
            Outcome::Ran { counts, success: tier_success, again } => {
                let verdict = match (tier_success, counts.failed) {
                    (true, _) => "ok",
                    (false, 0) => "FAILED before or between the tests, see above",
                    (false, _) => "FAILED",
                };
                println!("{name:<15} {verdict}: {} passed, {} failed", counts.passed, counts.failed);
                for test in again {
                    println!("{:<15} only on the second try: {test}", "");
                }
                success &= tier_success;
                total.passed += counts.passed;
                total.failed += counts.failed;
                if index == 0 && counts.ignored > 0 {
                    total.ignored = counts.ignored;
                } else {
                    ran_ignored += counts.passed + counts.failed;
                }
            }
            Outcome::Skipped { reason } => println!("{name:<15} SKIPPED: {reason}"),
        }
    }
    // What tier 1 left out and the others ran has not been skipped.
    let skipped = total.ignored.saturating_sub(ran_ignored);
    println!("{} passed, {} failed, {skipped} skipped", total.passed, total.failed);
    if success { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The integration tests of the workspace, by tier.
#[derive(Debug, Default, PartialEq, Eq)]
struct Targets {
    kernel: Vec<String>,
    network: Vec<String>,
    machine: Vec<String>,
    docker: Vec<String>,
}

impl Targets {
    /// Those in the `tests` folders of all packages.
    fn list(root: &Path) -> Self {
        let mut targets = Self::default();
        for package in ["lb-common", "lb-ebpf", "lb-user", "xtask", "xtask/toolchain"] {
            for name in names(&root.join(package).join("tests")) {
                let tier = match name.split('_').next() {
                    Some("network") => &mut targets.network,
                    Some("vm") => &mut targets.machine,
                    Some("docker") => &mut targets.docker,
                    _ => &mut targets.kernel,
                };
                if !tier.contains(&name) {
                    tier.push(name);
                }
            }
        }
        targets
    }

    /// Cargo's arguments for tier 2, which has the unit tests that need root too.
    fn kernel(&self) -> Vec<String> {
        let mut arguments: Vec<String> = ["--workspace", "--lib", "--bins"].map(str::to_owned).into();
        arguments.extend(self.kernel.iter().map(|name| format!("--test={name}")));
        arguments
    }

    /// Cargo's arguments for tier 2 in a virtual machine.
    fn machine(&self) -> Vec<String> {
        let mut arguments = self.kernel();
        arguments.extend(self.machine.iter().map(|name| format!("--test={name}")));
        arguments
    }

    /// Cargo's arguments for tier 3.
    fn network(&self) -> Option<Vec<String>> {
        if self.network.is_empty() {
            return None;
        }
        let tests = self.network.iter().map(|name| format!("--test={name}"));
        Some(std::iter::once("--workspace".to_owned()).chain(tests).collect())
    }
}

/// The names of the test programs in a folder: its files, and its folders that have a `main.rs`.
fn names(folder: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut names: Vec<String> = entries
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .filter(|path| {
            path.extension().is_some_and(|extension| extension == "rs") || path.join("main.rs").is_file()
        })
        .filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned()))
        .collect();
    names.sort();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_programs_are_sorted_into_tiers_by_their_names() {
        let root = tempfile::tempdir().expect("the folder for temporary files is writable");
        for file in [
            "lb-user/tests/xdp_arp.rs",
            "xtask/tests/network_frozen.rs",
            "xtask/tests/network_lab/main.rs",
            "xtask/tests/vm_tags.rs",
            "xtask/tests/docker_pair.rs",
            "lb-user/tests/cli.rs",
            "lb-user/tests/common/mod.rs",
            "lb-user/tests/data/packet.bin",
        ] {
            let path = root.path().join(file);
            fs::create_dir_all(path.parent().expect("a file in a folder")).expect("the folder is ours");
            fs::write(path, "").expect("the folder is ours");
        }
        let targets = Targets::list(root.path());
        assert_eq!(targets.kernel, ["cli", "xdp_arp"]);
        assert_eq!(targets.network, ["network_frozen", "network_lab"]);
        assert_eq!(targets.machine().last().map(String::as_str), Some("--test=vm_tags"));
        assert!(!targets.kernel().contains(&"--test=vm_tags".to_owned()));
        assert_eq!(targets.docker, ["docker_pair"]);
        assert_eq!(
            targets.network().expect("there are some"),
            ["--workspace", "--test=network_frozen", "--test=network_lab"]
        );
        assert_eq!(Targets::default().network(), None);
    }
}
