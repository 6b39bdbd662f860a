//! The tutorial in containers (`deploy/tutorial`), with a real engine and a real haproxy: what its readers do, and what
//! clients see meanwhile.

use std::{
    collections::BTreeSet,
    fs,
    path::PathBuf,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use xtask::{
    docker::{Containers, MASTER, NODE_IMAGE, Report, SLAVE, Watch, docker, log_tail},
    lab::{LabError, wait_until},
    privilege, workspace,
};

/// Longer than any election, health check or start of a container takes.
const SOON: Duration = Duration::from_secs(30);
/// The slave misses the master after 150 ms (BFD) and claims 60 ms later at most; the rest is for a machine that does other
/// things too. By adverts alone it would take 3.6 s.
const LONGEST_TAKEOVER: Duration = Duration::from_secs(1);
/// While nobody is silent no client waits longer: half an advert interval.
const LONGEST_PAUSE: Duration = Duration::from_millis(500);
/// As `docker-compose.yml` has it: keepalived's file as it is, and the service beside it.
const CONFIGURED: [&str; 2] = ["--env", "LB_CONFIG=/etc/keepalived/keepalived.conf /etc/lb/web.toml"];

#[test]
#[ignore = "needs root and a Docker engine: cargo xtask test --docker"]
fn the_tutorial_is_played_as_its_readers_do() {
    let began = Instant::now();
    let containers = Containers::up().unwrap_or_else(|error| panic!("{error}"));
    let up = began.elapsed();
    wait_until("localhost:8000 answers", SOON, || title().ok()).expect("haproxy reaches the VIP");
    println!(
        "docker-compose up took {} ms, first answer after {} ms",
        up.as_millis(),
        began.elapsed().as_millis()
    );
    println!("image {NODE_IMAGE}: {} MB", megabytes(NODE_IMAGE));
    containers.wait_until_both_serve(MASTER, SOON).expect("the pair settles");
    for name in [MASTER, SLAVE] {
        let healthy = || containers.health(name).is_ok_and(|health| health == "healthy");
        containers.wait(&format!("{name} is healthy"), SOON, healthy).expect("its health check passes");
    }
    let watch = Watch::start(&containers).expect("the client can ask");
    let play = Play { containers: &containers, watch: &watch };

    let report = play.step("up", || Ok(()), MASTER, true, LONGEST_PAUSE);
    assert_eq!((report.direct.failures(), report.front.failures()), (0, 0));
    let titles: BTreeSet<String> = (0..20).map(|_| title().expect("it is answered")).collect();
    assert_eq!(titles.into_iter().collect::<Vec<_>>(), ["主机", "从机"], "both pages are seen");

    play.step(&format!("docker pause {MASTER}"), || act("pause", MASTER), SLAVE, false, LONGEST_TAKEOVER);
    assert_eq!(title().as_deref(), Ok("从机"));

    for (command, owner, both, longest) in [
        ("unpause", MASTER, true, LONGEST_PAUSE),
        ("stop", SLAVE, false, LONGEST_PAUSE),
        ("start", MASTER, true, LONGEST_PAUSE),
        ("kill", SLAVE, false, LONGEST_TAKEOVER),
        ("start", MASTER, true, LONGEST_PAUSE),
    ] {
        let what = format!("docker {command} {MASTER}");
        let report = play.step(&what, || act(command, MASTER), owner, both, longest);
        if command == "stop" {
            assert_eq!(containers.exit_status(MASTER).expect("it has ended"), 0, "it ended cleanly");
        }
        if longest == LONGEST_PAUSE {
            assert_eq!(report.front.failures(), 0, "{command} costs nobody behind haproxy a request");
        }
        title().expect("it is answered");
    }
    drop(watch);
    containers.down().expect("all of it can be removed");
    let left =
        docker(&["ps", "--all", "--quiet", "--filter", "name=lbtutorial"]).expect("the engine answers");
    assert_eq!(left, "");
}

struct Play<'a> {
    containers: &'a Containers,
    watch: &'a Watch,
}

