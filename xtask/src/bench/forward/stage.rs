//! The lab: one node that sends, one where everything ends, and between them a node for each system, on cables of its own.

use std::{net::Ipv4Addr, path::Path, time::Duration};

use xtask_report::{
    Bound, Goal,
    plan::{Port, Route, Sink, Way},
};

use crate::lab::{Daemon, End, Lab, LabError, LabSpec, MacAddress, Node, NodeSpec, wait_until};

/// The way that others are given as multiples of.
pub(super) const REDIRECT: &str = "floor: XDP redirect";
const DNAT: &str = "nftables: DNAT";
const IPVS_NAT: &str = "IPVS: NAT";
const IPVS_DR: &str = "IPVS: DR";
/// How long `lb` may take to load its program and become owner; emulated, the verifier takes its time.
const READY_WITHIN: Duration = Duration::from_mins(10);
/// What the sinks behind the kernel's own forwarding are not.
const ELSEWHERE: &str = "02:00:00:00:00:fe";
/// Where backends of `nat` listen.
const BACKEND_PORT: u16 = 8_080;

/// A system, whose number is in all its addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum System {
    /// Nothing: the generator's frames end where they come in.
    Nothing = 1,
    Redirect = 2,
    Lb = 3,
    Own = 4,
    Forwarding = 5,
    Nftables = 6,
    Ipvs = 7,
}

impl System {
    const ALL: [Self; 7] =
        [Self::Nothing, Self::Redirect, Self::Lb, Self::Own, Self::Forwarding, Self::Nftables, Self::Ipvs];

    const fn name(self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::Redirect => "redirect",
            Self::Lb => "lb",
            Self::Own => "own",
            Self::Forwarding => "forwarding",
            Self::Nftables => "nftables",
            Self::Ipvs => "ipvs",
        }
    }

    /// An address on the generator's side.
    const fn front(self, host: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, self as u8, 0, host)
    }

    /// An address on the sink's side.
    const fn back(self, host: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, 100 + self as u8, 0, host)
    }

    /// The backends.
    const fn backends(self) -> [Ipv4Addr; 2] {
        [self.back(11), self.back(12)]
    }

    const fn vip(self) -> Ipv4Addr {
        self.front(100)
    }
}

/// A mode of `lb`, and the port of its service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Dr = 80,
    DrBack = 81,
    Nat = 82,
    Ipip = 83,
    Gue = 84,
    Local = 85,
}

impl Mode {
    const ALL: [Self; 6] = [Self::Dr, Self::DrBack, Self::Nat, Self::Ipip, Self::Gue, Self::Local];

    const fn row(self) -> &'static str {
        match self {
            Self::Dr => "lb: dr",
            Self::DrBack => "lb: dr, out of the interface it came by",
            Self::Nat => "lb: nat",
            Self::Ipip => "lb: ipip",
            Self::Gue => "lb: gue",
            Self::Local => "lb: local",
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Dr | Self::DrBack => "dr",
            Self::Nat => "nat",
            Self::Ipip => "ipip",
            Self::Gue => "gue",
            Self::Local => "local",
        }
    }

    fn backends(self) -> Vec<Ipv4Addr> {
        match self {
            Self::DrBack => vec![System::Lb.front(9)],
            Self::Local => vec![System::Lb.front(1)],
            _ => System::Lb.backends().to_vec(),
        }
    }
}

/// The lab, for as long as it is held, and the ways through it.
pub(super) struct Stage {
    lab: Lab,
    /// Why there is no IPVS, if so.
    no_ipvs: Option<String>,
}

impl Stage {
    /// Builds the lab; `lb` owns its VIP and has every backend.
    pub(super) fn new(
        name: &str,
        lb: &Path,
        no_ipvs: Option<String>,
        note: &impl Fn(&str),
    ) -> Result<Self, LabError> {
        let node = |name: &str, forwarding| NodeSpec {
            links: Vec::new(),
            forwarding,
            ..NodeSpec::on_lan(name, Ipv4Addr::UNSPECIFIED)
        };
        let systems = System::ALL.map(|system| node(system.name(), true));
        let nodes = [node("generator", false), node("sink", false)].into_iter().chain(systems).collect();
        let xtask = std::env::current_exe().map_err(LabError::io("finding this program"))?;
        let lab = Lab::start(&LabSpec { name: name.to_owned(), nodes }, &xtask, |what| note(what))?;
        let stage = Self { lab, no_ipvs };
        for system in System::ALL {
            stage.wire(system)?;
        }
        stage.set_up_kernels()?;
        note("waiting until lb owns its VIP");
        stage.start_lb(lb)?;
        Ok(stage)
    }

