//! Exchanges of two real keepalived, recorded on the wire and played to our decoder and state machine, which take the place
//! of either: they must understand everything, and say what keepalived said when it said it.
//!
//! Each recording is the same play: one with priority 200 owns the VIP, says farewell, the one with 100 claims; the first
//! comes back, claims and says farewell once more.

use std::{net::IpAddr, time::Duration};

use lb::{
    config,
    time::{Timestamp, UnixTime},
    vrrp::{
        machine::{Action, Input, Machine, State},
        packet::{Acceptance, Advert, Datagram, DecodeError, Endpoint, decode},
        settings::Settings,
    },
};

const ROUTER_ID: u8 = 51;

/// A recording and the configuration of those who are in it.
#[derive(Clone, Copy)]
struct Exchange {
    text: &'static str,
    /// What the configurations of both have in common, and between which two addresses they speak.
    common: &'static str,
    /// The addresses of priority 200 and 100.
    sources: [&'static str; 2],
    multicast: bool,
    /// Time between adverts in milliseconds.
    interval: f64,
    /// How late the recorded keepalived, on a machine that had other things to do, may have been, in milliseconds.
    late: f64,
}

const V2: Exchange = Exchange {
    text: include_str!("recorded/keepalived-v2.txt"),
    common: "advert_interval = \"1s\"\npassword = \"letmein\"\nvips = [\"192.0.2.9/24\"]",
    sources: ["192.0.2.1", "192.0.2.2"],
    multicast: false,
    interval: 1_000.0,
    late: 40.0,
};
const V3: Exchange = Exchange {
    text: include_str!("recorded/keepalived-v3.txt"),
    common: "version = 3\nadvert_interval = \"100ms\"\nvips = [\"192.0.2.9/24\"]",
    interval: 100.0,
    late: 20.0,
    ..V2
};
const V3_IPV6_MULTICAST: Exchange = Exchange {
    text: include_str!("recorded/keepalived-v3-ipv6-multicast.txt"),
    common: "version = 3\nadvert_interval = \"100ms\"\nvips = [\"fe80::9/64\", \"2001:db8::9/64\"]",
    sources: ["fe80::c0ff:fe00:201", "fe80::c0ff:fe00:202"],
    multicast: true,
    ..V3
};

/// A packet, and its moment in milliseconds since the first.
struct Recorded {
    at: f64,
    datagram: Datagram,
}

impl Recorded {
    fn is_farewell(&self) -> bool {
        self.datagram.payload[2] == 0
    }
}

impl Exchange {
    /// What the node with priority 200 (0) or 100 (1) sent.
    fn sent_by(self, node: usize) -> Vec<Recorded> {
        let source: IpAddr = self.sources[node].parse().expect("an address");
        let lines = self.text.lines().filter(|line| !line.starts_with('#'));
        let packets = lines.map(|line| {
            let words: Vec<&str> = line.split_ascii_whitespace().collect();
            let [at, source, destination, ttl, bytes] = words[..] else { panic!("five words: {line}") };
            let byte = |at| u8::from_str_radix(&bytes[at..at + 2], 16).expect("it is hexadecimal");
            let datagram = Datagram {
                source: source.parse().expect("an address"),
                destination: destination.parse().expect("an address"),
                ttl: ttl.parse().expect("a number"),
                payload: (0..bytes.len()).step_by(2).map(byte).collect(),
            };
            Recorded { at: at.parse().expect("a number"), datagram }
        });
        packets.filter(|packet| packet.datagram.source == source).collect()
    }

    fn config(self, node: usize) -> String {
        let priority = [200, 100][node];
        let (source, peer) = (self.sources[node], self.sources[1 - node]);
        let path = if self.multicast {
            format!("[virtual_router.multicast]\nsource = \"{source}\"\n")
        } else {
            format!("[virtual_router.unicast]\nsource = \"{source}\"\npeers = [\"{peer}\"]\n")
        };
        format!(
            "[[virtual_router]]\nname = \"VI_1\"\ninterface = \"eth0\"\nrouter_id = {ROUTER_ID}\npriority = {priority}\n{}\n{path}",
            self.common
        )
    }

    /// One of ours in the place of one of the two, started at a moment.
    fn stand_in(self, node: usize, at: f64) -> Stand {
        let parsed =
            config::parse("recorded", &self.config(node)).unwrap_or_else(|errors| panic!("{errors}"));
        let router = &parsed.config.virtual_routers[0];
        let mut stand = Stand {
            machine: Machine::new(Settings::from(router)),
            endpoint: Endpoint::new(Acceptance::from(router)),
            late: self.late,
            said: Vec::new(),
        };
        stand.input(at, Input::Start);
        stand
    }
}

/// One of ours in the place of one of the two.
struct Stand {
    machine: Machine,
    endpoint: Endpoint,
    late: f64,
    /// Moment and priority of what it said, in milliseconds as in the recording.
    said: Vec<(f64, u8)>,
}

/// The recording begins here on the machine's clock, in milliseconds.
const ORIGIN: f64 = 100_000.0;

fn moment(milliseconds: f64) -> Timestamp {
    let since = Duration::from_secs_f64((ORIGIN + milliseconds) / 1e3);
    Timestamp(0) + since
}

fn milliseconds(moment: Timestamp) -> f64 {
    moment.since(Timestamp(0)).as_secs_f64() * 1e3 - ORIGIN
}

impl Stand {
    fn input(&mut self, at: f64, input: Input) {
        for action in self.machine.handle(moment(at), input) {
            if let Action::SendAdvert { priority, .. } = action {
                self.said.push((at, priority));
                self.input(at, Input::AdvertSent { sent: moment(at) });
            }
        }
    }

