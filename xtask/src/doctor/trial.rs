//! What can only be found out by trying. A thread of our own enters a new network namespace, tries there, and ends; the
//! kernel removes the namespace and what is in it.

use std::{
    io,
    os::fd::{FromRawFd as _, OwnedFd, RawFd},
    thread,
};

use nix::{
    libc,
    sched::{CloneFlags, unshare},
};

use super::{
    netdev,
    report::{Check, Report},
};
use crate::{privilege::Privilege, process, tools};

const SECTION: &str = "tried in a network namespace of its own";

pub(super) fn checks(report: &mut Report, privilege: Privilege) {
    if matches!(privilege, Privilege::Sudo | Privilege::SudoAsks) {
        let detail = "not tried as an ordinary user; as root: cargo xtask doctor".to_owned();
        report.add(SECTION, Check::not_applicable("trial", detail, None));
        return;
    }
    match thread::spawn(trial).join() {
        Ok(checks) => checks.into_iter().for_each(|check| report.add(SECTION, check)),
        Err(_) => report.add(SECTION, Check::not_applicable("trial", "ended unexpectedly".to_owned(), None)),
    }
}

fn trial() -> Vec<Check> {
    let mut checks = vec![match load_xdp() {
        Ok(_program) => {
            Check::ok("XDP program", "the kernel accepts one (two instructions, closed at once)".to_owned())
        }
        Err(error) => Check::missing(
            "XDP program",
            format!("the kernel refuses one: {error}"),
            "run as root, or with CAP_BPF and CAP_NET_ADMIN; the kernel needs CONFIG_BPF_SYSCALL=y"
                .to_owned(),
        ),
    }];
    // Concerns this thread only.
    if let Err(error) = unshare(CloneFlags::CLONE_NEWNET) {
        let remedy = "run as root; in a container, add CAP_SYS_ADMIN".to_owned();
        checks.push(Check::missing("network namespaces", error.desc().to_owned(), remedy));
        return checks;
    }
    checks.push(Check::ok("network namespaces", "allowed".to_owned()));
    checks.push(link(
        "veth pair",
        &["link", "add", "lb-doctor0", "type", "veth", "peer", "name", "lb-doctor1"],
    ));
    checks.push(link("bridge", &["link", "add", "lb-doctor2", "type", "bridge"]));
    if let Ok(devices) = netdev::devices() {
        checks.extend(
            devices
                .iter()
                .filter(|device| device.name == "lb-doctor0")
                .map(|device| Check::ok("XDP on veth", device.features.describe())),
        );
    }
    checks
}

/// Creates a device in this thread's namespace.
fn link(name: &str, arguments: &[&str]) -> Check {
    let Some(ip) = tools::find("ip") else {
        return Check::not_applicable(name, "not tried: there is no ip".to_owned(), None);
    };
    if process::ask(&ip.to_string_lossy(), arguments).is_some() {
        Check::ok(name, "can be made".to_owned())
    } else {
        let remedy = format!("the kernel needs it for the lab; as root: ip {}", arguments.join(" "));
        Check::missing(name, "cannot be made".to_owned(), remedy)
    }
}

/// Loads `return XDP_PASS` and hands out the program, which is gone once closed.
fn load_xdp() -> io::Result<OwnedFd> {
    /// The head of `union bpf_attr` for `BPF_PROG_LOAD`, up to `kern_version`: the kernel takes the rest as zero.
    #[repr(C)]
    struct ProgramLoad {
        kind: u32,
        instruction_count: u32,
        instructions: u64,
        license: u64,
        log_level: u32,
        log_size: u32,
        log_buffer: u64,
        kernel_version: u32,
        flags: u32,
    }
    const BPF_PROG_LOAD: libc::c_int = 5;
    const BPF_PROG_TYPE_XDP: u32 = 6;
    const XDP_PASS: u64 = 2;
    // `struct bpf_insn` is 8 bytes: opcode, registers, offset (2), immediate (4).
    let instructions: [u64; 2] =
        [u64::from_ne_bytes(move_to_r0(XDP_PASS as u8)), u64::from_ne_bytes([0x95, 0, 0, 0, 0, 0, 0, 0])];
    let license = c"MIT";
    let load = ProgramLoad {
        kind: BPF_PROG_TYPE_XDP,
        instruction_count: 2,
        instructions: instructions.as_ptr() as u64,
        license: license.as_ptr() as u64,
        log_level: 0,
        log_size: 0,
        log_buffer: 0,
        kernel_version: 0,
        flags: 0,
    };
    // SAFETY: `load` is laid out as the kernel reads it and its size is passed; the instructions and the license
    // outlive the call, which keeps no pointer.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, BPF_PROG_LOAD, &raw const load, size_of::<ProgramLoad>()) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call succeeded, so this is a new descriptor that nobody else owns; descriptors fit an int.
    Ok(unsafe { OwnedFd::from_raw_fd(result as RawFd) })
}

/// `r0 = value`, a 64-bit move of an immediate.
fn move_to_r0(value: u8) -> [u8; 8] {
    if cfg!(target_endian = "little") {
        [0xb7, 0, 0, 0, value, 0, 0, 0]
    } else {
        [0xb7, 0, 0, 0, 0, 0, 0, value]
    }
}
