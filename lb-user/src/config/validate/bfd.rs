//! Fast detection of dead peers.

use std::{collections::BTreeMap, time::Duration};

use toml::Spanned;

use super::{Findings, copied};
use crate::config::{
    model::Bfd,
    raw::{RawBfd, RawConfig, RawRouter},
    report::Problem,
};

/// What a virtual router says, or what it gets if it says nothing.
pub(super) fn settings(raw: &RawRouter, advert_interval: Duration) -> Option<Bfd> {
    let default = Bfd::default();
    match raw.bfd.as_ref().map(Spanned::get_ref) {
        Some(RawBfd::Off) => None,
        Some(RawBfd::On { interval, multiplier }) => Some(Bfd {
            interval: interval.unwrap_or(default.interval),
            multiplier: multiplier.unwrap_or(default.multiplier),
        }),
        None => (advert_interval >= Bfd::WORTHWHILE).then_some(default),
    }
}

/// There is one session between two addresses on an interface, whatever the number of virtual routers that want it.
pub(super) fn check_shared_sessions(raw: &RawConfig, findings: &mut Findings<'_>) {
    let mut sessions = BTreeMap::new();
    for router in &raw.virtual_routers {
        let span = router.get_ref().bfd.as_ref().map_or(router.span(), Spanned::span);
        let router = router.get_ref();
        let advert_interval = copied(router.advert_interval.as_ref()).unwrap_or(Duration::from_secs(1));
        let Some(settings) = settings(router, advert_interval) else { continue };
        let (Some(interface), Some(unicast)) = (&router.interface, &router.unicast) else { continue };
        let Some(source) = copied(unicast.get_ref().source.as_ref()) else { continue };
        for peer in unicast.get_ref().peers.iter().flat_map(Spanned::get_ref) {
            let peer = *peer.get_ref();
            let (first, first_span) = sessions
                .entry((interface.get_ref(), source, peer))
                .or_insert_with(|| (settings, span.clone()));
            if *first != settings {
                findings.problems.push(
                    Problem::at(span, format!("another virtual router has BFD with {peer} otherwise"))
                        .expected(format!(
                            "interval = \"{}\", multiplier = {}",
                            humantime::format_duration(first.interval),
                            first.multiplier
                        ))
                        .related(first_span.clone(), "the first")
                        .help("two nodes have one BFD session; write the same here, or bfd = \"off\""),
                );
                break;
            }
        }
    }
}
