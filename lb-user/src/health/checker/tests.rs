use tokio::{
    net::{TcpListener, TcpStream},
    sync::mpsc::Receiver,
};

use super::*;
use crate::config::{CheckKind, CommandCheck, HttpCheck};

const LIMIT: Duration = Duration::from_secs(20);

/// A listener whose connections are counted by the test.
async fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

fn target(id: u64, endpoint: SocketAddr, interval: Duration) -> Target {
    Target {
        id: CheckId(id),
        address: endpoint.ip(),
        port: endpoint.port(),
        check: Check {
            kind: CheckKind::Tcp,
            interval,
            fast_interval: interval,
            timeout: interval,
            rise: 2,
            fall: 3,
            port: None,
        },
        source: None,
        vip: "192.0.2.10:80".parse().unwrap(),
        vip_path: VipPath::NotAsked,
    }
}

async fn next(events: &mut Receiver<HealthEvent>) -> HealthEvent {
    tokio::time::timeout(LIMIT, events.recv()).await.expect("an event in time").expect("the checker lives")
}

async fn accept(listener: &TcpListener) -> TcpStream {
    tokio::time::timeout(LIMIT, listener.accept()).await.expect("a probe in time").unwrap().0
}

#[tokio::test]
async fn results_come_again_and_again_for_each_target() {
    let (good, good_address) = listener().await;
    let (closed, closed_address) = listener().await;
    drop(closed);
    let (sender, mut events) = mpsc::channel(16);
    let mut checker = Checker::new(sender).unwrap();
    let interval = Duration::from_millis(20);
    checker.set(&[target(1, good_address, interval), target(2, closed_address, interval)]);
    let mut seen = HashMap::<CheckId, u32>::new();
    while seen.len() < 2 || seen.values().any(|&count| count < 3) {
        let event = next(&mut events).await;
        *seen.entry(event.id).or_default() += 1;
        match event.id {
            CheckId(1) => assert!(event.result.is_ok(), "{event:?}"),
            _ => assert_eq!(event.result, Err(ProbeError::Refused)),
        }
    }
    drop(good);
}

#[tokio::test]
async fn the_checks_own_port_takes_precedence() {
    let (listener, address) = listener().await;
    let (sender, mut events) = mpsc::channel(16);
    let mut target = target(1, address, LIMIT);
    target.port = 1;
    target.check.port = Some(address.port());
    let mut checker = Checker::new(sender).unwrap();
    checker.set(&[target]);
    accept(&listener).await;
    assert!(next(&mut events).await.result.is_ok());
}

#[tokio::test]
async fn a_backend_in_doubt_is_asked_at_the_fast_interval() {
    let (listener, address) = listener().await;
    let (sender, mut events) = mpsc::channel(16);
    let (interval, fast) = (Duration::from_secs(4), Duration::from_millis(10));
    let mut target = target(1, address, interval);
    target.check.fast_interval = fast;
    let mut checker = Checker::new(sender).unwrap();
    checker.set(&[target]);
    assert!(next(&mut events).await.result.is_ok());
    drop(listener);
    // Three failures are wanted; the fourth contradicts nothing.
    let mut failures = Vec::new();
    while failures.len() < 4 {
        let event = next(&mut events).await;
        if event.result.is_err() {
            failures.push(event.at);
        }
    }
    let gaps: Vec<bool> = failures.windows(2).map(|pair| pair[1].since(pair[0]) < interval / 2).collect();
    assert_eq!(gaps, [true, true, false], "{failures:?}");
}

