//! Translations of other people's configurations: what becomes of each directive.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use lb::{
    config::{self, Config, Parsed, Secret},
    import::{Facts, Outcome, Translation, import_ipvsadm, import_keepalived},
};

fn repository(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name)
}

fn sample(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/imported").join(name);
    fs::read_to_string(path).expect("a sample")
}

/// A node that is not the one the tests run on.
fn facts() -> Facts {
    let addresses = vec![("eth0".to_owned(), "192.0.2.2".parse().expect("an address"))];
    Facts { id: "node-a".to_owned(), has_script_user: false, addresses }
}

fn keepalived(text: &str) -> Translation {
    import_keepalived(Path::new("keepalived.conf"), text, &facts())
        .unwrap_or_else(|errors| panic!("{errors}"))
}

/// An instance with `more` in it.
fn instance(more: &str) -> String {
    format!(
        "vrrp_instance VI_1 {{\n interface eth0\n virtual_router_id 33\n virtual_ipaddress {{ 192.0.2.4/24 }}\n{more}\n}}\n"
    )
}

fn snapshot(name: &str, shown: &str) {
    insta::with_settings!({ omit_expression => true }, { insta::assert_snapshot!(name, shown) });
}

fn shown(translation: &Translation) -> String {
    let Translation { toml, report, parsed } = translation;
    format!("{toml}\n=== report\n{report}\n\n=== warnings\n{}\n", parsed.warnings)
}

fn outcome(translation: &Translation, line: usize) -> Outcome {
    let mut of_line = translation.report.directives.iter().filter(|entry| entry.line == line);
    of_line.next().unwrap_or_else(|| panic!("nothing about line {line}")).outcome
}

#[test]
fn what_people_use_is_translated() {
    snapshot("full", &shown(&keepalived(&sample("full.conf"))));
}

#[test]
fn virtual_servers_are_translated_as_far_as_the_data_plane_goes() {
    snapshot("lvs", &shown(&keepalived(&sample("lvs.conf"))));
}

#[test]
fn table_of_ipvs_is_translated() {
    let translation = import_ipvsadm("rules.ipvs", &sample("rules.ipvs"), "eth0");
    snapshot("ipvsadm", &shown(&translation.unwrap_or_else(|errors| panic!("{errors}"))));
}

/// Every line that says something is in the report: blank lines, comments and closing braces are all that is not.
#[test]
fn nothing_is_silently_dropped() {
    for name in ["full.conf", "lvs.conf"] {
        let text = sample(name);
        let translation = keepalived(&text);
        let reported: BTreeSet<usize> =
            translation.report.directives.iter().map(|entry| entry.line).collect();
        let mut continued = false;
        for (number, line) in (1..).zip(text.lines().map(str::trim)) {
            let says_something = !line.is_empty() && !line.starts_with(['}', '{', '!', '#']) && !continued;
            continued = line.ends_with('\\');
            assert!(!says_something || reported.contains(&number), "{name}:{number}: {line}");
        }
    }
}

/// The rows of public use over 5 % in VRRP and process configuration.
#[test]
fn words_that_many_use_are_kept() {
    let translation = keepalived(&sample("full.conf"));
    let is_kept = |word: &str| {
        let of_word = |directive: &str| directive.split_whitespace().next() == Some(word);
        let mut entries =
            translation.report.directives.iter().filter(|entry| of_word(&entry.directive)).peekable();
        assert!(entries.peek().is_some(), "{word} is not in the sample");
        entries.any(|entry| entry.outcome.is_kept())
    };
    for word in [
        "interface",
        "virtual_router_id",
        "priority",
        "state",
        "virtual_ipaddress",
        "advert_int",
        "authentication",
        "auth_type",
        "auth_pass",
        "version",
        "vrrp_version",
        "unicast_peer",
        "unicast_src_ip",
        "mcast_src_ip",
        "nopreempt",
        "preempt_delay",
        "virtual_ipaddress_excluded",
        "virtual_routes",
        "virtual_rules",
        "static_rules",
        "use_vmac",
        "vmac_xmit_base",
        "accept",
        "no_accept",
        "garp_master_refresh",
        "vrrp_garp_master_refresh",
        "vrrp_script",
        "script",
        "interval",
        "timeout",
        "weight",
        "rise",
        "fall",
        "user",
        "init_fail",
        "track_script",
        "track_interface",
        "vrrp_track_process",
        "vrrp_track_file",
        "vrrp_sync_group",
        "notify",
        "notify_master",
        "notify_backup",
        "notify_fault",
        "notify_stop",
        "notification_email",
        "notification_email_from",
        "smtp_server",
        "smtp_connect_timeout",
        "script_user",
        "enable_script_security",
        "router_id",
        "static_ipaddress",
        "static_routes",
    ] {
        assert!(is_kept(word), "{word}");
    }
}

