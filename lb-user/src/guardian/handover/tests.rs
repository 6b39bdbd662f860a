use super::*;

const START: Timestamp = Timestamp(1_000_000_000_000);
const PATIENCE: Duration = Duration::from_millis(1_200);

const fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

fn owner_for(left: Duration) -> Legacy {
    Legacy { lease: (START + left).0, patience: PATIENCE }
}

const BACKUP: Legacy = Legacy { lease: LEASE_BACKUP, patience: PATIENCE };

fn write(router: usize, expiry: Timestamp) -> Action {
    Action::WriteLease { router, expiry: expiry.0 }
}

fn end(router: usize) -> Action {
    Action::WriteLease { router, expiry: LEASE_BACKUP }
}

/// Runs until `last`, a call each millisecond and one at `last`; every lease that was written, with when.
fn run(handover: &mut Handover, from: Duration, last: Duration) -> Vec<(Duration, Action)> {
    let mut written = Vec::new();
    let mut at = from;
    while at <= last {
        let actions = handover.timeout(START + at);
        written.extend(actions.into_iter().map(|action| (at, action)));
        at += ms(1);
    }
    written
}

#[test]
fn owner_shortens_its_lease_before_it_says_farewell() {
    let (handover, actions) = Handover::begin(START, &[owner_for(ms(2_500))]);
    assert_eq!(actions, [write(0, START + STEP), Action::SayFarewell { router: 0 }]);
    assert_eq!((handover.outcome(0), handover.next_timeout()), (None, Some(START)));
}

#[test]
fn lease_that_ends_sooner_than_a_step_is_not_made_longer_before_the_farewell() {
    let (_, actions) = Handover::begin(START, &[owner_for(ms(7))]);
    assert_eq!(actions[0], write(0, START + ms(7)));
}

#[test]
fn backup_has_nothing_to_do() {
    let (handover, actions) = Handover::begin(START, &[BACKUP]);
    assert_eq!(actions, []);
    assert_eq!((handover.outcome(0), handover.next_timeout()), (Some(Outcome::WasBackup), None));
}

#[test]
fn lease_that_is_over_is_not_begun_anew_and_nobody_is_told() {
    for lease in [START.0, START.0 - 1, 1] {
        let (mut handover, actions) = Handover::begin(START, &[Legacy { lease, patience: PATIENCE }]);
        assert_eq!(actions, [end(0)]);
        assert_eq!((handover.outcome(0), handover.next_timeout()), (Some(Outcome::LeaseOver), None));
        assert_eq!(handover.timeout(START + ms(1)), []);
        assert_eq!(handover.heard(0), None);
    }
}

#[test]
fn lease_runs_in_steps_until_another_owner_is_heard() {
    let (mut handover, _) = Handover::begin(START, &[owner_for(ms(2_500))]);
    let written = run(&mut handover, ms(0), ms(600));
    for pair in written.windows(2) {
        assert!(pair[1].0 <= pair[0].0 + RENEWAL, "{pair:?}");
    }
    for (at, action) in &written {
        assert_eq!(*action, write(0, START + *at + STEP));
    }
    assert_eq!(handover.heard(0), Some(end(0)));
    assert_eq!(handover.outcome(0), Some(Outcome::HandedOver));
    assert_eq!(run(&mut handover, ms(601), ms(2_000)), []);
    assert_eq!((handover.heard(0), handover.next_timeout()), (None, None));
}

#[test]
fn lease_runs_on_past_the_daemons_own_once_the_peers_were_told() {
    let (mut handover, _) = Handover::begin(START, &[owner_for(ms(5))]);
    assert_eq!(handover.timeout(START + ms(1)), [write(0, START + ms(101))]);
    run(&mut handover, ms(2), ms(700));
    assert_eq!(handover.outcome(0), None);
}

#[test]
fn nobody_comes() {
    let (mut handover, _) = Handover::begin(START, &[owner_for(ms(2_500))]);
    let written = run(&mut handover, ms(0), PATIENCE + ms(50));
    let (at, last) = written.last().expect("leases were written");
    assert_eq!(*last, end(0));
    assert!(*at >= PATIENCE && *at <= PATIENCE + RENEWAL, "{at:?}");
    let longest = written.iter().map(|(_, action)| match action {
        Action::WriteLease { expiry, .. } => *expiry,
        Action::SayFarewell { .. } => 0,
    });
    assert_eq!(longest.max(), Some((START + PATIENCE).0), "the lease ends by itself at the bound");
    assert_eq!(handover.outcome(0), Some(Outcome::NobodyCame));
}

#[test]
fn peer_that_could_not_be_told_waits_for_the_daemons_lease_and_no_longer() {
    let (mut handover, _) = Handover::begin(START, &[owner_for(ms(300))]);
    handover.farewell_failed(0);
    for (at, action) in run(&mut handover, ms(0), ms(400)) {
        let Action::WriteLease { expiry, .. } = action else { panic!("{action:?}") };
        assert!(expiry <= (START + ms(300)).0, "{at:?} {action:?}");
    }
    assert_eq!(handover.outcome(0), Some(Outcome::NobodyCame));

    // It does not make it longer either.
    let (mut handover, _) = Handover::begin(START, &[owner_for(ms(2_900))]);
    handover.farewell_failed(0);
    run(&mut handover, ms(0), PATIENCE + RENEWAL);
    assert_eq!(handover.outcome(0), Some(Outcome::NobodyCame));
}

#[test]
fn guardian_that_was_frozen_past_its_step_does_not_begin_anew() {
    let (mut handover, _) = Handover::begin(START, &[owner_for(ms(2_500))]);
    handover.timeout(START + ms(10));
    assert_eq!(handover.timeout(START + ms(110)), [end(0)]);
    assert_eq!(handover.outcome(0), Some(Outcome::LeaseOver));
    assert_eq!(handover.heard(0), None);
}

#[test]
fn each_virtual_router_ends_by_itself() {
    let slow = Legacy { lease: (START + ms(2_500)).0, patience: ms(2_000) };
    let (mut handover, actions) = Handover::begin(START, &[BACKUP, owner_for(ms(900)), slow]);
    assert_eq!(
        actions,
        [
            write(1, START + STEP),
            Action::SayFarewell { router: 1 },
            write(2, START + STEP),
            Action::SayFarewell { router: 2 }
        ]
    );
    run(&mut handover, ms(0), ms(500));
    assert_eq!(handover.heard(1), Some(end(1)));
    run(&mut handover, ms(501), ms(1_900));
    let outcomes = [0, 1, 2, 3].map(|router| handover.outcome(router));
    assert_eq!(outcomes, [Some(Outcome::WasBackup), Some(Outcome::HandedOver), None, None]);
    run(&mut handover, ms(1_901), ms(2_100));
    assert_eq!((handover.outcome(2), handover.next_timeout()), (Some(Outcome::NobodyCame), None));
}
