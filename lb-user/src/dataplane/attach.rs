//! Attaching to interfaces: which mode, and how to take over from an earlier `lb` without a gap.

use std::{
    error::Error,
    fmt::Write as _,
    fs, io,
    os::fd::AsFd as _,
    path::{Path, PathBuf},
};

use aya::{
    Ebpf,
    programs::{Xdp, links::FdLink, xdp::XdpMode as Flag},
};
use lb_common::Variant;

use super::{
    Attachment, DataplaneError, driver,
    link::{Link, LinkState},
    loading, stages,
};
use crate::config::XdpMode;

/// What can be attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Program {
    /// For the driver.
    Native,
    /// For the stack.
    Generic,
}

impl Program {
    /// Its name in the object file.
    pub const fn name(self) -> &'static str {
        self.variant().program()
    }

    /// The variant of the pipeline that it is.
    pub const fn variant(self) -> Variant {
        match self {
            Self::Native => Variant::Native,
            Self::Generic => Variant::Generic,
        }
    }

    /// The mode it is for.
    pub const fn mode(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Generic => "generic",
        }
    }

    const fn flag(self) -> Flag {
        match self {
            Self::Native => Flag::Driver,
            Self::Generic => Flag::Skb,
        }
    }

    /// The program, loaded if it has not been needed until now.
    pub(super) fn of(self, ebpf: &mut Ebpf) -> Result<&mut Xdp, DataplaneError> {
        if stages::program(ebpf, self.name())?.fd().is_err() {
            loading::load(ebpf, &[self])?;
        }
        stages::program(ebpf, self.name())
    }

    /// What is tried first on an interface.
    pub fn first_choice(interface: &str, mode: XdpMode) -> Self {
        // Invariant: no plan is empty.
        Plan::new(interface, mode).programs[0]
    }
}

/// What may be tried on an interface, in this order, and why.
struct Plan {
    programs: &'static [Program],
    reason: String,
}

impl Plan {
    fn new(interface: &str, mode: XdpMode) -> Self {
        match mode {
            XdpMode::Native => {
                Self { programs: &[Program::Native], reason: "the configuration says native".into() }
            }
            XdpMode::Generic => {
                Self { programs: &[Program::Generic], reason: "the configuration says generic".into() }
            }
            XdpMode::Auto => Self::by_driver(driver::name(interface).ok().flatten().as_deref()),
        }
    }

    fn by_driver(driver: Option<&str>) -> Self {
        match driver.and_then(driver::native_pitfall) {
            Some(pitfall) => Self { programs: &[Program::Generic], reason: pitfall.into() },
            None => Self {
                programs: &[Program::Native, Program::Generic],
                reason: match driver {
                    Some(driver) => format!("the driver {driver} takes XDP programs"),
                    None => "the interface takes XDP programs".into(),
                },
            },
        }
    }
}

/// Attaches to `interface`, taking over what is pinned in `pin_dir`.
pub(super) fn attach(
    ebpf: &mut Ebpf,
    pin_dir: &Path,
    interface: &str,
    mode: XdpMode,
) -> Result<Attachment, DataplaneError> {
    let ifindex = driver::index(interface).ok_or_else(|| DataplaneError::NoInterface(interface.into()))?;
    let plan = Plan::new(interface, mode);
    fs::create_dir_all(pin_dir).map_err(|source| DataplaneError::Pin { path: pin_dir.to_owned(), source })?;
    // Before the program runs, and those of the one it replaces for as long as that runs.
    let pin = stages::pin(ebpf, pin_dir, interface)?;
    let attachment = attach_program(ebpf, pin_dir, interface, ifindex, plan).inspect_err(|_| pin.undo())?;
    stages::unpin_earlier(ebpf, pin_dir, interface)?;
    Ok(attachment)
}

fn attach_program(
    ebpf: &mut Ebpf,
    pin_dir: &Path,
    interface: &str,
    ifindex: u32,
    plan: Plan,
) -> Result<Attachment, DataplaneError> {
    if let Some(old) = Pinned::open(pin_dir, interface)? {
        if let Some(attachment) = take_over(ebpf, &old, ifindex, &plan)? {
            return Ok(attachment);
        }
        old.remove()?;
    }
    let mut reason = plan.reason;
    let mut refusal = None;
    for &program in plan.programs {
        match attach_anew(program.of(ebpf)?, program, ifindex) {
            Ok(link) => {
                let pin = pin_path(pin_dir, interface, program);
                // Dropping the link closes its descriptor; the pin keeps it.
                link.pin(&pin)
                    .map_err(|error| DataplaneError::Pin { path: pin, source: io::Error::other(error) })?;
                if let Some((_, refusal)) = refusal {
                    reason = format!("native mode failed: {}", chain(&refusal));
                }
                return Ok(Attachment { mode: program.mode(), reason });
            }
            Err(error) => refusal = Some((program, error)),
        }
    }
    // Invariant: no plan is empty, so something was refused.
    let Some((program, source)) = refusal else { return Err(DataplaneError::NoInterface(interface.into())) };
    Err(DataplaneError::Attach {
        interface: interface.into(),
        mode: program.mode(),
        remedy: remedy(interface, program, &chain(&source)),
        source: source.into(),
    })
}

/// Detaches from `interface` at once and removes the pin.
pub(super) fn detach(pin_dir: &Path, interface: &str) -> Result<(), DataplaneError> {
    Pinned::open(pin_dir, interface)?.map_or(Ok(()), Pinned::remove)?;
    stages::unpin(pin_dir, interface, None)
}

