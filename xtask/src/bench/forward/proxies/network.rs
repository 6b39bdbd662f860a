//! The lab of proxies: a client, two backends, and between them a node for each system, on cables of its own.

use std::{
    fs,
    net::Ipv4Addr,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use super::wrk::{self, Run};
use crate::{
    lab::{Daemon, End, Lab, LabError, LabSpec, Node, NodeSpec, probe::http, wait_until},
    tools,
};

/// How long a system may take until it answers.
const READY_WITHIN: Duration = Duration::from_secs(60);
const EXCHANGE: Duration = Duration::from_secs(2);

/// What stands between client and backends; the number is in all its addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum System {
    /// Nothing.
    Direct = 1,
    LbDr = 2,
    LbNat = 3,
    Nftables = 4,
    Haproxy = 5,
    Nginx = 6,
}

impl System {
    pub(super) const ALL: [Self; 6] =
        [Self::Direct, Self::LbDr, Self::LbNat, Self::Nftables, Self::Haproxy, Self::Nginx];

    /// Its row.
    pub(super) const fn title(self) -> &'static str {
        match self {
            Self::Direct => "nothing: wrk asks nginx",
            Self::LbDr => "lb: dr",
            Self::LbNat => "lb: nat",
            Self::Nftables => "nftables: DNAT",
            Self::Haproxy => "haproxy, TCP mode",
            Self::Nginx => "nginx stream",
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::LbDr => "lb-dr",
            Self::LbNat => "lb-nat",
            Self::Nftables => "nftables",
            Self::Haproxy => "haproxy",
            Self::Nginx => "nginx",
        }
    }

    const fn is_lb(self) -> bool {
        matches!(self, Self::LbDr | Self::LbNat)
    }

    /// An address on the client's side.
    const fn front(self, host: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, self as u8, 0, host)
    }

    /// An address on the cable to a backend, 1 or 2.
    const fn back(self, web: u8, host: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, 100 + self as u8, web, host)
    }

    const fn backends(self) -> [Ipv4Addr; 2] {
        [self.back(1, 2), self.back(2, 2)]
    }

    /// Where the client asks.
    const fn address(self) -> Ipv4Addr {
        match self {
            Self::Direct => self.back(1, 2),
            Self::LbDr | Self::LbNat => self.front(100),
            _ => self.front(1),
        }
    }
}

/// The lab with everything running, for as long as it is held.
pub(super) struct Network {
    lab: Lab,
    proxies: Vec<Child>,
}

impl Network {
    pub(super) fn new(name: &str, lb: &Path, note: &impl Fn(&str)) -> Result<Self, LabError> {
        let node = |name: &str| NodeSpec {
            links: Vec::new(),
            forwarding: true,
            ..NodeSpec::on_lan(name, Ipv4Addr::UNSPECIFIED)
        };
        let mut nodes = vec![node("client"), node("web-1").with_web("1", 80), node("web-2").with_web("2", 80)];
        nodes.extend(System::ALL.into_iter().skip(1).map(|system| node(system.name())));
        let xtask = std::env::current_exe().map_err(LabError::io("finding this program"))?;
        let lab = Lab::start(&LabSpec { name: name.to_owned(), nodes }, &xtask, |what| note(what))?;
        let mut network = Self { lab, proxies: Vec::new() };
        for system in System::ALL {
            network.wire(system)?;
        }
        for system in System::ALL.into_iter().skip(1) {
            network.start(system, lb)?;
        }
        note("waiting until all of them answer");
        for system in System::ALL {
            network.wait_for(system)?;
        }
        Ok(network)
    }

    fn webs(&self) -> Result<[Node; 2], LabError> {
        Ok([self.lab.node("web-1")?, self.lab.node("web-2")?])
    }

    fn wire(&self, system: System) -> Result<(), LabError> {
        let (client, name) = (self.lab.node("client")?, system.name());
        let webs = self.webs()?;
        if system == System::Direct {
            for (number, web) in (1..).zip(&webs) {
                let [near, far] = [system.back(number, 1), system.back(number, 2)];
                self.lab.join([end(&client, web.name(), near), end(web, name, far)])?;
            }
            // Ports enough for connections that have ended to be forgotten; and replies that come another way than
            // the requests went.
            for node in [&client, &webs[0], &webs[1]] {
                node.run(&["sysctl", "-qw", "net.ipv4.ip_local_port_range=1024 65535"])?;
                node.run(&["sysctl", "-qw", "net.ipv4.conf.all.rp_filter=0"])?;
            }
            return Ok(());
        }
        let node = self.lab.node(name)?;
        node.run(&["sysctl", "-qw", "net.ipv4.ip_local_port_range=1024 65535"])?;
        self.lab.join([end(&client, name, system.front(9)), end(&node, "front", system.front(1))])?;
        for (number, web) in (1..).zip(&webs) {
            let interface = format!("back{number}");
            let [near, far] = [system.back(number, 1), system.back(number, 2)];
            self.lab.join([end(&node, &interface, near), end(web, name, far)])?;
            let client = format!("{}/32", system.front(9));
            let way = match system {
                // Straight to the client.
                System::LbDr => {
                    web.run(&["ip", "address", "add", &format!("{}/32", system.address()), "dev", "lo"])?;
                    System::Direct.back(number, 1)
                }
                _ => near,
            };
            web.run(&["ip", "route", "add", &client, "via", &way.to_string()])?;
            // Who checks their health.
            let checker = format!("{}/32", system.front(1));
            web.run(&["ip", "route", "add", &checker, "via", &near.to_string()])?;
            web.run(&["sysctl", "-qw", &format!("net.ipv4.conf.{name}.rp_filter=0")])?;
        }
        if system == System::LbDr {
            for web in ["web-1", "web-2"] {
                client.run(&["sysctl", "-qw", &format!("net.ipv4.conf.{web}.rp_filter=0")])?;
            }
        }
        Ok(())
    }

