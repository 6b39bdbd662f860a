//! Configurations that hold: the ready ones, defaults, files, the documentation.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr},
    os::unix::fs::PermissionsExt as _,
    path::Path,
    time::Duration,
};

use lb::config::{
    self, Check, CheckKind, Config, HostFacts, HostInterface, HttpCheck, MAX_FILE_BYTES, Mode, PacketLog,
    Parsed, Ports, Protocol, Tracked, Tracker, Transport, Weight, XdpMode,
};

fn folder(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name)
}

fn ready(name: &str) -> Parsed {
    let path = folder("configs").join(name);
    let parsed = config::load(&path).unwrap_or_else(|errors| panic!("{errors}"));
    assert!(parsed.warnings.is_empty(), "{}", parsed.warnings);
    parsed
}

fn host(interfaces: &[(&str, &[&str])]) -> HostFacts {
    let interfaces = interfaces.iter().zip(1..).map(|((name, addresses), index)| HostInterface {
        name: (*name).to_owned(),
        index,
        addresses: addresses.iter().map(|address| address.parse().expect("a prefix")).collect(),
    });
    HostFacts { interfaces: interfaces.collect() }
}

#[test]
fn every_ready_configuration_parses_without_warnings() {
    let files = fs::read_dir(folder("configs")).expect("the folder configs");
    let files = files.map(|file| file.expect("an entry")).filter(|file| file.path().is_file());
    let names: Vec<_> = files.map(|file| file.file_name().into_string().unwrap()).collect();
    assert!(names.len() >= 8, "{names:?}");
    for name in names {
        ready(&name);
    }
}

#[test]
fn ready_configurations_fit_the_nodes_they_are_for() {
    for (file, facts) in [
        ("tutorial-a.toml", host(&[("lo", &["127.0.0.1/8"]), ("eth0", &["172.20.128.2/24"])])),
        // Restarted while it owns the VIP.
        ("tutorial-b.toml", host(&[("eth0", &["172.20.128.3/24", "172.20.128.4/24"])])),
        ("single-node.toml", host(&[("eth0", &["192.0.2.10/24"])])),
        ("nat.toml", host(&[("eth0", &["192.0.2.2/24"]), ("eth1", &["10.0.0.2/24"])])),
        ("ipip.toml", host(&[("eth0", &["192.0.2.2/24", "2001:db8::2/64", "fe80::2/64"])])),
        ("gue.toml", host(&[("eth0", &["192.0.2.2/24"]), ("eth1", &["10.0.0.2/24"])])),
        ("backend.toml", host(&[("eth0", &["10.1.0.21/24"])])),
        ("ipv6-vlan.toml", host(&[("eth0", &[]), ("eth0.100", &["192.0.2.2/24", "2001:db8::2/64"])])),
    ] {
        ready(file).check_host(&facts).unwrap_or_else(|errors| panic!("{errors}"));
    }
}

#[test]
fn tutorial_says_what_its_keepalived_conf_says() {
    let config = ready("tutorial-a.toml").config;
    let router = &config.virtual_routers[0];
    assert_eq!((router.router_id, router.priority, router.preempt), (33, 200, true));
    assert_eq!(router.password.expect("a password").0, *b"letmein\0");
    assert_eq!(router.vips, ["172.20.128.4/24".parse().unwrap()]);
    let (source, peer) = (Ipv4Addr::new(172, 20, 128, 2), Ipv4Addr::new(172, 20, 128, 3));
    let transport = Transport::Unicast { source: source.into(), peers: vec![peer.into()], min_ttl: 255 };
    assert_eq!(router.transport, transport);

    let script = &config.track_scripts[0];
    assert_eq!(script.command, ["pidof", "nginx"]);
    assert_eq!((script.interval, script.timeout), (Duration::from_secs(2), Duration::from_secs(2)));
    assert_eq!((script.rise, script.fall, script.initially_up, &script.user), (1, 1, None, &None));
    let tracked = Tracked { what: Tracker::Script("chk_nginx".to_owned()), weight: Weight::default() };
    assert_eq!(router.tracking, [tracked]);

    let service = &config.services[0];
    assert_eq!((service.ports, service.protocol, service.ring_size), (Ports::One(80), Protocol::Tcp, 65_537));
    let check = Check {
        kind: CheckKind::Http(HttpCheck {
            path: "/".to_owned(),
            host: None,
            statuses: vec![(200, 399)],
            md5: None,
            tls: None,
        }),
        interval: Duration::from_millis(50),
        fast_interval: Duration::from_millis(20),
        timeout: Duration::from_millis(250),
        rise: 2,
        fall: 2,
        port: None,
    };
    assert_eq!(service.check.as_ref(), Some(&check));
    for (backend, address) in service.backends.iter().zip([source, peer]) {
        assert_eq!((backend.address, backend.port), (address.into(), 80));
        assert_eq!((backend.mode, backend.weight), (Mode::Dr, 1));
        assert_eq!(backend.check.as_ref(), Some(&check), "inherited from the service");
    }
}

