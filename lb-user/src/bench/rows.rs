//! What is measured, and what it should reach.

use std::net::IpAddr;

use xtask_report::{Bound, Goal};

use super::{
    frames::{Kind, frame},
    program::{Floor, Frame},
    world::{Family, Mode, Shape, other, vip},
};

const ONE: u64 = 1;
const SOME: u64 = 1 << 16;
const MANY: u64 = 1 << 20;
/// No flow comes twice.
const NEW: u64 = 1 << 32;

/// The floor that ratios are to.
pub(super) const TRANSMIT: &str = "floor: return TX";
/// The one that `ipip` is measured by.
const ENCAPSULATE: &str = "floor: encapsulate";

/// One line of the table.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) name: String,
    pub(super) target: Target,
    pub(super) frame: Frame,
    pub(super) flows: u64,
    pub(super) goal: Option<Goal>,
}

/// Which program runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target {
    Floor(Floor),
    /// What becomes of all packets of this mode is known, or nothing if they are not ours.
    Lb(Option<Mode>, Kind),
    /// One that is pinned, by its place on the command line.
    Pinned(usize),
}

/// The rows that the others are compared with, and the wrapper's cost for long packets.
pub(super) fn floors() -> [(Floor, Row); 5] {
    let floor = |name: &str, floor, kind| {
        let frame = frame(kind, other(Family::V4), 1);
        (floor, Row { name: name.to_owned(), target: Target::Floor(floor), frame, flows: ONE, goal: None })
    };
    [
        floor("floor: return PASS", Floor::Pass, Kind::NotOurs),
        floor(TRANSMIT, Floor::Transmit, Kind::NotOurs),
        floor("floor: swap MACs", Floor::Swap, Kind::NotOurs),
        floor(ENCAPSULATE, Floor::Encapsulate, Kind::NotOurs),
        floor("floor: return TX, long packet", Floor::Transmit, Kind::Fragment),
    ]
}

/// Everything there is to measure of a configuration.
pub(super) fn all(shape: Shape) -> Vec<Row> {
    let mut rows = Vec::new();
    for mode in Mode::ALL {
        for family in Family::ALL {
            for kind in
                [Kind::Established, Kind::Syn, Kind::Unsettled, Kind::Udp, Kind::IcmpError, Kind::Fragment]
            {
                let counts: &[u64] = if kind == Kind::Syn { &[NEW] } else { &[ONE, SOME, MANY] };
                rows.extend(counts.iter().map(|flows| ours(mode, family, kind, *flows, shape)));
            }
        }
    }
    for family in Family::ALL {
        rows.extend([ONE, SOME, MANY].map(|flows| not_ours(family, flows)));
    }
    rows
}

/// The selection that takes a few minutes: every mode, and every kind of packet, but not each of each.
pub(super) fn representative(shape: Shape) -> Vec<Row> {
    let wanted = |row: &Row| match row.target {
        Target::Lb(None, _) => row.flows == ONE,
        Target::Lb(Some(mode), kind) => {
            let v4 = row.name.contains(Family::V4.name());
            match kind {
                Kind::Established | Kind::Syn => v4 || mode == Mode::Dr || row.flows == ONE,
                Kind::Unsettled => v4 && (mode == Mode::Dr || mode == Mode::Nat && row.flows == SOME),
                Kind::Udp => mode == Mode::Dr && (row.flows == ONE || v4),
                Kind::IcmpError | Kind::Fragment => {
                    row.flows == SOME && (mode == Mode::Dr || mode == Mode::Nat && v4)
                }
                Kind::NotOurs => true,
            }
        }
        Target::Floor(_) | Target::Pinned(_) => true,
    };
    all(shape).into_iter().filter(wanted).collect()
}

/// What is measured of configurations of other sizes: what depends on it.
pub(super) fn of_other_sizes(shape: Shape) -> Vec<Row> {
    let modes = [(Mode::Dr, Family::V4), (Mode::Dr, Family::V6), (Mode::Nat, Family::V4)];
    let row = |(mode, family)| {
        [(Kind::Established, ONE), (Kind::Established, SOME), (Kind::Syn, NEW)]
            .map(|(kind, flows)| ours(mode, family, kind, flows, shape))
    };
    modes.into_iter().flat_map(row).collect()
}

