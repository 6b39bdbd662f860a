//! A network namespace for one thread.

use std::{
    io::Write as _,
    process::{Command, Stdio},
};

use nix::sched::{CloneFlags, unshare};

/// Runs `test` on a thread of its own in a fresh network namespace, which goes when the thread ends.
pub(crate) fn isolated<T: Send>(test: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        scope
            .spawn(|| {
                unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace can be made");
                test()
            })
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Runs `ip` in the thread's network namespace.
pub(crate) fn ip(arguments: &str) {
    let output = Command::new("ip").args(arguments.split(' ')).output().expect("`ip` can be run");
    assert!(output.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&output.stderr));
}

/// The same of many lines in one process: starting one takes longer than what it does.
pub(crate) fn ip_batch(lines: &[&str]) {
    let mut command = Command::new("ip");
    command.args(["-batch", "-"]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut ip = command.spawn().expect("`ip` can be run");
    // One that refuses a line may have stopped reading.
    let written = ip.stdin.take().expect("a pipe").write_all((lines.join("\n") + "\n").as_bytes());
    let output = ip.wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(written.is_ok() && output.status.success(), "ip -batch -: {said}\n{lines:#?}");
}

/// The index of an interface of the thread's network namespace.
pub(crate) fn index(interface: &str) -> u32 {
    nix::net::if_::if_nametoindex(interface).expect("the interface exists")
}
