//! Groups of virtual routers and notification.

use std::{collections::BTreeMap, ops::Range};

use toml::Spanned;

use super::{Context, Findings, copied, track, unique, unique_names};
use crate::config::{
    model::{Notify, SyncGroup},
    raw::{RawConfig, RawNotify, RawRouter, RawSyncGroup},
    read::nearest,
    report::Problem,
};

/// Names of interfaces, and where they stand.
type Interfaces = Vec<(String, Range<usize>)>;

/// The groups, and where they name interfaces they track.
pub(super) fn sync_groups(
    raw: &RawConfig,
    context: &Context<'_>,
    findings: &mut Findings<'_>,
) -> (Vec<SyncGroup>, Interfaces) {
    let groups = || raw.sync_groups.iter().map(Spanned::get_ref);
    unique_names("sync group", groups().filter_map(|group| group.name.as_ref()), findings);
    let members = groups().flat_map(|group| group.routers.iter().flat_map(Spanned::get_ref));
    unique(members.map(|name| (name.get_ref().as_str(), name.span())), findings, |name, span, first| {
        Problem::at(span, format!("virtual router {name:?} is in two groups, or twice in one"))
            .related(first, "the first time")
            .help("it can move with one group only; join the groups, or remove it from one")
    });
    let mut interfaces = Vec::new();
    let sound = groups()
        .filter_map(|group| {
            let (group, named) = sync_group(group, raw, context, findings)?;
            interfaces.extend(named);
            Some(group)
        })
        .collect();
    (sound, interfaces)
}

fn sync_group(
    group: &RawSyncGroup,
    raw: &RawConfig,
    context: &Context<'_>,
    findings: &mut Findings<'_>,
) -> Option<(SyncGroup, Interfaces)> {
    let routers: BTreeMap<&str, _> = raw
        .virtual_routers
        .iter()
        .filter_map(|router| Some((router.get_ref().name.as_ref()?.get_ref().as_str(), router.get_ref())))
        .collect();
    let members = group.routers.as_ref()?;
    if let [alone] = &members.get_ref()[..] {
        findings.problems.push(
            Problem::at(alone.span(), "a group of one virtual router")
                .expected("two at least")
                .help("what one virtual router tracks and tells stands in its own table"),
        );
    }
    for name in members.get_ref().iter().filter(|name| !routers.contains_key(name.get_ref().as_str())) {
        let known: Vec<&str> = routers.keys().copied().collect();
        let problem = Problem::at(name.span(), format!("no virtual router is named {:?}", name.get_ref()));
        findings.problems.push(match nearest(name.get_ref(), &known) {
            Some(near) => problem.help(format!("did you mean {near:?}?")),
            None => problem.help("the group names the `name` of each [[virtual_router]]"),
        });
    }
    same_rank(members.get_ref(), &routers, findings);
    let (tracking, interfaces) = track::tracking(&group.tracking, context, findings);
    let group = SyncGroup {
        name: group.name.as_ref()?.get_ref().clone(),
        routers: members.get_ref().iter().map(|name| name.get_ref().clone()).collect(),
        tracking,
        notify: notify(group.notify.as_ref(), findings),
    };
    Some((group, interfaces))
}

/// Members of different priorities would go to different nodes, and draw each other back and forth.
fn same_rank(members: &[Spanned<String>], routers: &BTreeMap<&str, &RawRouter>, findings: &mut Findings<'_>) {
    let mut members = members.iter().filter_map(|name| routers.get(name.get_ref().as_str()));
    let Some(first) = members.next() else { return };
    for member in members {
        if let (Some(first), Some(other)) = (&first.priority, &member.priority)
            && first.get_ref() != other.get_ref()
        {
            findings.problems.push(
                Problem::at(other.span(), "virtual routers of one group have different priorities")
                    .expected(first.get_ref().to_string())
                    .related(first.span(), "the group's first")
                    .help("they are owner or backup together, so they have one rank"),
            );
        }
        let preempt = |router: &RawRouter| copied(router.preempt.as_ref()).unwrap_or(true);
        if preempt(first) != preempt(member) {
            let span = [&member.preempt, &first.preempt].into_iter().flatten().next().map(Spanned::span);
            findings.problems.push(
                Problem::at(span.unwrap_or_default(), "virtual routers of one group differ in `preempt`")
                    .help("they are owner or backup together; let all preempt or none"),
            );
        }
    }
}

pub(super) fn notify(raw: Option<&Spanned<RawNotify>>, findings: &mut Findings<'_>) -> Notify {
    let Some(raw) = raw.map(Spanned::get_ref) else { return Notify::default() };
    let mut command = |raw: &Option<Spanned<Vec<String>>>| {
        let Some(command) = raw else { return Vec::new() };
        track::warn_of_shell(command, findings);
        command.get_ref().clone()
    };
    Notify {
        owner: command(&raw.owner),
        backup: command(&raw.backup),
        fault: command(&raw.fault),
        stop: command(&raw.stop),
        any: command(&raw.any),
        user: raw.user.as_ref().map(|user| user.get_ref().clone()),
        timeout: copied(raw.timeout.as_ref()).unwrap_or(Notify::default().timeout),
    }
}