    /// Cables from the generator to the system, and on to the sink.
    fn wire(&self, system: System) -> Result<(), LabError> {
        let name = system.name();
        let (generator, sink, node) =
            (self.lab.node("generator")?, self.lab.node("sink")?, self.lab.node(name)?);
        let end = |node, interface, address| End { node, interface, address, prefix: 24 };
        self.lab.join([end(&generator, name, system.front(9)), end(&node, "front", system.front(1))])?;
        let [first, second] = system.backends();
        self.lab.join([end(&sink, name, first), end(&node, "back", system.back(1))])?;
        sink.run(&["ip", "address", "add", &format!("{second}/24"), "dev", name])?;
        Ok(())
    }

    /// The kernel's own ways of forwarding.
    fn set_up_kernels(&self) -> Result<(), LabError> {
        for system in [System::Own, System::Forwarding, System::Nftables, System::Ipvs] {
            let [first, second] = system.backends();
            let (vip, client) = (system.vip(), system.front(9));
            // A veth without a program takes frames only if it merges packets. Neighbours are known: who forwards for the
            // first time asks, and a sink that is somebody else costs the least.
            let common = format!(
                "ethtool -K front gro on\n\
                 ip neighbour replace {first} lladdr {ELSEWHERE} dev back\n\
                 ip neighbour replace {second} lladdr {ELSEWHERE} dev back\n\
                 ip route add 100.64.0.0/10 via {client}\n"
            );
            let own = match system {
                System::Forwarding => format!("ip route add {vip}/32 via {first}\n"),
                System::Own => format!("ip address add {vip}/24 dev front\n{}", drop_in_stack(80)),
                System::Nftables => format!(
                    "ip address add {vip}/24 dev front\n\
                     nft 'table ip lb {{ chain in {{ type nat hook prerouting priority dstnat; \
                     ip daddr {vip} tcp dport 80 dnat to numgen inc mod 2 map {{ 0 : {first}, 1 : {second} }} : {BACKEND_PORT}; \
                     ip daddr {vip} udp dport 80 dnat to numgen inc mod 2 map {{ 0 : {first}, 1 : {second} }} : {BACKEND_PORT}; \
                     }}; }}'\n"
                ),
                System::Ipvs if self.no_ipvs.is_none() => {
                    format!("ip address add {vip}/24 dev front\n{}", ipvs(vip, [first, second]))
                }
                _ => String::new(),
            };
            self.lab.node(system.name())?.run(&["sh", "-e", "-c", &(common + &own)])?;
        }
        Ok(())
    }

    fn start_lb(&self, lb: &Path) -> Result<(), LabError> {
        let mut node = self.lab.node(System::Lb.name())?;
        node.run(&["sh", "-e", "-c", &drop_in_stack(Mode::Local as u16)])?;
        node.spec.daemon = Daemon::Lb { binary: lb.to_owned(), config: config() };
        node.start_daemon()?;
        let mut last = String::new();
        let ready = wait_until("lb owns its VIP", READY_WITHIN, || {
            if !node.has_daemon() {
                return Some(Err(LabError::DaemonEnded { node: "lb".to_owned(), log: node.log_tail(20) }));
            }
            match node.status() {
                Ok(status) if status.is_owner() && status.all_backends_up() => Some(Ok(())),
                Ok(status) => {
                    last = status.text();
                    None
                }
                Err(error) => {
                    last = error.to_string();
                    None
                }
            }
        });
        ready.map_err(|error| match error {
            LabError::Timeout { what, after } => {
                let what = format!("{what}\nlast answer: {last}\n{}", node.log_tail(20));
                LabError::Timeout { what, after }
            }
            other => other,
        })?
    }

    /// All ways, in the order of the report.
    pub(super) fn ways(&self) -> Result<Vec<Way>, LabError> {
        // By how much lb should be cheaper than IPVS where there is one, than nftables where there is none.
        let goal = |mode| {
            let (bound, compared) = match (mode, &self.no_ipvs) {
                (Mode::Dr, None) => (4.0, IPVS_DR),
                (Mode::Nat, None) => (4.0, IPVS_NAT),
                (Mode::Dr | Mode::Nat, Some(_)) => (5.0, DNAT),
                _ => return None,
            };
            Some(Goal::new(Bound::Cheaper(bound), Some(compared)))
        };
        let mut ways = vec![
            way("floor: generator", self.route(System::Nothing, 80)?),
            way(REDIRECT, self.route(System::Redirect, 80)?),
        ];
        for mode in Mode::ALL {
            ways.push(Way { goal: goal(mode), ..way(mode.row(), self.lb_route(mode)?) });
        }
        ways.push(way("kernel: to its own stack", self.route(System::Own, 80)?));
        ways.push(way("kernel: forwarding", self.route(System::Forwarding, 80)?));
        ways.push(way(DNAT, self.route(System::Nftables, 80)?));
        for (name, port) in [(IPVS_NAT, 80), (IPVS_DR, 81)] {
            let mut way = way(name, self.route(System::Ipvs, port)?);
            if let Some(why) = &self.no_ipvs {
                way.route = Err(why.clone());
            }
            ways.push(way);
        }
        Ok(ways)
    }

