//! Scripts, processes and files that are tracked, by whom, and the timing that checks share with scripts.

use std::{ops::RangeInclusive, path::PathBuf, time::Duration};

use toml::{Spanned, de::DeValue};

use super::DAY;
use crate::config::{
    model::ProcessMatch,
    read::{Reader, wrong_type},
    value,
};

/// Checks and scripts more often than this would load the node more than its traffic.
pub(super) const SHORTEST_INTERVAL: Duration = Duration::from_millis(10);
const SHORTEST_TIMEOUT: Duration = Duration::from_millis(1);
/// Keepalived's, and more than any weight can make use of.
const FILE_VALUES: RangeInclusive<i64> = -2_147_483_647..=2_147_483_647;
/// Of `rise` and `fall`.
const COUNT: RangeInclusive<i64> = 1..=65_535;

pub(in crate::config) struct RawTrackScript {
    pub(in crate::config) name: Option<Spanned<String>>,
    pub(in crate::config) command: Option<Spanned<Vec<String>>>,
    pub(in crate::config) timing: RawTiming,
    pub(in crate::config) effect: RawEffect,
    pub(in crate::config) initially_up: Option<Spanned<bool>>,
    pub(in crate::config) user: Option<Spanned<String>>,
}

pub(in crate::config) struct RawTrackProcess {
    pub(in crate::config) name: Option<Spanned<String>>,
    pub(in crate::config) command: Option<Spanned<ProcessMatch>>,
    pub(in crate::config) quorum: Option<Spanned<u32>>,
    pub(in crate::config) quorum_max: Option<Spanned<u32>>,
    pub(in crate::config) fork_delay: Option<Spanned<Duration>>,
    pub(in crate::config) terminate_delay: Option<Spanned<Duration>>,
    pub(in crate::config) effect: RawEffect,
}

pub(in crate::config) struct RawTrackFile {
    pub(in crate::config) name: Option<Spanned<String>>,
    pub(in crate::config) path: Option<Spanned<PathBuf>>,
    pub(in crate::config) initial: Option<Spanned<i64>>,
    pub(in crate::config) effect: RawEffect,
}

/// What a tracker means for the priority, as far as it is said.
#[derive(Default)]
pub(in crate::config) struct RawEffect {
    pub(in crate::config) weight: Option<Spanned<i32>>,
    pub(in crate::config) reverse: Option<Spanned<bool>>,
}

/// What a virtual router or a group tracks.
pub(in crate::config) struct RawTracking {
    pub(in crate::config) scripts: Vec<RawUse>,
    pub(in crate::config) processes: Vec<RawUse>,
    pub(in crate::config) files: Vec<RawUse>,
    pub(in crate::config) interfaces: Vec<RawUse>,
    pub(in crate::config) services: Vec<RawUse>,
}

/// One thing that is tracked: its name, or a table with more.
pub(in crate::config) struct RawUse {
    pub(in crate::config) name: Spanned<String>,
    pub(in crate::config) effect: RawEffect,
    /// Of services.
    pub(in crate::config) minimum: Option<Spanned<u32>>,
    /// Of services.
    pub(in crate::config) local: Option<Spanned<bool>>,
}

/// What track scripts and checks have in common.
pub(in crate::config) struct RawTiming {
    pub(in crate::config) interval: Option<Spanned<Duration>>,
    pub(in crate::config) timeout: Option<Spanned<Duration>>,
    pub(in crate::config) rise: Option<Spanned<u32>>,
    pub(in crate::config) fall: Option<Spanned<u32>>,
    /// No mistake in the above, so what is missing has its default.
    pub(in crate::config) sound: bool,
}

pub(super) fn track_script(table: &mut Reader<'_, '_>) -> RawTrackScript {
    RawTrackScript {
        name: table.required("name", "name = \"chk_nginx\", which virtual routers then use", value::name),
        command: table.required("command", "command = \"pidof nginx\"", value::command),
        timing: timing(table),
        effect: effect(table),
        initially_up: table.optional("initially", value::choice(&[("up", true), ("down", false)])),
        user: table.optional("user", value::name),
    }
}

pub(super) fn track_process(table: &mut Reader<'_, '_>) -> RawTrackProcess {
    let delay = || value::duration(Duration::ZERO..=DAY);
    RawTrackProcess {
        name: table.required("name", "name = \"nginx\", which virtual routers then use", value::name),
        command: table.required(
            "command",
            "command = \"nginx\", the name of the process, its program from / on, or all its arguments",
            value::process,
        ),
        quorum: table.optional("quorum", value::number(0..=65_535)),
        quorum_max: table.optional("quorum_max", value::number(0..=65_535)),
        fork_delay: table.optional("fork_delay", delay()),
        terminate_delay: table.optional("terminate_delay", delay()),
        effect: effect(table),
    }
}

pub(super) fn track_file(table: &mut Reader<'_, '_>) -> RawTrackFile {
    RawTrackFile {
        name: table.required("name", "name = \"load\", which virtual routers then use", value::name),
        path: table.required("path", "path = \"/run/load\", a file with a number", value::file),
        initial: table.optional("initial", value::number(FILE_VALUES)),
        effect: effect(table),
    }
}

pub(super) fn tracking(table: &mut Reader<'_, '_>) -> RawTracking {
    RawTracking {
        scripts: uses(table, "track_scripts", false),
        processes: uses(table, "track_processes", false),
        files: uses(table, "track_files", false),
        interfaces: uses(table, "track_interfaces", false),
        services: uses(table, "track_services", true),
    }
}

fn uses(table: &mut Reader<'_, '_>, key: &'static str, service: bool) -> Vec<RawUse> {
    table.elements(key, |table, element| match element.get_ref() {
        DeValue::Table(inner) => table.inner(key, inner, element.span(), |inner| {
            let name = inner.required("name", "name, of what is tracked", value::name);
            let effect = effect(inner);
            let (mut minimum, mut local) = (None, None);
            if service {
                minimum = inner.optional("minimum", value::number(1..=65_535));
                local = inner.optional("local", value::boolean);
            }
            Some(RawUse { name: name?, effect, minimum, local })
        }),
        DeValue::String(_) => {
            let name = table.note(value::name(key, element))?;
            let name = Spanned::new(element.span(), name);
            Some(RawUse { name, effect: RawEffect::default(), minimum: None, local: None })
        }
        _ => {
            table.push(wrong_type(key, element, "a name, or a table such as { name = \"…\", weight = -20 }"));
            None
        }
    })
}

fn effect(table: &mut Reader<'_, '_>) -> RawEffect {
    RawEffect {
        weight: table.optional("weight", value::number(-254..=254)),
        reverse: table.optional("reverse", value::boolean),
    }
}

pub(super) fn timing(table: &mut Reader<'_, '_>) -> RawTiming {
    let mistakes = table.mistakes();
    RawTiming {
        interval: table.optional("interval", value::duration(SHORTEST_INTERVAL..=DAY)),
        timeout: table.optional("timeout", value::duration(SHORTEST_TIMEOUT..=DAY)),
        rise: table.optional("rise", value::number(COUNT)),
        fall: table.optional("fall", value::number(COUNT)),
        sound: mistakes == table.mistakes(),
    }
}