#[tokio::test]
async fn unchanged_targets_are_not_disturbed_and_changed_ones_restart() {
    let (listener, address) = listener().await;
    let (sender, mut events) = mpsc::channel(16);
    let mut checker = Checker::new(sender).unwrap();
    // One probe, then none for a long time: a second one means a restart.
    let mut same = target(1, address, Duration::from_hours(1));
    checker.set(std::slice::from_ref(&same));
    next(&mut events).await;
    accept(&listener).await;

    same.check.port = Some(address.port());
    let (other_listener, other_address) = self::listener().await;
    let mut other = target(2, other_address, Duration::from_hours(1));
    checker.set(&[same.clone(), other.clone()]);
    assert_eq!(next(&mut events).await.id, CheckId(2), "only the new target is probed");
    accept(&other_listener).await;

    other.source = Some("127.0.0.50".parse().unwrap());
    checker.set(&[same, other]);
    assert_eq!(next(&mut events).await.id, CheckId(2), "only the changed target is probed");
    assert_eq!(accept(&other_listener).await.peer_addr().unwrap().ip().to_string(), "127.0.0.50");
}

#[tokio::test]
async fn a_removed_target_closes_its_probe_and_a_dropped_checker_ends() {
    let (listener, address) = listener().await;
    let (sender, mut events) = mpsc::channel(16);
    let mut checker = Checker::new(sender).unwrap();
    // HTTP probes that nobody answers: they are in flight until they are cancelled.
    let mut hanging = target(1, address, Duration::from_hours(1));
    hanging.check.kind = CheckKind::Http(HttpCheck {
        path: "/".into(),
        host: None,
        statuses: vec![(200, 299)],
        md5: None,
        tls: None,
    });
    let mut second = hanging.clone();
    second.id = CheckId(2);
    checker.set(&[hanging, second.clone()]);
    let streams = [accept(&listener).await, accept(&listener).await];
    checker.set(&[second]);
    let closed = || streams.iter().filter(|stream| is_closed(stream)).count();
    wait_until(|| closed() == 1).await;
    drop(checker);
    wait_until(|| closed() == 2).await;
    assert_eq!(tokio::time::timeout(LIMIT, events.recv()).await, Ok(None), "nobody sends any more");
}

/// Whether the other end has closed; drops what was received.
fn is_closed(stream: &TcpStream) -> bool {
    let mut buffer = [0; 1024];
    loop {
        match stream.try_read(&mut buffer) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) => return error.kind() != io::ErrorKind::WouldBlock,
        }
    }
}

async fn wait_until(condition: impl Fn() -> bool) {
    let waiting = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(LIMIT, waiting).await.expect("the condition in time");
}

/// Processes whose arguments hold `mark`.
fn running(mark: &str) -> usize {
    let processes = std::fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    let lines = processes.filter_map(|process| std::fs::read(process.path().join("cmdline")).ok());
    lines.filter(|line| String::from_utf8_lossy(line).contains(mark)).count()
}

#[tokio::test]
async fn a_command_is_run_again_and_again_and_killed_with_its_target() {
    let (sender, mut events) = mpsc::channel(16);
    let mark = format!("lb-checker-test-{}", std::process::id());
    let mut checked = target(1, "192.0.2.9:80".parse().unwrap(), Duration::from_millis(20));
    // It fails until the file is there, and then hangs.
    let folder = tempfile::tempdir().unwrap();
    let script = "[ -e \"$0/there\" ] || exit 1; sleep 3600 # $1";
    let words = ["sh", "-c", script, folder.path().to_str().unwrap(), &mark];
    checked.check.kind = CheckKind::Command(CommandCheck {
        command: words.map(str::to_owned).to_vec(),
        user: Some(nix::unistd::User::from_uid(nix::unistd::geteuid()).unwrap().unwrap().name),
        exits: vec![(0, 0)],
    });
    checked.check.timeout = LIMIT;
    let mut checker = Checker::new(sender).unwrap();
    checker.set(&[checked]);
    for _ in 0..3 {
        let result = next(&mut events).await.result;
        assert_eq!(result, Err(ProbeError::Command("exit status 1".to_owned())));
    }
    std::fs::write(folder.path().join("there"), "").unwrap();
    wait_until(|| running(&mark) > 0).await;
    checker.set(&[]);
    wait_until(|| running(&mark) == 0).await;
}
