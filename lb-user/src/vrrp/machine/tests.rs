use std::net::Ipv4Addr;

use super::*;

mod conformance;
mod leaving;
mod orders;
mod version_3;

const OURS: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2));
const LOWER: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
const HIGHER: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 200));
const FAULT: Input = Input::FaultSet { hand_over: false };
/// Of priority 128: half a second.
const SKEW: u64 = 500;

/// A machine of priority 128 with adverts every second, and its clock in milliseconds.
struct Bench {
    machine: Machine,
    clock: u64,
}

fn at(milliseconds: u64) -> Timestamp {
    Timestamp(milliseconds * 1_000_000)
}

fn advert(priority: u8) -> Advert {
    let advert_interval = Duration::from_secs(1);
    Advert { router_id: 1, priority, advert_interval, addresses: vec![Ipv4Addr::new(192, 0, 2, 9).into()] }
}

fn settings() -> Settings {
    Settings {
        version: VrrpVersion::V2,
        priority: 128,
        preempt: true,
        preempt_delay: Duration::ZERO,
        advert_interval: Duration::from_secs(1),
        primary: OURS,
        announce_refresh: None,
    }
}

fn send(priority: u8, not_after: u64) -> Action {
    Action::SendAdvert { priority, not_after: at(not_after) }
}

impl Bench {
    fn new(preempt: bool) -> Self {
        Self::with(Settings { preempt, ..settings() })
    }

    fn with(settings: Settings) -> Self {
        Self { machine: Machine::new(settings), clock: 0 }
    }

    /// Started at 0.
    fn backup() -> Self {
        let mut bench = Self::new(true);
        let started = Action::BecomeBackup { reason: BackupReason::Started };
        assert_eq!(bench.input(0, Input::Start), [started]);
        bench
    }

    /// Owner since 3500, its lease runs until 6400, its next advert is due at 4500.
    fn owner() -> Self {
        let mut bench = Self::backup();
        assert_eq!(bench.input(3000 + SKEW, Input::Timeout), [send(128, 3600)]);
        assert_eq!(bench.sent(3500), [Action::BecomeOwner]);
        bench
    }

    fn input(&mut self, clock: u64, input: Input) -> Vec<Action> {
        assert!(clock >= self.clock, "time does not go back");
        self.clock = clock;
        self.machine.handle(at(clock), input)
    }

    fn hear(&mut self, clock: u64, priority: u8, source: IpAddr) -> Vec<Action> {
        self.input(clock, Input::AdvertReceived { advert: advert(priority), source })
    }

    fn sent(&mut self, clock: u64) -> Vec<Action> {
        self.input(clock, Input::AdvertSent { sent: at(clock) })
    }

    #[track_caller]
    fn is(&self, state: State, next_timeout: Option<u64>, lease: u64) {
        let found = (self.machine.state(), self.machine.next_timeout(), self.machine.lease_expiry());
        assert_eq!(found, (state, next_timeout.map(at), at(lease).0));
    }
}

#[test]
fn a_lone_node_waits_then_claims_and_owns_once_its_claim_is_out() {
    let mut bench = Bench::backup();
    bench.is(State::Backup, Some(3500), 0);
    assert_eq!(bench.input(3499, Input::Timeout), []);
    assert_eq!(bench.input(3500, Input::Timeout), [send(128, 3600)]);
    bench.is(State::Backup, Some(4500), 0);
    assert_eq!(bench.sent(3510), [Action::BecomeOwner]);
    bench.is(State::Owner, Some(4510), 6410);
}

#[test]
fn the_owner_advertises_in_rhythm_and_each_advert_renews_the_lease() {
    let mut bench = Bench::owner();
    bench.is(State::Owner, Some(4500), 6400);
    // 20 ms late, but the next is due as if it were not.
    assert_eq!(bench.input(4520, Input::Timeout), [send(128, 6400)]);
    assert_eq!(bench.sent(4521), []);
    bench.is(State::Owner, Some(5500), 7421);
    // More than an interval late: no catching up.
    assert_eq!(bench.input(6800, Input::Timeout), [send(128, 7421)]);
    bench.is(State::Owner, Some(7421), 7421);
}

