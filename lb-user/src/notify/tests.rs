use std::{fs, io::Read as _, os::unix::fs::PermissionsExt, time::Instant};

use super::*;

const LIMIT: Duration = Duration::from_secs(20);

fn words(command: &[&str]) -> Vec<String> {
    command.iter().map(ToString::to_string).collect()
}

fn shell(line: &str) -> Vec<String> {
    words(&["sh", "-c", line])
}

/// A folder that the commands' unprivileged user may write to.
fn open_folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).unwrap();
    folder
}

fn append(file: &Path, what: &str) -> Vec<String> {
    shell(&format!("echo {what} >> {}", file.display()))
}

fn router() -> Subject {
    Subject::Router("VI_1".to_owned())
}

#[tokio::test]
async fn commands_run_in_the_order_of_the_changes_with_keepaliveds_arguments() {
    let folder = open_folder();
    let (told, fifo) = (folder.path().join("told"), folder.path().join("fifo"));
    let all = words(&["sh", "-c", &format!("echo any \"$@\" >> {}", told.display()), "script"]);
    let notify = Notify {
        // Slower than what comes after it.
        owner: shell(&format!("sleep 0.1; echo owner >> {}", told.display())),
        backup: append(&told, "backup"),
        fault: append(&told, "fault"),
        stop: append(&told, "stop"),
        any: all,
        ..Notify::default()
    };
    let mut notifier = Notifier::new(Some(&fifo)).unwrap();
    let group = Subject::Group("VG_1".to_owned());
    for (state, priority) in [
        (State::Backup, 200),
        (State::Master, 200),
        (State::Master, 150),
        (State::Fault, 150),
        (State::Stop, 1),
    ] {
        notifier.tell(&router(), state, priority, &notify);
    }
    notifier.finish(LIMIT).await;
    let expected = "backup\nany INSTANCE VI_1 BACKUP 200\nowner\nany INSTANCE VI_1 MASTER 200\n\
                    fault\nany INSTANCE VI_1 FAULT 150\nstop\nany INSTANCE VI_1 STOP 1\n";
    assert_eq!(fs::read_to_string(&told).unwrap(), expected, "the same state is told once");

    fs::remove_file(&told).unwrap();
    notifier.tell(&group, State::Master, 254, &notify);
    notifier.finish(LIMIT).await;
    assert_eq!(fs::read_to_string(&told).unwrap(), "owner\nany GROUP VG_1 MASTER 254\n");
    let mut lines = vec![0; 4_096];
    let length = fs::File::open(&fifo).unwrap().read(&mut lines).unwrap();
    let expected = "INSTANCE \"VI_1\" BACKUP 200\nINSTANCE \"VI_1\" MASTER 200\nINSTANCE \"VI_1\" FAULT 150\n\
                    INSTANCE \"VI_1\" STOP 1\nGROUP \"VG_1\" MASTER 254\n";
    assert_eq!(String::from_utf8_lossy(&lines[..length]), expected);
    assert_eq!((notifier.dropped(), notifier.problem()), (0, None));
}

#[tokio::test]
async fn a_command_that_hangs_is_killed_with_its_children_and_the_next_one_runs() {
    let folder = open_folder();
    let (told, pid) = (folder.path().join("told"), folder.path().join("pid"));
    let notify = Notify {
        owner: shell(&format!("sleep 1000 & echo $! > {}; wait", pid.display())),
        backup: append(&told, "backup"),
        timeout: Duration::from_millis(300),
        ..Notify::default()
    };
    let mut notifier = Notifier::new(None).unwrap();
    let started = Instant::now();
    notifier.tell(&router(), State::Master, 200, &notify);
    notifier.tell(&router(), State::Backup, 200, &notify);
    assert!(started.elapsed() < Duration::from_millis(200), "nobody waited");
    notifier.finish(LIMIT).await;
    assert_eq!(fs::read_to_string(&told).unwrap(), "backup\n");
    let child = fs::read_to_string(pid).unwrap();
    assert!(!Path::new("/proc").join(child.trim()).join("exe").exists(), "the child was killed too");
}

#[tokio::test]
async fn one_that_hangs_holds_up_neither_others_nor_the_daemons_end() {
    let folder = open_folder();
    let told = folder.path().join("told");
    let hangs = Notify { owner: shell("sleep 1000"), ..Notify::default() };
    let works = Notify { owner: append(&told, "owner"), ..Notify::default() };
    let mut notifier = Notifier::new(None).unwrap();
    notifier.tell(&router(), State::Master, 200, &hangs);
    notifier.tell(&Subject::Router("VI_2".to_owned()), State::Master, 200, &works);
    let started = Instant::now();
    while fs::read_to_string(&told).unwrap_or_default() != "owner\n" {
        assert!(started.elapsed() < LIMIT, "the other's command runs");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    notifier.finish(Duration::from_millis(100)).await;
}
