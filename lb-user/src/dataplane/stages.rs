//! The rare stages: programs that the main one goes on in, by the program array `STAGES`.
//!
//! The kernel empties a program array as soon as no process and no pin holds it, whatever programs use it. So it is
//! pinned beside the link, and what is attached stays whole when the daemon dies.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use aya::{
    Ebpf,
    maps::{Map, ProgramArray},
    programs::Xdp,
};
use lb_common::{Stage, Variant, names};

use super::{
    DataplaneError,
    maps::{failed, missing},
    xdp::load_error,
};

/// Enters the rare stages of a variant, which are loaded, in `STAGES`.
pub(super) fn enter(ebpf: &mut Ebpf, variant: Variant) -> Result<(), DataplaneError> {
    for &stage in Stage::ALL {
        let program = program(ebpf, stage.program(variant))?;
        let fd = program.fd().and_then(|fd| Ok(fd.try_clone()?)).map_err(|error| load_error(error.into()))?;
        let slot = Stage::slot(stage as u32, variant);
        array(ebpf)?.set(slot, &fd, 0).map_err(failed(names::STAGES, "insert", slot))?;
    }
    Ok(())
}

/// A program of the object file.
pub(super) fn program<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut Xdp, DataplaneError> {
    ebpf.program_mut(name)
        .and_then(|program| program.try_into().ok())
        .ok_or_else(|| load_error(format!("the object file has no program {name}").into()))
}

fn array(ebpf: &mut Ebpf) -> Result<ProgramArray<&mut aya::maps::MapData>, DataplaneError> {
    let map = ebpf.map_mut(names::STAGES).ok_or_else(|| missing(names::STAGES))?;
    map.try_into().map_err(failed(names::STAGES, "open", ""))
}

/// Pins the stages for an interface, beside those of the program that it may replace there.
pub(super) fn pin(ebpf: &Ebpf, pin_dir: &Path, interface: &str) -> Result<Pinned, DataplaneError> {
    let (map, name) = pin_name(ebpf, interface)?;
    let path = pin_dir.join(name);
    if path.exists() {
        return Ok(Pinned { new: None });
    }
    match map.pin(&path) {
        Ok(()) => Ok(Pinned { new: Some(path) }),
        Err(error) => Err(DataplaneError::Pin { path, source: io::Error::other(error) }),
    }
}

/// What [`pin`] has done.
pub(super) struct Pinned {
    new: Option<PathBuf>,
}

impl Pinned {
    /// Takes it back, where nothing was attached after all.
    pub(super) fn undo(&self) {
        // What cannot be removed goes with the next attachment.
        let _ = self.new.as_ref().map(fs::remove_file);
    }
}

/// Removes the pins of the stages of earlier programs on an interface.
pub(super) fn unpin_earlier(ebpf: &Ebpf, pin_dir: &Path, interface: &str) -> Result<(), DataplaneError> {
    let (_, current) = pin_name(ebpf, interface)?;
    unpin(pin_dir, interface, Some(&current))
}

/// Removes all pins of stages for an interface, but for the one named `keep`.
pub(super) fn unpin(pin_dir: &Path, interface: &str, keep: Option<&str>) -> Result<(), DataplaneError> {
    let failed = |source| DataplaneError::Pin { path: pin_dir.to_owned(), source };
    let entries = match fs::read_dir(pin_dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(failed)?,
    };
    let prefix = pin_prefix(interface);
    for entry in entries {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with(&prefix) && Some(&*name) != keep {
            let path = entry.path();
            fs::remove_file(&path).map_err(|source| DataplaneError::Pin { path, source })?;
        }
    }
    Ok(())
}

/// The map, and the name of its pin for an interface. The map's number in it tells one program's from another's.
fn pin_name<'a>(ebpf: &'a Ebpf, interface: &str) -> Result<(&'a Map, String), DataplaneError> {
    let map = ebpf.map(names::STAGES).ok_or_else(|| missing(names::STAGES))?;
    let Map::ProgramArray(data) = map else { return Err(missing(names::STAGES)) };
    let id = data.info().map_err(failed(names::STAGES, "inspect", ""))?.id();
    Ok((map, format!("{}{id}", pin_prefix(interface))))
}

/// No interface has a colon in its name, and bpffs takes no dots.
fn pin_prefix(interface: &str) -> String {
    format!("stages-{}:", interface.replace('.', "\u{2024}"))
}

#[cfg(test)]
mod tests {
    use lb_common::{LEASE_FOREVER, Verdict, Vip};

    use super::*;
    use crate::dataplane::{Dataplane as _, LoadOptions, Program, XdpDataplane};

    #[test]
    #[ignore = "needs root and BPF: cargo xtask test"]
    fn packet_whose_stage_is_missing_passes_and_is_counted() {
        let options = LoadOptions { backends: 16, services: 16, ..LoadOptions::new("/nonexistent") };
        let mut dataplane = XdpDataplane::load(options).expect("the program loads");
        dataplane.leases().set(1, LEASE_FOREVER).expect("the lease is there");
        let vip = std::net::Ipv4Addr::new(172, 20, 128, 4);
        dataplane.put_vip(vip.into(), Vip { lease: 1, flags: 0 }).expect("put_vip");
        for variant in Variant::ALL {
            let slot = Stage::slot(Stage::IcmpError as u32, *variant);
            array(&mut dataplane.ebpf).expect("it is there").clear_index(&slot).expect("it was filled");
        }
        // "Fragmentation needed" to the VIP.
        let mut frame =
            [&[0x02; 12][..], &[8, 0, 0x45, 0, 0, 56, 0, 0, 0, 0, 64, 1, 0, 0, 10, 0, 0, 9]].concat();
        frame.extend(vip.octets());
        frame.extend([3, 4, 0, 0, 0, 0, 5, 20]);
        frame.extend([0x45; 28]);
        for program in [Program::Native, Program::Generic] {
            let seen = dataplane.test_run(program, &frame).expect("the kernel runs the program");
            assert_eq!((seen.action, seen.frame), (2, frame.clone()));
        }
        let counts = dataplane.verdicts().expect("verdicts");
        assert_eq!(counts[Verdict::StageMissing as usize], 2);
        assert_eq!(counts.iter().sum::<u64>(), 2);
    }
}