/// Those of virtual servers. Persistence and firewall marks are the exceptions: both would need state for every client, or
/// the packet filter.
#[test]
fn words_of_virtual_servers_that_many_use_are_kept() {
    let translation = keepalived(&sample("lvs.conf"));
    let mut of_word: BTreeMap<&str, Vec<Outcome>> = BTreeMap::new();
    for entry in &translation.report.directives {
        let word = entry.directive.split_whitespace().next().unwrap_or_default();
        of_word.entry(word).or_default().push(entry.outcome);
    }
    for word in [
        "virtual_server",
        "virtual_server_group",
        "delay_loop",
        "lb_algo",
        "lvs_sched",
        "lb_kind",
        "lvs_method",
        "protocol",
        "virtualhost",
        "sorry_server",
        "sorry_server_inhibit",
        "quorum",
        "hysteresis",
        "quorum_up",
        "quorum_down",
        "ha_suspend",
        "alpha",
        "omega",
        "real_server",
        "weight",
        "inhibit_on_failure",
        "notify_up",
        "notify_down",
        "TCP_CHECK",
        "connect_timeout",
        "connect_port",
        "HTTP_GET",
        "SSL_GET",
        "url",
        "path",
        "digest",
        "status_code",
        "enable_sni",
        "retry",
        "delay_before_retry",
        "MISC_CHECK",
        "misc_path",
        "misc_timeout",
        "misc_dynamic",
        "user",
    ] {
        let outcomes = of_word.get(word).unwrap_or_else(|| panic!("{word} is not in the sample"));
        assert!(outcomes.iter().any(|outcome| outcome.is_kept()), "{word}: {outcomes:?}");
    }
    for word in ["persistence_timeout", "fwmark"] {
        assert_eq!(of_word[word], [Outcome::Unsupported], "{word}");
    }
}

#[test]
fn header_authentication_becomes_a_signature() {
    // Outside of quotes the exclamation mark would begin a comment.
    let text =
        |kind: &str| instance(&format!(" authentication {{ auth_type {kind}\n auth_pass \"k@l!ve1\" }}"));
    let translation = keepalived(&text("AH"));
    assert!(translation.report.is_complete(), "{}", translation.report);
    assert_eq!(translation.parsed.warnings.iter().count(), 1, "{}", translation.parsed.warnings);
    let router = &translation.parsed.config.virtual_routers[0];
    assert_eq!(router.password, None);
    let key = &router.authentication.as_ref().expect("a signature").keys[0];
    // printf 'k@l!ve1' | sha256sum
    let digest = "9f1d5fb47e1647f57b6492d56a2298c8776a0d7e2fa26b3b3cf5bb0ab63d3cac";
    assert_eq!(key.secret, Secret::parse(&format!("hex:{digest}")).expect("a secret"));
    assert!(keepalived(&text("PASS")).parsed.config.virtual_routers[0].authentication.is_none());
}

fn tutorial(name: &str) -> PathBuf {
    repository("configs/keepalived").join(name)
}

#[test]
fn tutorials_files_are_the_pair_without_a_warning() {
    for (file, own) in
        [("keepalived-master.conf", "tutorial-a.toml"), ("keepalived-slave.conf", "tutorial-b.toml")]
    {
        let text = fs::read_to_string(tutorial(file)).expect("the tutorial's file");
        let translation = keepalived(&text);
        assert!(translation.report.is_complete(), "{}", translation.report);
        assert!(translation.parsed.warnings.is_empty(), "{}", translation.parsed.warnings);
        let wanted =
            config::load(&repository("configs").join(own)).unwrap_or_else(|errors| panic!("{errors}")).config;
        let mut got = translation.parsed.config;
        assert_eq!(got.virtual_routers, wanted.virtual_routers);
        assert_eq!(got.track_scripts[0].user.take().as_deref(), Some("root"), "keepalived's default");
        assert_eq!(got.track_scripts, wanted.track_scripts);
        assert!(got.services.is_empty());
    }
}