#[test]
fn both_tutorial_nodes_have_the_same_services() {
    // So that both compute the same ring.
    assert_eq!(ready("tutorial-a.toml").config.services, ready("tutorial-b.toml").config.services);
}

#[test]
fn backend_checks_replace_that_of_the_service() {
    let single = ready("single-node.toml").config;
    assert_eq!(single.services[1].backends[1].check, None);
    let inherited = single.services[1].backends[0].check.as_ref().expect("the service's check");
    assert_eq!((&inherited.kind, inherited.port), (&CheckKind::Tcp, Some(53)));
    assert_eq!(inherited.interval, Duration::from_secs(2), "default");
    assert_eq!(
        (inherited.timeout, inherited.rise, inherited.fall),
        (Duration::from_secs(1), 2, 3),
        "defaults"
    );

    let nat = ready("nat.toml").config;
    let backends = &nat.services[0].backends;
    assert_eq!(backends[1].check.as_ref().map(|check| &check.kind), Some(&CheckKind::Tcp));
    let Some(CheckKind::Http(HttpCheck { host, statuses, .. })) =
        backends[0].check.as_ref().map(|check| &check.kind)
    else {
        panic!("the service's check");
    };
    assert_eq!(
        (host.as_deref(), statuses.as_slice()),
        (Some("shop.example.org"), &[(200, 200), (300, 399)][..])
    );
    assert_eq!((backends[0].port, nat.services[0].ports), (8080, Ports::One(80)));
    assert_eq!(nat.attached_interfaces(), ["eth0", "eth1"]);
}

#[test]
fn every_mode_and_family_reaches_the_model() {
    let ipip = ready("ipip.toml").config;
    let vips: Vec<String> = ipip.virtual_routers[0].vips.iter().map(ToString::to_string).collect();
    assert_eq!(vips, ["192.0.2.100/24", "2001:db8::100/64"]);
    let advertised: Vec<IpAddr> = ipip.virtual_routers[0].advertised().collect();
    assert_eq!(advertised, [IpAddr::from([192, 0, 2, 100])]);
    for (service, v4) in ipip.services.iter().zip([true, false]) {
        assert_eq!(service.vip.is_ipv4(), v4);
        let families: Vec<bool> = service.backends.iter().map(|backend| backend.address.is_ipv4()).collect();
        assert_eq!(families, [true, false]);
        assert!(service.backends.iter().all(|backend| backend.mode == Mode::Ipip && backend.port == 443));
    }

    let gue = ready("gue.toml").config;
    assert_eq!(gue.services[0].backends[0].mode, Mode::Gue);
    let ports: Vec<Ports> = gue.services.iter().map(|service| service.ports).collect();
    assert_eq!(ports, [Ports::One(53), Ports::One(21), Ports::Range(50_000, 50_099)]);
    assert_eq!(gue.services[2].backends[0].port, 0, "the port the client chose");

    let backend = ready("backend.toml").config;
    assert!(backend.services.iter().all(|service| service.backend_only));
    assert!(!gue.services[0].backend_only);
    assert_eq!(ready("ipv6-vlan.toml").config.attached_interfaces(), ["eth0.100"]);
}

#[test]
fn every_port_may_be_a_service_if_the_check_says_which_to_ask() {
    let text = fs::read_to_string(folder("configs/gue.toml")).unwrap();
    let text = text.replace("\"50000-50099\"", "\"any\"");
    let config = Config::parse("test", &text).unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(config.services[2].ports, Ports::Any);
}

#[test]
fn defaults_of_a_check_follow_its_interval_or_not() {
    let text = fs::read_to_string(folder("configs/tutorial-a.toml")).unwrap();
    let text = text.replace("\"50ms\", fast_interval = \"20ms\", timeout = \"250ms\"", "\"300ms\"");
    let config = Config::parse("test", &text).unwrap_or_else(|errors| panic!("{errors}"));
    let check = config.services[0].check.as_ref().expect("a check");
    assert_eq!(check.fast_interval, Duration::from_millis(300));
    // A server that is asked often needs no less time for its answer.
    assert_eq!(check.timeout, Duration::from_secs(1));
}

