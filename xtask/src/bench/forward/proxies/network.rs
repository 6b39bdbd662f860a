//! The lab of proxies: a client, an nginx with two addresses for each system as backends, and between them a node for each
//! system, on cables of its own. One nginx, so that the same processes serve whatever stands before it.

use std::{
    fs,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use super::wrk::{self, Run};
use crate::{
    lab::{Daemon, End, Lab, LabError, LabSpec, Node, NodeSpec, probe::http, wait_until},
    tools,
};

/// How long a system may take until it answers.
const READY_WITHIN: Duration = Duration::from_mins(1);
const EXCHANGE: Duration = Duration::from_secs(2);
/// So many connections in a row have to be answered: each backend has had some of them.
const IN_A_ROW: usize = 20;
const PORTS: &str = "net.ipv4.ip_local_port_range=1024 65535";

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
    const fn back(self, backend: u8, host: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, 100 + self as u8, backend, host)
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
    lb: PathBuf,
    proxies: Vec<Child>,
}

impl Network {
    pub(super) fn new(name: &str, lb: &Path, note: &impl Fn(&str)) -> Result<Self, LabError> {
        let node = |name: &str| NodeSpec {
            links: Vec::new(),
            forwarding: true,
            ..NodeSpec::on_lan(name, Ipv4Addr::UNSPECIFIED)
        };
        let mut nodes = vec![node("client"), node("web").with_web("web", 80)];
        nodes.extend(System::ALL.into_iter().skip(1).map(|system| node(system.name())));
        let xtask = std::env::current_exe().map_err(LabError::io("finding this program"))?;
        let lab = Lab::start(&LabSpec { name: name.to_owned(), nodes }, &xtask, |what| note(what))?;
        let mut network = Self { lab, lb: lb.to_owned(), proxies: Vec::new() };
        for system in System::ALL {
            network.wire(system)?;
        }
        for system in System::ALL.into_iter().skip(1) {
            network.start(system)?;
        }
        note("waiting until all of them answer");
        for system in System::ALL {
            network.wait_for(system)?;
        }
        Ok(network)
    }

    fn wire(&self, system: System) -> Result<(), LabError> {
        let (client, web, name) = (self.lab.node("client")?, self.lab.node("web")?, system.name());
        let loose = |interface: &str| format!("net.ipv4.conf.{interface}.rp_filter=0");
        if system == System::Direct {
            let [near, far] = [system.back(1, 1), system.back(1, 2)];
            self.lab.join([end(&client, name, near), end(&web, name, far)])?;
            // Ports enough for connections that have ended to be forgotten; and replies that come another way than the
            // requests went.
            for node in [&client, &web] {
                node.run(&["sysctl", "-qw", PORTS, &loose("all"), &loose(name)])?;
            }
            return Ok(());
        }
        let node = self.lab.node(name)?;
        node.run(&["sysctl", "-qw", PORTS])?;
        self.lab.join([end(&client, name, system.front(9)), end(&node, "front", system.front(1))])?;
        for number in [1, 2] {
            let (interface, port) = (format!("back{number}"), format!("{name}-{number}"));
            let [near, far] = [system.back(number, 1), system.back(number, 2)];
            self.lab.join([end(&node, &interface, near), end(&web, &port, far)])?;
            web.run(&["sysctl", "-qw", &loose(&port)])?;
        }
        let way = match system {
            // Straight to the client.
            System::LbDr => {
                web.run(&["ip", "address", "add", &format!("{}/32", system.address()), "dev", "lo"])?;
                System::Direct.back(1, 1)
            }
            _ => system.back(1, 1),
        };
        // To the client, and to whoever checks the backends' health.
        for (to, way) in [(system.front(9), way), (system.front(1), system.back(1, 1))] {
            web.run(&["ip", "route", "add", &format!("{to}/32"), "via", &way.to_string()])?;
        }
        Ok(())
    }

    fn start(&mut self, system: System) -> Result<(), LabError> {
        let mut node = self.lab.node(system.name())?;
        let [first, second] = system.backends();
        let own = system.address();
        let (program, file, text, words): (_, _, _, &[&str]) = match system {
            System::Direct => return Ok(()),
            System::LbDr | System::LbNat => {
                node.spec.daemon = Daemon::Lb { binary: self.lb.clone(), config: config(system) };
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

    /// Waits until a system has its backends and answers.
    fn wait_for(&self, system: System) -> Result<(), LabError> {
        let client = self.lab.node("client")?;
        let has_backends = || {
            !system.is_lb()
                || self.lab.node(system.name()).is_ok_and(|mut node| {
                    // Only its name is asked for.
                    node.spec.daemon = Daemon::Lb { binary: self.lb.clone(), config: String::new() };
                    node.status().is_ok_and(|status| status.is_owner() && status.all_backends_up())
                })
        };
        let mut answers = 0;
        let mut last = String::new();
        let what = format!("{} answers {IN_A_ROW} times in a row", system.title());
        let answered = wait_until(&what, READY_WITHIN, || {
            if answers == 0 && !has_backends() {
                "it has not all its backends".clone_into(&mut last);
                return None;
            }
            match http::request(&client, system.address(), 80, "/", None, EXCHANGE) {
                Ok(_) => answers += 1,
                Err(error) => (answers, last) = (0, error.to_string()),
            }
            (answers >= IN_A_ROW).then_some(())
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
    let head = format!(
        "[interface.back1]\n[interface.back2]\n\n\
         [[virtual_router]]\nname = \"front\"\ninterface = \"front\"\nrouter_id = 1\npriority = 200\nversion = 3\n\
         vips = [\"{vip}/24\"]\n\n\
         [virtual_router.unicast]\nsource = \"{own}\"\npeers = [\"{peer}\"] # never there: the node elects itself\n\n\
         [[service]]\nname = \"web\"\nvip = \"{vip}\"\nport = 80\nprotocol = \"tcp\"\n\
         check = {{ tcp = true, interval = \"1s\", timeout = \"500ms\", rise = 1, fall = 3 }}\n"
    );
    let backends = system
        .backends()
        .map(|backend| format!("\n[[service.backend]]\naddress = \"{backend}\"\nmode = \"{mode}\"\n"));
    head + &backends.concat()
}