    fn start(&mut self, system: System, lb: &Path) -> Result<(), LabError> {
        let mut node = self.lab.node(system.name())?;
        let [first, second] = system.backends();
        let own = system.address();
        let (program, file, text, words): (_, _, _, &[&str]) = match system {
            System::Direct => return Ok(()),
            System::LbDr | System::LbNat => {
                node.spec.daemon = Daemon::Lb { binary: lb.to_owned(), config: config(system) };
                return node.start_daemon();
            }
            System::Nftables => {
                let rule = format!(
                    "table ip lb {{ chain in {{ type nat hook prerouting priority dstnat; \
                     ip daddr {own} tcp dport 80 dnat to numgen inc mod 2 map {{ 0 : {first}, 1 : {second} }}; }}; }}"
                );
                return node.run(&["nft", &rule]).map(drop);
            }
            System::Haproxy => (
                "haproxy",
                "/run/haproxy.cfg",
                format!(
                    "global\n  maxconn 4000\ndefaults\n  mode tcp\n  timeout connect 5s\n  timeout client 30s\n  timeout server 30s\n\
                     listen web\n  bind {own}:80\n  balance roundrobin\n  server web-1 {first}:80\n  server web-2 {second}:80\n"
                ),
                &["-db", "-f", "/run/haproxy.cfg"],
            ),
            System::Nginx => (
                "nginx",
                "/run/stream.conf",
                format!(
                    "load_module {module};\nuser root;\npid /run/stream.pid;\nworker_processes auto;\n\
                     events {{ worker_connections 16384; }}\n\
                     stream {{\n  upstream web {{ server {first}:80; server {second}:80; }}\n\
                     \x20 server {{ listen {own}:80 backlog=4096; proxy_pass web; }}\n}}\n",
                    module = tools::NGINX_STREAM
                ),
                &["-c", "/run/stream.conf", "-e", "stderr", "-g", "daemon off;"],
            ),
        };
        let path = node.path(file);
        fs::write(&path, text).map_err(LabError::io(format!("writing {}", path.display())))?;
        let mut command = Command::new(program);
        command.args(words).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        self.proxies.push(node.spawn(command)?);
        Ok(())
    }

    /// Waits until both backends answer through a system.
    fn wait_for(&self, system: System) -> Result<(), LabError> {
        let client = self.lab.node("client")?;
        let wanted: &[&str] = if system == System::Direct { &["web-1"] } else { &["web-1", "web-2"] };
        let mut seen: Vec<String> = Vec::new();
        let mut last = String::new();
        let answered = wait_until(&format!("{wanted:?} answer through {}", system.title()), READY_WITHIN, || {
            match http::request(&client, system.address(), 80, "/", None, EXCHANGE) {
                Ok(answer) => seen.extend(answer.node),
                Err(error) => last = error.to_string(),
            }
            wanted.iter().all(|name| seen.iter().any(|seen| seen == name)).then_some(())
        });
        answered.map_err(|error| match error {
            LabError::Timeout { what, after } => {
                let log = self.lab.node(system.name()).map(|node| node.log_tail(20)).unwrap_or_default();
                let log = if system.is_lb() { log } else { String::new() };
                LabError::Timeout { what: format!("{what}; {last}\n{log}"), after }
            }
            other => other,
        })
    }

    /// One run of wrk, and the processor time that everything took.
    pub(super) fn run(
        &self,
        system: System,
        seconds: u32,
        connection_each: bool,
    ) -> Result<(Run, Duration), LabError> {
        let client = self.lab.node("client")?;
        let url = format!("http://{}/", system.address());
        let before = self.lab.processor_time();
        let (run, own) = wrk::run(&client, &url, seconds, connection_each)?;
        Ok((run, self.lab.processor_time().saturating_sub(before) + own))
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for proxy in &mut self.proxies {
            // One that has ended cannot be killed; the others are not to be waited for for ever.
            let _ = proxy.kill();
            let _ = proxy.wait();
        }
    }
}

fn end<'a>(node: &'a Node, interface: &'a str, address: Ipv4Addr) -> End<'a> {
    End { node, interface, address, prefix: 24 }
}

/// The configuration of `lb`, attached as it finds right.
fn config(system: System) -> String {
    let (own, vip, peer) = (system.front(1), system.address(), system.front(2));
    let mode = if system == System::LbDr { "dr" } else { "nat" };
    let mut text = format!(
        "[interface.back1]\n[interface.back2]\n\n\
         [[virtual_router]]\nname = \"front\"\ninterface = \"front\"\nrouter_id = 1\npriority = 200\nversion = 3\n\
         vips = [\"{vip}/24\"]\n\n\
         [virtual_router.unicast]\nsource = \"{own}\"\npeers = [\"{peer}\"] # never there: the node elects itself\n\n\
         [[service]]\nname = \"web\"\nvip = \"{vip}\"\nport = 80\nprotocol = \"tcp\"\n\
         check = {{ tcp = true, interval = \"1s\", timeout = \"500ms\", rise = 1, fall = 3 }}\n"
    );
    for backend in system.backends() {
        text += &format!("\n[[service.backend]]\naddress = \"{backend}\"\nmode = \"{mode}\"\n");
    }
    text
}
