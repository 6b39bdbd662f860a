//! Every bad input, and the error or warning it gets: place, what was expected, remedy.

use std::{fmt::Write as _, fs, path::Path};

use lb::config::{self, Authorities, CheckKind, Config, ConfigErrors, HostFacts, HostInterface};
use miette::{GraphicalReportHandler, GraphicalTheme};
use proptest::prelude::*;

fn tutorial() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs/tutorial-a.toml");
    fs::read_to_string(path).expect("the tutorial's configuration")
}

/// The tutorial's configuration with `old`, which stands in it once, replaced.
fn edited(old: &str, new: &str) -> String {
    let text = tutorial();
    assert_eq!(text.matches(old).count(), 1, "{old:?} in the tutorial's configuration");
    text.replace(old, new)
}

fn with(more: &str) -> String {
    tutorial() + more
}

fn refused(text: &str) -> ConfigErrors {
    match config::parse("lb.toml", text) {
        Ok(_) => panic!("accepted:\n{text}"),
        Err(errors) => errors,
    }
}

fn warned(text: &str) -> ConfigErrors {
    let parsed = config::parse("lb.toml", text).unwrap_or_else(|errors| panic!("{errors}"));
    assert!(!parsed.warnings.is_empty(), "no warning:\n{text}");
    parsed.warnings
}

/// As a terminal without colours shows it, and as a log has it.
fn shown(errors: ConfigErrors) -> String {
    let plain = errors.to_string();
    let handler = GraphicalReportHandler::new_themed(GraphicalTheme::unicode_nocolor())
        .with_links(false)
        .with_width(120);
    let mut rendered = String::new();
    handler.render_report(&mut rendered, &errors.into_report()).expect("a report");
    let rendered: Vec<&str> = rendered.lines().map(str::trim_end).collect();
    format!("{}\n\n{plain}\n", rendered.join("\n").trim_end())
}

fn all_shown(cases: Vec<(&str, ConfigErrors)>) -> String {
    let mut all = String::new();
    for (what, errors) in cases {
        writeln!(all, "=== {what}\n{}", shown(errors)).expect("a string");
    }
    all
}

fn all_refused(cases: &[(&str, String)]) -> String {
    all_shown(cases.iter().map(|(what, text)| (*what, refused(text))).collect())
}

fn snapshot(name: &str, shown: &str) {
    // Without the expression that made it, which would be most of the file.
    insta::with_settings!({ omit_expression => true }, { insta::assert_snapshot!(name, shown) });
}

/// An IPv4 VIP and an IPv6 one with a service each, in one file with `more`.
fn both_families(more: &str) -> String {
    let service = |name: &str, vip: &str| {
        format!(
            "[[service]]\nname = \"{name}\"\nvip = \"{vip}\"\nport = 80\nprotocol = \"tcp\"\nstandalone = true\n\
             [[service.backend]]\naddress = \"192.0.2.9\"\nmode = \"gue\"\n"
        )
    };
    format!("[interface.eth0]\n{}{}{more}", service("v4", "192.0.2.1"), service("v6", "2001:db8::1"))
}

/// A further service; `keys` are its lines after name, VIP and protocol.
fn service_of(vip: &str, keys: &str, backend: &str) -> String {
    both_families(&format!(
        "[[service]]\nname = \"more\"\nvip = \"{vip}\"\nprotocol = \"tcp\"\n{keys}\n[[service.backend]]\n{backend}\n"
    ))
}

#[test]
fn modes_families_and_ports() {
    let gue = "address = \"192.0.2.9\"\nmode = \"gue\"";
    let alone = "port = 81\nstandalone = true";
    snapshot(
        "modes_families_and_ports",
        &all_refused(&[
            (
                "dr to another family",
                service_of("2001:db8::1", alone, "address = \"192.0.2.9\"\nmode = \"dr\""),
            ),
            (
                "nat to another family",
                service_of("192.0.2.1", alone, "address = \"2001:db8::9\"\nmode = \"nat\""),
            ),
            ("a port of its own in gue", service_of("192.0.2.1", alone, &format!("{gue}\nport = 82"))),
            (
                "nat behind a range",
                service_of(
                    "192.0.2.1",
                    "port = \"90-99\"\nstandalone = true",
                    "address = \"192.0.2.9\"\nmode = \"nat\"\nport = 90",
                ),
            ),
            ("a range backwards", service_of("192.0.2.1", "port = \"99-90\"\nstandalone = true", gue)),
            ("a range of one", service_of("192.0.2.1", "port = \"90-90\"\nstandalone = true", gue)),
            ("a port in quotes", service_of("192.0.2.1", "port = \"90\"\nstandalone = true", gue)),
            ("no such port", service_of("192.0.2.1", "port = 65536\nstandalone = true", gue)),
            (
                "ranges that overlap",
                service_of("192.0.2.1", "port = \"90-99\"\nstandalone = true", gue)
                    + "[[service]]\nname = \"again\"\nvip = \"192.0.2.1\"\nprotocol = \"tcp\"\nport = \"95-110\"\n\
                       standalone = true\n[[service.backend]]\naddress = \"192.0.2.9\"\nmode = \"gue\"\n",
            ),
            (
                "every port and a check of none",
                service_of("192.0.2.1", "port = \"any\"\nstandalone = true\ncheck = { tcp = true }", gue),
            ),
            (
                "standalone and backend_only",
                service_of("192.0.2.1", "port = 81\nstandalone = true\nbackend_only = true", gue),
            ),
            ("a VIP half backend_only", service_of("192.0.2.1", "port = 81\nbackend_only = true", gue)),
            ("a link-local VIP", service_of("fe80::1", alone, gue)),
            ("an IPv4 VIP in IPv6 clothes", service_of("::ffff:192.0.2.1", alone, gue)),
            (
                "backend_only of a virtual router's VIP",
                edited("protocol = \"tcp\"", "protocol = \"tcp\"\nbackend_only = true"),
            ),
            (
                "a virtual router of IPv6 VIPs only",
                edited("vips = [\"172.20.128.4/24\"]", "vips = [\"2001:db8::4/64\"]"),
            ),
            ("an IPv6 peer", edited("peers = [\"172.20.128.3\"]", "peers = [\"2001:db8::3\"]")),
            (
                "version 2 over IPv6",
                edited("router_id = 33", "router_id = 33\nversion = 2")
                    .replace("172.20.128.2\"", "2001:db8::2\""),
            ),
        ]),
    );
}