/// What is attached to `interface` and pinned in `pin_dir`, if anything is.
pub(super) fn attached(pin_dir: &Path, interface: &str) -> Result<Option<LinkState>, DataplaneError> {
    let Some(pinned) = Pinned::open(pin_dir, interface)? else { return Ok(None) };
    pinned.link.state().map(Some).map_err(|source| DataplaneError::Pin { path: pinned.path, source })
}

/// A link that this or an earlier run has pinned.
struct Pinned {
    path: PathBuf,
    link: Link,
    program: Program,
}

impl Pinned {
    fn open(pin_dir: &Path, interface: &str) -> Result<Option<Self>, DataplaneError> {
        for program in [Program::Native, Program::Generic] {
            let path = pin_path(pin_dir, interface, program);
            match Link::open(&path) {
                Ok(None) => {}
                Ok(Some(link)) => return Ok(Some(Self { path, link, program })),
                Err(source) => return Err(DataplaneError::Pin { path, source }),
            }
        }
        Ok(None)
    }

    fn remove(self) -> Result<(), DataplaneError> {
        // A link whose interface is gone is detached already, and says so by an error.
        let _ = self.link.detach();
        fs::remove_file(&self.path).map_err(|source| DataplaneError::Pin { path: self.path, source })
    }
}

/// A link keeps its mode for life, but neither the link nor (without CAP_SYS_ADMIN) its program tells which that is;
/// so its name does. No interface has a colon in its own.
fn pin_path(pin_dir: &Path, interface: &str, program: Program) -> PathBuf {
    // bpffs takes no dots in names.
    let interface = interface.replace('.', "\u{2024}");
    pin_dir.join(format!("link-{interface}:{}", program.mode()))
}

/// Replaces the program of a link that an earlier run left; `None` if the link cannot be used.
fn take_over(
    ebpf: &mut Ebpf,
    old: &Pinned,
    ifindex: u32,
    plan: &Plan,
) -> Result<Option<Attachment>, DataplaneError> {
    // An interface that went away leaves a dead link behind, one that was renamed a link of another interface.
    let alive = old.link.state().is_ok_and(|state| state.ifindex == ifindex);
    if !alive || !plan.programs.contains(&old.program) {
        return Ok(None);
    }
    let xdp = old.program.of(ebpf)?;
    let Ok(fd) = xdp.fd() else { return Ok(None) };
    // Whatever the kernel dislikes about the old link, a new one is the answer.
    if old.link.replace(fd.as_fd()).is_err() {
        return Ok(None);
    }
    let reason = if plan.programs.first() == Some(&old.program) {
        format!("{}; replaced the program of an earlier lb", plan.reason)
    } else {
        "replaced the program of an earlier lb, for which native mode had failed".into()
    };
    Ok(Some(Attachment { mode: old.program.mode(), reason }))
}

fn attach_anew(xdp: &mut Xdp, program: Program, ifindex: u32) -> Result<FdLink, Refusal> {
    let id = xdp.attach_to_if_index(ifindex, program.flag()).map_err(|error| Refusal(error.into()))?;
    let link = xdp.take_link(id).map_err(|error| Refusal(error.into()))?;
    // Where the kernel refused a link aya has attached by netlink, which dies with nobody and cannot be pinned.
    FdLink::try_from(link).map_err(|_| Refusal("the kernel has no links for XDP (Linux 5.9 has)".into()))
}

/// Why an attachment was refused.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Refusal(#[source] Box<dyn Error + Send + Sync>);

/// An error and its causes in one line.
fn chain(error: &dyn Error) -> String {
    let mut text = String::new();
    let mut next = Some(error);
    while let Some(error) = next {
        let words = error.to_string();
        if !text.ends_with(&words) {
            let separator = if text.is_empty() { "" } else { ": " };
            // Writing to a String cannot fail.
            let _ = write!(text, "{separator}{words}");
        }
        next = error.source();
    }
    text
}

fn remedy(interface: &str, program: Program, refusal: &str) -> String {
    if refusal.contains("os error 16") || refusal.contains("os error 17") {
        return format!(
            "another XDP program is attached: `ip link set dev {interface} xdp off` removes it, or, where a link holds \
             it, ending whoever `bpftool link show` names"
        );
    }
    match program {
        Program::Native => format!("set interface.{interface}.xdp to \"auto\" or \"generic\""),
        Program::Generic => "see the kernel's log (dmesg)".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cable_is_attached_in_generic_mode_only() {
        let plan = Plan::by_driver(Some("veth"));
        assert_eq!(plan.programs, [Program::Generic]);
        assert!(plan.reason.contains("veth"), "{}", plan.reason);
    }

    #[test]
    fn other_drivers_are_asked_first() {
        assert_eq!(Plan::by_driver(Some("ixgbe")).programs, [Program::Native, Program::Generic]);
        assert_eq!(Plan::by_driver(None).programs, [Program::Native, Program::Generic]);
    }

    #[test]
    fn pins_have_names_that_bpffs_takes() {
        let pin = pin_path(Path::new("/x"), "eth0.100", Program::Generic);
        assert!(!pin.to_string_lossy().contains('.'));
        assert_eq!(pin_path(Path::new("/x"), "eth0", Program::Native), Path::new("/x/link-eth0:native"));
    }
}