#[test]
fn a_sending_that_failed_does_not_renew_the_lease() {
    let mut bench = Bench::owner();
    for clock in [4500, 5500] {
        assert_eq!(bench.input(clock, Input::Timeout), [send(128, 6400)]);
    }
    bench.is(State::Owner, Some(6400), 6400);
    assert_eq!(
        bench.input(6400, Input::Timeout),
        [Action::BecomeBackup { reason: BackupReason::LeaseExpired }]
    );
    bench.is(State::Backup, Some(6400 + 3500), 0);
}

#[test]
fn whatever_wakes_an_owner_whose_lease_is_over_it_is_backup_first_and_says_nothing() {
    let expired = Action::BecomeBackup { reason: BackupReason::LeaseExpired };
    let cases: [(Input, &[Action]); 9] = [
        (Input::Timeout, &[expired]),
        (Input::Start, &[expired]),
        (Input::AdvertSent { sent: at(5000) }, &[expired]),
        (Input::AdvertReceived { advert: advert(1), source: LOWER }, &[expired]),
        (Input::AdvertReceived { advert: advert(0), source: LOWER }, &[expired]),
        (Input::AdvertReceived { advert: advert(200), source: HIGHER }, &[expired]),
        (Input::PriorityChanged(50), &[expired]),
        (FAULT, &[expired, Action::EnterFault]),
        (Input::Stop, &[expired, Action::Stop]),
    ];
    for (input, expected) in cases {
        let mut bench = Bench::owner();
        assert_eq!(bench.input(6400, input.clone()), expected, "{input:?}");
        assert_eq!(bench.machine.lease_expiry(), LEASE_BACKUP, "{input:?}");
    }
}

#[test]
fn a_claim_held_up_too_long_is_decided_anew() {
    // Before sending: the adapter must not send after 3600, and asks again.
    let mut bench = Bench::backup();
    assert_eq!(bench.input(3500, Input::Timeout), [send(128, 3600)]);
    assert_eq!(bench.input(3601, Input::Timeout), [send(128, 3701)]);
    // An owner was heard meanwhile: no claim.
    assert_eq!(bench.hear(3702, 200, HIGHER), []);
    bench.is(State::Backup, Some(3702 + 3500), 0);
    assert_eq!(bench.sent(3703), []);
    bench.is(State::Backup, Some(3702 + 3500), 0);

    // After sending.
    let mut bench = Bench::backup();
    assert_eq!(bench.input(3500, Input::Timeout), [send(128, 3600)]);
    assert_eq!(bench.input(3601, Input::AdvertSent { sent: at(3500) }), []);
    bench.is(State::Backup, Some(3601 + 3500), 0);
}

#[test]
fn a_claim_that_cannot_be_sent_is_tried_again_every_interval() {
    let mut bench = Bench::backup();
    assert_eq!(bench.input(3500, Input::Timeout), [send(128, 3600)]);
    assert_eq!(bench.machine.next_timeout(), Some(at(4500)));
    assert_eq!(bench.input(4500, Input::Timeout), [send(128, 4600)]);
    // A confirmation of the first comes too late to count for the second.
    assert_eq!(bench.input(4500, Input::AdvertSent { sent: at(3500) }), []);
    bench.is(State::Backup, Some(5500), 0);
}

#[test]
fn a_backup_listens_by_priority_and_preemption() {
    // (preempt, priority heard, whether the wait begins anew); ours is 128.
    for (preempt, priority, counts) in
        [(true, 129, true), (true, 128, true), (true, 127, false), (false, 127, true), (false, 1, true)]
    {
        let mut bench = Bench::new(preempt);
        bench.input(0, Input::Start);
        assert_eq!(bench.hear(1000, priority, LOWER), []);
        bench.is(State::Backup, Some(if counts { 4500 } else { 3500 }), 0);
    }
}

#[test]
fn a_farewell_of_the_owner_shortens_the_wait_to_the_skew_once() {
    let mut bench = Bench::backup();
    bench.hear(3100, 200, HIGHER);
    bench.hear(3200, 0, HIGHER);
    bench.is(State::Backup, Some(3200 + SKEW), 0);
    bench.hear(3500, 0, HIGHER);
    bench.is(State::Backup, Some(3200 + SKEW), 0);
    // Somebody else is owner now.
    bench.hear(3600, 150, LOWER);
    bench.is(State::Backup, Some(3600 + 3500), 0);
}