#[test]
fn syntax() {
    snapshot(
        "syntax",
        &all_refused(&[
            ("a word without quotes", edited("interface = \"eth0\"", "interface = eth0")),
            ("an open string", edited("interface = \"eth0\"", "interface = \"eth0")),
            ("an open table", edited("[virtual_router.unicast]", "[virtual_router.unicast")),
            ("a key twice", edited("router_id = 33", "router_id = 33\nrouter_id = 34")),
            ("no value", edited("router_id = 33", "router_id =")),
            ("an open password", edited("\"letmein\"", "\"letmein")),
        ]),
    );
}

#[test]
fn keys_and_types() {
    snapshot(
        "keys_and_types",
        &all_refused(&[
            ("nothing", String::new()),
            ("an unknown key", edited("priority = 200", "priority = 200\npriorty = 1")),
            ("a misspelt key that must be there", edited("priority = 200", "prioritty = 200")),
            ("a key like no other", edited("priority = 200", "priority = 200\nstate = \"MASTER\"")),
            ("an unknown table", with("[daemom]\n")),
            ("an unknown key in a check", edited("rise = 2", "raise = 2")),
            (
                "missing keys",
                with("[[service]]\n[[service.backend]]\n[[virtual_router]]\n[[track_script]]\n"),
            ),
            ("one table instead of several", "[service]\nname = \"web\"\n".to_owned()),
            (
                "a value instead of a table",
                "virtual_router = 1\ninterface = \"eth0\"\ndaemon = true\n".to_owned(),
            ),
            ("a setting instead of an interface", with("[interface]\nxdp = \"native\"\n")),
            (
                "a value instead of an array",
                edited("vips = [\"172.20.128.4/24\"]", "vips = \"172.20.128.4/24\""),
            ),
            ("a number in quotes", edited("router_id = 33", "router_id = \"33\"")),
            ("a truth in quotes", edited("priority = 200", "priority = 200\npreempt = \"false\"")),
            ("a number beyond 64 bits", edited("router_id = 33", "router_id = 33333333333333333333333")),
            ("a duration without a unit", edited("advert_interval = \"1s\"", "advert_interval = 1")),
            ("a fraction of a second without a unit", edited("interval = \"2s\"", "interval = 0.5")),
            ("a duration of an unknown unit", edited("interval = \"2s\"", "interval = \"2 fortnights\"")),
            ("no duration at all", edited("interval = \"2s\"", "interval = \"0s\"")),
            ("a word that is not one of a few", edited("protocol = \"tcp\"", "protocol = \"TCP\"")),
            ("non-ASCII before the mistake", edited("name = \"VI_1\"", "name = \"größe\"; x")),
            ("several at once", edited("router_id = 33\npriority = 200", "router_id = 0\npriority = 256")),
            (
                "settings of the daemon",
                with("[daemon]\nruntime_dir = \"run\"\npacket_log = \"verbose\"\nrealtime = 1\n"),
            ),
            ("settings of an interface", with("[interface.eth0123456789abcdef]\nxdp = \"offload\"\n")),
        ]),
    );
}

