use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use nix::sys::wait::{WaitPidFlag, waitpid};
use tokio::sync::mpsc::Receiver;

use super::*;

const LIMIT: Duration = Duration::from_secs(20);
const HOUR: Duration = Duration::from_hours(1);

fn script(name: &str, command: &[&str]) -> TrackScript {
    TrackScript {
        name: name.into(),
        command: command.iter().map(ToString::to_string).collect(),
        interval: HOUR,
        timeout: LIMIT,
        rise: 1,
        fall: 1,
        initially_up: None,
        user: None,
    }
}

fn shell(name: &str, line: &str) -> TrackScript {
    script(name, &["sh", "-c", line])
}

fn runner() -> (Runner, Receiver<TrackEvent>) {
    let (sender, events) = mpsc::channel(16);
    (Runner::new(sender).unwrap(), events)
}

async fn next(events: &mut Receiver<TrackEvent>) -> TrackEvent {
    tokio::time::timeout(LIMIT, events.recv()).await.expect("an event in time").expect("the runner lives")
}

async fn run_alone(script: TrackScript) -> (bool, String) {
    let (mut runner, mut events) = runner();
    runner.set(&[script]);
    let event = next(&mut events).await;
    (event.ok, event.detail)
}

/// A folder that the unprivileged user of the scripts may write to.
fn open_folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).unwrap();
    folder
}

/// Waits for a file with a whole line and returns it as a number.
async fn number_in(path: &Path) -> i32 {
    let mut number = None;
    wait_until(|| {
        let text = fs::read_to_string(path).unwrap_or_default();
        number = text.strip_suffix('\n').map(|line| line.parse().unwrap());
        number.is_some()
    })
    .await;
    number.unwrap()
}

async fn wait_until(mut condition: impl FnMut() -> bool) {
    let waiting = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(LIMIT, waiting).await.expect("the condition in time");
}

/// Whether a process runs; one that waits to be buried does not.
fn is_alive(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(") ").next().and_then(|rest| rest.chars().next()).is_some_and(|state| !"ZX".contains(state))
}

#[tokio::test]
async fn the_exit_status_and_the_output_are_told() {
    let cases = [
        ("true", true, "exit status 0"),
        ("echo fine", true, "exit status 0: fine"),
        ("exit 3", false, "exit status 3"),
        ("echo out; echo err >&2; exit 1", false, "exit status 1: out | err"),
        ("printf 'a\\033[31mred\\n'; exit 1", false, "exit status 1: a\\u{1b}[31mred"),
        ("kill -TERM $$", false, "killed by SIGTERM"),
    ];
    for (line, ok, detail) in cases {
        assert_eq!(run_alone(shell("chk", line)).await, (ok, detail.to_owned()), "{line}");
    }
}

#[tokio::test]
async fn only_the_end_of_the_output_is_kept() {
    let (_, detail) = run_alone(shell("chk", "yes filler | head -n 100000; echo the end; exit 1")).await;
    assert!(detail.starts_with("exit status 1: …"), "{detail}");
    assert!(detail.ends_with(" | the end"), "{detail}");
    assert!(detail.len() < 1_500, "{}", detail.len());
}

#[tokio::test]
async fn the_environment_is_clean_and_input_is_empty() {
    let (ok, detail) = run_alone(shell("chk", "env | cut -d= -f1 | sort | tr '\\n' ' '; cat; pwd")).await;
    assert!(ok, "{detail}");
    // PWD, SHLVL and _ are the shell's own.
    let names = detail.replace("exit status 0: ", "");
    for name in names.split_whitespace() {
        assert!(["PATH", "LANG", "PWD", "OLDPWD", "SHLVL", "_", "|", "/"].contains(&name), "{detail}");
    }
    assert!(names.ends_with('/'), "{detail}");
}

#[tokio::test]
async fn scripts_are_unprivileged_by_default_and_run_as_the_configured_user() {
    let (_, detail) = run_alone(script("chk", &["id", "-u"])).await;
    let uid: u32 = detail.rsplit(' ').next().unwrap().parse().unwrap();
    if geteuid().is_root() {
        assert_ne!(uid, 0, "{detail}");
        let (_, detail) = run_alone(shell("chk", "grep -E '^(Uid|Groups|CapEff)' /proc/self/status")).await;
        assert!(
            detail.contains("CapEff: 0000000000000000") || detail.contains("CapEff:\\t0000000000000000"),
            "{detail}"
        );
        let mut as_root = script("chk", &["id", "-u"]);
        as_root.user = Some("root".into());
        assert_eq!(run_alone(as_root).await, (true, "exit status 0: 0".into()));
    } else {
        assert_eq!(uid, geteuid().as_raw());
    }
}

#[tokio::test]
async fn what_cannot_be_started_counts_as_failed() {
    let (ok, detail) = run_alone(script("chk", &["/no/such/program"])).await;
    assert!(!ok);
    assert_eq!(detail, "/no/such/program: No such file or directory (os error 2); correct the path");
    let mut stranger = script("chk", &["true"]);
    stranger.user = Some("no-such-user-here".into());
    let (ok, detail) = run_alone(stranger).await;
    assert!(!ok);
    assert_eq!(detail, "user no-such-user-here does not exist; create it or correct `user`");
}

#[tokio::test]
async fn a_timeout_kills_the_script_and_its_children() {
    let folder = open_folder();
    let path = folder.path().join("grandchild");
    let line = format!("echo begun; sleep 3600 & echo $! > {}; wait", path.display());
    let (mut runner, mut events) = runner();
    let mut hanging = shell("chk", &line);
    // Time enough to write the file on a busy machine; if it is not, the wait below ends the test.
    hanging.timeout = Duration::from_secs(1);
    runner.set(&[hanging]);
    let grandchild = number_in(&path).await;
    assert!(is_alive(grandchild));
    let event = next(&mut events).await;
    assert_eq!((event.ok, event.detail.as_str()), (false, "timeout after 1s: begun"));
    wait_until(|| !is_alive(grandchild)).await;
}