    fn route(&self, system: System, port: u16) -> Result<Route, LabError> {
        let node = self.lab.node(system.name())?;
        let (generator, sink) = (self.lab.node("generator")?, self.lab.node("sink")?);
        let at_sink = port_of(&sink, system.name());
        let MacAddress(mac) =
            End { node: &node, interface: "front", address: system.front(1), prefix: 24 }.link().mac();
        Ok(Route {
            generator: port_of(&generator, system.name()),
            mac,
            to: system.vip(),
            port,
            sink: match system {
                System::Nothing => Sink::Program(port_of(&node, "front")),
                System::Redirect | System::Lb => Sink::Program(at_sink),
                System::Own => Sink::Stack(node.init()),
                System::Forwarding | System::Nftables | System::Ipvs => Sink::Interface(at_sink),
            },
            rewritten: system == System::Nftables || system == System::Ipvs && port == 80,
            syn_first: system == System::Ipvs,
            forget: (system == System::Nftables).then(|| node.init()),
            redirect: (system == System::Redirect).then(|| (port_of(&node, "front"), port_of(&node, "back"))),
        })
    }

    fn lb_route(&self, mode: Mode) -> Result<Route, LabError> {
        let mut route = self.route(System::Lb, mode as u16)?;
        route.rewritten = matches!(mode, Mode::Nat | Mode::Ipip | Mode::Gue);
        match mode {
            Mode::DrBack => route.sink = Sink::Program(route.generator.clone()),
            Mode::Local => route.sink = Sink::Stack(self.lab.node(System::Lb.name())?.init()),
            _ => (),
        }
        Ok(route)
    }
}

fn way(name: &str, route: Route) -> Way {
    Way { name: name.to_owned(), goal: None, route: Ok(route) }
}

fn port_of(node: &Node, interface: &str) -> Port {
    Port { process: node.init(), interface: interface.to_owned() }
}

/// A script that drops what is for a TCP port once the IP layer has counted it; answers would cost more than the rest.
fn drop_in_stack(port: u16) -> String {
    format!(
        "nft 'table ip sink {{ chain in {{ type filter hook prerouting priority raw; tcp dport {port} drop; udp dport {port} drop; }}; }}'\n"
    )
}

/// A script that sets two services up: NAT on port 80, direct routing on port 81.
fn ipvs(vip: Ipv4Addr, backends: [Ipv4Addr; 2]) -> String {
    let service = |protocol: &str, port: u16, how: &str, to: u16| {
        let [first, second] = backends;
        let service = format!("{protocol} {vip}:{port}");
        format!(
            "ipvsadm -A {service} -s rr\n\
             ipvsadm -a {service} -r {first}:{to} {how}\nipvsadm -a {service} -r {second}:{to} {how}\n"
        )
    };
    let both = |protocol| service(protocol, 80, "-m", BACKEND_PORT) + &service(protocol, 81, "-g", 81);
    both("-t") + &both("-u")
}

/// The configuration of `lb`: a virtual router with its lease, and a service for each mode.
fn config() -> String {
    let (own, vip, peer) = (System::Lb.front(1), System::Lb.vip(), System::Lb.front(2));
    let head = format!(
        "[interface.front]\nxdp = \"native\"\n\n[interface.back]\nxdp = \"native\"\n\n\
         [[virtual_router]]\nname = \"front\"\ninterface = \"front\"\nrouter_id = 1\npriority = 200\nversion = 3\n\
         vips = [\"{vip}/24\"]\n\n\
         [virtual_router.unicast]\nsource = \"{own}\"\npeers = [\"{peer}\"] # never there: the node elects itself\n"
    );
    let services =
        Mode::ALL.into_iter().flat_map(|mode| ["tcp", "udp"].map(|protocol| service(mode, protocol)));
    std::iter::once(head).chain(services).collect()
}

fn service(mode: Mode, protocol: &str) -> String {
    let (name, port, vip) = (mode.name(), mode as u16, System::Lb.vip());
    let head = format!(
        "\n[[service]]\nname = \"{name}-{port}-{protocol}\"\nvip = \"{vip}\"\nport = {port}\nprotocol = \"{protocol}\"\n"
    );
    let to = if mode == Mode::Nat { format!("port = {BACKEND_PORT}\n") } else { String::new() };
    let backend = |address| format!("[[service.backend]]\naddress = \"{address}\"\nmode = \"{name}\"\n{to}");
    std::iter::once(head).chain(mode.backends().into_iter().map(backend)).collect()
}
