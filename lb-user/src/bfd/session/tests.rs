use proptest::prelude::*;

use super::*;
use SessionState::{AdminDown, Down, Init, Up};

const MS: Duration = Duration::from_millis(1);
const INTERVAL: Duration = Duration::from_millis(50);
const START: Timestamp = Timestamp(1_000_000_000_000);

fn settings() -> Settings {
    Settings { discriminator: 9, interval: INTERVAL, multiplier: 3, role: Role::Active, seed: 5 }
}

fn session() -> Session {
    Session::new(settings(), START)
}

/// What a peer in `state` says: 50 ms, × 3.
fn says(state: SessionState) -> Packet {
    Packet {
        diagnostic: Diagnostic::NONE,
        state,
        poll: false,
        final_: false,
        control_plane_independent: false,
        demand: false,
        multiplier: 3,
        my_discriminator: 7,
        your_discriminator: 9,
        desired_min_tx: INTERVAL,
        required_min_rx: INTERVAL,
    }
}

/// A session that was brought to `state` at [`START`], everything it said having been sent.
fn brought_to(state: SessionState) -> Session {
    let mut session = session();
    let heard: &[SessionState] = match state {
        Down => &[],
        Init => &[Down],
        Up => &[Down, Init],
        AdminDown => panic!("a session is stopped, or held"),
    };
    for heard in heard {
        receive(&mut session, START, says(*heard));
    }
    assert_eq!(session.state(), state);
    session
}

/// Performs the sendings among the actions, and returns the actions.
fn perform(session: &mut Session, now: Timestamp, input: Input) -> Vec<Action> {
    let actions = session.handle(now, input);
    for packet in sent(&actions) {
        assert_eq!(session.handle(now, Input::Sent { sent: now, packet }), []);
    }
    actions
}

fn receive(session: &mut Session, now: Timestamp, packet: Packet) -> Vec<Action> {
    perform(session, now, Input::Received(packet))
}

fn sent(actions: &[Action]) -> Vec<Packet> {
    actions
        .iter()
        .filter_map(|action| if let Action::Send(packet) = action { Some(*packet) } else { None })
        .collect()
}

fn notes(actions: &[Action]) -> Vec<Action> {
    actions.iter().filter(|action| !matches!(action, Action::Send(_))).copied().collect()
}

/// RFC 5880 §6.8.6: the state, what is heard, the state then, and what is reported. Every change is said at once.
#[test]
fn every_state_takes_what_it_hears_as_the_rfc_says() {
    let signalled = Action::Down(DownReason::Signalled(Diagnostic::NONE));
    let cases: [(SessionState, SessionState, SessionState, &[Action]); 12] = [
        (Down, AdminDown, Down, &[]),
        (Down, Down, Init, &[]),
        (Down, Init, Up, &[Action::Up]),
        (Down, Up, Down, &[]),
        (Init, AdminDown, Down, &[]),
        (Init, Down, Init, &[]),
        (Init, Init, Up, &[Action::Up]),
        (Init, Up, Up, &[Action::Up]),
        (Up, AdminDown, Down, &[Action::Down(DownReason::PeerAdminDown(Diagnostic::NONE))]),
        (Up, Down, Down, &[signalled]),
        (Up, Init, Up, &[]),
        (Up, Up, Up, &[]),
    ];
    for (before, heard, after, reported) in cases {
        let mut session = brought_to(before);
        let actions = receive(&mut session, START + MS, says(heard));
        assert_eq!(session.state(), after, "{before:?} hears {heard:?}");
        assert_eq!(notes(&actions), reported, "{before:?} hears {heard:?}");
        let said: Vec<SessionState> = sent(&actions).iter().map(|packet| packet.state).collect();
        let expected = if before == after { vec![] } else { vec![after] };
        assert_eq!(said, expected, "{before:?} hears {heard:?}");
        if before != after && after == Down {
            assert_eq!(session.diagnostic(), Diagnostic::NEIGHBOUR_SIGNALLED_DOWN);
        }
    }
}