#[test]
fn a_farewell_of_another_than_the_owner_is_not_heeded() {
    let mut bench = Bench::backup();
    bench.hear(3100, 0, HIGHER);
    bench.is(State::Backup, Some(3500), 0);
    bench.hear(3200, 200, HIGHER);
    bench.hear(3300, 0, LOWER);
    bench.is(State::Backup, Some(3200 + 3500), 0);
}

#[test]
fn a_farewell_is_not_heeded_while_yet_another_may_be_owner() {
    // Another was heard at 1000; or nothing was, before the start at 0.
    for (other, quiet_since) in [(true, 1000), (false, 0)] {
        for (after, heeded) in [(3000, false), (3001, true)] {
            let mut bench = Bench::backup();
            if other {
                bench.hear(1000, 150, LOWER);
            }
            let farewell = quiet_since + after;
            bench.hear(1100, 200, HIGHER);
            bench.hear(farewell - 1, 200, HIGHER);
            bench.hear(farewell, 0, HIGHER);
            let next = if heeded { farewell + SKEW } else { farewell - 1 + 3500 };
            bench.is(State::Backup, Some(next), 0);
        }
    }
}

#[test]
fn an_owner_yields_to_a_higher_priority_and_to_a_higher_address_of_its_own() {
    for (priority, source, yields) in [
        (129, LOWER, true),
        (255, LOWER, true),
        (128, HIGHER, true), // compared unsigned: .200 is more than .2
        (128, LOWER, false),
        (127, HIGHER, false),
        (0, HIGHER, false),
    ] {
        let mut bench = Bench::owner();
        let actions = bench.hear(4000, priority, source);
        if yields {
            let reason = BackupReason::BetterOwner { priority, source };
            assert_eq!(actions, [send(0, 6400), Action::BecomeBackup { reason }]);
            bench.is(State::Backup, Some(4000 + 3500), 0);
        } else {
            assert_eq!(actions, [send(128, 6400), Action::AnnounceAddresses], "{priority} {source}");
            bench.is(State::Owner, Some(5000), 6400);
        }
    }
}

#[test]
fn the_better_owner_may_say_farewell() {
    let mut bench = Bench::owner();
    bench.hear(4000, 200, LOWER);
    bench.hear(4001, 0, LOWER);
    bench.is(State::Backup, Some(4001 + SKEW), 0);
}

#[test]
fn a_farewell_is_answered_at_once_though_another_advert_just_was() {
    let mut bench = Bench::owner();
    assert_eq!(bench.hear(4000, 1, LOWER), [send(128, 6400), Action::AnnounceAddresses]);
    assert_eq!(bench.hear(4001, 1, LOWER), []);
    assert_eq!(bench.hear(4002, 0, LOWER), [send(128, 6400)]);
    assert_eq!(bench.hear(4003, 0, LOWER), []);
    // What was put off still comes: the first of the two, the announcement last.
    bench.is(State::Owner, Some(4102), 6400);
    assert_eq!(bench.input(4200, Input::Timeout), [send(128, 6400), Action::AnnounceAddresses]);
}

#[test]
fn a_flood_of_lower_adverts_is_answered_slowly_and_to_the_end() {
    let mut bench = Bench::owner();
    let mut sent = Vec::new();
    let mut announced = Vec::new();
    for clock in 4000..4250 {
        let heard = bench.hear(clock, 1, LOWER);
        let timeout = bench.input(clock, Input::Timeout);
        for action in heard.into_iter().chain(timeout) {
            match action {
                Action::SendAdvert { .. } => sent.push(clock),
                Action::AnnounceAddresses => announced.push(clock),
                other => panic!("{other:?}"),
            }
        }
    }
    assert_eq!(
        (sent.as_slice(), announced.as_slice()),
        ([4000, 4100, 4200].as_slice(), [4000, 4200].as_slice())
    );
    // The last of them are answered too, though nothing more is heard.
    bench.is(State::Owner, Some(4300), 6400);
    assert_eq!(bench.input(4300, Input::Timeout), [send(128, 6400)]);
    assert_eq!(bench.input(4400, Input::Timeout), [Action::AnnounceAddresses]);
    bench.is(State::Owner, Some(5300), 6400);
}

