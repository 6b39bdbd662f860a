//! The tests of tier 2 in a virtual machine: built here, run there.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use super::{
    Host, Series,
    kernel::Kernel,
    machine::{self, Job},
    quoted,
};
use crate::{Error, process, progress::Progress, workspace};

/// What all tests together may take: emulation is slow, and several times slower on a machine that others use.
const TIMEOUT: Duration = Duration::from_mins(90);

/// A test program, and the folder it expects to run in.
#[derive(Debug, PartialEq, Eq)]
struct Program {
    path: PathBuf,
    folder: PathBuf,
}

/// A kernel that tests can run on.
pub(crate) struct TestMachine {
    host: Host,
    series: Series,
    kernel: Kernel,
}

impl TestMachine {
    /// Fetches what is missing for it. An error says what this host, or its way to Debian's packages, lacks.
    pub(crate) fn provide(series: Series) -> Result<Self, Error> {
        let progress = Progress::detect();
        let host = Host::provide(&progress)?;
        let kernel = Kernel::provide(series, &host.folder.join("kernels"), &progress)?;
        Ok(Self { host, series, kernel })
    }

    /// Builds the tests that `arguments` select for cargo and runs those of them that need root and `filters` select. Each
    /// line they print goes to `line`; `true` if all succeed.
    pub(crate) fn run(
        &self,
        arguments: &[String],
        filters: &[String],
        lb: &Path,
        line: &mut machine::Listener<'_>,
    ) -> Result<bool, Error> {
        let mut programs = build(arguments)?;
        programs.retain(|program| has_tests(program, filters));
        let script = script(&programs, filters, lb);
        let job = Job {
            script: &script,
            interactive: false,
            timeout: TIMEOUT,
            memory: 2_048,
            processors: 2,
            instruction_counting: false,
        };
        Ok(machine::run(&self.host, self.series, &self.kernel, &job, Some(line))? == 0)
    }
}

/// Whether a program has such tests: it can tell out here, and so need not be started in there. One that does not tell is
/// taken to have some.
fn has_tests(program: &Program, filters: &[String]) -> bool {
    let mut command = Command::new(&program.path);
    command.args(["--ignored", "--list"]).args(filters).current_dir(&program.folder);
    match command.output() {
        Ok(output) if output.status.success() => {
            String::from_utf8_lossy(&output.stdout).lines().any(|line| line.ends_with(": test"))
        }
        _ => true,
    }
}

fn build(arguments: &[String]) -> Result<Vec<Program>, Error> {
    let mut command = workspace::cargo(&["test", "--locked", "--no-run"]);
    command.args(arguments).arg("--message-format=json-render-diagnostics").stdin(Stdio::null());
    let messages = process::capture_stdout(&mut command, "building the tests")?;
    Ok(messages.lines().filter_map(program).collect())
}

/// The test program that one of cargo's messages tells of.
fn program(message: &str) -> Option<Program> {
    let message: serde_json::Value = serde_json::from_str(message).ok()?;
    // Cargo also builds ordinary programs for integration tests to start.
    if !message.get("profile")?.get("test")?.as_bool()? {
        return None;
    }
    let path = PathBuf::from(message.get("executable")?.as_str()?);
    let folder = Path::new(message.get("manifest_path")?.as_str()?).parent()?.to_owned();
    Some(Program { path, folder })
}

/// A shell script that runs them all and fails if one fails.
fn script(programs: &[Program], filters: &[String], lb: &Path) -> String {
    let word = |path: &Path| quoted(&path.to_string_lossy());
    let filters = filters.iter().map(|filter| quoted(filter)).collect::<Vec<_>>().join(" ");
    let run = |Program { path, folder }: &Program| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let heading = quoted(&format!("     Running {name}"));
        let (folder, path) = (word(folder), word(path));
        format!("echo {heading}\ncd {folder}\n{path} --ignored {filters} || failed=1\n")
    };
    let runs: Vec<String> = programs.iter().map(run).collect();
    format!("export LB_BINARY={}\nfailed=0\n{}exit $failed\n", word(lb), runs.concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_programs_are_found_among_cargos_messages() {
        let test = r#"{"reason":"compiler-artifact","manifest_path":"/w/lb-user/Cargo.toml",
            "profile":{"test":true},"executable":"/w/target/debug/deps/xdp-1"}"#;
        let expected = Program { path: "/w/target/debug/deps/xdp-1".into(), folder: "/w/lb-user".into() };
        assert_eq!(program(test), Some(expected));
        assert_eq!(program(&test.replace("true", "false")), None, "a program that tests start");
        assert_eq!(program(r#"{"reason":"build-finished","success":true}"#), None);
    }

    #[test]
    fn the_script_goes_on_after_a_failure_and_reports_it() {
        let program = |path: &str| Program { path: path.into(), folder: "/".into() };
        let run = |programs: &[Program]| {
            let script = script(programs, &["one' filter".to_owned()], Path::new("/bin/true"));
            process::ask("sh", &["-c", &script])
        };
        assert_eq!(
            run(&[program("/bin/echo"), program("/bin/echo")]).as_deref(),
            Some("Running echo\n--ignored one' filter\n     Running echo\n--ignored one' filter")
        );
        assert_eq!(run(&[program("/bin/false"), program("/bin/true")]), None, "the first failed");
    }
}
