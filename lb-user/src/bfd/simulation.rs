//! Two sessions and a lossy, slow network between them, in virtual time.

use std::{collections::BTreeMap, net::Ipv4Addr, time::Duration};

use proptest::prelude::*;

use super::{
    Action, Datagram, Input, Role, Session, SessionState, Settings,
    packet::{TTL, decode},
};
use crate::time::Timestamp;

const INTERVAL: Duration = Duration::from_millis(50);

struct Link {
    sessions: [Session; 2],
    now: Timestamp,
    /// What is on its way: when it arrives and in what order it was sent, to whom, the bytes.
    flight: BTreeMap<(Timestamp, u64), (usize, Vec<u8>)>,
    sent: u64,
    /// When the last packet to each of them arrives: they do not overtake one another.
    arrival: [Timestamp; 2],
    random: u64,
    /// Of 100 packets so many are lost.
    loss: u64,
    /// The longest way, in microseconds.
    delay: u64,
    downs: u32,
}

impl Link {
    fn new(roles: [Role; 2], seed: u64, loss: u64, delay: u64) -> Self {
        let now = Timestamp(1);
        let session = |number: u32, role| {
            let settings = Settings {
                discriminator: 10 + number,
                interval: INTERVAL,
                multiplier: 3,
                role,
                seed: seed ^ u64::from(number),
            };
            Session::new(settings, now)
        };
        let sessions = [session(0, roles[0]), session(1, roles[1])];
        Self {
            sessions,
            now,
            flight: BTreeMap::new(),
            sent: 0,
            arrival: [now; 2],
            random: seed | 1,
            loss,
            delay,
            downs: 0,
        }
    }

    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            let arrival = self.flight.first_key_value().map(|((at, _), _)| *at);
            let due = self.sessions.iter().filter_map(Session::next_timeout).min();
            let Some(next) = [arrival, due].into_iter().flatten().min().filter(|next| *next <= end) else {
                break;
            };
            self.now = self.now.max(next);
            if arrival.is_some_and(|at| at <= self.now) {
                let Some((_, (to, payload))) = self.flight.pop_first() else { break };
                self.deliver(to, payload);
            } else {
                for number in 0..2 {
                    if self.sessions[number].next_timeout().is_some_and(|due| due <= self.now) {
                        self.input(number, Input::Timeout);
                    }
                }
            }
        }
        self.now = end;
    }

    fn deliver(&mut self, to: usize, payload: Vec<u8>) {
        let own = self.sessions[to].settings().discriminator;
        let source = Ipv4Addr::LOCALHOST.into();
        let find = |discriminator: Option<u32>, _| discriminator.is_none_or(|it| it == own).then_some(());
        // A session whose peer has forgotten it may name a number nobody has: that is no fault.
        if let Ok((packet, ())) = decode(&Datagram { source, ttl: TTL, payload }, find) {
            self.input(to, Input::Received(packet));
        }
    }

    fn input(&mut self, number: usize, input: Input) {
        for action in self.sessions[number].handle(self.now, input) {
            match action {
                Action::Send(packet) => {
                    if self.random() % 100 >= self.loss {
                        let arrival = self.now + Duration::from_micros(self.random() % self.delay);
                        let to = 1 - number;
                        self.arrival[to] = self.arrival[to].max(arrival);
                        self.sent += 1;
                        self.flight.insert((self.arrival[to], self.sent), (to, packet.encode().to_vec()));
                    }
                    self.sessions[number]
                        .handle(self.now, Input::Sent { sent: self.now, state: packet.state });
                }
                Action::Down(_) => self.downs += 1,
                Action::Up | Action::PeerSilent | Action::PeerHeard => {}
            }
        }
    }

    fn states(&self) -> [SessionState; 2] {
        [self.sessions[0].state(), self.sessions[1].state()]
    }

    fn random(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }
}

fn roles() -> impl Strategy<Value = [Role; 2]> {
    prop_oneof![
        Just([Role::Active, Role::Active]),
        Just([Role::Active, Role::Passive]),
        Just([Role::Passive, Role::Active])
    ]
}

proptest! {
    #[test]
    fn two_sessions_come_up_over_a_bad_network(
        roles in roles(), seed in any::<u64>(), loss in 0u64..40, delay in 1u64..30_000,
    ) {
        let mut link = Link::new(roles, seed, loss, delay);
        // The peer may lose three in a row at any time; up at once it must have been.
        let mut up = false;
        for _ in 0..300 {
            link.run(Duration::from_millis(100));
            up |= link.states() == [SessionState::Up; 2];
        }
        prop_assert!(up, "{:?}", link.sessions);
    }

    #[test]
    fn over_a_good_network_they_come_up_in_a_second_and_stay(
        roles in roles(), seed in any::<u64>(), delay in 1u64..20_000,
    ) {
        let mut link = Link::new(roles, seed, 0, delay);
        link.run(Duration::from_secs(1));
        prop_assert_eq!(link.states(), [SessionState::Up; 2]);
        link.run(Duration::from_mins(1));
        prop_assert_eq!((link.states(), link.downs), ([SessionState::Up; 2], 0));
    }
}

#[test]
fn both_know_of_a_cut_within_two_detection_times_and_meet_again_after_it() {
    let mut link = Link::new([Role::Active; 2], 7, 0, 1000);
    link.run(Duration::from_secs(1));
    link.loss = 100;
    link.run(Duration::from_millis(300));
    assert_eq!(link.states(), [SessionState::Down; 2]);
    link.loss = 0;
    link.run(Duration::from_millis(1100));
    assert_eq!((link.states(), link.downs), ([SessionState::Up; 2], 2));
}
