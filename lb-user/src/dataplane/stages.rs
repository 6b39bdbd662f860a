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
    xdp::{load_error, load_patiently},
};

/// Loads the rare stages of every variant and enters them in `STAGES`.
pub(super) fn load(ebpf: &mut Ebpf) -> Result<(), DataplaneError> {
    for &variant in Variant::ALL {
        for &stage in Stage::ALL {
            let program = program(ebpf, stage.program(variant))?;
            load_patiently(program)?;
            let fd =
                program.fd().and_then(|fd| Ok(fd.try_clone()?)).map_err(|error| load_error(error.into()))?;
            let slot = Stage::slot(stage as u32, variant);
            array(ebpf)?.set(slot, &fd, 0).map_err(failed(names::STAGES, "insert", slot))?;
        }
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
