//! Tier 3: ICMP errors. A client behind a router learns what the tunnels take, the backends learn what the way to the
//! client takes, and nobody waits for an answer from a closed port.

mod common;

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket},
    time::Duration,
};

use common::{
    SOON, lb_with,
    networks::{
        DIRECTOR, WEB_1, WEB_2, backend, inner_node, tunnel_end, two_networks, wait_for_daemons, with_v6,
    },
    shipped, start,
};
use xtask::lab::{
    BIG_PAGE_BYTES, BIG_PAGE_PATH, CLIENT, Lab, LabSpec, Link, NODE_A, NODE_B, NODE_HEADER, Node, NodeSpec,
    UPLOAD_PATH, VIP, XdpMode, v6, wait_until,
};

/// Bytes that the client sends.
const UPLOAD: usize = 200_000;
/// The client's network and the router's addresses on both sides.
const FAR_CLIENT: [u8; 4] = [10, 88, 0, 10];
const ROUTER_FAR: [u8; 4] = [10, 88, 0, 1];
const ROUTER: [u8; 4] = [172, 20, 0, 9];
/// What the client's network takes, in bytes. IPv6 wants 1,280.
const NARROW: u32 = 1_300;

/// The same lab, but the client sits behind a router.
fn behind_router(mut spec: LabSpec) -> LabSpec {
    let far = |address: [u8; 4], interface: &str| Link {
        segment: "far".to_owned(),
        interface: interface.to_owned(),
        address: address.into(),
        prefix: 24,
        peer_xdp: false,
    };
    let mut router = NodeSpec { forwarding: true, ipv6: true, ..NodeSpec::on_lan("router", ROUTER.into()) };
    router.links.push(far(ROUTER_FAR, "eth1"));
    for node in &mut spec.nodes {
        let gateway = if node.name == "client" {
            node.links = vec![far(FAR_CLIENT, "eth0")];
            ROUTER_FAR
        } else {
            ROUTER
        };
        node.default_route = node.default_route.or(Some(gateway.into()));
    }
    spec.nodes.push(router);
    spec
}

fn node(lab: &Lab, name: &str) -> Node {
    lab.node(name).unwrap_or_else(|error| panic!("{error}"))
}

/// Makes the way from the router to the client narrow. The client goes on sending longer packets, one by one: generic
/// mode takes no merged ones.
fn narrow(lab: &Lab) {
    let ip = |name: &str, words: &str| {
        let words: Vec<&str> = std::iter::once("ip").chain(words.split(' ')).collect();
        node(lab, name).run(&words).unwrap_or_else(|error| panic!("{error}"));
    };
    let client = Ipv4Addr::from(FAR_CLIENT);
    ip("router", &format!("route add {client} dev eth1 mtu {NARROW}"));
    ip("router", &format!("route add {} dev eth1 mtu {NARROW}", v6(client)));
    ip("client", "link set dev eth0 gso_max_segs 1");
}

/// Runs `curl` on the client; the node that answered and how many bytes came.
fn curl(lab: &Lab, address: IpAddr, path: &str, more: &[&str]) -> Option<(String, usize)> {
    let url = match address {
        IpAddr::V4(address) => format!("http://{address}{path}"),
        IpAddr::V6(address) => format!("http://[{address}]{path}"),
    };
    let format = format!("%header{{{NODE_HEADER}}} %{{size_download}}");
    let words = ["curl", "-g", "-s", "-S", "-f", "--max-time", "5", "-o", "/dev/null", "-w", &format, &url];
    let answer = node(lab, "client").run(&[&words, more].concat()).ok()?;
    let (name, bytes) = answer.trim().split_once(' ')?;
    Some((name.to_owned(), bytes.parse().ok()?))
}

/// The MTU that a node has learnt of its way to an address.
fn learnt(node: &Node, address: IpAddr) -> Option<u32> {
    let route = node.run(&["ip", "route", "get", &address.to_string()]).ok()?;
    let mut words = route.split_whitespace();
    words.find(|word| *word == "mtu")?;
    words.next()?.parse().ok()
}

fn describe(lab: &Lab) -> String {
    let say = |node: Node| match node.status() {
        Ok(status) => format!("{}: {:?}\n", node.name(), status.verdicts()),
        Err(error) => format!("{}: {error}\n", node.name()),
    };
    lab.nodes().into_iter().map(say).collect::<String>() + &lab.log_tails(20)
}

