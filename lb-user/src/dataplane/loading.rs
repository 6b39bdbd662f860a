//! Handing programs to the kernel, whose verifier takes seconds for all of them: side by side, and only those that are
//! needed.

use std::{collections::BTreeSet, panic::resume_unwind};

use aya::{
    Ebpf,
    programs::{Program as AnyProgram, ProgramError, Xdp},
};
use lb_common::{Stage, names};
use tracing::warn;

use super::{DataplaneError, Program, stages, xdp::load_error};

/// Loads programs with their rare stages, which have not been loaded yet.
pub(super) fn load(ebpf: &mut Ebpf, programs: &[Program]) -> Result<(), DataplaneError> {
    load_with_explain(ebpf, programs, false).map(drop)
}

/// The same, and the program that explains if it is asked for. Returns whether that is loaded, or why not.
pub(super) fn load_with_explain(
    ebpf: &mut Ebpf,
    programs: &[Program],
    explain: bool,
) -> Result<Result<(), String>, DataplaneError> {
    let variants: Vec<_> = programs.iter().map(|program| program.variant()).collect();
    let stages = variants.iter().flat_map(|variant| Stage::ALL.iter().map(|stage| stage.program(*variant)));
    let mut names: BTreeSet<&str> = variants.iter().map(|variant| variant.program()).chain(stages).collect();
    if explain {
        names.insert(names::PROGRAM_EXPLAIN);
    }
    let mut explained = Err("it was not asked for when lb started".to_owned());
    for (name, result) in load_all(ebpf, &names) {
        if name == names::PROGRAM_EXPLAIN {
            explained = result.map_err(|error| {
                let text = error.to_string();
                warn!("`lb explain` will not work, everything else does: {text}");
                text
            });
        } else {
            result?;
        }
    }
    variants.into_iter().try_for_each(|variant| stages::enter(ebpf, variant))?;
    Ok(explained)
}

/// Loads each on a thread of its own.
fn load_all<'a>(ebpf: &'a mut Ebpf, names: &BTreeSet<&str>) -> Vec<(&'a str, Result<(), DataplaneError>)> {
    std::thread::scope(|scope| {
        let wanted = ebpf.programs_mut().filter_map(|(name, program)| match program {
            AnyProgram::Xdp(program) if names.contains(name) => {
                Some((name, scope.spawn(|| load_patiently(program))))
            }
            _ => None,
        });
        let threads: Vec<_> = wanted.collect();
        threads
            .into_iter()
            .map(|(name, thread)| (name, thread.join().unwrap_or_else(|panic| resume_unwind(panic))))
            .collect()
    })
}

/// Loads a program. The verifier gives up with EAGAIN when a signal arrives while it works, whatever becomes of the
/// signal.
fn load_patiently(program: &mut Xdp) -> Result<(), DataplaneError> {
    const ATTEMPTS: usize = 5;
    for _ in 1..ATTEMPTS {
        match program.load() {
            Err(ProgramError::LoadError { io_error, .. })
                if io_error.raw_os_error() == Some(libc::EAGAIN) => {}
            result => return result.map_err(|error| load_error(readable(error))),
        }
    }
    program.load().map_err(|error| load_error(readable(error)))
}

/// Says what the kernel lacks, as far as its answer tells.
fn readable(error: ProgramError) -> Box<dyn std::error::Error + Send + Sync> {
    let ProgramError::LoadError { io_error, .. } = &error else { return error.into() };
    // Not `ErrorKind::PermissionDenied`: that is EACCES too, the verifier's word for "I don't believe this".
    if io_error.raw_os_error() == Some(libc::EPERM) {
        return format!(
            "the kernel refuses ({io_error}): in a container or user namespace the capabilities must be those of the \
             host; a kernel before 5.11 also wants a larger RLIMIT_MEMLOCK"
        )
        .into();
    }
    format!("lb needs Linux 5.18 or later, built with CONFIG_BPF_SYSCALL and CONFIG_DEBUG_INFO_BTF: {error}")
        .into()
}
