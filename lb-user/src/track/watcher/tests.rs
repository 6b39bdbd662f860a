use std::{
    fs,
    os::unix::fs::symlink,
    process::{Child, Command},
};

use nix::{sys::signal::Signal, unistd::Pid};
use tokio::sync::mpsc::Receiver;

use super::*;
use crate::config::ProcessMatch;

const LIMIT: Duration = Duration::from_secs(20);

fn watcher() -> (Watcher, Receiver<WatchEvent>) {
    let (sender, events) = mpsc::channel(16);
    (Watcher::new(sender).unwrap(), events)
}

async fn next(events: &mut Receiver<WatchEvent>) -> WatchEvent {
    tokio::time::timeout(LIMIT, events.recv()).await.expect("an event in time").expect("the watcher lives")
}

fn process(name: &str, quorum: u32) -> TrackProcess {
    TrackProcess {
        name: "p".to_owned(),
        command: ProcessMatch::Name(name.to_owned()),
        quorum,
        quorum_max: u32::MAX,
        fork_delay: Duration::ZERO,
        terminate_delay: Duration::ZERO,
    }
}

fn changed(level: Level, count: usize) -> WatchEvent {
    WatchEvent::Process { name: "p".to_owned(), level, count }
}

/// A program with a name that no other process has.
fn start(folder: &tempfile::TempDir, name: &str) -> Child {
    let path = folder.path().join(name);
    if !path.exists() {
        symlink("/bin/sleep", &path).unwrap();
    }
    Command::new(path).arg("3600").spawn().unwrap()
}

fn kill(mut child: Child) -> Timestamp {
    let at = Timestamp::now();
    child.kill().unwrap();
    child.wait().unwrap();
    at
}

#[tokio::test]
async fn the_end_of_a_process_is_noticed_at_once_and_its_return_soon() {
    let folder = tempfile::tempdir().unwrap();
    let (watcher, mut events) = watcher();
    watcher.set(&[process("lb-test-watch-1", 2)], &[]);
    assert_eq!(next(&mut events).await, changed(Level::Down, 0));
    let (first, second) = (start(&folder, "lb-test-watch-1"), start(&folder, "lb-test-watch-1"));
    assert_eq!(next(&mut events).await, changed(Level::Up, 2));

    let killed = kill(first);
    assert_eq!(next(&mut events).await, changed(Level::Down, 1));
    let after = Timestamp::now().since(killed);
    assert!(after < LOOK / 2, "noticed by its end, not by a look: {after:?}");

    let third = start(&folder, "lb-test-watch-1");
    assert_eq!(next(&mut events).await, changed(Level::Up, 2));
    kill(second);
    assert_eq!(next(&mut events).await, changed(Level::Down, 1));
    kill(third);
}

#[tokio::test]
async fn a_frozen_process_is_still_there_and_a_changed_quorum_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let child = start(&folder, "lb-test-watch-2");
    let (watcher, mut events) = watcher();
    watcher.set(&[process("lb-test-watch-2", 1)], &[]);
    assert_eq!(next(&mut events).await, changed(Level::Up, 1));
    nix::sys::signal::kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGSTOP).unwrap();
    // The next event is that of the new quorum.
    watcher.set(&[process("lb-test-watch-2", 2)], &[]);
    assert_eq!(next(&mut events).await, changed(Level::Down, 1));
    kill(child);
}

#[tokio::test]
async fn changes_of_a_file_are_noticed_however_they_are_made() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("later/load");
    let file = TrackFile { name: "f".to_owned(), path: path.clone(), initial: 7 };
    let said = |value: i64, detail: &str| WatchEvent::File {
        name: "f".to_owned(),
        value,
        detail: detail.to_owned(),
    };
    let (watcher, mut events) = watcher();
    watcher.set(&[], std::slice::from_ref(&file));
    assert_eq!(next(&mut events).await, said(7, "7 (no file)"));
    // The folder comes later than the watch.
    fs::create_dir(path.parent().unwrap()).unwrap();
    fs::write(&path, "10").unwrap();
    assert_eq!(next(&mut events).await, said(10, "10"));

    let started = Timestamp::now();
    // Written in place, replaced, removed. A file is empty for a moment while it is written.
    fs::write(folder.path().join("new"), "12").unwrap();
    fs::rename(folder.path().join("new"), &path).unwrap();
    assert_eq!(next(&mut events).await, said(12, "12"));
    fs::remove_file(&path).unwrap();
    assert_eq!(next(&mut events).await, said(7, "7 (no file)"));
    assert!(Timestamp::now().since(started) < READ, "noticed by events, not by the clock");
}