#[tokio::test]
async fn a_child_left_behind_neither_delays_the_result_nor_survives() {
    // It holds the output pipe open.
    let (ok, detail) = run_alone(shell("chk", "sleep 3600 & echo $!")).await;
    assert!(ok);
    let child: i32 = detail.rsplit(' ').next().unwrap().parse().unwrap();
    wait_until(|| !is_alive(child)).await;
}

#[tokio::test]
async fn removing_a_script_kills_it_with_its_children_and_so_does_dropping_the_runner() {
    let folder = open_folder();
    let paths = ["a", "b"].map(|name| folder.path().join(name));
    let [a, b] = ["a", "b"].map(|name| {
        let path = folder.path().join(name);
        shell(name, &format!("sleep 3600 & echo $! > {}; wait", path.display()))
    });
    let (mut runner, _events) = runner();
    runner.set(&[a, b.clone()]);
    let [first, second] = [number_in(&paths[0]).await, number_in(&paths[1]).await];
    runner.set(&[b]);
    wait_until(|| !is_alive(first)).await;
    assert!(is_alive(second), "the other script is not disturbed");
    drop(runner);
    wait_until(|| !is_alive(second)).await;
}

#[tokio::test]
async fn a_run_that_cannot_be_killed_keeps_failing_until_it_is_gone() {
    let (sender, mut events) = mpsc::channel(16);
    let (release, released) = tokio::sync::oneshot::channel::<()>();
    let script = shell("stuck", "true");
    let waiting = tokio::spawn(async move {
        let mut schedule = Schedule::new(Timestamp::now(), Duration::from_millis(5));
        outlast(async { drop(released.await) }, &script, &mut schedule, &sender).await;
    });
    for _ in 0..3 {
        let event = next(&mut events).await;
        assert!(!event.ok && event.detail.contains("has not ended"), "{event:?}");
    }
    release.send(()).unwrap();
    tokio::time::timeout(LIMIT, waiting).await.unwrap().unwrap();
}

/// Where the daemon's stand-in below writes its script's process number.
const STAND_IN: &str = "LB_TEST_STAND_IN";

#[tokio::test]
async fn a_killed_daemon_takes_its_scripts_down() {
    let folder = open_folder();
    let path = folder.path().join("script");
    let mut daemon = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "track::runner::tests::stand_in_for_a_daemon", "--ignored"])
        .env(STAND_IN, &path)
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let script = number_in(&path).await;
    assert!(is_alive(script));
    daemon.kill().unwrap();
    daemon.wait().unwrap();
    wait_until(|| !is_alive(script)).await;
}

#[tokio::test]
#[ignore = "the other half of a_killed_daemon_takes_its_scripts_down, which starts it"]
async fn stand_in_for_a_daemon() {
    let Ok(path) = std::env::var(STAND_IN) else { return };
    let (mut runner, mut events) = runner();
    let mut endless = shell("endless", &format!("echo $$ > {path}; exec sleep 3600"));
    endless.timeout = HOUR;
    runner.set(&[endless]);
    // Ends this process, should nobody kill it.
    next(&mut events).await;
}

/// In a container without an init the daemon is process 1, and what its scripts leave behind becomes its child.
#[test]
fn a_daemon_that_is_process_1_buries_what_its_scripts_leave() {
    if !geteuid().is_root() {
        eprintln!("SKIPPED: a PID namespace needs root");
        return;
    }
    let status = std::process::Command::new("unshare")
        .args(["--pid", "--fork", "--kill-child", "--mount-proc"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "track::runner::tests::process_1", "--ignored"])
        .stdout(std::process::Stdio::null())
        .status()
        .unwrap();
    assert!(status.success(), "{status}");
}

#[tokio::test]
#[ignore = "the other half of a_daemon_that_is_process_1_buries_what_its_scripts_leave, which starts it"]
async fn process_1() {
    if std::process::id() != 1 {
        return;
    }
    let (ok, detail) = run_alone(shell("litter", "(sleep 3600 & sleep 3600 &); sleep 3600 &")).await;
    assert!(ok, "{detail}");
    // The result came after the burial: no child is left, dead or alive.
    assert_eq!(waitpid(None, Some(WaitPidFlag::WNOHANG)), Err(nix::errno::Errno::ECHILD));
}

#[tokio::test]
async fn a_script_never_runs_twice_at_once() {
    let folder = open_folder();
    let lock = folder.path().join("lock");
    // mkdir fails if an earlier run still holds it; each run outlasts several intervals.
    let line = format!("mkdir {0} || exit 1; sleep 0.05; rmdir {0}", lock.display());
    let mut eager = shell("chk", &line);
    eager.interval = Duration::from_millis(5);
    let (mut runner, mut events) = runner();
    runner.set(&[eager]);
    for _ in 0..5 {
        let event = next(&mut events).await;
        assert!(event.ok, "{event:?}");
    }
}

#[tokio::test]
async fn changed_thresholds_do_not_restart_but_a_changed_command_does() {
    let (mut runner, mut events) = runner();
    let mut same = shell("same", "echo one");
    let mut other = shell("other", "echo one");
    runner.set(&[same.clone(), other.clone()]);
    next(&mut events).await;
    next(&mut events).await;
    same.rise = 4;
    other.command = vec!["echo".into(), "two".into()];
    runner.set(&[same, other]);
    let event = next(&mut events).await;
    assert_eq!((event.script.as_str(), event.detail.as_str()), ("other", "exit status 0: two"));
}