    fn decode(&mut self, datagram: &Datagram) -> Result<Advert, DecodeError> {
        decode(datagram, UnixTime::now(), |id| (id == ROUTER_ID).then_some(&mut self.endpoint))
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
            let advert = self.decode(&packet.datagram);
            let advert = advert.unwrap_or_else(|error| panic!("{error}: {:?}", packet.datagram));
            self.input(packet.at, Input::AdvertReceived { advert, source: packet.datagram.source });
        }
        self.until(to);
    }

    /// Fails unless the first thing it said is of `priority` and keepalived said the same at that time or a little later.
    #[track_caller]
    fn said_as(&self, keepalived: f64, priority: u8) {
        let (at, said) = *self.said.first().expect("it said something");
        assert_eq!(said, priority, "at {at}");
        assert!((0.0..self.late).contains(&(keepalived - at)), "{at}, keepalived at {keepalived}");
    }
}

fn in_the_backups_place(exchange: Exchange) {
    let (master, keepalived) = (exchange.sent_by(0), exchange.sent_by(1));
    let farewells: Vec<f64> =
        master.iter().filter(|packet| packet.is_farewell()).map(|packet| packet.at).collect();
    let comes_back = master.iter().find(|packet| packet.at > farewells[0]).expect("it comes back").at;
    let mut node = exchange.stand_in(1, -exchange.interval / 2.0);

    // Adverts of priority 200: somebody owns the VIP.
    node.hear(&master, 0.0, farewells[0]);
    assert_eq!((node.machine.state(), node.said.len()), (State::Backup, 0));

    // Its farewell. keepalived claimed after the skew of priority 100: 609 ms, or 61 ms with adverts of 0.1 s.
    node.hear(&master, farewells[0], farewells[0] + exchange.interval);
    assert_eq!(node.machine.state(), State::Owner);
    node.said_as(keepalived[0].at, 100);

    // Nobody else is heard: an advert every interval.
    node.hear(&master, farewells[0] + exchange.interval, comes_back - 1.0);
    assert_eq!(node.machine.state(), State::Owner);
    let gaps: Vec<f64> = node.said.windows(2).map(|pair| pair[1].0 - pair[0].0).collect();
    assert!(gaps.len() >= 5, "{gaps:?}");
    assert!(gaps.iter().all(|gap| (gap - exchange.interval).abs() < 0.01), "{gaps:?}");

    // Priority 200 is back and claims. We yield and are silent.
    node.hear(&master, comes_back - 1.0, comes_back + 0.05);
    assert_eq!(node.machine.state(), State::Backup);
    node.said.clear();
    node.hear(&master, comes_back + 0.05, farewells[1]);
    assert_eq!((node.machine.state(), node.said.len()), (State::Backup, 0));

    // It says farewell again.
    node.hear(&master, farewells[1], farewells[1] + exchange.interval);
    assert_eq!(node.machine.state(), State::Owner);
}

fn in_the_place_of_the_one_who_comes_back(exchange: Exchange) {
    let (keepalived, backup) = (exchange.sent_by(0), exchange.sent_by(1));
    let left = keepalived.iter().find(|packet| packet.is_farewell()).expect("it says farewell").at;
    let came_back = keepalived.iter().find(|packet| packet.at > left).expect("it comes back").at;
    // It had listened for three intervals and the skew of priority 200, and was a little late.
    let started = came_back - exchange.interval * (3.0 + 56.0 / 256.0) - exchange.late / 2.0;
    let mut node = exchange.stand_in(0, started);

    // Adverts of priority 100 do not make it wait any longer.
    node.hear(&backup, started, came_back + 0.05);
    assert_eq!(node.machine.state(), State::Owner);
    node.said_as(came_back, 200);

    // keepalived yields at once, so nobody is heard any more.
    let stops = came_back + 3.0 * exchange.interval;
    node.hear(&backup, came_back + 0.05, stops);
    assert_eq!(node.machine.state(), State::Owner);
    assert!(node.said.iter().all(|(_, priority)| *priority == 200), "{:?}", node.said);
    node.said.clear();

    // It stops: farewell.
    node.input(stops, Input::Stop);
    assert_eq!(node.said.first().map(|(_, priority)| *priority), Some(0));
}

fn with_any_byte_changed_it_is_refused(exchange: Exchange) {
    let master = exchange.sent_by(0);
    let mut node = exchange.stand_in(1, 0.0);
    let Recorded { datagram, .. } = &master[0];
    for at in 0..datagram.payload.len() {
        for flip in [0x01, 0x80, 0xff] {
            let mut changed = datagram.clone();
            changed.payload[at] ^= flip;
            let outcome = node.decode(&changed);
            assert!(outcome.is_err(), "byte {at}: {outcome:?}");
        }
    }
    let whole = node.decode(datagram).expect("it is as it was sent");
    let interval = Duration::from_secs_f64(exchange.interval / 1e3);
    assert_eq!((whole.priority, whole.advert_interval), (200, interval));
}

/// All of it for one recording.
macro_rules! exchanges {
    ($($name:ident: $exchange:expr;)*) => {$(
        mod $name {
            #[test]
            fn in_the_backups_place() {
                super::in_the_backups_place($exchange);
            }

            #[test]
            fn in_the_place_of_the_one_who_comes_back() {
                super::in_the_place_of_the_one_who_comes_back($exchange);
            }

            #[test]
            fn with_any_byte_changed_it_is_refused() {
                super::with_any_byte_changed_it_is_refused($exchange);
            }
        }
    )*};
}

exchanges! {
    v2: super::V2;
    v3: super::V3;
    v3_ipv6_multicast: super::V3_IPV6_MULTICAST;
}
