//! Attaching, outliving the process, and being replaced without a gap.

use std::{
    os::fd::{AsFd as _, AsRawFd as _},
    path::{Path, PathBuf},
    process::Command,
};

use lb::{
    config::XdpMode,
    dataplane::{Attachment, Dataplane as _, DataplaneError, LinkState, LoadOptions, Program, XdpDataplane},
};
use lb_common::Stage;
use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
};

use crate::{
    namespace::{index, ip, isolated},
    pool::{self, Lent},
};

/// Runs `test` in network and mount namespaces of its own, with a veth pair `near`–`peer` and a bpffs at the path it is
/// given. All of it goes with the thread.
fn with_cable(test: impl FnOnce(&Path) + Send) {
    isolated(|| {
        let none: Option<&str> = None;
        unshare(CloneFlags::CLONE_NEWNS).expect("a mount namespace can be made");
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)
            .expect("mounts can be made private");
        let folder = tempfile::tempdir().expect("a temporary folder");
        mount(Some("bpf"), folder.path(), Some("bpf"), MsFlags::empty(), none)
            .expect("a bpffs can be mounted");
        make_cable();
        test(folder.path());
        nix::mount::umount(folder.path()).expect("nobody uses the bpffs");
    });
}

fn make_cable() {
    ip("link add near type veth peer name peer");
    ip("link set near up");
    ip("link set peer up");
}

fn load(pin_dir: &Path) -> Lent {
    Lent::pinning_in(pin_dir)
}

fn attach(dataplane: &mut XdpDataplane, mode: XdpMode) -> (Attachment, LinkState) {
    let attachment = dataplane.attach("near", mode).expect("attaches");
    let state = dataplane.attached("near").expect("the pin can be read").expect("something is attached");
    assert_eq!(state.ifindex, index("near"));
    (attachment, state)
}

/// The pins of stages there are.
fn stages(pin_dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(pin_dir).expect("the folder can be read");
    let paths = entries.map(|entry| entry.expect("the folder can be read").path());
    paths.filter(|path| path.to_string_lossy().contains("/stages-near:")).collect()
}

/// How many programs there are in a pinned program array.
fn programs_in(pin: &Path) -> usize {
    const BPF_MAP_LOOKUP_ELEM: libc::c_int = 1;
    /// The part of `union bpf_attr` that the command reads.
    #[repr(C)]
    struct Attribute {
        map: u64,
        key: u64,
        value: u64,
        flags: u64,
    }
    let map = aya::maps::MapData::from_pin(pin).expect("it can be opened");
    let holds = |slot: &u32| {
        let mut program = 0_u32;
        let attribute = Attribute {
            map: u64::try_from(map.fd().as_fd().as_raw_fd()).expect("descriptors are not negative"),
            key: std::ptr::from_ref(slot) as u64,
            value: (&raw mut program) as u64,
            flags: 0,
        };
        // SAFETY: the kernel reads the attribute and the key, 4 bytes, and writes the value, 4 bytes.
        let answer = unsafe {
            libc::syscall(libc::SYS_bpf, BPF_MAP_LOOKUP_ELEM, &raw const attribute, size_of::<Attribute>())
        };
        answer == 0 && program != 0
    };
    (0..Stage::SLOTS).filter(holds).count()
}