/// Downloads from both VIPs until each of `backends` has sent a whole page; then it knows the MTU of the client's
/// network.
fn downloads_get_through(lab: &Lab, backends: &[&str]) {
    let client = Ipv4Addr::from(FAR_CLIENT);
    for (vip, client) in
        [(IpAddr::V4(VIP), IpAddr::V4(client)), (IpAddr::V6(v6(VIP)), IpAddr::V6(v6(client)))]
    {
        let mut seen = Vec::new();
        wait_until("every backend has sent a page", SOON, || {
            if let Some((name, BIG_PAGE_BYTES)) = curl(lab, vip, BIG_PAGE_PATH, &[]) {
                seen.push(name);
            }
            backends.iter().all(|backend| seen.iter().any(|name| name == backend)).then_some(())
        })
        .unwrap_or_else(|error| panic!("{vip}: {error}; {seen:?}\n{}", describe(lab)));
        for backend in backends {
            let mtu = learnt(&node(lab, backend), client);
            assert_eq!(mtu, Some(NARROW), "{backend} to {client}\n{}", describe(lab));
        }
    }
    for node in lab.nodes() {
        for (protocol, counter) in [("Tcp", "InCsumErrors"), ("Icmp", "InCsumErrors"), ("Ip", "InHdrErrors")]
        {
            let count = node.kernel_counter(protocol, counter).expect("the kernel counts");
            assert_eq!(count, 0, "{protocol} {counter} at {}", node.name());
        }
    }
}

fn verdict(lab: &Lab, name: &str, verdict: &str) -> u64 {
    node(lab, name).status().expect("lb answers").verdicts()[verdict]
}

fn dr(name: &str, xdp: XdpMode) {
    let backends = backend(v6(NODE_A), "dr", "") + &backend(v6(NODE_B), "dr", "");
    let config = |file| lb_with(xtask::lab::with_xdp(&with_v6(&shipped(file), &backends), xdp, &["eth0"]));
    let spec = LabSpec::pair(name, config("tutorial-a.toml"), config("tutorial-b.toml"));
    let lab = start(&behind_router(spec.with_peer_xdp(xdp).with_ipv6()));
    lab.wait_until_ready().unwrap_or_else(|error| panic!("{error}"));
    narrow(&lab);
    downloads_get_through(&lab, &["node-a", "node-b"]);
    assert!(verdict(&lab, "node-a", "icmp_error") > 0, "{}", describe(&lab));
    assert!(verdict(&lab, "node-a", "icmp_error_local") > 0, "{}", describe(&lab));
    assert!(verdict(&lab, "node-b", "delivered") > 0, "{}", describe(&lab));
}

#[test]
#[ignore = "needs root and network namespaces: cargo xtask test"]
fn dr_backends_learn_the_clients_mtu() {
    dr("t-icmp-dr", XdpMode::Auto);
}

#[test]
#[ignore = "needs root and network namespaces: cargo xtask test"]
fn dr_backends_learn_the_clients_mtu_in_native_mode() {
    dr("t-icmp-dr-nat", XdpMode::Native);
}

#[test]
#[ignore = "needs root and network namespaces: cargo xtask test"]
fn nat_backends_learn_the_clients_mtu() {
    let backends =
        backend(v6(WEB_1.into()), "nat", "port = 8080") + &backend(v6(WEB_2.into()), "nat", "port = 8080");
    let nodes = [inner_node("web-1", WEB_1, 8080), inner_node("web-2", WEB_2, 8080)];
    let spec = two_networks("t-icmp-nat", XdpMode::Auto, &with_v6(DIRECTOR, &backends), nodes);
    let lab = start(&behind_router(spec));
    let owner = lab.wait_until_ready().unwrap_or_else(|error| panic!("{error}"));
    // XDP cannot wait for the neighbour's answer: a reply by way of an unknown one is dropped.
    owner
        .run(&["ping", "-c1", "-W2", &v6(ROUTER.into()).to_string()])
        .unwrap_or_else(|error| panic!("{error}"));
    narrow(&lab);
    downloads_get_through(&lab, &["web-1", "web-2"]);
    assert!(verdict(&lab, "node-a", "icmp_error") > 0, "{}", describe(&lab));
}

