//! Track scripts, and the timing that checks share with them.

use std::{ops::RangeInclusive, time::Duration};

use toml::Spanned;

use super::DAY;
use crate::config::{read::Reader, value};

/// Checks and scripts more often than this would load the node more than its traffic.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(10);
const SHORTEST_TIMEOUT: Duration = Duration::from_millis(1);
/// Of `rise` and `fall`.
const COUNT: RangeInclusive<i64> = 1..=65_535;

pub(in crate::config) struct RawTrackScript {
    pub(in crate::config) name: Option<Spanned<String>>,
    pub(in crate::config) command: Option<Spanned<Vec<String>>>,
    pub(in crate::config) timing: RawTiming,
    pub(in crate::config) weight: Option<Spanned<i32>>,
    pub(in crate::config) user: Option<Spanned<String>>,
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
        weight: table.optional("weight", value::number(-253..=253)),
        user: table.optional("user", value::name),
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
