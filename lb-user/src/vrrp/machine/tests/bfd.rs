//! What BFD tells the machine.

use super::*;

const DETECTION: Duration = Duration::from_millis(150);

fn lost(source: IpAddr) -> Input {
    Input::OwnerLost { source, detection_time: DETECTION, delay: Duration::from_millis(40) }
}

/// A backup that has heard an owner of priority 200 every second until 4000.
fn listener() -> Bench {
    let mut bench = Bench::backup();
    for clock in (0..=4000).step_by(1000) {
        assert_eq!(bench.hear(clock, 200, HIGHER), []);
    }
    bench.is(State::Backup, Some(7500), 0);
    bench
}

#[test]
fn a_silent_owner_is_replaced_after_the_delay() {
    let mut bench = listener();
    assert_eq!(bench.input(4500, lost(HIGHER)), []);
    bench.is(State::Backup, Some(4540), 0);
    assert_eq!(bench.input(4539, Input::Timeout), []);
    assert_eq!(bench.input(4540, Input::Timeout), [send(128, 4640)]);
    assert_eq!(bench.sent(4541), [Action::BecomeOwner]);
}

#[test]
fn an_advert_is_as_good_as_a_packet_of_bfd() {
    let mut bench = listener();
    bench.hear(4450, 200, HIGHER);
    bench.input(4500, lost(HIGHER));
    bench.is(State::Backup, Some(4450 + 150 + 40), 0);
}

#[test]
fn an_owner_that_answers_before_the_claim_keeps_the_vips() {
    let mut bench = listener();
    bench.input(4500, lost(HIGHER));
    assert_eq!(bench.hear(4530, 200, HIGHER), []);
    bench.is(State::Backup, Some(4530 + 3500), 0);
}

#[test]
fn the_silence_of_somebody_who_is_not_owner_means_nothing() {
    let mut bench = listener();
    assert_eq!(bench.input(4500, lost(LOWER)), []);
    bench.is(State::Backup, Some(7500), 0);
}

#[test]
fn nobody_claims_so_soon_before_it_has_listened_for_as_long_as_a_lease_may_run() {
    let mut bench = Bench::backup();
    bench.hear(1000, 200, HIGHER);
    bench.input(2000, lost(HIGHER));
    bench.is(State::Backup, Some(4500), 0);
    // Nor if another may have taken the VIPs meanwhile.
    let mut bench = listener();
    bench.hear(4100, 220, LOWER);
    bench.hear(4200, 200, HIGHER);
    bench.input(4500, lost(HIGHER));
    bench.is(State::Backup, Some(7700), 0);
}

#[test]
fn an_owner_that_is_doubted_says_at_once_that_it_is_one_and_a_backup_says_nothing() {
    let mut bench = Bench::owner();
    assert_eq!(bench.input(3700, Input::PeerDoubts), [send(128, 6400)]);
    assert_eq!(listener().input(4100, Input::PeerDoubts), []);
}

#[test]
fn the_lease_ends_at_the_cap_if_that_is_earlier() {
    let mut bench = Bench::owner();
    bench.input(3600, Input::LeaseCap(Some(at(3745))));
    bench.is(State::Owner, Some(3745), 3745);
    assert_eq!(bench.input(3700, Input::PeerDoubts), [send(128, 3745)]);
    bench.input(3710, Input::LeaseCap(Some(at(9000))));
    bench.is(State::Owner, Some(4700), 6400);
    bench.input(3720, Input::LeaseCap(None));
    bench.is(State::Owner, Some(4700), 6400);
}

#[test]
fn an_owner_that_misses_its_cap_gives_the_vips_up_and_says_so() {
    let mut bench = Bench::owner();
    bench.input(3600, Input::LeaseCap(Some(at(3745))));
    let expired = Action::BecomeBackup { reason: BackupReason::LeaseExpired };
    // Whatever wakes it, also what would have moved the cap.
    assert_eq!(bench.input(3745, Input::LeaseCap(Some(at(3890)))), [expired, send(0, 3845)]);
    bench.is(State::Backup, Some(3745 + 3500), 0);
}

#[test]
fn the_cap_holds_for_an_ownership_that_begins_under_it() {
    let mut bench = Bench::backup();
    bench.input(3400, Input::LeaseCap(Some(at(3600))));
    assert_eq!(bench.input(3500, Input::Timeout), [send(128, 3600)]);
    assert_eq!(bench.sent(3510), [Action::BecomeOwner]);
    bench.is(State::Owner, Some(3600), 3600);
}