/// One backend is reached by its IPv4 address, the other by its IPv6 address.
fn tunnels(name: &str, mode: &str, overhead: u32) {
    let [one, two] = [WEB_1, WEB_2].map(Ipv4Addr::from);
    let backends = backend(one, mode, "") + &backend(v6(two), mode, "");
    let (head, _) = DIRECTOR.split_once("[[service.backend]]").expect("a service");
    let xdp = XdpMode::Auto;
    let nodes = [tunnel_end("web-1", WEB_1, xdp), tunnel_end("web-2", WEB_2, xdp)];
    let config = with_v6(&(head.to_owned() + &backends), &backends);
    let lab = start(&behind_router(two_networks(name, xdp, &config, nodes)));
    wait_for_daemons(&lab);
    narrow(&lab);

    // What the client sends is as long as its own network takes, until it is told.
    let answer = UPLOAD.to_string().len();
    std::fs::write(node(&lab, "client").path("/run/upload"), vec![b'x'; UPLOAD]).expect("it can be written");
    for vip in [IpAddr::V4(VIP), IpAddr::V6(v6(VIP))] {
        let mut seen: Vec<String> = Vec::new();
        wait_until("both backends have taken an upload", SOON, || {
            match curl(&lab, vip, UPLOAD_PATH, &["--data-binary", "@/run/upload"]) {
                Some((name, bytes)) if bytes == answer => seen.push(name),
                _ => {}
            }
            ["web-1", "web-2"].iter().all(|web| seen.iter().any(|name| name == web)).then_some(())
        })
        .unwrap_or_else(|error| panic!("{vip}: {error}; {seen:?}\n{}", describe(&lab)));
        let mtu = learnt(&node(&lab, "client"), vip);
        assert!(
            [1_500 - overhead, 1_500 - overhead - 20].map(Some).contains(&mtu),
            "{vip}: {mtu:?}\n{}",
            describe(&lab)
        );
    }
    assert!(verdict(&lab, "node-a", "too_big_answered") > 0, "{}", describe(&lab));

    downloads_get_through(&lab, &["web-1", "web-2"]);
    assert!(verdict(&lab, "node-a", "icmp_error") > 0, "{}", describe(&lab));
}

#[test]
#[ignore = "needs root and network namespaces: cargo xtask test"]
fn both_ends_of_ipip_learn_the_mtu() {
    tunnels("t-icmp-ipip", "ipip", 20);
}

#[test]
#[ignore = "needs root and network namespaces: cargo xtask test"]
fn both_ends_of_gue_learn_the_mtu() {
    tunnels("t-icmp-gue", "gue", 28);
}

#[test]
#[ignore = "needs root and network namespaces: cargo xtask test"]
fn clients_hear_of_closed_ports_of_nat_backends() {
    const PORT: u16 = 5_353;
    let service = |name: &str, vip: IpAddr, web: IpAddr| {
        let backend = backend(web, "nat", "port = 9");
        format!(
            "\n[[service]]\nname = \"{name}\"\nvip = \"{vip}\"\nport = {PORT}\nprotocol = \"udp\"\n{backend}"
        )
    };
    let backends = backend(v6(WEB_1.into()), "nat", "port = 8080");
    let config = with_v6(DIRECTOR, &backends)
        + &service("dns", VIP.into(), Ipv4Addr::from(WEB_1).into())
        + &service("dns6", v6(VIP).into(), v6(WEB_1.into()).into());
    let nodes = [inner_node("web-1", WEB_1, 8080), inner_node("web-2", WEB_2, 8080)];
    let lab = start(&two_networks("t-icmp-closed", XdpMode::Auto, &config, nodes));
    let owner = lab.wait_until_ready().unwrap_or_else(|error| panic!("{error}"));
    owner.run(&["ping", "-c1", "-W2", &v6(CLIENT).to_string()]).unwrap_or_else(|error| panic!("{error}"));
    let client = node(&lab, "client");
    for vip in [IpAddr::V4(VIP), IpAddr::V6(v6(VIP))] {
        let any: IpAddr =
            if vip.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        // Repeated: backends refuse so often a second only, and a neighbour may have to be found.
        let refused = client.within(|| {
            wait_until("the port is refused", SOON, || {
                let socket = UdpSocket::bind((any, 0)).expect("a port is free");
                socket.set_read_timeout(Some(Duration::from_millis(500))).expect("it can be set");
                socket.connect((vip, PORT)).expect("there is a route");
                socket.send(b"question").ok()?;
                let error = socket.recv(&mut [0; 16]).expect_err("nobody answers");
                (error.kind() == io::ErrorKind::ConnectionRefused).then_some(())
            })
        });
        refused.flatten().unwrap_or_else(|error| panic!("{vip}: {error}\n{}", describe(&lab)));
    }
    assert!(verdict(&lab, "node-a", "icmp_error_reply") >= 2, "{}", describe(&lab));
}
