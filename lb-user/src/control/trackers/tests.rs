use std::net::{IpAddr, Ipv4Addr};

use super::*;
use crate::{
    health::HealthEvent,
    net::{InterfaceAddress, Link, NetEvent, Snapshot},
    track::TrackEvent,
};

const TUTORIAL: &str = include_str!("../../../../configs/tutorial-a.toml");

/// The tutorial's node-a with other trackers than the script.
fn config(tracking: &str, more: &str) -> Config {
    let text = TUTORIAL.replace("track_scripts = [\"chk_nginx\"]", tracking);
    Config::parse("lb.toml", &(text + more)).unwrap_or_else(|errors| panic!("{errors}"))
}

/// A world in which eth0 has node-a's address, and eth1 has carrier or not.
fn world(carrier: bool) -> World {
    let link = |index, name: &str, carrier| Link {
        index,
        name: name.to_owned(),
        mac: None,
        mtu: 1500,
        up: true,
        carrier,
        master: None,
        vlan: None,
        macvlan_on: None,
    };
    let own = InterfaceAddress { index: 2, address: "172.20.128.2/24".parse().unwrap() };
    let mut world = World::default();
    world.event(NetEvent::Resync(Snapshot {
        links: vec![link(2, "eth0", true), link(3, "eth1", carrier)],
        addresses: vec![own],
        ..Snapshot::default()
    }));
    world
}

/// Node-a, and what was said there.
struct Node {
    config: Config,
    world: World,
    health: Health,
    trackers: Trackers,
}

impl Node {
    fn new(tracking: &str, more: &str) -> Self {
        let (config, world) = (config(tracking, more), world(true));
        let mut health = Health::default();
        health.configure(&config, &world, Timestamp(0));
        let mut trackers = Trackers::default();
        trackers.configure(&config, Timestamp(0));
        Self { config, world, health, trackers }
    }

    /// Pending, faults, priority of VI_1, which has 200.
    fn effects(&self) -> (bool, Vec<String>, u8) {
        let Effects { pending, faults, priority, .. } = self.all_effects(0);
        (pending, faults, priority)
    }

    fn all_effects(&self, router: usize) -> Effects {
        let around = Surroundings { config: &self.config, world: &self.world, health: &self.health };
        self.trackers.effects(&self.config.virtual_routers[router], around)
    }

    fn script(&mut self, name: &str, ok: bool) -> bool {
        let (script, detail) = (name.to_owned(), format!("exit status {}", u8::from(!ok)));
        self.trackers.script_event(&TrackEvent { script, at: Timestamp(1), ok, detail })
    }

    fn probe(&mut self, address: IpAddr, ok: bool) {
        let targets = self.health.configure(&self.config, &self.world, Timestamp(0));
        let target = targets.iter().find(|target| target.address == address).unwrap();
        let result =
            if ok { Ok(std::time::Duration::default()) } else { Err(crate::health::ProbeError::Refused) };
        for _ in 0..2 {
            self.health.event(&HealthEvent { id: target.id, at: Timestamp(1), result: result.clone() });
        }
    }
}

fn ok(priority: u8) -> (bool, Vec<String>, u8) {
    (false, Vec::new(), priority)
}

fn fault(words: &str) -> (bool, Vec<String>, u8) {
    (false, vec![words.to_owned()], 200)
}

#[test]
fn a_weight_where_a_script_is_used_replaces_its_own() {
    let more = "[[track_script]]\nname = \"other\"\ncommand = \"true\"\nweight = -10\n";
    let mut node = Node::new("track_scripts = [\"chk_nginx\", { name = \"other\", weight = -50 }]", more);
    assert_eq!(node.effects(), (true, Vec::new(), 200), "the first has not run yet");
    assert!(node.script("chk_nginx", true));
    assert!(node.script("other", false));
    assert_eq!(node.effects(), ok(150));
    assert!(node.script("chk_nginx", false));
    assert_eq!(node.effects(), (false, vec!["track script chk_nginx fails (exit status 1)".to_owned()], 150));
    assert!(!node.script("unknown", false));
}

#[test]
fn a_reversed_script_forbids_while_it_succeeds() {
    let mut node = Node::new("track_scripts = [{ name = \"chk_nginx\", reverse = true }]", "");
    node.script("chk_nginx", true);
    assert_eq!(node.effects(), fault("track script chk_nginx succeeds (exit status 0)"));
    node.script("chk_nginx", false);
    assert_eq!(node.effects(), ok(200));
}