/// keepalived's file as it is, and the services it does not have.
#[test]
fn tutorials_files_and_services_are_one_configuration() {
    let files = [tutorial("keepalived-master.conf"), tutorial("services.toml")];
    let parsed = config::load_all(&files).unwrap_or_else(|errors| panic!("{errors}"));
    assert!(parsed.warnings.is_empty(), "{}", parsed.warnings);
    let own = config::load(&repository("configs/tutorial-a.toml"))
        .unwrap_or_else(|errors| panic!("{errors}"))
        .config;
    assert_eq!(parsed.config.services, own.services);
    assert_eq!(parsed.config.virtual_routers, own.virtual_routers);
}

#[test]
fn translation_is_what_its_toml_says() {
    for text in [sample("full.conf"), sample("lvs.conf"), instance("")] {
        let Translation { toml, parsed, .. } = keepalived(&text);
        let again =
            Config::parse("translated.toml", &toml).unwrap_or_else(|errors| panic!("{errors}\n{toml}"));
        assert_eq!(again, parsed.config);
    }
}

#[test]
fn definitions_stand_for_their_values() {
    let text = "$ID=33\n$IF = eth0\n$NET=192.0.2\n\
        $INSTANCE= \\\nvrrp_instance VI_$ID { \\\n  interface $IF \\\n  virtual_router_id ${ID} \\\n  \
        virtual_ipaddress { ${NET}.${ID}/24 } \\\n}\n$INSTANCE\n$ID=34\n$INSTANCE\n";
    let routers = keepalived(text).parsed.config.virtual_routers;
    let got: Vec<_> = routers
        .iter()
        .map(|router| (router.name.as_str(), router.router_id, router.vips[0].to_string()))
        .collect();
    assert_eq!(
        got,
        [("VI_33", 33, "192.0.2.33/24".to_owned()), ("VI_34", 34, "192.0.2.34/24".to_owned())],
        "expanded where they are used"
    );
}

#[test]
fn lines_for_other_nodes_are_left_out() {
    let text =
        instance(" @node-a priority 200\n @node-b priority 100\n @^node-a nopreempt\n @^node-b advert_int 2");
    let translation = keepalived(&text);
    let router = &translation.parsed.config.virtual_routers[0];
    assert_eq!((router.priority, router.preempt, router.advert_interval.as_secs()), (200, true, 2));
    assert!(translation.report.is_complete());
}

#[test]
fn quotes_comments_and_backslashes_are_keepalived_s() {
    let text = instance(
        " authentication { auth_pass \"a#b !c\" } ! the rest\n priority \\\n 120 # of 255\n track_script { \"chk one\" }",
    ) + "vrrp_script \"chk one\" { script \"/bin/check 'one word' \\\"two\\\"\" }\n";
    let Parsed { config, .. } = keepalived(&text).parsed;
    assert_eq!(config.virtual_routers[0].password.map(|password| password.0), Some(*b"a#b !c\0\0"));
    assert_eq!(config.virtual_routers[0].priority, 120);
    assert_eq!(config.track_scripts[0].command, ["/bin/check", "one word", "two"]);
}

#[test]
fn included_files_are_read_where_they_stand() {
    let folder = tempfile::tempdir().expect("a folder");
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).expect("a file");
    fs::create_dir(folder.path().join("conf.d")).expect("a folder");
    write("keepalived.conf", "include conf.d/*.conf\ninclude conf.d/*.none\n");
    write("conf.d/b.conf", &instance(" include ../priority"));
    write("conf.d/a.conf", "vrrp_script chk { script /bin/true\n user nobody }\n");
    write("priority", "priority 7\ntrack_script { chk }\n");
    let path = folder.path().join("keepalived.conf");
    let parsed = config::load(&path).unwrap_or_else(|errors| panic!("{errors}"));
    assert!(parsed.warnings.is_empty(), "{}", parsed.warnings);
    assert_eq!(parsed.config.virtual_routers[0].priority, 7);

    write("priority", "priority 7\nvirtual_router_id 300\n");
    let errors = config::load(&path).expect_err("no such router id");
    let error = errors.iter().next().expect("an error");
    assert!(error.file.ends_with("priority") && error.line == Some(2) && error.column == Some(19), "{error}");
}

#[test]
fn keepalived_ignores_nopreempt_of_a_master() {
    let translation = keepalived(&instance(" state MASTER\n nopreempt"));
    assert!(translation.parsed.config.virtual_routers[0].preempt);
    assert_eq!(outcome(&translation, 6), Outcome::Unsupported);
    let translation = keepalived(&instance(" state BACKUP\n nopreempt"));
    assert!(!translation.parsed.config.virtual_routers[0].preempt);
}