/// What `ip` says about XDP on the interface: `xdp`, `xdpgeneric` or nothing.
fn shown() -> Option<String> {
    let output = Command::new("ip").args(["link", "show", "near"]).output().expect("`ip` can be run");
    let text = String::from_utf8(output.stdout).expect("text");
    text.split_whitespace().find(|word| word.starts_with("xdp")).map(str::to_owned)
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn attachment_outlives_its_process_and_is_replaced_atomically() {
    for (mode, name, word) in
        [(XdpMode::Native, "native", "xdp"), (XdpMode::Generic, "generic", "xdpgeneric")]
    {
        with_cable(|bpffs| {
            let pin_dir = bpffs.join("lb/node-a");
            let programs = vec![Program::first_choice("near", mode)];
            let options =
                LoadOptions { pin_dir: pin_dir.clone(), programs, explain: false, ..pool::options() };
            let mut first = XdpDataplane::load(options).expect("the program loads");
            assert_eq!(first.attached("near").expect("no pin is no error"), None);
            let (attachment, old) = attach(&mut first, mode);
            assert_eq!(attachment.mode, name);
            assert_eq!(shown().as_deref(), Some(word));

            drop(first);
            assert_eq!(shown().as_deref(), Some(word));
            let [pin] = &stages(&pin_dir)[..] else { panic!("{:?}", stages(&pin_dir)) };
            assert_eq!(programs_in(pin), Stage::ALL.len(), "the stages are as long there as the link");

            let mut second = load(&pin_dir);
            assert_eq!(second.attached("near").expect("the pin can be read"), Some(old));
            let (attachment, new) = attach(&mut second, mode);
            assert_eq!(attachment.mode, name);
            assert_eq!(new.id, old.id, "the link stays, so there was no gap");
            assert_ne!(new.program, old.program);

            let (_, again) = attach(&mut second, mode);
            assert_eq!(again, new, "attaching twice changes nothing");
            assert_eq!(stages(&pin_dir).len(), 1, "those of the first program are gone");

            for _ in 0..2 {
                second.detach("near").expect("detaching twice is a success");
                assert_eq!(shown(), None);
                assert_eq!(second.attached("near").expect("no pin is no error"), None);
                assert_eq!(stages(&pin_dir), Vec::<PathBuf>::new());
            }
        });
    }
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn automatic_mode_on_a_cable_is_generic_and_says_why() {
    with_cable(|bpffs| {
        let (attachment, _) = attach(&mut load(bpffs), XdpMode::Auto);
        assert_eq!(attachment.mode, "generic");
        assert!(attachment.reason.contains("veth"), "{}", attachment.reason);
    });
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn automatic_mode_falls_back_where_the_driver_has_no_xdp() {
    with_cable(|bpffs| {
        ip("link add br0 type bridge");
        ip("link set br0 up");
        let attachment = load(bpffs).attach("br0", XdpMode::Auto).expect("attaches");
        assert_eq!(attachment.mode, "generic");
        assert!(attachment.reason.starts_with("native mode failed: "), "{}", attachment.reason);
    });
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn another_mode_makes_a_new_link() {
    with_cable(|bpffs| {
        let mut dataplane = load(bpffs);
        let (_, native) = attach(&mut dataplane, XdpMode::Native);
        let (attachment, generic) = attach(&mut dataplane, XdpMode::Generic);
        assert_eq!(attachment.mode, "generic");
        assert_ne!(generic.id, native.id);
        assert_eq!(shown().as_deref(), Some("xdpgeneric"));
    });
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn pins_of_interfaces_that_went_away_are_replaced() {
    with_cable(|bpffs| {
        let mut dataplane = load(bpffs);
        let (_, old) = attach(&mut dataplane, XdpMode::Generic);
        ip("link del near");
        make_cable();
        assert_eq!(shown(), None);
        let (_, new) = attach(&mut dataplane, XdpMode::Generic);
        assert_ne!(new.id, old.id);
        assert_eq!(shown().as_deref(), Some("xdpgeneric"));
    });
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn interfaces_with_dots_can_be_pinned() {
    with_cable(|bpffs| {
        ip("link set near down");
        ip("link set near name near.1");
        let mut dataplane = load(bpffs);
        dataplane.attach("near.1", XdpMode::Generic).expect("attaches");
        assert!(dataplane.attached("near.1").expect("the pin can be read").is_some());
        dataplane.detach("near.1").expect("detaches");
    });
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn refusals_name_place_and_remedy() {
    with_cable(|bpffs| {
        let mut dataplane = load(&bpffs.join("a"));
        let error = dataplane.attach("nosuch", XdpMode::Auto).expect_err("there is no such interface");
        assert!(matches!(&error, DataplaneError::NoInterface(name) if name == "nosuch"), "{error}");

        let folder = tempfile::tempdir().expect("a temporary folder");
        let error = load(folder.path()).attach("near", XdpMode::Generic).expect_err("this is no bpffs");
        assert!(matches!(&error, DataplaneError::Pin { .. }), "{error}");
        assert!(error.to_string().contains("mount -t bpf"), "{error}");
        assert_eq!(shown(), None, "what could not be pinned is not left attached");

        attach(&mut dataplane, XdpMode::Generic);
        let mut other = load(&bpffs.join("b"));
        for mode in [XdpMode::Auto, XdpMode::Native, XdpMode::Generic] {
            let error = other.attach("near", mode).expect_err("another program is attached");
            assert!(error.to_string().contains("ip link set dev near xdp off"), "{mode:?}: {error}");
            assert_eq!(stages(&bpffs.join("b")), Vec::<PathBuf>::new(), "{mode:?}");
        }
    });
}