#[test]
fn placement() {
    let vips =
        |vip: &str| edited("vips = [\"172.20.128.4/24\"]", &format!("vips = [\"172.20.128.4/24\", {vip}]"));
    let router = |more: &str| edited("priority = 200\n", &format!("priority = 200\n{more}\n"));
    let route = |keys: &str| {
        edited("# What the tutorial", &format!("[[virtual_router.route]]\n{keys}\n\n# What the tutorial"))
    };
    let rule = |keys: &str| {
        edited("# What the tutorial", &format!("[[virtual_router.rule]]\n{keys}\n\n# What the tutorial"))
    };
    let cases = [
        ("VIP without address", vips("{ interface = \"eth1\" }")),
        ("VIP with a bad address", vips("{ address = \"172.20.128.0/24\" }")),
        ("unknown key of a VIP", vips("{ address = \"172.20.128.5/24\", device = \"eth1\" }")),
        ("label of another interface", vips("{ address = \"172.20.128.5/24\", label = \"eth1:1\" }")),
        ("label of IPv6", vips("{ address = \"2001:db8::5/64\", label = \"eth0:1\" }")),
        ("unknown scope", vips("{ address = \"172.20.128.5/24\", scope = \"lnk\" }")),
        ("VIP that is excluded too", router("excluded_vips = [\"172.20.128.4/24\"]")),
        ("virtual MAC of another type", router("virtual_mac = 33")),
        ("virtual MAC on the interface itself", router("virtual_mac = \"eth0\"")),
        ("accept in quotes", router("accept = \"false\"")),
        ("route to nowhere", route("to = \"default\"")),
        ("route without destination", route("via = \"172.20.128.1\"")),
        ("route to a host's bits", route("to = \"192.0.2.1/24\"\nvia = \"172.20.128.1\"")),
        ("route of two families", route("to = \"192.0.2.0/24\"\nvia = \"2001:db8::1\"")),
        ("link-local gateway", route("to = \"default\"\nvia = \"fe80::1\"")),
        (
            "the same route twice",
            route(
                "to = \"default\"\nvia = \"172.20.128.1\"\n[[virtual_router.route]]\nto = \"0.0.0.0/0\"\nvia = \"172.20.128.9\"",
            ),
        ),
        ("rule for everything", rule("priority = 100\ntable = 77")),
        ("rule without a table", rule("from = \"172.20.128.4\"\npriority = 100")),
        ("rule of the kernel's own rank", rule("from = \"172.20.128.4\"\npriority = 32766\ntable = 77")),
        (
            "rule of two families",
            rule("from = \"172.20.128.4\"\nto = \"2001:db8::/32\"\npriority = 100\ntable = 77"),
        ),
        ("rule with a mark beyond its mask", rule("mark = \"0x100/0xff\"\npriority = 100\ntable = 77")),
        (
            "the same rule twice",
            rule(
                "mark = 16\npriority = 100\ntable = 77\n[[virtual_router.rule]]\nmark = \"0x10\"\npriority = 100\ntable = 77",
            ),
        ),
        ("address without interface", with("[[address]]\naddress = \"192.0.2.9/24\"\n")),
    ];
    snapshot("placement", &all_refused(&cases));
}