impl Play<'_> {
    /// Does something after which `owner` has the VIP, with `both` nginx or its own alone, prints what clients saw, and checks
    /// what must be so after every step. No request begun later than `longest` after the command fails.
    fn step(
        &self,
        what: &str,
        act: impl FnOnce() -> Result<(), LabError>,
        owner: &str,
        both: bool,
        longest: Duration,
    ) -> Report {
        let settled = || {
            if both {
                return self.containers.wait_until_both_serve(owner, SOON);
            }
            self.containers.wait(&format!("{owner} owns the VIP and serves alone"), SOON, || {
                self.containers.status(owner).is_ok_and(|status| {
                    let up = status.backends().iter().filter(|backend| backend.state == "up").count();
                    status.is_owner() && up == 1
                })
            })
        };
        let report = self.watch.step(what, act, settled).unwrap_or_else(|error| panic!("{what}: {error}"));
        println!("{report}");
        let mac = self.containers.mac(owner).expect("it runs");
        for (load, steady) in [(&report.direct, &report.steady), (&report.front, &report.steady_front)] {
            assert!(load.requests > 500, "{load:?}");
            assert!(load.longest_gap < longest, "{what} left a gap that is too long: {load:?}");
            assert!(load.failing_for < report.took + longest, "failures beyond the gap: {load:?}");
            assert_eq!(steady.failures(), 0, "{steady:?}");
            for node in ["master", "slave"] {
                let share = steady.share(node);
                let expected = if both {
                    0.35..0.65
                } else if owner.ends_with(node) {
                    1.0..1.1
                } else {
                    0.0..0.001
                };
                assert!(expected.contains(&share), "{node} has {share}");
            }
        }
        assert!(report.claims.rounds.len() > 10, "the client asked by ARP");
        assert!(report.claims.rounds.iter().all(|answers| answers.len() <= 1), "two nodes claim the VIP");
        assert!(report.steady_claims.always_only(mac), "{:?}", report.steady_claims);
        report
    }
}

#[test]
#[ignore = "needs root and a Docker engine: cargo xtask test --docker"]
fn a_container_ends_when_lb_or_nginx_does() {
    let containers = Containers::up().unwrap_or_else(|error| panic!("{error}"));
    containers.wait_until_both_serve(MASTER, SOON).expect("the pair settles");
    for (program, process) in [("nginx", "nginx"), ("lb", "lb")] {
        let watch = Watch::start(&containers).expect("the client can ask");
        let processes = containers.processes(MASTER).expect("it runs");
        // Its own processes and no others: the entry script, nginx and its worker, lb and its guardian.
        let names: Vec<&str> = processes.keys().map(String::as_str).collect();
        assert_eq!(names, ["entry", "lb", "lb-guardian", "nginx"], "{processes:?}");
        let pid = *processes[process].iter().min().expect("it runs");
        let end = || {
            kill(Pid::from_raw(pid), Signal::SIGKILL).expect("we are root");
            containers.wait("the container has ended", SOON, || {
                containers.state(MASTER).is_ok_and(|state| state == "exited")
            })
        };
        let owns = || {
            containers.wait("the slave owns the VIP", SOON, || {
                containers.status(SLAVE).is_ok_and(|status| status.is_owner())
            })
        };
        let report = watch.step(&format!("{program} dies in {MASTER}"), end, owns).expect("the slave serves");
        println!("{report}");
        assert!(report.claims.rounds.iter().all(|answers| answers.len() <= 1), "two nodes claim the VIP");
        assert_ne!(containers.exit_status(MASTER).expect("it has ended"), 0);
        let logs = log_tail(MASTER);
        assert!(logs.contains(&format!("{program} ended by itself")), "{logs}");
        docker(&["start", MASTER]).expect("it starts again");
        containers.wait_until_both_serve(MASTER, SOON).expect("the pair settles");
    }
}

#[test]
#[ignore = "needs root and a Docker engine: cargo xtask test --docker"]
fn the_tutorials_own_rights_are_refused_with_the_missing_ones_named() {
    let containers = Containers::up().unwrap_or_else(|error| panic!("{error}"));
    docker(&["stop", MASTER]).expect("it can be stopped");
    // As the tutorial starts it: the engine's usual rights and NET_ADMIN. The address is the master's, which its
    // configuration is for.
    let name = "lbtutorial-net-admin";
    let master = ["--volumes-from", MASTER, "--network", "lbtutorial", "--ip", "172.20.128.2"];
    let rights = ["run", "--detach", "--name", name, "--cap-add", "NET_ADMIN"];
    docker(&[&rights[..], &CONFIGURED, &master, &[NODE_IMAGE]].concat()).expect("it starts");
    let ended =
        containers.wait("it has ended", SOON, || containers.state(name).is_ok_and(|state| state == "exited"));
    let (text, status) = (log_tail(name), containers.exit_status(name));
    docker(&["rm", "--force", name]).expect("it can be removed");
    ended.expect("lb gives up at once");
    assert_eq!(status.expect("it has ended"), 3, "{text}");
    assert!(
        text.contains("loading the XDP program needs CAP_BPF and CAP_PERFMON (or CAP_SYS_ADMIN)"),
        "{text}"
    );
    assert!(text.contains("cap_add"), "{text}");
}

