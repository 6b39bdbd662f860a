//! Make before break.

use super::*;

/// The owner leaves at 4000: the lease it had until 6400 is cut to 100 ms, renewed every 50.
fn leaving(input: Input) -> Bench {
    let mut bench = Bench::owner();
    assert_eq!(bench.input(4000, input), [send(0, 6400), Action::HandOver]);
    bench.is(State::Leaving, Some(4050), 4100);
    bench
}

fn over(successor: Option<IpAddr>) -> Action {
    Action::HandedOver { successor }
}

fn backup(reason: BackupReason) -> Action {
    Action::BecomeBackup { reason }
}

/// What makes an owner leave, and what it is afterwards.
fn reasons() -> [(Input, State, Action); 4] {
    [
        (Input::Stop, State::Stopped, Action::Stop),
        (Input::FaultSet { hand_over: true }, State::Fault, Action::EnterFault),
        (Input::Release, State::Backup, backup(BackupReason::Released)),
        (Input::YieldWithGroup, State::Backup, backup(BackupReason::Group)),
    ]
}

#[test]
fn it_answers_in_small_steps_until_it_hears_another() {
    for (input, state, last) in reasons() {
        let mut bench = leaving(input);
        assert_eq!(bench.sent(4001), []);
        bench.is(State::Leaving, Some(4050), 4100);
        assert_eq!(bench.input(4050, Input::Timeout), []);
        bench.is(State::Leaving, Some(4100), 4150);
        // Another who leaves is nobody.
        assert_eq!(bench.hear(4060, 0, HIGHER), []);
        assert_eq!(bench.hear(4070, 1, LOWER), [over(Some(LOWER)), last]);
        let next = (state == State::Backup).then_some(4070 + 3500);
        bench.is(state, next, 0);
    }
}

#[test]
fn nobody_comes_and_the_bound_passes() {
    for (input, state, last) in reasons() {
        let mut bench = leaving(input.clone());
        for clock in (4050..5200).step_by(50) {
            assert_eq!(bench.input(clock, Input::Timeout), [], "{clock}");
        }
        bench.is(State::Leaving, Some(5200), 5250);
        let actions = bench.input(5200, Input::Timeout);
        if input == Input::Release {
            assert_eq!(actions, [send(128, 5250), Action::StayOwner]);
            bench.is(State::Owner, Some(5250), 5250);
            bench.sent(5201);
            bench.is(State::Owner, Some(6200), 8101);
            // The order is over: it preempts again.
            assert_eq!(bench.hear(5300, 1, LOWER).first(), Some(&send(128, 8101)));
        } else {
            assert_eq!(actions, [over(None), last]);
            assert_eq!(bench.machine.state(), state);
            assert_eq!(bench.machine.lease_expiry(), LEASE_BACKUP);
        }
    }
}

#[test]
fn a_peer_that_lives_is_given_the_time_to_notice_by_itself() {
    for (reach, bound) in [(Reach::Unknown, 5200), (Reach::Lost, 5200), (Reach::Alive, 8200)] {
        let mut bench = Bench::owner();
        assert_eq!(bench.input(3500, Input::Peers(reach)), []);
        bench.input(4000, Input::Stop);
        for clock in (4050..bound).step_by(50) {
            assert_eq!(bench.input(clock, Input::Timeout), [], "{reach:?} {clock}");
        }
        assert_eq!(bench.input(bound, Input::Timeout), [over(None), Action::Stop], "{reach:?}");
    }
}

#[test]
fn frozen_in_the_middle_of_it_it_is_over() {
    for (input, state, last) in reasons() {
        let last = if state == State::Backup { backup(BackupReason::LeaseExpired) } else { last };
        let mut bench = leaving(input);
        assert_eq!(bench.input(4100, Input::Timeout), [over(None), last]);
        assert_eq!(bench.machine.state(), state);
    }
}

#[test]
fn what_cannot_wait_breaks_it_off_without_another_farewell() {
    for (input, _, last) in reasons() {
        let last = if last == Action::Stop { last } else { Action::EnterFault };
        let mut bench = leaving(input);
        assert_eq!(bench.input(4020, FAULT), [over(None), last]);
        assert_eq!(bench.machine.lease_expiry(), LEASE_BACKUP);
    }
}

#[test]
fn when_its_reason_is_gone_it_goes_on_as_owner() {
    for (reason, undone) in [
        (Input::Stop, Input::Start),
        (Input::FaultSet { hand_over: true }, Input::FaultCleared),
        (Input::Release, Input::Claim),
        (Input::YieldWithGroup, Input::ClaimWithGroup),
    ] {
        let mut bench = leaving(reason);
        let priority = if undone == Input::Claim { 254 } else { 128 };
        assert_eq!(bench.input(4010, undone), [send(priority, 4100), Action::StayOwner]);
        // An advert from before the farewell does not lengthen the lease, the one after it does.
        assert_eq!(bench.input(4010, Input::AdvertSent { sent: at(3999) }), []);
        bench.is(State::Owner, Some(4100), 4100);
        assert_eq!(bench.sent(4011), []);
        bench.is(State::Owner, Some(5010), 4011 + 2900);
    }
}

#[test]
fn of_two_reasons_the_stronger_decides_and_each_must_go() {
    let mut bench = leaving(Input::Release);
    assert_eq!(bench.input(4010, Input::FaultSet { hand_over: true }), []);
    assert_eq!(bench.input(4020, Input::Stop), []);
    assert_eq!(bench.input(4030, Input::Start), []);
    assert_eq!(bench.input(4040, Input::YieldWithGroup), []);
    assert_eq!(bench.hear(4050, 100, LOWER), [over(Some(LOWER)), Action::EnterFault]);

    let mut bench = leaving(Input::FaultSet { hand_over: true });
    assert_eq!(bench.input(4020, Input::Stop), []);
    assert_eq!(bench.input(4030, Input::FaultCleared), []);
    assert_eq!(bench.hear(4050, 100, LOWER), [over(Some(LOWER)), Action::Stop]);
}

#[test]
fn a_node_that_does_not_own_has_nothing_to_hand_over() {
    for (input, expected) in [
        (Input::Stop, vec![Action::Stop]),
        (Input::FaultSet { hand_over: true }, vec![Action::EnterFault]),
        (Input::Release, vec![]),
        (Input::YieldWithGroup, vec![]),
    ] {
        assert_eq!(Bench::backup().input(1000, input), expected);
    }
}

#[test]
fn a_lower_priority_is_no_reason_to_leave() {
    let mut bench = Bench::owner();
    assert_eq!(bench.input(4000, Input::PriorityChanged(50)), [send(50, 6400)]);
    bench.sent(4001);
    bench.is(State::Owner, Some(5000), 6901);
    let reason = BackupReason::BetterOwner { priority: 100, source: LOWER };
    assert_eq!(bench.hear(6900, 100, LOWER), [send(0, 6901), backup(reason)]);
}

#[test]
fn at_short_intervals_the_steps_are_no_longer_than_a_lease() {
    let interval = Duration::from_millis(10);
    let mut bench =
        Bench::with(Settings { version: VrrpVersion::V3, advert_interval: interval, ..settings() });
    bench.input(0, Input::Start);
    bench.input(35, Input::Timeout);
    bench.sent(35);
    bench.is(State::Owner, Some(45), 64);
    assert_eq!(bench.input(40, Input::Stop), [send(0, 64), Action::HandOver]);
    assert_eq!(bench.machine.lease_expiry(), at(69).0);
    assert_eq!(bench.machine.next_timeout(), Some(Timestamp(54_500_000)));
}