#[test]
fn virtual_routers() {
    let second = |id: u8, name: &str, vip: &str| {
        format!(
            "[[virtual_router]]\nname = \"{name}\"\ninterface = \"eth0\"\nrouter_id = {id}\npriority = 1\n\
             vips = [\"{vip}\"]\n[virtual_router.unicast]\nsource = \"172.20.128.2\"\npeers = [\"172.20.128.3\"]\n"
        )
    };
    let keys =
        |keys: &str, rest: &str| with(&format!("[virtual_router.authentication]\nkeys = {keys}\n{rest}\n"));
    let multicast = |lines: &str| {
        let unicast = "[virtual_router.unicast]\nsource = \"172.20.128.2\"\npeers = [\"172.20.128.3\"]";
        edited(unicast, &format!("[virtual_router.multicast]\n{lines}"))
    };
    snapshot(
        "virtual_routers",
        &all_refused(&[
            ("router_id 0", edited("router_id = 33", "router_id = 0")),
            ("router_id 256", edited("router_id = 33", "router_id = 256")),
            ("priority 0", edited("priority = 200", "priority = 0")),
            ("a delay beyond reason", edited("priority = 200", "priority = 200\npreempt_delay = \"1h\"")),
            ("a refresh without a unit", edited("priority = 200", "priority = 200\nannounce_refresh = 1")),
            (
                "half a second in version 2",
                edited("advert_interval = \"1s\"", "advert_interval = \"1500ms\""),
            ),
            (
                "an interval that fits no byte",
                edited("advert_interval = \"1s\"", "advert_interval = \"5min\""),
            ),
            ("version 4", edited("router_id = 33", "router_id = 33\nversion = 4")),
            ("a password in version 3", edited("router_id = 33", "router_id = 33\nversion = 3")),
            ("a checksum in version 2", edited("router_id = 33", "router_id = 33\nchecksum = \"rfc9568\"")),
            (
                "five milliseconds in version 3",
                edited("advert_interval = \"1s\"", "advert_interval = \"5ms\"\nversion = 3")
                    .replace("password = \"letmein\"\n", ""),
            ),
            (
                "a VIP that is excluded too",
                edited("router_id = 33", "router_id = 33\nexcluded_vips = [\"172.20.128.4\"]"),
            ),
            ("unicast and multicast", with("[virtual_router.multicast]\n")),
            ("a group of wider scope", multicast("group = \"ff05::12\"")),
            ("a group of the other family", multicast("source = \"172.20.128.2\"\ngroup = \"ff02::12\"")),
            ("no keys", with("[virtual_router.authentication]\n")),
            ("an array of no keys", keys("[]", "")),
            ("a secret instead of a key", keys("[\"open sesame, open\"]", "")),
            ("a short secret", keys("[{ id = 1, secret = \"open sesame\" }]", "")),
            ("a key without a secret", keys("[{ id = 1 }]", "")),
            ("a key with two", keys("[{ id = 1, secret = \"open sesame, open\", file = \"/etc/key\" }]", "")),
            (
                "two keys of one id, and another to send with",
                keys(
                    "[{ id = 1, secret = \"open sesame, open\" }, { id = 1, secret = \"open sesame, again\" }]",
                    "send = 2",
                ),
            ),
            ("a long password", edited("\"letmein\"", "\"letmein123\"")),
            ("an empty password", edited("\"letmein\"", "\"\"")),
            ("no VIP", edited("vips = [\"172.20.128.4/24\"]", "vips = []")),
            ("a VIP of IPv6", edited("\"172.20.128.4/24\"", "\"2001:db8::4/64\"")),
            ("no VIP but a network", edited("\"172.20.128.4/24\"", "\"172.20.128.0/24\"")),
            ("a VIP twice", edited("[\"172.20.128.4/24\"]", "[\"172.20.128.4/24\", \"172.20.128.4/32\"]")),
            ("a VIP of two virtual routers", with(&second(34, "VI_2", "172.20.128.4/24"))),
            ("a name twice", with(&second(34, "VI_1", "172.20.128.5/24"))),
            ("a router_id twice on an interface", with(&second(33, "VI_2", "172.20.128.5/24"))),
            ("no peers", edited("peers = [\"172.20.128.3\"]", "peers = []")),
            ("itself as a peer", edited("peers = [\"172.20.128.3\"]", "peers = [\"172.20.128.2\"]")),
            (
                "a peer twice",
                edited("peers = [\"172.20.128.3\"]", "peers = [\"172.20.128.3\", \"172.20.128.3\"]"),
            ),
            ("a VIP as a peer", edited("peers = [\"172.20.128.3\"]", "peers = [\"172.20.128.4\"]")),
            ("a VIP as the source", edited("source = \"172.20.128.2\"", "source = \"172.20.128.4\"")),
            ("bfd = true", edited("router_id = 33", "router_id = 33\nbfd = true")),
            ("bfd = \"on\"", edited("router_id = 33", "router_id = 33\nbfd = \"on\"")),
            (
                "bfd with a group",
                edited(
                    "[virtual_router.unicast]\nsource = \"172.20.128.2\"\npeers = [\"172.20.128.3\"]",
                    "[virtual_router.multicast]\n[virtual_router.bfd]",
                ),
            ),
            ("bfd too fast", edited("router_id = 33", "router_id = 33\nbfd = { interval = \"5ms\" }")),
            (
                "bfd that one lost packet ends",
                edited("router_id = 33", "router_id = 33\nbfd = { multiplier = 1 }"),
            ),
            (
                "one session with two intervals",
                with(
                    &second(34, "VI_2", "172.20.128.5/24")
                        .replace("priority = 1", "priority = 1\nbfd = { interval = \"20ms\" }"),
                ),
            ),
            ("an unknown track script", edited("[\"chk_nginx\"]", "[\"chk_ngnix\"]")),
            ("a track script twice", edited("[\"chk_nginx\"]", "[\"chk_nginx\", \"chk_nginx\"]")),
        ]),
    );
}

