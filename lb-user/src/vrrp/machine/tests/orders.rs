//! The operator, the witness, the sync group, the delay of preemption, and the address owner.

use super::*;

#[test]
fn a_released_node_lets_every_living_owner_be_and_claims_when_there_is_none() {
    let mut bench = Bench::backup();
    bench.hear(3000, 1, LOWER);
    bench.is(State::Backup, Some(3500), 0);
    // What it had heard counts from now on, too.
    assert_eq!(bench.input(3100, Input::Release), []);
    bench.is(State::Backup, Some(3000 + 3500), 0);
    bench.hear(4000, 1, LOWER);
    bench.is(State::Backup, Some(7500), 0);
    assert_eq!(bench.input(7500, Input::Timeout), [send(128, 7600)]);
    assert_eq!(bench.sent(7500), [Action::BecomeOwner]);
    // As owner it is no longer released.
    assert_eq!(bench.hear(7600, 1, LOWER), [send(128, 10_400), Action::AnnounceAddresses]);
    let reason = BackupReason::BetterOwner { priority: 200, source: HIGHER };
    assert_eq!(bench.hear(7700, 200, HIGHER), [send(0, 10_400), Action::BecomeBackup { reason }]);
    bench.hear(7800, 1, LOWER);
    bench.is(State::Backup, Some(7700 + 3500), 0);
}

#[test]
fn a_release_before_the_start_holds() {
    let mut bench = Bench::with(Settings { priority: 255, ..settings() });
    assert_eq!(bench.input(0, Input::Release), []);
    let started = Action::BecomeBackup { reason: BackupReason::Started };
    assert_eq!(bench.input(0, Input::Start), [started]);
    bench.hear(1000, 1, LOWER);
    assert_eq!(bench.machine.next_timeout(), Some(Timestamp(4_003_906_250)));
}

#[test]
fn a_release_takes_a_claim_back() {
    let mut bench = Bench::backup();
    bench.input(3500, Input::Timeout);
    assert_eq!(bench.input(3510, Input::Release), [send(0, 3600)]);
    assert_eq!(bench.sent(3520), []);
    bench.is(State::Backup, Some(3510 + 3500), 0);
}

#[test]
fn a_claim_by_order_takes_the_vips_at_once_and_holds_until_a_release() {
    let mut bench = Bench::new(false);
    bench.input(0, Input::Start);
    bench.hear(1000, 200, HIGHER);
    assert_eq!(bench.input(1100, Input::Claim), [send(254, 1200)]);
    assert_eq!(bench.sent(1100), [Action::BecomeOwner]);
    assert_eq!(bench.machine.priority(), 254);
    assert_eq!(bench.hear(1101, 200, HIGHER), [send(254, 4000), Action::AnnounceAddresses]);
    // Tracking does not end it.
    assert_eq!(bench.input(1300, Input::PriorityChanged(1)), []);
    assert_eq!((bench.machine.priority(), bench.machine.tracked_priority()), (254, 1));
    assert_eq!(bench.input(1400, Input::Release), [send(0, 4000), Action::HandOver]);
    assert_eq!(bench.machine.priority(), 1);
}

#[test]
fn a_claim_by_order_yields_to_who_is_better_even_then_and_is_not_forgotten() {
    let mut bench = Bench::backup();
    bench.input(1000, Input::Claim);
    bench.sent(1000);
    let reason = BackupReason::BetterOwner { priority: 254, source: HIGHER };
    assert_eq!(bench.hear(1010, 254, HIGHER), [send(0, 3900), Action::BecomeBackup { reason }]);
    assert_eq!(bench.machine.priority(), 254);
    bench.hear(1020, 253, HIGHER);
    assert_eq!(bench.machine.next_timeout(), Some(Timestamp(4_017_812_500)));
    bench.input(1030, Input::Stop);
    assert_eq!(bench.machine.priority(), 128);
}

#[test]
fn an_owner_that_is_ordered_to_claim_says_its_new_priority() {
    let mut bench = Bench::owner();
    assert_eq!(bench.input(4000, Input::Claim), [send(254, 6400)]);
    assert_eq!(bench.input(4001, Input::Claim), []);
}

#[test]
fn a_node_in_fault_claims_nothing() {
    for input in [Input::Claim, Input::ClaimWithGroup] {
        let mut bench = Bench::backup();
        bench.input(10, FAULT);
        assert_eq!(bench.input(20, input), []);
        bench.is(State::Fault, None, 0);
    }
}

#[test]
fn without_its_witness_a_backup_does_not_trust_the_silence() {
    let mut bench = Bench::backup();
    bench.hear(1000, 200, HIGHER);
    assert_eq!(bench.input(2000, Input::Witness(false)), []);
    bench.is(State::Backup, None, 0);
    assert_eq!(bench.input(9000, Input::Timeout), []);
    // Back again: due at once, once what waits in the socket has been read.
    assert_eq!(bench.input(9100, Input::Witness(true)), []);
    bench.is(State::Backup, Some(4500), 0);
    assert_eq!(bench.input(9100, Input::Timeout), [send(128, 9200)]);
}

#[test]
fn without_its_witness_a_backup_heeds_a_farewell() {
    let mut bench = Bench::backup();
    bench.input(10, Input::Witness(false));
    bench.hear(3100, 200, HIGHER);
    bench.hear(3200, 0, HIGHER);
    bench.is(State::Backup, Some(3200 + SKEW), 0);
    assert_eq!(bench.input(3700, Input::Timeout), [send(128, 3800)]);
}

