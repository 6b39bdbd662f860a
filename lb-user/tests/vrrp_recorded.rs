//! Exchanges of two real keepalived, recorded on the wire and played to our decoder and state machine, which take the place
//! of either: they must understand everything, and say what keepalived said when it said it.

use std::{net::IpAddr, time::Duration};

use lb::{
    config,
    time::Timestamp,
    vrrp::{
        machine::{Action, Input, Machine, State},
        packet::{Acceptance, Datagram, decode},
        settings::Settings,
    },
};

const V2: &str = include_str!("recorded/keepalived-v2.txt");
/// How late the recorded keepalived, on a machine that had other things to do, may have been.
const LATE: f64 = 40.0;

/// A packet, and its moment in milliseconds since the first.
struct Recorded {
    at: f64,
    datagram: Datagram,
}

/// Reads an exchange; what `source` sent.
fn sent_by(text: &str, source: IpAddr) -> Vec<Recorded> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let packets = lines.map(|line| {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let [at, source, _destination, ttl, bytes] = words[..] else { panic!("five words: {line}") };
        let byte = |at| u8::from_str_radix(&bytes[at..at + 2], 16).expect("it is hexadecimal");
        let datagram = Datagram {
            source: source.parse().expect("an address"),
            ttl: ttl.parse().expect("a number"),
            payload: (0..bytes.len()).step_by(2).map(byte).collect(),
        };
        Recorded { at: at.parse().expect("a number"), datagram }
    });
    packets.filter(|packet| packet.datagram.source == source).collect()
}

/// One of ours in the place of one of the two.
struct Stand {
    machine: Machine,
    acceptance: Acceptance,
    /// Moment and priority of what it said, in milliseconds as in the recording.
    said: Vec<(f64, u8)>,
}

/// The recording begins here on the machine's clock.
const ORIGIN: f64 = 100_000.0;

fn moment(milliseconds: f64) -> Timestamp {
    Timestamp(((ORIGIN + milliseconds) * 1e6) as u64)
}

fn milliseconds(moment: Timestamp) -> f64 {
    moment.0 as f64 / 1e6 - ORIGIN
}

impl Stand {
    /// Takes the place of the node with this address at a moment; the configuration is keepalived's, translated.
    fn started(at: f64, priority: u8, source: &str, peer: &str) -> Self {
        let text = format!(
            "[[virtual_router]]\nname = \"VI_1\"\ninterface = \"eth0\"\nrouter_id = 51\npriority = {priority}\n\
             advert_interval = \"1s\"\npassword = \"letmein\"\nvips = [\"192.0.2.9/24\"]\n\
             [virtual_router.unicast]\nsource = \"{source}\"\npeers = [\"{peer}\"]\n"
        );
        let parsed = config::parse("recorded", &text).unwrap_or_else(|errors| panic!("{errors}"));
        let router = &parsed.config.virtual_routers[0];
        let mut stand = Self {
            machine: Machine::new(Settings::from(router)),
            acceptance: Acceptance::from(router),
            said: Vec::new(),
        };
        stand.input(at, Input::Start);
        stand
    }

    fn input(&mut self, at: f64, input: Input) {
        for action in self.machine.handle(moment(at), input) {
            if let Action::SendAdvert { priority, .. } = action {
                self.said.push((at, priority));
                self.input(at, Input::AdvertSent { sent: moment(at) });
            }
        }
    }

    /// Lets time pass, until just before a moment.
    fn until(&mut self, end: f64) {
        while let Some(next) = self.machine.next_timeout().map(milliseconds).filter(|next| *next < end) {
            self.input(next, Input::Timeout);
        }
    }

    /// Hears what was recorded between two moments, each packet in its time.
    fn hear(&mut self, packets: &[Recorded], from: f64, to: f64) {
        for packet in packets.iter().filter(|packet| (from..to).contains(&packet.at)) {
            self.until(packet.at);
            let router_id = self.acceptance.router_id;
            let advert = decode(&packet.datagram, |id| (id == router_id).then_some(&self.acceptance))
                .unwrap_or_else(|error| panic!("{error}: {:?}", packet.datagram));
            self.input(packet.at, Input::AdvertReceived { advert, source: packet.datagram.source });
        }
        self.until(to);
    }