#[test]
fn services() {
    let second = |name: &str, vip: &str, backend: &str| {
        format!(
            "[[service]]\nname = \"{name}\"\nvip = \"{vip}\"\nport = 80\nprotocol = \"tcp\"\nstandalone = true\n\
             [[service.backend]]\n{backend}\n"
        )
    };
    let nat = "address = \"10.0.0.1\"\nport = 8080\nmode = \"nat\"";
    let dr = "address = \"10.0.0.1\"\nmode = \"dr\"";
    let backend = |lines: &str| with(&format!("[[service.backend]]\n{lines}\n"));
    let other = "172.20.128.5";
    let quorum = |quorum: &str, backend: &str| {
        edited("protocol = \"tcp\"", &format!("protocol = \"tcp\"\nquorum = {quorum}"))
            + &format!("[[service.backend]]\n{backend}\n")
    };
    snapshot(
        "services",
        &all_refused(&[
            ("a quorum of 0", quorum("0", dr)),
            ("a quorum that cannot be reached", quorum("3", &format!("{dr}\nbackup = true"))),
            ("nobody but backups", with(&second("other", other, &format!("{dr}\nbackup = true")))),
            ("a health command with an open quote", backend(&format!("{dr}\nnotify = {{ up = \"'x\" }}"))),
            ("two services on one VIP and port", {
                with(&second("web2", "172.20.128.4", dr).replace("standalone = true\n", ""))
            }),
            ("a name twice", with(&second("web", other, dr))),
            (
                "no backend",
                with(&second("web2", other, dr).replace(&format!("[[service.backend]]\n{dr}"), "")),
            ),
            ("port 0", edited("port = 80", "port = 0")),
            ("a VIP of IPv6", edited("vip = \"172.20.128.4\"", "vip = \"2001:db8::4\"")),
            ("a VIP with a prefix", edited("vip = \"172.20.128.4\"", "vip = \"172.20.128.4/24\"")),
            ("a VIP by name", edited("vip = \"172.20.128.4\"", "vip = \"www.example.org\"")),
            ("a VIP with a port", edited("vip = \"172.20.128.4\"", "vip = \"172.20.128.4:80\"")),
            ("a VIP on loopback", edited("vip = \"172.20.128.4\"", "vip = \"127.0.0.1\"")),
            ("a multicast VIP", edited("vip = \"172.20.128.4\"", "vip = \"224.0.0.18\"")),
            ("a backend of the other family", backend("address = \"2001:db8::1\"\nmode = \"dr\"")),
            ("a backend twice", backend("address = \"172.20.128.3\"\nmode = \"nat\"")),
            ("the VIP as a backend", backend("address = \"172.20.128.4\"\nmode = \"dr\"")),
            ("another VIP as a backend", {
                with(&second("web2", other, "address = \"172.20.128.4\"\nmode = \"dr\""))
            }),
            ("a port of its own with dr", backend("address = \"10.0.0.1\"\nport = 8080\nmode = \"dr\"")),
            ("an unknown mode", backend("address = \"10.0.0.1\"\nmode = \"masq\"")),
            ("a weight beyond 65,535", backend("address = \"10.0.0.1\"\nmode = \"dr\"\nweight = 65536")),
            ("only weights 0", with(&second("web2", other, &format!("{dr}\nweight = 0")))),
            ("a nat backend of two services", {
                with(&(second("web2", other, nat) + &second("web3", "172.20.128.6", nat)))
            }),
            ("a ring that is no prime", edited("port = 80", "port = 80\nring_size = 65536")),
            ("a ring that is too small", edited("port = 80", "port = 80\nring_size = 97")),
            ("standalone on a VIP that is not", edited("port = 80", "port = 80\nstandalone = true")),
            ("no interface to attach to", second("web", other, dr)),
        ]),
    );
}

#[test]
fn checks_and_scripts() {
    let check = |text: &str| {
        edited(
            "{ http = \"/\", interval = \"50ms\", fast_interval = \"20ms\", timeout = \"250ms\", rise = 2, fall = 2 }",
            text,
        )
    };
    snapshot(
        "checks_and_scripts",
        &all_refused(&[
            ("both kinds", check("{ http = \"/\", tcp = true }")),
            ("no kind", check("{ interval = \"1s\" }")),
            ("a kind denied", check("{ tcp = false }")),
            ("no table", check("false")),
            ("a status for TCP", check("{ tcp = true, status = 200 }")),
            ("a relative path", check("{ http = \"index.html\" }")),
            ("a path that would be two headers", check("{ http = \"/ HTTP/1.1\\r\\nX: y\" }")),
            ("a host with a space", check("{ http = \"/\", host = \"a b\" }")),
            ("a status that is none", check("{ http = \"/\", status = [200, 700] }")),
            ("a range of statuses the wrong way round", check("{ http = \"/\", status = \"399-200\" }")),
            (
                "a fast interval longer than the interval",
                check("{ tcp = true, interval = \"1s\", fast_interval = \"2s\" }"),
            ),
            ("one longer than the default interval", check("{ tcp = true, fast_interval = \"3s\" }")),
            ("three kinds", check("{ https = \"/\", tcp = true, command = \"true\" }")),
            ("a name for a check without TLS", check("{ http = \"/\", sni = \"www.example.org\" }")),
            ("an address for a name", check("{ https = \"/\", sni = \"192.0.2.1\" }")),
            ("half a digest", check("{ http = \"/\", md5 = \"640205b7b0fc66c1\" }")),
            ("no digest", check("{ http = \"/\", md5 = \"640205b7b0fc66c1ea91c463fac6334g\" }")),
            ("a user for HTTP", check("{ http = \"/\", user = \"nobody\" }")),
            ("an exit status that is none", check("{ command = \"true\", exit = [0, 256] }")),
            ("a port that the command does not ask for", check("{ command = \"true\", port = 80 }")),
            ("an empty command", check("{ command = [] }")),
            ("rise 0", check("{ tcp = true, rise = 0 }")),
            ("port 0", check("{ tcp = true, port = 0 }")),
            ("a script's timeout", edited("interval = \"2s\"", "interval = \"2s\"\ntimeout = \"3s\"")),
            ("a script's weight", edited("interval = \"2s\"", "interval = \"2s\"\nweight = -255")),
            (
                "a script's beginning",
                edited("interval = \"2s\"", "interval = \"2s\"\ninitially = \"failed\""),
            ),
            ("no command", edited("command = \"pidof nginx\"", "command = \"\"")),
            ("an open quote", edited("command = \"pidof nginx\"", "command = \"pidof 'nginx\"")),
            ("a number in a command", edited("command = \"pidof nginx\"", "command = [\"sleep\", 1]")),
            ("a name twice", with("[[track_script]]\nname = \"chk_nginx\"\ncommand = \"true\"\n")),
        ]),
    );
}

