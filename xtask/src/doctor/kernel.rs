//! What the kernel says about itself in `/proc` and `/sys`.

use std::{fs, path::Path};

use nix::unistd::{AccessFlags, access};

use super::report::{Check, Report};

const SECTION: &str = "kernel";

/// Oldest release with everything the XDP program uses: atomic operations that return a value (5.12), and what
/// RHEL-like kernels call 5.14 has it too.
const OLDEST_USABLE: (u32, u32) = (5, 12);

pub(super) fn checks(report: &mut Report) {
    let release = release();
    report.add(SECTION, release_check(&release));
    report.add(SECTION, btf());
    report.add(SECTION, bpffs());
    report.add(SECTION, jit());
    report.add(SECTION, freezer());
    report.add(
        SECTION,
        module(&release, "pktgen", "pktgen", "/proc/net/pktgen", "a traffic generator to compare with"),
    );
    report.add(SECTION, module(&release, "IPVS", "ip_vs", "/proc/net/ip_vs", "a balancer to compare with"));
}

fn release() -> String {
    fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned()
}

fn release_check(release: &str) -> Check {
    match numbers(release) {
        Some(numbers) if numbers < OLDEST_USABLE => {
            let (major, minor) = OLDEST_USABLE;
            let detail = format!("{release} is older than {major}.{minor}");
            Check::missing("release", detail, "boot a newer kernel; tested are those from 6.1 on".to_owned())
        }
        Some(numbers) if numbers < (6, 1) => {
            Check::ok("release", format!("{release}; tested are those from 6.1 on"))
        }
        Some(_) => Check::ok("release", release.to_owned()),
        None => Check::not_applicable("release", format!("{release:?} cannot be read"), None),
    }
}

fn numbers(release: &str) -> Option<(u32, u32)> {
    let mut parts = release.split(['.', '-']);
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

fn btf() -> Check {
    let path = "/sys/kernel/btf/vmlinux";
    if Path::new(path).exists() {
        Check::ok("BTF", path.to_owned())
    } else {
        let remedy = "only tracing of the program is worse; CONFIG_DEBUG_INFO_BTF=y".to_owned();
        Check::not_applicable("BTF", format!("no {path}"), Some(remedy))
    }
}

fn bpffs() -> Check {
    let name = "bpffs";
    let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
    let place = "/sys/fs/bpf";
    if !mounts_of_type(&mounts, "bpf").contains(&place) {
        let remedy = "as root: mount -t bpf bpf /sys/fs/bpf".to_owned();
        let detail = "not mounted; `run --config` needs it, the lab mounts its own".to_owned();
        return Check::not_applicable(name, detail, Some(remedy));
    }
    match access(place, AccessFlags::W_OK) {
        Ok(()) => Check::ok(name, format!("{place}, writable")),
        Err(_) if !nix::unistd::geteuid().is_root() => Check::ok(name, format!("{place}, for root to write")),
        Err(error) => {
            let remedy = format!("as root: mount -o remount,rw {place}");
            Check::missing(name, format!("{place} is not writable: {}", error.desc()), remedy)
        }
    }
}

/// The mount points of a type in `/proc/mounts`.
fn mounts_of_type<'a>(mounts: &'a str, wanted: &str) -> Vec<&'a str> {
    mounts
        .lines()
        .filter_map(|line| {
            let mut fields = line.split(' ').skip(1);
            Some((fields.next()?, fields.next()?))
        })
        .filter(|(_, kind)| *kind == wanted)
        .map(|(place, _)| place)
        .collect()
}

fn jit() -> Check {
    match fs::read_to_string("/proc/sys/net/core/bpf_jit_enable").ok().as_deref().map(str::trim) {
        Some("0") => {
            let remedy = "as root: sysctl net.core.bpf_jit_enable=1".to_owned();
            Check::not_applicable("JIT", "off; the program is interpreted and slow".to_owned(), Some(remedy))
        }
        Some(_) => Check::ok("JIT", "on".to_owned()),
        // Some containers hide the file, and kernels with the JIT always on need none.
        None => Check::not_applicable("JIT", "the kernel does not tell".to_owned(), None),
    }
}

fn freezer() -> Check {
    let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
    let first_version = mounts.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(' ').collect();
        let (place, kind, options) = (fields.get(1)?, fields.get(2)?, fields.get(3)?);
        (*kind == "cgroup" && options.split(',').any(|option| option == "freezer"))
            .then(|| (*place).to_owned())
    });
    let name = "cgroup freezer";
    if let Some(place) = first_version {
        return Check::ok(name, format!("version 1, {place}"));
    }
    match mounts_of_type(&mounts, "cgroup2").first() {
        Some(place) => Check::ok(name, format!("version 2, {place}")),
        None => Check::not_applicable(name, "no cgroup file system is mounted".to_owned(), None),
    }
}

/// Something that may be loaded, or loadable. No test of `cargo xtask test` needs one.
fn module(release: &str, name: &str, module: &str, loaded_sign: &str, purpose: &str) -> Check {
    if Path::new(loaded_sign).exists() {
        return Check::ok(name, format!("{purpose}; loaded"));
    }
    let folder = Path::new("/lib/modules").join(release);
    let listed =
        |file: &str| fs::read_to_string(folder.join(file)).is_ok_and(|list| lists_module(&list, module));
    if listed("modules.dep") || listed("modules.builtin") {
        Check::ok(name, format!("{purpose}; as root: modprobe {module}"))
    } else {
        Check::not_applicable(name, format!("{purpose}; not in this kernel"), None)
    }
}

/// Whether `modules.dep` or `modules.builtin` has a module: lines such as `kernel/net/core/pktgen.ko.xz: …`.
fn lists_module(list: &str, module: &str) -> bool {
    list.lines().any(|line| {
        let path = line.split(':').next().unwrap_or_default();
        let file = path.rsplit('/').next().unwrap_or_default();
        file.split('.').next() == Some(module)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_compared_by_number() {
        for (release, expected) in [
            ("6.18.0-cloud-amd64", Some((6, 18))),
            ("5.4.0", Some((5, 4))),
            ("6.1-rc3", Some((6, 1))),
            ("", None),
            ("linux", None),
        ] {
            assert_eq!(numbers(release), expected, "{release}");
        }
    }

    #[test]
    fn mounts_are_found_by_their_type() {
        let mounts = "bpf /sys/fs/bpf bpf rw 0 0\nproc /proc proc rw 0 0\nbpf /run/bpf bpf rw 0 0\n";
        assert_eq!(mounts_of_type(mounts, "bpf"), ["/sys/fs/bpf", "/run/bpf"]);
        assert!(mounts_of_type(mounts, "cgroup2").is_empty());
    }

    #[test]
    fn modules_are_found_by_their_whole_name() {
        let list = "kernel/net/netfilter/ipvs/ip_vs_rr.ko: kernel/net/netfilter/ipvs/ip_vs.ko\nkernel/net/core/pktgen.ko.xz:\n";
        assert!(lists_module(list, "pktgen"));
        assert!(lists_module(list, "ip_vs_rr"));
        assert!(!lists_module(list, "ip_vs"), "as a dependency only");
    }
}
