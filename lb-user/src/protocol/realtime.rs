//! What keeps the thread from waiting for others: a real-time class for itself, and no page of the process on disk. Both
//! need rights; without them it goes on, as late as the machine lets it be.

use std::{fs, hint, io};

use nix::{
    sys::{
        mman::{MlockAllFlags, mlockall},
        resource::{RLIM_INFINITY, Resource, getrlimit, setrlimit},
    },
    unistd::{SysconfVar, sysconf},
};

/// Above whatever has an ordinary class, below the kernel's own threads (99) and room for the operator's on both sides.
pub const PRIORITY: i32 = 50;

/// Processor time in microseconds that a real-time thread may take without ever waiting; then the kernel ends the process,
/// whose leases run out. The engine waits for a moment at least every [`MOST_BUSY`](super::thread).
const RUNAWAY: u64 = 500_000;

/// Not in every version of libc's headers: `SCHED_RESET_ON_FORK`, so that children get an ordinary class.
const RESET_ON_FORK: libc::c_int = 0x4000_0000;

const CAP_IPC_LOCK: u32 = 14;

/// What was granted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Grant {
    /// It holds.
    Given,
    /// The configuration does not ask for it.
    NotWanted,
    /// The system refused, in words with a remedy.
    Refused(String),
}

/// How the thread runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scheduling {
    /// `SCHED_RR` with [`PRIORITY`].
    pub realtime: Grant,
    /// No page that was used is ever written to disk.
    pub memory: Grant,
}

/// Locks the memory of the process: pages in use stay, and so do those that come into use later.
pub(super) fn lock_memory() -> Grant {
    // Within a limit, later allocations would fail once it is reached: worse than a page that has to be read.
    let unlimited = getrlimit(Resource::RLIMIT_MEMLOCK).is_ok_and(|(soft, _)| soft == RLIM_INFINITY);
    if !unlimited && !has_capability(CAP_IPC_LOCK) {
        return Grant::Refused("it needs CAP_IPC_LOCK, or no limit (LimitMEMLOCK=infinity)".to_owned());
    }
    let flags = MlockAllFlags::MCL_CURRENT | MlockAllFlags::MCL_FUTURE | ON_FAULT;
    if let Err(error) = mlockall(flags) {
        return Grant::Refused(format!("mlockall: {}", error.desc()));
    }
    read_code();
    Grant::Given
}

/// Without it thread stacks and reserves nobody touches would be filled.
const ON_FAULT: MlockAllFlags = MlockAllFlags::from_bits_retain(libc::MCL_ONFAULT);

/// Has the program's code in memory before it is needed.
fn read_code() {
    let maps = fs::read_to_string("/proc/self/maps").unwrap_or_default();
    for (start, length) in maps.lines().filter_map(code) {
        // SAFETY: reading what is mapped changes nothing; the kernel refuses what is not mapped (any more). Kernels before
        // 5.14 do not know the advice, and there the code is read when it is needed.
        let _read = unsafe { libc::madvise(start as *mut libc::c_void, length, libc::MADV_POPULATE_READ) };
    }
}

/// Start and length of the code that a line of `/proc/PID/maps` shows.
fn code(line: &str) -> Option<(usize, usize)> {
    let mut fields = line.split_ascii_whitespace();
    let (range, rights) = (fields.next()?, fields.next()?);
    let file = fields.nth(3)?;
    if !rights.contains('x') || !file.starts_with('/') {
        return None;
    }
    let (start, end) = range.split_once('-')?;
    let (start, end) = (usize::from_str_radix(start, 16).ok()?, usize::from_str_radix(end, 16).ok()?);
    Some((start, end.checked_sub(start)?))
}

/// Gives the calling thread the real-time class.
pub(super) fn enter_realtime() -> Grant {
    touch_stack();
    // Before, so that a thread that runs away from the first moment on is ended.
    if let Err(error) = limit_runaway() {
        return Grant::Refused(format!("limiting its processor time: {error}"));
    }
    // What `struct sched_param` is to the kernel.
    let parameters: libc::c_int = PRIORITY;
    // SAFETY: the parameters are there and the kernel only reads them; 0 is the calling thread.
    let result = unsafe {
        libc::syscall(libc::SYS_sched_setscheduler, 0, libc::SCHED_RR | RESET_ON_FORK, &raw const parameters)
    };
    if result == 0 {
        return Grant::Given;
    }
    let error = io::Error::last_os_error();
    Grant::Refused(match error.raw_os_error() {
        Some(libc::EPERM) => {
            "it needs CAP_SYS_NICE, or LimitRTPRIO=50; in a control group of version 1, cpu.rt_runtime_us \
                              above 0 as well"
                .to_owned()
        }
        _ => format!("sched_setscheduler: {error}"),
    })
}

fn limit_runaway() -> nix::Result<()> {
    let (_, hard) = getrlimit(Resource::RLIMIT_RTTIME)?;
    // Reaching the soft limit is a signal that ends the process, the hard one kills it.
    setrlimit(Resource::RLIMIT_RTTIME, RUNAWAY.min(hard), (2 * RUNAWAY).min(hard))
}

/// Has the pages of the stack that the thread may need.
#[inline(never)]
#[expect(clippy::large_stack_arrays, reason = "the stack is what it is about")]
fn touch_stack() {
    const NEEDED: usize = 256 << 10;
    let mut stack = [0_u8; NEEDED];
    let page = sysconf(SysconfVar::PAGE_SIZE).ok().flatten().and_then(|size| usize::try_from(size).ok());
    for byte in stack.iter_mut().step_by(page.unwrap_or(4096)) {
        *byte = 1;
    }
    hint::black_box(&stack);
}

fn has_capability(capability: u32) -> bool {
    crate::rights::effective().is_some_and(|set| set >> capability & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_is_what_may_be_executed_and_comes_from_a_file() {
        let line = |rights: &str, file: &str| format!("1000-3000 {rights} 00000000 08:01 42   {file}");
        assert_eq!(code(&line("r-xp", "/usr/bin/lb")), Some((0x1000, 0x2000)));
        assert_eq!(code(&line("r--p", "/usr/bin/lb")), None);
        assert_eq!(code(&line("r-xp", "[vdso]")), None);
        assert_eq!(code("1000-3000 r-xp 00000000 00:00 0"), None);
    }
}