/// The tutorial's configuration with another list of trackers, and `more` at its end.
fn tracking(list: &str, more: &str) -> String {
    edited("track_scripts = [\"chk_nginx\"]", &format!("track_scripts = [\"chk_nginx\"]\n{list}")) + more
}

#[test]
fn trackers() {
    let process = |keys: &str| {
        tracking("track_processes = [\"p\"]", &format!("[[track_process]]\nname = \"p\"\n{keys}\n"))
    };
    let file =
        |keys: &str| tracking("track_files = [\"f\"]", &format!("[[track_file]]\nname = \"f\"\n{keys}\n"));
    snapshot(
        "trackers",
        &all_refused(&[
            ("no array", tracking("track_interfaces = \"eth1\"", "")),
            ("a number", tracking("track_interfaces = [1]", "")),
            ("a table without a name", tracking("track_interfaces = [{ weight = -20 }]", "")),
            (
                "a key that only services have",
                tracking("track_interfaces = [{ name = \"eth1\", local = true }]", ""),
            ),
            ("a weight beyond -254", tracking("track_interfaces = [{ name = \"eth1\", weight = -300 }]", "")),
            ("an interface twice", tracking("track_interfaces = [\"eth1\", { name = \"eth1\" }]", "")),
            ("an unknown process", tracking("track_processes = [\"nginx\"]", "")),
            ("an unknown file", tracking("track_files = [\"load\"]", "")),
            ("an unknown service", tracking("track_services = [\"wed\"]", "")),
            ("a minimum of 0", tracking("track_services = [{ name = \"web\", minimum = 0 }]", "")),
            ("a process without a command", process("")),
            ("a relative program", process("command = \"sbin/nginx\"")),
            ("a quorum beyond its maximum", process("command = \"nginx\"\nquorum = 3\nquorum_max = 2")),
            ("a maximum below the default quorum", process("command = \"nginx\"\nquorum_max = 0")),
            ("a relative file", file("path = \"load\"")),
            ("a folder", file("path = \"/run/\"")),
            ("an initial value that is none", file("path = \"/run/load\"\ninitial = \"0\"")),
            ("a file twice", file("path = \"/run/load\"\n[[track_file]]\nname = \"f\"\npath = \"/run/f\"")),
        ]),
    );
}

#[test]
fn groups_and_notification() {
    let second = "[[virtual_router]]\nname = \"VI_2\"\ninterface = \"eth0\"\nrouter_id = 34\npriority = 200\n\
                  vips = [\"172.20.128.5/24\"]\n[virtual_router.unicast]\nsource = \"172.20.128.2\"\n\
                  peers = [\"172.20.128.3\"]\n";
    let group = |keys: &str| with(&format!("{second}[[sync_group]]\nname = \"VG_1\"\n{keys}\n"));
    let of_router = |table: &str| {
        edited(
            "peers = [\"172.20.128.3\"]",
            &format!("peers = [\"172.20.128.3\"]\n\n[virtual_router.{table}"),
        )
    };
    snapshot(
        "groups_and_notification",
        &all_refused(&[
            ("no members", group("")),
            ("one member", group("routers = [\"VI_1\"]")),
            ("an unknown member", group("routers = [\"VI_1\", \"VI_3\"]")),
            ("a member twice", group("routers = [\"VI_1\", \"VI_1\"]")),
            (
                "a member of two groups",
                group(
                    "routers = [\"VI_1\", \"VI_2\"]\n[[sync_group]]\nname = \"VG_2\"\nrouters = [\"VI_1\", \"VI_2\"]",
                ),
            ),
            (
                "members of different rank",
                group("routers = [\"VI_1\", \"VI_2\"]").replace(
                    "router_id = 34\npriority = 200",
                    "router_id = 34\npriority = 90\npreempt = false",
                ),
            ),
            ("keepalived's name of a state", of_router("notify]\nmaster = \"/bin/true\"")),
            ("an empty command", of_router("notify]\nowner = \"\"")),
            ("a FIFO that is a folder", with("[daemon]\nnotify_fifo = \"/run/lb/\"\n")),
        ]),
    );
}