#[test]
fn a_fault_of_an_owner_ends_the_lease_and_says_farewell() {
    let mut bench = Bench::owner();
    assert_eq!(bench.input(4000, FAULT), [send(0, 6400), Action::EnterFault]);
    bench.is(State::Fault, None, 0);
    assert_eq!(bench.input(4001, FAULT), []);
    // Nothing it hears or is told wakes it.
    assert_eq!(bench.hear(4002, 1, LOWER), []);
    assert_eq!(bench.input(9000, Input::Timeout), []);
    bench.is(State::Fault, None, 0);
}

#[test]
fn a_claim_some_may_have_heard_is_taken_back_by_a_farewell() {
    let mut bench = Bench::backup();
    bench.input(3500, Input::Timeout);
    assert_eq!(bench.input(3550, FAULT), [send(0, 3600), Action::EnterFault]);
    let mut bench = Bench::backup();
    assert_eq!(bench.input(1000, Input::Stop), [Action::Stop]);
}

#[test]
fn after_a_fault_the_wait_is_a_full_one() {
    let mut bench = Bench::owner();
    bench.input(4000, FAULT);
    let cleared = Action::BecomeBackup { reason: BackupReason::FaultCleared };
    assert_eq!(bench.input(4100, Input::FaultCleared), [cleared]);
    bench.is(State::Backup, Some(4100 + 3500), 0);
    assert_eq!(bench.input(4200, Input::FaultCleared), []);
    bench.is(State::Backup, Some(4100 + 3500), 0);
}

#[test]
fn a_fault_before_the_start_counts() {
    let mut bench = Bench::new(true);
    assert_eq!(bench.input(0, FAULT), []);
    assert_eq!(bench.input(1, Input::Start), [Action::EnterFault]);
    bench.is(State::Fault, None, 0);
}

#[test]
fn a_changed_priority_is_advertised_at_once_and_changes_the_skew() {
    let mut bench = Bench::owner();
    assert_eq!(bench.input(4000, Input::PriorityChanged(64)), [send(64, 6400)]);
    assert_eq!(bench.input(4001, Input::PriorityChanged(64)), []);
    // Too soon after the last: put off.
    assert_eq!(bench.input(4050, Input::PriorityChanged(96)), []);
    bench.is(State::Owner, Some(4100), 6400);
    assert_eq!(bench.input(4100, Input::Timeout), [send(96, 6400)]);

    let mut bench = Bench::backup();
    assert_eq!(bench.input(1000, Input::PriorityChanged(64)), []);
    bench.is(State::Backup, Some(3750), 0);
    for (priority, kept) in [(0, 1), (255, 254)] {
        bench.input(1000, Input::PriorityChanged(priority));
        assert_eq!(bench.machine.priority(), kept);
    }
}

#[test]
fn a_backup_whose_priority_falls_respects_the_owner_it_wanted_to_preempt() {
    let mut bench = Bench::backup();
    bench.hear(3400, 100, LOWER);
    bench.is(State::Backup, Some(3500), 0);
    assert_eq!(bench.input(3450, Input::PriorityChanged(64)), []);
    bench.is(State::Backup, Some(3400 + 3750), 0);
    // A farewell heard after that advert still counts.
    bench.hear(4000, 100, LOWER);
    bench.hear(4010, 0, LOWER);
    bench.input(4020, Input::PriorityChanged(32));
    bench.is(State::Backup, Some(4010 + 875), 0);
}

#[test]
fn stopped_and_started_again_it_begins_from_the_start() {
    let mut bench = Bench::owner();
    bench.input(4000, Input::Stop);
    bench.hear(4500, 100, LOWER);
    assert_eq!(bench.machine.state(), State::Stopped);
    let started = Action::BecomeBackup { reason: BackupReason::Started };
    assert_eq!(bench.input(5000, Input::Start), [started]);
    bench.is(State::Backup, Some(8500), 0);
    // A confirmation from before does not make it owner.
    assert_eq!(bench.input(5001, Input::AdvertSent { sent: at(3900) }), []);
    bench.is(State::Backup, Some(8500), 0);
}
