//! One virtual machine: what it starts from, its console, its end.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::{
        prctl,
        signal::{Signal, kill},
    },
    unistd::{Gid, Pid},
};

use super::{
    Host,
    archive::Archive,
    kernel::{Kernel, Series},
    package::{Temporary, create},
};
use crate::Error;

/// What the initramfs needs to reach the host's files.
const MODULES: [&str; 3] = ["virtio_pci", "virtiofs", "overlay"];
/// How long virtiofsd may take to listen.
const SHARE_TIMEOUT: Duration = Duration::from_secs(10);

/// What happens in a machine.
#[derive(Debug)]
pub(super) struct Job<'a> {
    /// A shell script; its exit status is the machine's.
    pub(super) script: &'a str,
    /// Whether a person is at the console.
    pub(super) interactive: bool,
    /// When the machine is switched off at the latest.
    pub(super) timeout: Duration,
    /// Memory in MiB; what the host's files are overlaid with lives there too.
    pub(super) memory: u32,
    /// Processors; one when instructions are counted.
    pub(super) processors: u32,
    /// Whether the machine's clock is its count of instructions: each takes a nanosecond, however long the host needs
    /// for it, so what is timed in there comes out the same every time (to 0.2 %).
    pub(super) instruction_counting: bool,
}

/// Is shown what a console prints, line by line.
pub(super) type Listener<'a> = dyn FnMut(&[u8]) + 'a;

/// Boots a kernel, runs a job and returns its exit status. The console is ours, or goes line by line to `line`.
pub(super) fn run(
    host: &Host,
    series: Series,
    kernel: &Kernel,
    job: &Job<'_>,
    line: Option<&mut Listener<'_>>,
) -> Result<u8, Error> {
    // Not below the workspace: a socket's path may have 107 bytes.
    let folder =
        Temporary(std::env::temp_dir().join(format!("lb-vm-{}-{}", std::process::id(), series.name())));
    create(&folder.0)?;
    let initramfs = folder.0.join("initramfs");
    let archive = initramfs_archive(host, series, kernel, job)?;
    fs::write(&initramfs, archive).map_err(|source| Error::File { path: initramfs.clone(), source })?;
    let socket = folder.0.join("files.sock");
    let status = folder.0.join("status");
    let words = folder.0.join("virtiofsd.log");
    let mut share = Ended(share(host, &socket, &words)?);
    wait_for(&socket, &mut share.0, &words)?;

    let mut command = qemu(host, kernel, job, &initramfs, &socket, &status);
    if line.is_some() {
        command.stdin(Stdio::null()).stdout(Stdio::piped());
    }
    // SAFETY: between fork and exec only one system call is made.
    unsafe {
        // A machine outlives nobody who is killed before he can end it.
        command.pre_exec(|| Ok(prctl::set_pdeathsig(Signal::SIGKILL)?));
    }
    let started = command.spawn();
    let start_error = |source| Error::Start { program: host.qemu.display().to_string(), source };
    let mut machine = Ended(started.map_err(start_error)?);
    let guard = Watchdog::start(machine.0.id(), job.timeout);
    if let (Some(line), Some(stdout)) = (line, machine.0.stdout.take()) {
        for text in BufReader::new(stdout).split(b'\n') {
            line(&text.map_err(|source| Error::File { path: "the machine's console".into(), source })?);
        }
    }
    let exit =
        machine.0.wait().map_err(|source| Error::File { path: "qemu-system-x86_64".into(), source })?;
    let expired = guard.stop();
    let said = fs::read_to_string(&status).unwrap_or_default();
    said.trim().parse().map_err(|_| silent(series, job, exit, expired, &words))
}

/// The error for a machine that ended without a word.
fn silent(series: Series, job: &Job<'_>, exit: ExitStatus, expired: bool, words: &Path) -> Error {
    let seconds = job.timeout.as_secs();
    Error::Failed {
        what: format!("the virtual machine with Linux {}", series.name()),
        status: if expired { format!("switched off after {seconds} s") } else { exit.to_string() },
        command: "qemu-system-x86_64".to_owned(),
        output: repeat(words),
        remedy: if expired {
            "  → what hangs in there? --timeout SECONDS gives it more time".to_owned()
        } else {
            "  → what its kernel said last is above".to_owned()
        },
    }
}

/// The first root: a shell, the modules that reach the host's files, and the job.
fn initramfs_archive(host: &Host, series: Series, kernel: &Kernel, job: &Job<'_>) -> Result<Vec<u8>, Error> {
    let mut archive = Archive::default();
    for folder in ["dev", "modules"] {
        archive.folder(folder);
    }
    archive.console("dev/console");
    archive.file("init", include_bytes!("init.sh"));
    archive.file("guest", include_bytes!("guest.sh"));
    archive.file("command", job.script.as_bytes());
    let settings = format!(
        "MODULES={}\nINTERACTIVE={}\nexport LB_VM={}\n",
        super::quoted(&kernel.modules.to_string_lossy()),
        u8::from(job.interactive),
        series.name()
    );
    archive.file("settings", settings.as_bytes());
    let path = &host.busybox;
    archive.file("busybox", &fs::read(path).map_err(|source| Error::File { path: path.clone(), source })?);
    let modules = kernel.index()?.order(&MODULES).map_err(|name| Error::Missing {
        what: format!("Linux {} has no module {name}", kernel.release),
        remedies: vec![format!("remove {}; another kernel is fetched", kernel.modules.display())],
    })?;
    let mut order = String::new();
    for (index, file) in modules.iter().enumerate() {
        let name = format!("{index}.ko");
        archive.file(&format!("modules/{name}"), &kernel.module(file)?);
        order.push_str(&name);
        order.push('\n');
    }
    archive.file("modules/order", order.as_bytes());
    Ok(archive.finish())
}