#[test]
fn interfaces_without_carrier_count_by_their_weight() {
    let mut node = Node::new("track_interfaces = [\"eth1\"]", "");
    assert_eq!(node.effects(), ok(200));
    node.world = world(false);
    assert_eq!(node.effects(), fault("interface eth1 is down"));
    assert!(node.all_effects(0).hand_over, "it can still speak to its peers");
    node.config = config("track_interfaces = [{ name = \"eth1\", weight = -30 }]", "");
    assert_eq!(node.effects(), ok(170));
    node.world.event(NetEvent::LinkRemoved { index: 2, name: "eth0".to_owned() });
    let effects = node.all_effects(0);
    assert_eq!((effects.faults, effects.hand_over), (vec!["interface eth0 is gone".to_owned()], false));
}

#[test]
fn processes_and_files_count_once_they_are_known() {
    let more = "[[track_process]]\nname = \"nginx\"\ncommand = \"nginx\"\n\
                [[track_file]]\nname = \"load\"\npath = \"/run/load\"\n";
    let mut node = Node::new("track_processes = [\"nginx\"]\ntrack_files = [\"load\"]", more);
    assert_eq!(node.effects(), (true, Vec::new(), 200));
    let process = |level, count| WatchEvent::Process { name: "nginx".to_owned(), level, count };
    let file = |value: i64| WatchEvent::File { name: "load".to_owned(), value, detail: value.to_string() };
    assert!(node.trackers.watch_event(process(Level::Up, 3)));
    assert!(node.trackers.watch_event(file(-20)));
    assert_eq!(node.effects(), ok(180));
    node.trackers.watch_event(process(Level::Down, 0));
    node.trackers.watch_event(file(0));
    assert_eq!(node.effects(), fault("track process nginx: 0 running"));
    node.trackers.watch_event(process(Level::Up, 3));
    node.trackers.watch_event(file(-254));
    assert_eq!(node.effects(), fault("track file load says -254"));
    // What is tracked as before keeps its state.
    node.trackers.configure(&node.config, Timestamp(2));
    assert_eq!(node.effects(), fault("track file load says -254"));
}

#[test]
fn services_count_by_the_health_of_their_backends() {
    let (own, other) =
        (IpAddr::V4(Ipv4Addr::new(172, 20, 128, 2)), IpAddr::V4(Ipv4Addr::new(172, 20, 128, 3)));
    let mut node = Node::new("track_services = [\"web\"]", "");
    assert_eq!(node.effects(), (true, Vec::new(), 200), "nobody has been asked yet");
    node.probe(own, false);
    assert_eq!(node.effects(), (true, Vec::new(), 200));
    node.probe(other, true);
    assert_eq!(node.effects(), ok(200));
    node.config = config("track_services = [{ name = \"web\", minimum = 2 }]", "");
    assert_eq!(node.effects(), fault("service web has 1 healthy backend"));
    node.config = config("track_services = [{ name = \"web\", local = true, weight = -50 }]", "");
    assert_eq!(node.effects(), ok(150));
    node.config = config("track_services = [{ name = \"web\", local = true }]", "");
    assert_eq!(node.effects(), fault("service web has 0 healthy backends on this node"));
    node.probe(own, true);
    assert_eq!(node.effects(), ok(200));
}

#[test]
fn the_members_of_a_group_are_fit_together() {
    let second = "[[virtual_router]]\nname = \"VI_2\"\ninterface = \"eth1\"\nrouter_id = 34\npriority = 200\n\
                  vips = [\"172.20.128.5/24\"]\ntrack_scripts = [\"chk_nginx\", \"other\"]\n\
                  [virtual_router.unicast]\nsource = \"172.20.128.2\"\npeers = [\"172.20.128.3\"]\n\
                  [[track_script]]\nname = \"other\"\ncommand = \"true\"\nweight = -10\n\
                  [[track_file]]\nname = \"load\"\npath = \"/run/load\"\n\
                  [[sync_group]]\nname = \"G\"\nrouters = [\"VI_1\", \"VI_2\"]\ntrack_files = [\"load\"]\n";
    let mut node = Node::new("track_scripts = [{ name = \"chk_nginx\", weight = -20 }]", second);
    let all = |node: &Node| [0, 1].map(|router| node.all_effects(router));
    assert!(all(&node)[0].pending || all(&node)[1].pending);
    node.script("chk_nginx", true);
    node.script("other", false);
    node.trackers.watch_event(WatchEvent::File { name: "load".to_owned(), value: 5, detail: "5".to_owned() });
    assert_eq!(all(&node).map(|effects| (effects.faults.len(), effects.priority)), [(0, 195), (0, 195)]);

    node.world = world(false);
    let [first, second] = all(&node);
    assert_eq!((first.faults, first.hand_over), (vec!["VI_2: interface eth1 is down".to_owned()], true));
    assert_eq!((second.faults, second.hand_over), (vec!["interface eth1 is down".to_owned()], false));
}