#[test]
fn source_of_unicast_may_be_the_interfaces_address() {
    let translation = keepalived(&instance(" unicast_peer { 192.0.2.3 }"));
    let router = &translation.parsed.config.virtual_routers[0];
    assert_eq!(router.source().to_string(), "192.0.2.2");
    let errors =
        import_keepalived(Path::new("k"), &instance(" unicast_peer { 192.0.2.3 }"), &Facts::default());
    assert!(errors.is_err_and(|errors| errors.to_string().contains("unicast_src_ip")));
}

#[test]
fn group_of_one_is_its_member() {
    let text = instance("")
        + "vrrp_script c { script /bin/true\n user nobody }\n\
        vrrp_sync_group G { group { VI_1 VI_9 }\n track_script { c }\n notify_master /bin/master }\n";
    let config = keepalived(&text).parsed.config;
    assert!(config.sync_groups.is_empty());
    assert_eq!(config.virtual_routers[0].tracking.len(), 1);
    assert_eq!(config.virtual_routers[0].notify.owner, ["/bin/master"]);
}

#[test]
fn scripts_run_as_keepalived_s_would() {
    let script = "vrrp_script c { script /bin/true }\n".to_owned() + &instance(" track_script { c }");
    let user = |text: &str, facts: &Facts| {
        let translation =
            import_keepalived(Path::new("k"), text, facts).unwrap_or_else(|errors| panic!("{errors}"));
        translation.parsed.config.track_scripts[0].user.clone()
    };
    assert_eq!(user(&script, &facts()).as_deref(), Some("root"));
    let has_script_user = Facts { has_script_user: true, ..facts() };
    assert_eq!(user(&script, &has_script_user).as_deref(), Some("keepalived_script"));
    let given = "global_defs { script_user nobody }\n".to_owned() + &script;
    assert_eq!(user(&given, &has_script_user).as_deref(), Some("nobody"));
}

#[test]
fn bfd_follows_keepalived_s_times() {
    let text = "bfd_instance peer { neighbor_ip 192.0.2.3\n min_rx 20\n min_tx 30\n multiplier 4 }\n"
        .to_owned()
        + &instance(" unicast_src_ip 192.0.2.2\n unicast_peer { 192.0.2.3 }\n track_bfd { peer }");
    let bfd = keepalived(&text).parsed.config.virtual_routers[0].bfd.expect("BFD");
    assert_eq!((bfd.interval.as_millis(), bfd.multiplier), (30, 4));
}

/// As editors of Windows, and old ones, write files.
#[test]
fn marks_and_line_ends_of_other_systems_mean_nothing() {
    let text = fs::read_to_string(tutorial("keepalived-master.conf")).expect("the tutorial's file");
    let expected = keepalived(&text);
    for text in [
        format!("\u{feff}{text}"),
        text.replace('\n', "\r\n"),
        format!("\u{feff}{}", text.replace('\n', "\r\n")),
    ] {
        let translation = keepalived(&text);
        assert_eq!(translation.toml, expected.toml);
        assert_eq!(translation.report, expected.report);
    }
    let rules = sample("rules.ipvs");
    let import =
        |text: &str| import_ipvsadm("rules.ipvs", text, "eth0").unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(import(&format!("\u{feff}{}", rules.replace('\n', "\r\n"))).toml, import(&rules).toml);
}

/// The rule of docs/import.md.
#[test]
fn keepalived_s_files_are_known_by_their_first_line() {
    let is_keepalived = |name: &str, text: &str| lb::import::is_keepalived(Path::new(name), text);
    for text in [
        "! c\n\nglobal_defs {\n}",
        "\u{feff}global_defs {\n}",
        "vrrp_instance VI_1{",
        "include /etc/x",
        "$X=1",
        "@a vrrp_instance x {",
    ] {
        assert!(is_keepalived("keepalived.conf", text) && is_keepalived("ha", text), "{text}");
        assert!(!is_keepalived("lb.toml", text), "{text}");
    }
    for text in ["[daemon]", "# c\n[[virtual_router]]", "service = []", "", "# c"] {
        assert!(!is_keepalived("keepalived.conf", text) && !is_keepalived("ha", text), "{text}");
    }
    assert!(is_keepalived("keepalived.conf", "vrrp_instnace VI_1 {"), "a typing error");
    assert!(!is_keepalived("ha", "vrrp_instnace VI_1 {"));
}