#[test]
fn the_first_packet_goes_at_once_and_knows_nobody_and_the_next_within_a_second() {
    let mut session = session();
    assert_eq!(session.next_timeout(), Some(START));
    let packets = sent(&perform(&mut session, START, Input::Timeout));
    let expected = Packet {
        my_discriminator: 9,
        your_discriminator: 0,
        desired_min_tx: Duration::from_secs(1),
        ..says(Down)
    };
    assert_eq!(packets, [expected]);
    let next = session.next_timeout().expect("another").since(START);
    assert!((MS * 750..=MS * 1000).contains(&next), "{next:?}");
}

#[test]
fn a_passive_session_speaks_when_it_is_spoken_to() {
    let mut session = Session::new(Settings { role: Role::Passive, ..settings() }, START);
    assert_eq!(session.next_timeout(), None);
    assert_eq!(perform(&mut session, START, Input::Timeout), []);
    let heard = Packet { your_discriminator: 0, ..says(Down) };
    let packets = sent(&receive(&mut session, START, heard));
    assert_eq!(packets.iter().map(|packet| packet.state).collect::<Vec<_>>(), [Init]);
    assert!(session.next_timeout().is_some());
}

#[test]
fn the_interval_of_a_session_that_is_up_is_polled_until_the_peer_confirms_it() {
    let mut session = brought_to(Init);
    let packets = sent(&receive(&mut session, START, says(Init)));
    assert!(packets[0].poll && packets[0].desired_min_tx == INTERVAL, "{packets:?}");
    let next = session.next_timeout().expect("a packet");
    assert!(sent(&perform(&mut session, next, Input::Timeout))[0].poll);
    receive(&mut session, next, Packet { final_: true, ..says(Up) });
    let next = session.next_timeout().expect("a packet");
    assert!(!sent(&perform(&mut session, next, Input::Timeout))[0].poll);
}

#[test]
fn a_poll_is_answered_at_once_without_a_poll() {
    let mut session = brought_to(Up);
    let packets = sent(&receive(&mut session, START, Packet { poll: true, ..says(Up) }));
    assert_eq!(packets.len(), 1);
    assert!(packets[0].final_ && !packets[0].poll);
}

#[test]
fn packets_come_after_75_to_100_percent_of_the_slower_ones_interval() {
    for (required, least, most) in [(10, 37_500, 50_000), (200, 150_000, 200_000)] {
        let mut session = brought_to(Up);
        let heard = Packet { required_min_rx: MS * required, multiplier: 9, final_: true, ..says(Up) };
        receive(&mut session, START, heard);
        let mut last = session.next_timeout().expect("a packet");
        let mut met = std::collections::BTreeSet::new();
        for _ in 0..2000 {
            assert_eq!(sent(&perform(&mut session, last, Input::Timeout)).len(), 1);
            receive(&mut session, last, heard);
            let next = session.next_timeout().expect("a packet");
            met.insert(next.since(last).as_micros());
            last = next;
        }
        assert_eq!((met.first().copied(), met.last().copied()), (Some(least), Some(most)), "{required}");
    }
}

#[test]
fn with_multiplier_1_no_packet_comes_later_than_90_percent() {
    let mut session = Session::new(Settings { multiplier: 1, ..settings() }, START);
    for _ in 0..500 {
        let due = session.next_timeout().expect("a packet");
        perform(&mut session, due, Input::Timeout);
        assert!(session.next_timeout().expect("a packet").since(due) <= MS * 900);
    }
}

#[test]
fn the_detection_time_is_the_peers_multiplier_times_the_slower_interval() {
    for (desired, multiplier, expected) in [(50, 3, 150), (10, 5, 250), (100, 2, 200)] {
        let mut session = brought_to(Up);
        receive(&mut session, START, Packet { desired_min_tx: MS * desired, multiplier, ..says(Up) });
        assert_eq!(session.detection_time(), MS * expected);
        let end = START + MS * expected;
        assert_eq!(notes(&perform(&mut session, Timestamp(end.0 - 1), Input::Timeout)), []);
        assert_eq!(
            notes(&perform(&mut session, end, Input::Timeout)),
            [Action::Down(DownReason::TimedOut), Action::PeerSilent]
        );
        assert_eq!((session.state(), session.diagnostic()), (Down, Diagnostic::DETECTION_TIME_EXPIRED));
    }
}