/// The packets that a pinned program is shown.
pub(super) fn pinned(number: usize, name: &str, to: IpAddr) -> Vec<Row> {
    let family = if to.is_ipv4() { Family::V4 } else { Family::V6 };
    let row = |kind, flows, to| Row {
        name: format!("{name}: {}", title(family, kind, flows)),
        target: Target::Pinned(number),
        frame: frame(kind, to, 1),
        flows,
        goal: None,
    };
    vec![
        row(Kind::NotOurs, ONE, other(family)),
        row(Kind::Established, ONE, to),
        row(Kind::Established, SOME, to),
        row(Kind::Established, MANY, to),
        row(Kind::Syn, NEW, to),
        row(Kind::Udp, SOME, to),
    ]
}

fn ours(mode: Mode, family: Family, kind: Kind, flows: u64, shape: Shape) -> Row {
    let services =
        if matches!(kind, Kind::Established | Kind::Syn | Kind::Udp) { shape.visited() } else { 1 };
    let name = |family, kind, flows| format!("{}, {}", mode.name(), title(family, kind, flows));
    let one_flow = name(family, Kind::Established, ONE);
    let at_most = |most, of: &str| Some(Goal::new(Bound::AtMost(most), Some(of)));
    let goal = match (mode, family, kind, flows) {
        (Mode::Dr, Family::V4, Kind::Established, ONE) => at_most(2.4, TRANSMIT),
        (Mode::Ipip, Family::V4, Kind::Established, ONE) => at_most(1.9, ENCAPSULATE),
        (_, Family::V6, Kind::Established, ONE) => at_most(1.25, &name(Family::V4, kind, flows)),
        (_, _, Kind::Established, SOME | MANY) => at_most(1.1, &one_flow),
        (_, _, Kind::Syn, _) => at_most(1.15, &one_flow),
        _ => None,
    };
    Row {
        name: name(family, kind, flows),
        target: Target::Lb(Some(mode), kind),
        frame: frame(kind, vip(mode, family, kind == Kind::Unsettled), services),
        flows,
        goal,
    }
}

fn not_ours(family: Family, flows: u64) -> Row {
    Row {
        name: title(family, Kind::NotOurs, flows),
        target: Target::Lb(None, Kind::NotOurs),
        frame: frame(Kind::NotOurs, other(family), 1),
        flows,
        goal: (family == Family::V4 && flows == ONE).then(|| Goal::new(Bound::AtMost(1.7), Some(TRANSMIT))),
    }
}

fn title(family: Family, kind: Kind, flows: u64) -> String {
    let kind = match kind {
        Kind::Established => "established",
        Kind::Syn => "SYN",
        Kind::Unsettled => "unsettled slot",
        Kind::Udp => "UDP",
        Kind::IcmpError => "ICMP error",
        Kind::Fragment => "first fragment",
        Kind::NotOurs => "not for us",
    };
    let flows = match flows {
        ONE => "1 flow",
        SOME => "64k flows",
        MANY => "1M flows",
        _ => "every one a new flow",
    };
    format!("{}, {kind}, {flows}", family.name())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const SHAPE: Shape = Shape { backends: 100, services: 100 };

    #[test]
    fn names_are_unique_and_goals_compare_with_rows_that_are_there() {
        for rows in [all(SHAPE), representative(SHAPE), of_other_sizes(SHAPE)] {
            let rows: Vec<Row> = floors().into_iter().map(|(_, row)| row).chain(rows).collect();
            let names: BTreeSet<&str> = rows.iter().map(|row| row.name.as_str()).collect();
            assert_eq!(names.len(), rows.len());
            let goals: Vec<&str> =
                rows.iter().filter_map(|row| row.goal.as_ref()?.compared_with.as_deref()).collect();
            assert!(!goals.is_empty());
            for other in goals {
                // Of other sizes only some modes are measured; their goals are open where the other is missing.
                assert!(names.contains(other), "{other}");
            }
        }
    }

    #[test]
    fn the_selection_has_every_mode_and_every_kind() {
        let selected = representative(SHAPE);
        let all = all(SHAPE);
        let kinds = |rows: &[Row]| -> BTreeSet<String> {
            rows.iter()
                .map(|row| format!("{:?}", row.target))
                .map(|text| text.split('(').next_back().unwrap_or("").to_owned())
                .collect()
        };
        assert_eq!(all.len(), 5 * 2 * 16 + 6);
        assert!(selected.len() < all.len() / 2);
        for mode in Mode::ALL {
            assert!(selected.iter().any(|row| matches!(row.target, Target::Lb(Some(its), _) if its == mode)));
        }
        assert!(kinds(&selected).len() > 1);
    }
}