#[test]
fn authorities() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name);
    let load = |name: &str| {
        let check = format!("{{ https = \"/\", ca = \"{}\" }}", path(name).display());
        let old = "{ http = \"/\", interval = \"50ms\", fast_interval = \"20ms\", timeout = \"250ms\", rise = 2, fall = 2 }";
        fs::write(path("lb.toml"), edited(old, &check)).expect("a file");
        config::load(&path("lb.toml"))
    };
    let refused = |name: &str| load(name).expect_err("no authorities").to_string();
    assert!(
        refused("missing.pem").contains("missing.pem cannot be read: No such file"),
        "{}",
        refused("missing.pem")
    );
    fs::write(path("empty.pem"), "nothing\n").expect("a file");
    assert!(refused("empty.pem").contains("empty.pem holds no certificate"), "{}", refused("empty.pem"));
    fs::write(path("broken.pem"), "-----BEGIN CERTIFICATE-----\n????\n-----END CERTIFICATE-----\n")
        .expect("a file");
    assert!(refused("broken.pem").contains("broken.pem is not PEM"), "{}", refused("broken.pem"));
    fs::write(path("ca.pem"), include_str!("../src/health/probe/tls/ca.pem")).expect("a file");
    let parsed = load("ca.pem").unwrap_or_else(|errors| panic!("{errors}"));
    let service = &parsed.config.services[0];
    for check in [&service.check, &service.backends[0].check] {
        let Some(CheckKind::Http(http)) = check.as_ref().map(|check| &check.kind) else {
            panic!("an HTTP check")
        };
        let authorities = http.tls.as_ref().and_then(|tls| tls.authorities.as_ref());
        assert!(
            matches!(authorities, Some(Authorities::Known(known)) if known.len() == 1),
            "{authorities:?}"
        );
    }
}

#[test]
fn warnings() {
    let backend = |n| format!("[[service.backend]]\naddress = \"10.0.0.{n}\"\nmode = \"dr\"\n");
    let many = backend(1) + &backend(2);
    snapshot(
        "warnings",
        &all_shown(vec![
            (
                "a VIP without a virtual router",
                warned(&edited("vip = \"172.20.128.4\"", "vip = \"172.20.128.5\"")),
            ),
            (
                "a quorum that decides nothing",
                warned(&edited("protocol = \"tcp\"", "protocol = \"tcp\"\nquorum = 2")),
            ),
            (
                "a check that wants a shell",
                warned(&edited(
                    "{ http = \"/\", interval = \"50ms\", fast_interval = \"20ms\", timeout = \"250ms\", rise = 2, fall = 2 }",
                    "{ command = \"curl {address} | grep ok\" }",
                )),
            ),
            (
                "a small ring for many backends",
                warned(&(edited("port = 80", "port = 80\nring_size = 251") + &many)),
            ),
            ("a script nobody uses", warned(&edited("track_scripts = [\"chk_nginx\"]", ""))),
            (
                "a script that wants a shell",
                warned(&edited("\"pidof nginx\"", "\"pidof nginx || pidof haproxy\"")),
            ),
            (
                "a process nobody uses, with a name too long",
                warned(&with("[[track_process]]\nname = \"p\"\ncommand = \"a-very-long-name\"\n")),
            ),
            ("a file nobody uses", warned(&with("[[track_file]]\nname = \"f\"\npath = \"/run/load\"\n"))),
        ]),
    );
}

#[test]
fn host() {
    let interface = |name: &str, index, addresses: &[&str]| HostInterface {
        name: name.to_owned(),
        index,
        addresses: addresses.iter().map(|address| address.parse().expect("a prefix")).collect(),
    };
    let lo = interface("lo", 1, &["127.0.0.1/8"]);
    let against = |text: String, interfaces: Vec<HostInterface>| {
        let parsed = config::parse("lb.toml", &text).unwrap_or_else(|errors| panic!("{errors}"));
        parsed.check_host(&HostFacts { interfaces }).expect_err("an error")
    };
    let node_a = || vec![lo.clone(), interface("eth0", 2, &["172.20.128.2/24"])];
    snapshot(
        "host",
        &all_shown(vec![
            ("an interface that does not exist", {
                against(edited("interface = \"eth0\"", "interface = \"eth9\""), node_a())
            }),
            ("a tracked interface that does not exist", {
                against(tracking("track_interfaces = [\"eth7\"]", ""), node_a())
            }),
            ("settings of an interface that does not exist", against(with("[interface.wan]\n"), node_a())),
            ("a VIP outside the interface's network", {
                against(
                    edited("vips = [\"172.20.128.4/24\"]", "vips = [\"172.20.128.4/24\", \"10.0.0.1/24\"]"),
                    node_a(),
                )
            }),
            ("a VIP in another interface's network", {
                let mut interfaces = node_a();
                interfaces.push(interface("eth1", 3, &["10.0.0.2/24"]));
                against(edited("interface = \"eth0\"", "interface = \"eth1\""), interfaces)
            }),
            ("an interface whose only address is the VIP", {
                let elsewhere = interface("eth1", 3, &["172.20.130.1/24"]);
                against(tutorial(), vec![lo.clone(), interface("eth0", 2, &["172.20.128.4/24"]), elsewhere])
            }),
            ("the other node's file", against(tutorial(), vec![interface("eth0", 2, &["172.20.128.3/24"])])),
            ("a local backend elsewhere", {
                against(with("[[service.backend]]\naddress = \"10.0.0.9\"\nmode = \"local\"\n"), node_a())
            }),
        ]),
    );
}