    /// Fails unless the next thing it said is of `priority` and keepalived said the same at about that time.
    #[track_caller]
    fn said_as(&mut self, keepalived: f64, priority: u8) {
        assert!(!self.said.is_empty(), "it said nothing, keepalived did at {keepalived}");
        let (at, said) = self.said.remove(0);
        assert_eq!(said, priority, "at {at}");
        assert!((0.0..LATE).contains(&(keepalived - at)), "{at}, keepalived at {keepalived}");
    }
}

#[test]
fn in_the_backups_place_v2() {
    let (ours, theirs) = ("192.0.2.2".parse().expect("valid"), "192.0.2.1".parse().expect("valid"));
    let (keepalived, master) = (sent_by(V2, ours), sent_by(V2, theirs));
    let mut node = Stand::started(-500.0, 100, "192.0.2.2", "192.0.2.1");

    // Four adverts of priority 200: somebody owns the VIP.
    node.hear(&master, 0.0, 3_500.0);
    assert_eq!((node.machine.state(), node.said.len()), (State::Backup, 0));

    // 3576.1: its farewell. keepalived claimed after the skew of priority 100, 609 ms.
    node.hear(&master, 3_500.0, 4_500.0);
    assert_eq!(node.machine.state(), State::Owner);
    node.said_as(keepalived[0].at, 100);

    // Nobody else is heard: an advert every second.
    node.hear(&master, 4_500.0, 12_000.0);
    assert_eq!(node.machine.state(), State::Owner);
    let gaps: Vec<f64> = node.said.windows(2).map(|pair| pair[1].0 - pair[0].0).collect();
    assert!(gaps.len() >= 5 && gaps.iter().all(|gap| (gap - 1_000.0).abs() < 0.01), "{gaps:?}");

    // 12262.0: node-a is back with priority 200 and claims. We yield and are silent.
    node.hear(&master, 12_000.0, 12_262.5);
    assert_eq!(node.machine.state(), State::Backup);
    node.said.clear();
    node.hear(&master, 12_262.5, 15_348.0);
    assert_eq!((node.machine.state(), node.said.len()), (State::Backup, 0));

    // 15348.0: it says farewell again.
    node.hear(&master, 15_348.0, 16_500.0);
    assert_eq!(node.machine.state(), State::Owner);
}

#[test]
fn in_the_place_of_the_one_who_comes_back_v2() {
    let (ours, theirs) = ("192.0.2.1".parse().expect("valid"), "192.0.2.2".parse().expect("valid"));
    let (keepalived, backup) = (sent_by(V2, ours), sent_by(V2, theirs));
    let came_back = keepalived.iter().find(|packet| packet.at > 10_000.0).expect("it did").at;
    // It had listened for three intervals and the skew of priority 200.
    let started = came_back - 3_218.75 - 20.0;
    let mut node = Stand::started(started, 200, "192.0.2.1", "192.0.2.2");

    // Adverts of priority 100 do not make it wait any longer.
    node.hear(&backup, started, came_back + 1.0);
    assert_eq!(node.machine.state(), State::Owner);
    node.said_as(came_back, 200);

    // keepalived yields at once, so nobody is heard any more.
    node.hear(&backup, came_back + 1.0, came_back + 3_000.0);
    assert_eq!(node.machine.state(), State::Owner);
    assert!(node.said.iter().all(|(_, priority)| *priority == 200));
    node.said.clear();

    // It stops: farewell.
    node.input(came_back + 3_000.0, Input::Stop);
    assert_eq!(node.said.first().map(|(_, priority)| *priority), Some(0));
}

#[test]
fn a_recorded_packet_with_any_byte_changed_is_refused() {
    let master = sent_by(V2, "192.0.2.1".parse().expect("valid"));
    let node = Stand::started(0.0, 100, "192.0.2.2", "192.0.2.1");
    let Recorded { datagram, .. } = &master[0];
    for at in 0..datagram.payload.len() {
        for flip in [0x01, 0x80, 0xff] {
            let mut changed = datagram.clone();
            changed.payload[at] ^= flip;
            let outcome = decode(&changed, |id| (id == 51).then_some(&node.acceptance));
            assert!(outcome.is_err(), "byte {at}: {outcome:?}");
        }
    }
    let whole = decode(datagram, |id| (id == 51).then_some(&node.acceptance)).expect("it is as it was sent");
    assert_eq!((whole.priority, whole.advert_interval), (200, Duration::from_secs(1)));
}