#[test]
fn a_claim_that_could_not_be_sent_is_not_repeated_without_the_witness() {
    let mut bench = Bench::backup();
    assert_eq!(bench.input(3500, Input::Timeout), [send(128, 3600)]);
    bench.input(3700, Input::Witness(false));
    assert_eq!(bench.input(4500, Input::Timeout), []);
    bench.is(State::Backup, None, 0);
}

#[test]
fn an_owner_gives_up_only_if_it_has_neither_witness_nor_peers() {
    for (first, second) in [
        (Input::Witness(false), Input::Peers(Reach::Lost)),
        (Input::Peers(Reach::Lost), Input::Witness(false)),
    ] {
        let mut bench = Bench::owner();
        assert_eq!(bench.input(4000, first), []);
        assert_eq!(bench.machine.state(), State::Owner);
        let isolated = Action::BecomeBackup { reason: BackupReason::Isolated };
        assert_eq!(bench.input(4001, second), [send(0, 6400), isolated]);
        bench.is(State::Backup, None, 0);
        assert_eq!(bench.input(5000, Input::Witness(true)), []);
        bench.is(State::Backup, Some(4001 + 3500), 0);
    }
}

#[test]
fn a_member_of_a_group_claims_and_yields_with_it() {
    let mut bench = Bench::backup();
    bench.input(10, Input::Witness(false));
    assert_eq!(bench.input(1000, Input::ClaimWithGroup), [send(128, 1100)]);
    // Once is enough; held up, it tries again.
    assert_eq!(bench.input(1001, Input::ClaimWithGroup), []);
    bench.is(State::Backup, Some(2000), 0);
    assert_eq!(bench.input(2000, Input::Timeout), [send(128, 2100)]);
    assert_eq!(bench.input(2050, Input::YieldWithGroup), [send(0, 2100)]);
    bench.is(State::Backup, None, 0);
}

#[test]
fn a_node_that_would_preempt_waits_for_its_delay_while_the_owner_lives() {
    let preempt_delay = Duration::from_secs(10);
    let mut bench = Bench::with(Settings { preempt_delay, ..settings() });
    bench.input(0, Input::Start);
    for clock in (1000..10_000).step_by(1000) {
        bench.hear(clock, 100, LOWER);
        bench.is(State::Backup, Some(clock + 3500), 0);
    }
    bench.hear(10_000, 100, LOWER);
    bench.is(State::Backup, Some(9000 + 3500), 0);
    // An owner that it respects puts the delay off again.
    bench.hear(11_000, 200, HIGHER);
    bench.hear(20_999, 100, LOWER);
    bench.is(State::Backup, Some(20_999 + 3500), 0);
    bench.hear(21_000, 100, LOWER);
    bench.is(State::Backup, Some(20_999 + 3500), 0);
    // Nobody lives: no delay.
    let mut bench = Bench::with(Settings { preempt_delay, ..settings() });
    bench.input(0, Input::Start);
    bench.is(State::Backup, Some(3500), 0);
}

#[test]
fn the_address_owner_claims_at_once_whatever_it_hears_and_is_not_tracked() {
    let mut bench = Bench::with(Settings { priority: 255, preempt: false, ..settings() });
    let started = Action::BecomeBackup { reason: BackupReason::Started };
    assert_eq!(bench.input(0, Input::Start), [started, send(255, 100)]);
    assert_eq!(bench.sent(0), [Action::BecomeOwner]);
    assert_eq!(bench.input(10, Input::PriorityChanged(1)), []);
    assert_eq!(bench.machine.priority(), 255);
    for (priority, source, yields) in [(254, HIGHER, false), (255, LOWER, false), (255, HIGHER, true)] {
        let mut bench = bench.machine.clone();
        let actions = bench.handle(at(20), Input::AdvertReceived { advert: advert(priority), source });
        assert_eq!(bench.state() == State::Backup, yields, "{priority} {source}: {actions:?}");
    }
    // After a fault the same; after a lost lease it listens first, but respects nobody below it.
    bench.input(30, FAULT);
    let cleared = Action::BecomeBackup { reason: BackupReason::FaultCleared };
    assert_eq!(bench.input(40, Input::FaultCleared), [cleared, send(255, 140)]);
    bench.sent(40);
    bench.hear(9000, 254, HIGHER);
    assert_eq!(bench.machine.next_timeout(), Some(Timestamp(12_003_906_250)));
}

#[test]
fn the_address_owner_without_its_witness_listens() {
    let mut bench = Bench::with(Settings { priority: 255, ..settings() });
    bench.input(0, Input::Witness(false));
    bench.input(0, Input::Start);
    bench.is(State::Backup, None, 0);
}

#[test]
fn an_owner_announces_anew_as_often_as_it_is_to() {
    let announce_refresh = Some(Duration::from_millis(700));
    let mut bench = Bench::with(Settings { announce_refresh, ..settings() });
    bench.input(0, Input::Start);
    bench.input(3500, Input::Timeout);
    bench.sent(3500);
    bench.is(State::Owner, Some(4200), 6400);
    assert_eq!(bench.input(4200, Input::Timeout), [Action::RefreshAddresses]);
    bench.is(State::Owner, Some(4500), 6400);
    // A conflict's announcement counts as one.
    bench.hear(4300, 1, LOWER);
    assert_eq!(bench.input(4900, Input::Timeout), []);
    assert_eq!(bench.input(5000, Input::Timeout), [Action::RefreshAddresses]);
}