#[test]
fn windows_line_ends_make_no_difference() {
    let config = Config::parse("crlf", &tutorial().replace('\n', "\r\n"));
    assert_eq!(config.ok(), Config::parse("lf", &tutorial()).ok());
    let errors = refused(&edited("router_id = 33", "router_id = 0").replace('\n', "\r\n"));
    let unix = refused(&edited("router_id = 33", "router_id = 0"));
    assert_eq!(errors.to_string(), unix.to_string());
}

#[test]
fn lines_that_would_fill_the_screen_are_not_shown() {
    let errors = refused(&format!("key = \"{}\"\n", "x".repeat(10_000)));
    let report = shown(errors);
    assert!(report.len() < 1_000, "{report}");
    assert!(report.contains("lb.toml:1:1: unknown key `key`"), "{report}");
}

#[test]
fn a_report_ends_after_a_hundred_errors() {
    let text = (0..150).map(|n| format!("key{n} = 1\n")).collect::<Vec<_>>().concat();
    let errors = refused(&text);
    assert_eq!((errors.iter().count(), errors.omitted()), (100, 50));
    assert!(errors.to_string().ends_with("… and 50 more"));
    assert_eq!(errors.into_report().to_string(), "lb.toml: 150 errors, of which the first 100");
}

#[test]
fn tables_beyond_the_limits_are_refused() {
    let text = (0..300)
        .map(|n| {
            let (high, low) = (n / 200, n % 200 + 1);
            format!(
                "[[virtual_router]]\nname = \"r{n}\"\ninterface = \"i{}\"\nrouter_id = {}\npriority = 100\n\
                 vips = [\"10.1.{high}.{low}/16\"]\n\
                 [virtual_router.unicast]\nsource = \"10.0.0.1\"\npeers = [\"10.0.0.2\"]\n",
                n % 70,
                n / 70 + 1,
            )
        })
        .collect::<Vec<_>>()
        .concat();
    let errors = refused(&text);
    let messages: Vec<&str> = errors.iter().map(|error| error.message.as_str()).collect();
    assert_eq!(messages, ["too many interfaces", "too many virtual routers"]);
    assert_eq!(
        errors.iter().map(|error| error.line).collect::<Vec<_>>(),
        [Some(64 * 9 + 3), Some(254 * 9 + 1)]
    );
}

/// Bytes put in place of others, anywhere.
fn mutation() -> impl Strategy<Value = (prop::sample::Index, usize, String)> {
    let inserted = prop_oneof![
        any::<String>(),
        "[\\[\\]{}=\",.#\\\\'\n\r\t 0-9a-z-]{0,6}",
        Just("[[service]]\n".to_owned()),
        Just("check = { tcp = true }\n".to_owned()),
        Just("password = \"ä\0\"".to_owned()),
        Just("999999999999999999999".to_owned()),
    ];
    (any::<prop::sample::Index>(), 0..30_usize, inserted)
}

/// Parses, and checks what is promised of every report.
fn parse_and_check(text: &str) {
    let errors = match config::parse("random", text) {
        Ok(parsed) => {
            // Whatever holds must be fit for a node that has nothing, without a panic.
            let host = parsed.check_host(&HostFacts::default());
            host.err().into_iter().chain([parsed.warnings]).collect()
        }
        Err(errors) => {
            assert!(!errors.is_empty());
            vec![errors]
        }
    };
    for errors in errors {
        for error in &errors {
            let span = error.span().expect("every error has a place");
            assert!(text.get(span.clone()).is_some(), "{span:?} of {} bytes: {error}", text.len());
            let line = error.line.expect("a line");
            let column = error.column.expect("a column");
            assert!(line >= 1 && line <= text.split('\n').count(), "{error}");
            let of_line = text.split('\n').nth(line - 1).expect("the line").chars().count();
            assert!(column >= 1 && column <= of_line + 1, "{error}");
        }
        shown(errors);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text_is_parsed_or_refused(text in any::<String>()) {
        parse_and_check(&text);
    }

    #[test]
    fn any_edit_of_a_configuration_is_parsed_or_refused(mutations in prop::collection::vec(mutation(), 1..4)) {
        let mut text = tutorial();
        for (index, length, inserted) in mutations {
            let start = text.floor_char_boundary(index.index(text.len() + 1));
            let end = text.ceil_char_boundary((start + length).min(text.len()));
            text.replace_range(start..end, &inserted);
        }
        parse_and_check(&text);
    }
}