#[test]
fn commands_are_split_as_a_shell_would() {
    let text = fs::read_to_string(folder("configs/tutorial-a.toml")).unwrap();
    for (command, words) in [
        (r#"'''test -e "/run/my service"'''"#, vec!["test", "-e", "/run/my service"]),
        (r#"["test", "-e", "/run/my service"]"#, vec!["test", "-e", "/run/my service"]),
        (r"'a\ b c'", vec!["a b", "c"]),
    ] {
        let text = text.replace("\"pidof nginx\"", command);
        let config = Config::parse("test", &text).unwrap_or_else(|errors| panic!("{errors}"));
        assert_eq!(config.track_scripts[0].command, words);
    }
}

#[test]
fn settings_of_daemon_and_interfaces_reach_the_model() {
    let text = fs::read_to_string(folder("configs/tutorial-a.toml")).unwrap();
    let settings = "[daemon]\nruntime_dir = \"/run/a\"\npin_dir = \"/sys/fs/bpf/a\"\npacket_log = \"warn\"\nrealtime = false\n\
                    [interface.eth1]\nxdp = \"native\"\n[interface.eth2]\n";
    let config = Config::parse("test", &(text + settings)).unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(config.daemon.runtime_dir, Path::new("/run/a"));
    assert_eq!(config.daemon.pin_dir, Path::new("/sys/fs/bpf/a"));
    assert_eq!(config.daemon.packet_log, PacketLog::Warn);
    assert!(!config.daemon.realtime);
    assert_eq!(config.interfaces["eth1"].xdp, XdpMode::Native);
    assert_eq!(config.interfaces["eth2"].xdp, XdpMode::Auto);
    assert_eq!(config.attached_interfaces(), ["eth0", "eth1", "eth2"]);
    let defaults = ready("tutorial-a.toml").config.daemon;
    assert_eq!(defaults.runtime_dir, Path::new("/run/lb"));
    assert_eq!(defaults.pin_dir, Path::new("/sys/fs/bpf/lb"));
}

#[test]
fn files_that_cannot_be_read_are_refused_with_a_remedy() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    fs::write(path("latin1"), b"# f\xfcr alle\n").unwrap();
    fs::File::create(path("large")).unwrap().set_len(MAX_FILE_BYTES + 1).unwrap();
    for (name, message, help) in [
        ("missing", "cannot be read: No such file", "check the path"),
        ("", "cannot be read: Is a directory", "name a file"),
        ("latin1", "byte 0xfc is not UTF-8", "iconv"),
        ("large", "larger than 10 MB", "right file?"),
    ] {
        let errors = config::load(&path(name)).expect_err(name);
        let error = errors.iter().next().expect("an error");
        assert_eq!(error.file, path(name).display().to_string());
        assert!(error.message.starts_with(message), "{error:?}");
        assert!(error.help.as_ref().is_some_and(|text| text.contains(help)), "{error:?}");
        assert!(errors.to_string().starts_with(&error.file), "{errors}");
    }
    let errors = config::load(&path("latin1")).expect_err("latin1");
    assert_eq!(errors.iter().next().map(|error| (error.line, error.column)), Some((Some(1), Some(4))));
}

#[test]
fn errors_are_there_for_scripts_too() {
    let errors = Config::parse("lb.toml", "[daemon]\nrun_dir = 1\n").expect_err("an unknown key");
    let json: serde_json::Value = serde_json::to_value(errors.iter().collect::<Vec<_>>()).unwrap();
    let expected = serde_json::json!([{
        "severity": "error",
        "file": "lb.toml",
        "line": 2,
        "column": 1,
        "message": "unknown key `run_dir`",
        "expected": null,
        "help": "did you mean `runtime_dir`? known in [daemon]: `drain`, `notify_fifo`, `packet_log`, `pin_dir`, `realtime`, `runtime_dir`, `tunnel_sources`",
        "related": [],
    }]);
    assert_eq!(json, expected);
}

/// The list of known keys that the error about an unknown one in `text` names.
fn known_keys(text: &str) -> Vec<String> {
    let errors = Config::parse("keys", text).expect_err("an unknown key");
    let unknown = errors.iter().find(|error| error.message == "unknown key `zzz`").expect("the unknown key");
    let help = unknown.help.as_ref().expect("the known keys");
    help.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

#[test]
fn documentation_names_every_key() {
    let documentation = fs::read_to_string(folder("docs/configuration.md")).expect("docs/configuration.md");
    let mut sections = documentation.split("\n## ");
    sections.next();
    let sections: Vec<&str> = sections.collect();
    for (heading, text) in [
        ("`[daemon]`", "[daemon]\nzzz = 1"),
        ("`[interface.NAME]`", "[interface.eth0]\nzzz = 1"),
        ("`[[virtual_router]]`", "[[virtual_router]]\nzzz = 1"),
        ("`[[virtual_router.route]]`", "[[virtual_router]]\n[[virtual_router.route]]\nzzz = 1"),
        ("`[[address]]`", "[[address]]\nzzz = 1"),
        ("`[virtual_router.unicast]`", "[[virtual_router]]\n[virtual_router.unicast]\nzzz = 1"),
        ("`[virtual_router.multicast]`", "[[virtual_router]]\n[virtual_router.multicast]\nzzz = 1"),
        ("`[virtual_router.authentication]`", "[[virtual_router]]\n[virtual_router.authentication]\nzzz = 1"),
        ("`[virtual_router.notify]`", "[[virtual_router]]\n[virtual_router.notify]\nzzz = 1"),
        ("`[[track_script]]`", "[[track_script]]\nzzz = 1"),
        ("`[[track_process]]`", "[[track_process]]\nzzz = 1"),
        ("`[[track_file]]`", "[[track_file]]\nzzz = 1"),
        ("`[[sync_group]]`", "[[sync_group]]\nzzz = 1"),
        ("Trackers", "[[virtual_router]]\ntrack_services = [{ zzz = 1 }]"),
        ("`[[service]]`", "[[service]]\nzzz = 1"),
        ("`[[service.backend]]`", "[[service]]\n[[service.backend]]\nzzz = 1"),
        ("`check`", "[[service]]\ncheck = { zzz = 1 }"),
    ] {
        let section = sections
            .iter()
            .find(|section| section.starts_with(heading))
            .unwrap_or_else(|| panic!("docs/configuration.md has no section {heading}"));
        let keys = known_keys(text);
        assert!(!keys.is_empty());
        for key in keys {
            assert!(section.contains(&format!("| `{key}` |")), "{key} in section {heading}");
        }
    }
    for table in known_keys("zzz = 1") {
        assert!(documentation.contains(&format!("[{table}")), "[{table}]");
    }
}

#[test]
fn documentation_shows_configurations_that_hold() {
    let documentation = fs::read_to_string(folder("docs/configuration.md")).expect("docs/configuration.md");
    let examples: Vec<&str> =
        documentation.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert!(!examples.is_empty());
    // One file in pieces.
    let parsed = config::parse("docs/configuration.md", &examples.concat());
    let parsed = parsed.unwrap_or_else(|errors| panic!("{errors}"));
    assert!(parsed.warnings.is_empty(), "{}", parsed.warnings);
}

#[test]
fn secrets_are_read_from_files_that_are_there_and_hold_one() {
    let folder = tempfile::tempdir().expect("there is room");
    let path = folder.path().join("vrrp.key");
    let name = path.to_str().expect("a path in UTF-8").to_owned();
    let key = format!("\n[virtual_router.authentication]\nkeys = [{{ id = 1, file = \"{name}\" }}]\n");
    let text = fs::read_to_string(self::folder("configs/tutorial-a.toml")).expect("a ready configuration");
    let text = text.replace("\n[virtual_router.unicast]", &format!("{key}\n[virtual_router.unicast]"));
    let text = text.replace("password = \"letmein\"\n", "");
    let file = folder.path().join("lb.toml");
    fs::write(&file, text).expect("there is room");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).expect("it is ours");
    let load = || config::load(&file);
    let write = |secret: &str, mode| {
        fs::write(&path, secret).expect("there is room");
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("it is ours");
    };
    let refusal = || load().err().map_or_else(String::new, |errors| errors.to_string());

    assert!(refusal().contains(&format!("{name} cannot be read: No such file")), "{}", refusal());
    for (secret, what) in [
        ("", "holds no secret"),
        ("fifteen bytes..", "holds no secret"),
        ("hex:00112233", "holds no secret"),
        ("hex:xx112233445566778899aabbccddeeff", "holds no secret"),
    ] {
        write(secret, 0o600);
        let text = refusal();
        assert!(
            text.contains(&format!("{name} {what}")) && text.contains("openssl rand"),
            "{secret:?}: {text}"
        );
        assert!(secret.is_empty() || !text.contains(secret), "the secret is shown: {text}");
    }
    for secret in ["sixteen bytes...\n", "hex:00112233445566778899aabbccddeeff\n"] {
        write(secret, 0o640);
        let parsed = load().unwrap_or_else(|errors| panic!("{errors}"));
        assert!(parsed.warnings.is_empty(), "{}", parsed.warnings);
        let shown = format!("{:?}", parsed.config);
        assert!(!shown.contains("sixteen") && !shown.contains("ccddeeff"), "{shown}");
    }
    write("sixteen bytes...", 0o644);
    let warnings = load().unwrap_or_else(|errors| panic!("{errors}")).warnings.to_string();
    assert!(warnings.contains(&format!("chmod o= {name}")), "{warnings}");
}