#[test]
#[ignore = "needs root and a Docker engine: cargo xtask test --docker"]
fn the_rights_of_newer_engines_suffice() {
    let containers = Containers::up().unwrap_or_else(|error| panic!("{error}"));
    docker(&["stop", MASTER]).expect("it can be stopped");
    // An engine that knows BPF and PERFMON by name is not everywhere; whoever enters a container's namespaces may be given
    // any rights. The engine's filter of system calls does not apply to him.
    let name = "lbtutorial-rights";
    let master =
        ["--volumes-from", MASTER, "--network", "lbtutorial", "--ip", "172.20.128.2", "--hostname", "master"];
    let sleep = ["--no-healthcheck", "--entrypoint", "sleep", NODE_IMAGE, "infinity"];
    let run = ["run", "--detach", "--rm", "--name", name];
    docker(&[&run[..], &master, &sleep].concat()).expect("it starts");
    let pid = containers.node(name).expect("it runs").init().to_string();
    let rights = "--bounding-set=-all,+bpf,+perfmon,+net_admin,+net_raw,+setuid,+setgid";
    let mut enter = Command::new("nsenter");
    enter.args(["--target", &pid, "--mount", "--net", "--pid", "--uts", "--ipc", "--"]);
    enter.args(["setpriv", "--inh-caps=-all", rights, "/usr/local/sbin/entry"]);
    enter.env("LB_CONFIG", CONFIGURED[1].trim_start_matches("LB_CONFIG="));
    let mut entry = enter.stdin(Stdio::null()).spawn().expect("nsenter is there");
    let serves = containers.wait("it owns the VIP and serves", SOON, || {
        containers.status(name).is_ok_and(|status| status.is_owner() && status.all_backends_up())
    });
    kill(Pid::from_raw(entry.id().cast_signed()), Signal::SIGKILL).expect("we are root");
    entry.wait().expect("it is our child");
    docker(&["rm", "--force", name]).expect("it can be removed");
    serves.expect("these rights suffice");
}

#[test]
#[ignore = "needs root and a Docker engine: cargo xtask test --docker"]
fn privileged_containers_do_the_same() {
    let folder = tempfile::tempdir().expect("the folder for temporary files is writable");
    let lacking = lacking();
    let changes = if lacking.is_empty() {
        workspace::root().join("deploy/tutorial/privileged.yml")
    } else {
        println!(
            "this machine lacks {lacking:?}: `privileged: true` cannot be; all other rights, unconfined, are tried"
        );
        almost_privileged(folder.path().join("privileged.yml"), &lacking)
    };
    let containers = Containers::up_with(Some(&changes)).unwrap_or_else(|error| panic!("{error}"));
    containers.wait_until_both_serve(MASTER, SOON).expect("the pair settles");
    let watch = Watch::start(&containers).expect("the client can ask");
    let play = Play { containers: &containers, watch: &watch };
    let what = |command: &str| format!("privileged: docker {command} {MASTER}");
    play.step(&what("pause"), || act("pause", MASTER), SLAVE, false, LONGEST_TAKEOVER);
    play.step(&what("unpause"), || act("unpause", MASTER), MASTER, true, LONGEST_PAUSE);
}

/// The capabilities that every engine knows by name, by number.
const NAMES: [&str; 38] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
];

/// Those of them that this machine has not, not even for root: then the engine can give nobody all of them.
fn lacking() -> Vec<&'static str> {
    let set = privilege::effective();
    (0..).zip(NAMES).filter(|(number, _)| set >> number & 1 == 0).map(|(_, name)| name).collect()
}

/// What `privileged: true` means, but for the rights that are `lacking`.
fn almost_privileged(file: PathBuf, lacking: &[&str]) -> PathBuf {
    let rights: Vec<&str> = NAMES.into_iter().filter(|name| !lacking.contains(name)).collect();
    let node =
        format!("{{ cap_add: {rights:?}, security_opt: [\"seccomp:unconfined\", \"apparmor:unconfined\"] }}");
    let text = format!("version: \"2.4\"\nservices:\n  master: {node}\n  slave: {node}\n");
    fs::write(&file, text).expect("the folder is ours");
    file
}

fn act(command: &str, container: &str) -> Result<(), LabError> {
    docker(&[command, container]).map(drop)
}

/// The title of the page that `curl localhost:8000` shows.
fn title() -> Result<String, String> {
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--show-error", "--fail", "--max-time", "5", "http://localhost:8000/"]);
    let output = curl.stdin(Stdio::null()).output().map_err(|error| error.to_string())?;
    let page = String::from_utf8_lossy(&output.stdout).into_owned();
    let title = page.split_once("<title>").and_then(|(_, rest)| rest.split_once("</title>"));
    title
        .map(|(title, _)| title.to_owned())
        .ok_or_else(|| String::from_utf8_lossy(&output.stderr).into_owned())
}

fn megabytes(image: &str) -> u64 {
    let size = docker(&["image", "inspect", "--format", "{{.Size}}", image]).expect("it was built");
    size.parse::<u64>().expect("a number of bytes") / 1_000_000
}
