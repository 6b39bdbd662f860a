//! Groups of virtual routers and notification.

use std::time::Duration;

use toml::Spanned;

use super::{
    DAY,
    track::{RawTracking, tracking},
};
use crate::config::{read::Reader, value};

pub(in crate::config) struct RawSyncGroup {
    pub(in crate::config) name: Option<Spanned<String>>,
    pub(in crate::config) routers: Option<Spanned<Vec<Spanned<String>>>>,
    pub(in crate::config) tracking: RawTracking,
    pub(in crate::config) notify: Option<Spanned<RawNotify>>,
}

pub(in crate::config) struct RawNotify {
    pub(in crate::config) owner: Option<Spanned<Vec<String>>>,
    pub(in crate::config) backup: Option<Spanned<Vec<String>>>,
    pub(in crate::config) fault: Option<Spanned<Vec<String>>>,
    pub(in crate::config) stop: Option<Spanned<Vec<String>>>,
    pub(in crate::config) any: Option<Spanned<Vec<String>>>,
    pub(in crate::config) user: Option<Spanned<String>>,
    pub(in crate::config) timeout: Option<Spanned<Duration>>,
}

pub(super) fn sync_group(table: &mut Reader<'_, '_>) -> RawSyncGroup {
    RawSyncGroup {
        name: table.required("name", "name = \"VG_1\", for logs and status", value::name),
        routers: table.required_list(
            "routers",
            "routers = [\"VI_1\", \"VI_2\"], the virtual routers that move together",
            value::name,
        ),
        tracking: tracking(table),
        notify: notify(table, "[sync_group.notify]"),
    }
}

pub(super) fn notify<'t>(table: &mut Reader<'t, '_>, what: &'t str) -> Option<Spanned<RawNotify>> {
    table.table("notify", what, |notify| RawNotify {
        owner: notify.optional("owner", value::command),
        backup: notify.optional("backup", value::command),
        fault: notify.optional("fault", value::command),
        stop: notify.optional("stop", value::command),
        any: notify.optional("any", value::command),
        user: notify.optional("user", value::name),
        timeout: notify.optional("timeout", value::duration(Duration::from_millis(1)..=DAY)),
    })
}