#[test]
fn a_silent_peer_is_told_down_first_and_forgotten() {
    let mut session = brought_to(Up);
    let actions = perform(&mut session, START + MS * 150, Input::Timeout);
    let packets = sent(&actions);
    assert_eq!((packets.len(), packets[0].state, packets[0].your_discriminator), (1, Down, 0));
    assert_eq!(actions.last(), Some(&Action::PeerSilent));
    assert_eq!(session.remote_state(), Down);
}

#[test]
fn a_silent_peer_is_lost_until_it_is_heard_whatever_it_says() {
    for heard in [AdminDown, Down, Init, Up] {
        let mut session = brought_to(Up);
        assert!(!session.is_peer_lost());
        perform(&mut session, START + MS * 150, Input::Timeout);
        assert!(session.is_peer_lost());
        receive(&mut session, START + MS * 151, says(heard));
        assert!(!session.is_peer_lost(), "{heard:?}");
    }
}

#[test]
fn a_peer_that_lost_this_node_doubts_it_and_one_that_restarted_does_not() {
    let lost = Diagnostic::DETECTION_TIME_EXPIRED;
    for (before, heard, diagnostic, doubts) in [
        (Up, Down, lost, true),
        (Init, Down, lost, true),
        (Down, Down, lost, true),
        (Up, AdminDown, lost, true),
        (Down, AdminDown, lost, false),
        (Up, Up, lost, false),
        (Up, Down, Diagnostic::NONE, false),
        (Up, Down, Diagnostic::NEIGHBOUR_SIGNALLED_DOWN, false),
    ] {
        let mut session = brought_to(before);
        let actions = receive(&mut session, START + MS, Packet { diagnostic, ..says(heard) });
        assert_eq!(actions.contains(&Action::PeerDoubts), doubts, "{before:?} {heard:?} {diagnostic:?}");
    }
}

#[test]
fn a_node_that_stood_still_waits_once_more_before_it_believes_in_the_peers_silence() {
    let mut session = brought_to(Up);
    let thawed = START + MS * 201;
    assert_eq!(notes(&perform(&mut session, thawed, Input::Timeout)), []);
    assert_eq!(notes(&perform(&mut session, thawed + MS * 149, Input::Timeout)), []);
    // Late again, and still nothing: now it is believed.
    let actions = notes(&perform(&mut session, thawed + MS * 300, Input::Timeout));
    assert_eq!(actions, [Action::Down(DownReason::TimedOut), Action::PeerSilent]);
}

#[test]
fn nothing_caps_the_lease_before_the_peer_was_sent_init() {
    let mut session = session();
    perform(&mut session, START, Input::Timeout);
    assert_eq!(session.lease_cap(), None);
    // From the decision on, before anything is sent.
    let actions = session.handle(START + MS, Input::Received(says(Down)));
    assert_eq!(sent(&actions)[0].state, Init);
    // That packet says that the next comes in a second.
    assert_eq!(session.lease_cap(), Some(START + MS * 2901));
    receive(&mut session, START + MS * 2, says(Init));
    assert_eq!(session.lease_cap(), Some(START + MS * 147));
}

#[test]
fn each_packet_sent_moves_the_cap_and_one_that_was_not_does_not() {
    let mut session = brought_to(Up);
    assert_eq!(session.lease_cap(), Some(START + MS * 145));
    let next = session.next_timeout().expect("a packet");
    let [Action::Send(packet)] = session.handle(next, Input::Timeout)[..] else { panic!("one packet") };
    assert_eq!(session.lease_cap(), Some(START + MS * 145));
    session.handle(next + MS * 2, Input::Sent { sent: next + MS, packet });
    assert_eq!(session.lease_cap(), Some(next + MS * 146));
}

#[test]
fn the_cap_is_lifted_when_down_went_out_and_not_before() {
    type Ends = fn(&mut Session) -> Vec<Action>;
    let ends: [Ends; 4] = [
        |session| session.handle(START + MS * 150, Input::Timeout),
        |session| session.handle(START + MS, Input::Received(says(Down))),
        |session| session.handle(START + MS, Input::Received(says(AdminDown))),
        |session| session.handle(START + MS, Input::Stop),
    ];
    for end in ends {
        let mut session = brought_to(Up);
        let before = session.lease_cap();
        let packets = sent(&end(&mut session));
        assert_eq!((session.lease_cap(), packets.len()), (before, 1));
        let late = START + MS * 151;
        session.handle(late, Input::Sent { sent: late, packet: packets[0] });
        assert_eq!(session.lease_cap(), None);
    }
}