/// Starts the program that shows the host's files to the machine.
fn share(host: &Host, socket: &Path, words: &Path) -> Result<Child, Error> {
    let log = fs::File::create(words).map_err(|source| Error::File { path: words.to_owned(), source })?;
    host.privilege.acquire()?;
    let mut command = host.privilege.command(&host.virtiofsd.to_string_lossy());
    command.arg(format!("--socket-path={}", socket.display()));
    if host.virtiofsd.starts_with("/usr/lib/qemu") {
        command.args([
            "-f",
            "-o",
            "source=/",
            "-o",
            "sandbox=chroot",
            "-o",
            "cache=always",
            "-o",
            "log_level=err",
        ]);
    } else {
        command.args(["--shared-dir=/", "--sandbox=chroot", "--cache=always", "--log-level=error"]);
    }
    // Started by sudo it would listen for root only.
    if let Ok(Some(group)) = nix::unistd::Group::from_gid(Gid::effective()) {
        command.arg(format!("--socket-group={}", group.name));
    }
    // It also complains when the machine ends, as it is meant to.
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    let start = |source| Error::Start { program: host.virtiofsd.display().to_string(), source };
    command.spawn().map_err(start)
}

/// Waits until virtiofsd listens.
fn wait_for(socket: &Path, share: &mut Child, words: &Path) -> Result<(), Error> {
    let deadline = Instant::now() + SHARE_TIMEOUT;
    while !socket.exists() {
        let ended = share.try_wait().ok().flatten();
        if ended.is_some() || Instant::now() > deadline {
            return Err(Error::Failed {
                what: "showing the host's files to the virtual machine".to_owned(),
                status: ended.map_or("it does not listen".to_owned(), |status| status.to_string()),
                command: "virtiofsd".to_owned(),
                output: repeat(words),
                remedy: "  → it needs root's rights, CAP_SYS_ADMIN among them".to_owned(),
            });
        }
        thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

/// What virtiofsd said, as an error repeats it.
fn repeat(words: &Path) -> String {
    let words = fs::read_to_string(words).unwrap_or_default();
    words.lines().flat_map(|line| ["  | virtiofsd: ", line, "\n"]).collect()
}

fn qemu(
    host: &Host,
    kernel: &Kernel,
    job: &Job<'_>,
    initramfs: &Path,
    socket: &Path,
    status: &Path,
) -> Command {
    let mut command = Command::new(&host.qemu);
    let memory = format!("{}M", job.memory);
    // Emulated, instructions that copy a string go byte by byte or word by word, and the verifier copies a lot: without them
    // kernel and C library copy by ordinary loops; an instruction would be counted for each round, too. A fifth level of page
    // tables is one more look-up for each address.
    command.args(["-accel", "tcg", "-cpu", "max,erms=off,fsrm=off,la57=off"]);
    command.args(["-machine", "q35", "-no-user-config", "-nodefaults"]);
    command.args(["-display", "none", "-no-reboot", "-nic", "none", "-m", &memory]);
    if job.instruction_counting {
        command.args(["-icount", "shift=0", "-smp", "1"]);
    } else {
        command.args(["-smp", &job.processors.to_string()]);
    }
    // virtiofsd reaches the machine's memory by a file.
    command.args(["-object", &format!("memory-backend-memfd,id=memory,size={memory},share=on")]);
    command.args(["-numa", "node,memdev=memory"]);
    command.args(["-chardev", &format!("socket,id=files,path={}", socket.display())]);
    command.args(["-device", "vhost-user-fs-pci,chardev=files,tag=host"]);
    command.args(["-chardev", "stdio,id=console,signal=off", "-serial", "chardev:console"]);
    command.args(["-serial", &format!("file:{}", status.display())]);
    command.arg("-kernel").arg(&kernel.image).arg("-initrd").arg(initramfs);
    // On a busy host the interrupts of the emulated timer may come too late for the kernel, which then gives up on it
    // (`no_timer_check`).
    let line = "console=ttyS0 quiet loglevel=4 panic=-1 oops=panic reboot=t no_timer_check mitigations=off \
                init_on_alloc=0 clearcpuid=rep_good";
    command.args(["-append", line]);
    command
}

/// A process that does not outlive us.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        // One that has ended cannot be killed; virtiofsd, which may be root's, ends with the machine it serves.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Kills a process when its time is over.
struct Watchdog {
    stop: mpsc::Sender<()>,
    thread: thread::JoinHandle<bool>,
}

impl Watchdog {
    fn start(process: u32, timeout: Duration) -> Self {
        let (stop, stopped) = mpsc::channel();
        let thread = thread::spawn(move || {
            let expired = stopped.recv_timeout(timeout) == Err(RecvTimeoutError::Timeout);
            if expired {
                // Whoever waits for the process stops us only afterwards, so the number is still its own.
                let _ = kill(Pid::from_raw(process.cast_signed()), Signal::SIGKILL);
            }
            expired
        });
        Self { stop, thread }
    }

    /// Whether the time was over.
    fn stop(self) -> bool {
        let _ = self.stop.send(());
        self.thread.join().unwrap_or(false)
    }
}