#[test]
fn a_peer_that_asks_for_fewer_packets_makes_the_lease_longer() {
    let mut session = brought_to(Up);
    receive(&mut session, START, Packet { required_min_rx: MS * 200, poll: true, ..says(Up) });
    assert_eq!(session.lease_cap(), Some(START + MS * 580));
}

#[test]
fn a_peer_in_demand_mode_gets_no_periodic_packets_and_caps_nothing() {
    let mut session = brought_to(Up);
    receive(&mut session, START, Packet { demand: true, final_: true, ..says(Up) });
    assert_eq!(session.next_timeout(), Some(START + MS * 150));
    assert_eq!(session.lease_cap(), None);
}

/// Lets the session fail once by silence and come up again; returns when.
fn flap(session: &mut Session, now: Timestamp) -> Timestamp {
    let due = now + MS * 150;
    perform(session, due, Input::Timeout);
    for heard in [Down, Init] {
        receive(session, due, says(heard));
    }
    due
}

#[test]
fn a_session_that_fails_too_often_is_held_down_for_a_while() {
    let mut session = brought_to(Up);
    let mut now = START;
    for _ in 1..timers::DAMPING_FAILURES {
        now = flap(&mut session, now);
        assert_eq!(session.state(), Up);
    }
    let end = now + MS * 150;
    let actions = perform(&mut session, end, Input::Timeout);
    assert_eq!(notes(&actions), [Action::Down(DownReason::Damped), Action::PeerSilent]);
    assert_eq!((sent(&actions)[0].state, session.lease_cap()), (AdminDown, None));
    assert_eq!(receive(&mut session, end, says(Down)), []);
    assert_eq!(session.state(), AdminDown);
    let actions = perform(&mut session, end + timers::DAMPING_HOLD, Input::Timeout);
    assert_eq!((session.state(), sent(&actions)[0].state), (Down, Down));
}

#[test]
fn failures_far_apart_are_no_flapping() {
    let mut session = brought_to(Up);
    let mut now = START;
    for _ in 0..20 {
        now = flap(&mut session, now);
        assert_eq!(session.state(), Up);
        now = now + Duration::from_secs(8);
        receive(&mut session, now, says(Up));
    }
}

#[test]
fn a_stopped_session_says_so_once_and_nothing_more() {
    let mut session = brought_to(Up);
    let actions = perform(&mut session, START, Input::Stop);
    assert_eq!(notes(&actions), [Action::Down(DownReason::Stopped)]);
    assert_eq!(sent(&actions)[0].state, AdminDown);
    assert_eq!(session.next_timeout(), None);
    assert_eq!(receive(&mut session, START + MS, says(Down)), []);
    assert_eq!(perform(&mut session, START + MS * 999, Input::Timeout), []);
}

fn any_state() -> impl Strategy<Value = SessionState> {
    prop_oneof![Just(AdminDown), Just(Down), Just(Init), Just(Up)]
}

proptest! {
    #[test]
    fn whatever_a_peer_says_time_goes_on(
        steps in proptest::collection::vec(
            (any_state(), any::<(bool, bool, bool, u32, u32)>(), 1u8.., 0u64..500, any::<bool>()), 1..200,
        ),
    ) {
        let mut session = session();
        let mut now = START;
        for (state, (poll, final_, demand, tx, rx), multiplier, wait, hear) in steps {
            now = now + MS * u32::try_from(wait).unwrap();
            if hear {
                let (desired_min_tx, required_min_rx) =
                    (Duration::from_micros(tx.into()), Duration::from_micros(rx.into()));
                let packet = Packet {
                    poll, final_, demand, multiplier, desired_min_tx, required_min_rx, ..says(state)
                };
                receive(&mut session, now, packet);
            }
            for _ in 0..4 {
                if session.next_timeout().is_some_and(|due| due <= now) {
                    perform(&mut session, now, Input::Timeout);
                }
            }
            // It does not run in circles, and a peer that may be up is never without a cap.
            prop_assert!(session.next_timeout().is_none_or(|due| due > now));
            if matches!(session.state(), Init | Up) && !demand && rx != 0 && hear {
                prop_assert!(session.lease_cap().is_some());
            }
        }
    }
}
