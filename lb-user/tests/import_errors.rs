//! Bad input to `lb import`: what is said about it, where, and that it takes bounded time.

use std::{
    fmt::Write as _,
    fs,
    path::Path,
    time::{Duration, Instant},
};

use assert_cmd::Command;
use lb::{
    config::{self, Config, ConfigErrors, MAX_FILE_BYTES},
    import::{Facts, Outcome, import_ipvsadm, import_keepalived},
};
use proptest::prelude::*;

fn facts() -> Facts {
    Facts { id: "node-a".to_owned(), ..Facts::default() }
}

fn instance(more: &str) -> String {
    format!(
        "vrrp_instance VI_1 {{\n interface eth0\n virtual_router_id 33\n virtual_ipaddress {{ 192.0.2.4/24 }}\n{more}\n}}\n"
    )
}

fn refused(text: &str) -> ConfigErrors {
    match import_keepalived(Path::new("keepalived.conf"), text, &facts()) {
        Ok(translation) => panic!("accepted:\n{text}\n{}", translation.toml),
        Err(errors) => errors,
    }
}

fn refused_ipvsadm(text: &str) -> ConfigErrors {
    match import_ipvsadm("rules.ipvs", text, "eth0") {
        Ok(translation) => panic!("accepted:\n{text}\n{}", translation.toml),
        Err(errors) => errors,
    }
}

fn snapshot(name: &str, cases: Vec<(&str, ConfigErrors)>) {
    let mut all = String::new();
    for (what, errors) in cases {
        writeln!(all, "=== {what}\n{errors}\n").expect("a string");
    }
    insta::with_settings!({ omit_expression => true }, { insta::assert_snapshot!(name, all) });
}

#[test]
fn errors_of_keepalived_s_files() {
    let cases = [
        (
            "a block that is never closed",
            "vrrp_instance VI_1 {\n interface eth0\n virtual_ipaddress {\n  192.0.2.4/24\n }\n".to_owned(),
        ),
        ("a brace too many", instance("") + "}\n"),
        ("a block without a name", "{\n a\n}\n".to_owned()),
        ("a quote that is never closed", instance(" notify_master \"/bin/true")),
        ("a router id out of range", instance(" virtual_router_id 300")),
        ("a router id in words", instance(" virtual_router_id three")),
        ("a priority out of range", instance(" priority 256")),
        ("a word without its value", instance(" priority")),
        (
            "no interface, no router id",
            "vrrp_instance VI_1 {\n virtual_ipaddress { 192.0.2.4/24 }\n}\n".to_owned(),
        ),
        ("no VIP", "vrrp_instance VI_1 {\n interface eth0\n virtual_router_id 33\n}\n".to_owned()),
        ("no address", instance(" virtual_ipaddress_excluded { 192.0.2.400/24 }")),
        ("a network for a VIP", instance(" virtual_ipaddress_excluded { 192.0.2.0/24 }")),
        ("a VIP twice", instance(" virtual_ipaddress_excluded { 192.0.2.4 }")),
        ("an interval that VRRPv2 does not have", instance(" advert_int 0.5")),
        ("two instances of one name", instance("") + &instance("")),
        ("a file that is not there", instance(" include /nonexistent/lb/x.conf")),
        ("an include of nothing", "include\n".to_owned()),
        ("a definition that does not exist", instance(" priority ${PRIO}")),
        ("a definition of itself", "$A=$A $A\n$A\n".to_owned()),
        (
            "a script without a command",
            "vrrp_script c { script \"\" }\n".to_owned() + &instance(" track_script { c }"),
        ),
        ("nothing to do", "global_defs {\n router_id x\n}\n".to_owned()),
        ("a virtual server without real servers", instance("") + "virtual_server 192.0.2.4 80 {\n}\n"),
        (
            "a virtual server's port",
            instance("") + "virtual_server 192.0.2.4 http { real_server 192.0.2.9 80 { } }\n",
        ),
        ("blocks without end", "a {\n".repeat(20)),
    ];
    snapshot(
        "errors_of_keepalived_s_files",
        cases.iter().map(|(what, text)| (*what, refused(text))).collect(),
    );
}

#[test]
fn what_is_accepted_with_a_warning() {
    let warned = |text: &str| {
        let translation = import_keepalived(Path::new("keepalived.conf"), text, &facts());
        translation.unwrap_or_else(|errors| panic!("{errors}")).parsed.warnings
    };
    let cases = [
        ("a word that nobody knows", instance(" prioritty 100")),
        ("a block that nobody knows", instance("") + "vrrp_instnace VI_2 {\n priority 1\n}\n"),
        ("a long password", instance(" authentication { auth_type PASS\n auth_pass letmeinplease }")),
        (
            "lines that repeat",
            instance("") + "~SEQ(X, 1, 4) virtual_server 192.0.2.$X 80 {\n real_server 192.0.2.9 80\n}\n",
        ),
        (
            "a timeout longer than the interval",
            "vrrp_script c { script /bin/true\n interval 2\n timeout 5 }\n".to_owned()
                + &instance(" track_script { c }"),
        ),
        ("a script that nobody tracks", "vrrp_script c { script /bin/true }\n".to_owned() + &instance("")),
        (
            "group members of different rank",
            instance("")
                + "vrrp_instance VI_2 {\n interface eth0\n virtual_router_id 34\n priority 99\n virtual_ipaddress { 192.0.2.5/24 }\n}\nvrrp_sync_group G { group { VI_1\n VI_2 } }\n",
        ),
    ];
    snapshot(
        "what_is_accepted_with_a_warning",
        cases.iter().map(|(what, text)| (*what, warned(text))).collect(),
    );
}

#[test]
fn errors_of_ipvsadm_s_output() {
    let whole = "-A -t 192.0.2.100:80 -s wrr\n-a -t 192.0.2.100:80 -r 192.0.2.11:80 -g -w 2\n";
    let cases = [
        ("cut in half", whole[..whole.len() - 17].to_owned()),
        ("cut where the rest makes sense", whole[..whole.len() - 9].to_owned()),
        ("cut in the first line", whole[..10].to_owned()),
        ("without its beginning", whole[28..].to_owned()),
        ("names instead of numbers", whole.replace("192.0.2.100:80", "www.example.org:http")),
        ("what ipvsadm -Ln prints", "IP Virtual Server version 1.2.1 (size=4096)\n".to_owned()),
        ("nothing but firewall marks", "-A -f 7 -s wlc\n-a -f 7 -r 192.0.2.11:0 -g -w 1\n".to_owned()),
        ("empty", String::new()),
    ];
    let cases = cases.iter().map(|(what, text)| (*what, refused_ipvsadm(text))).collect();
    snapshot("errors_of_ipvsadm_s_output", cases);
}

#[test]
fn files_that_include_each_other_are_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).expect("a file");
    write("a.conf", "include b.conf\n");
    write("b.conf", "\n  include a.conf\n");
    let path = folder.path().join("a.conf");
    let errors = config::load(&path).expect_err("a loop");
    let error = errors.iter().next().expect("an error");
    assert!(error.message.ends_with("a.conf includes itself") && error.file.ends_with("b.conf"), "{error}");
    assert_eq!((error.line, error.column), (Some(2), Some(11)));
    // Nor is a device read without end.
    write("a.conf", "include /dev/zero\n");
    let errors = config::load(&path).expect_err("a device");
    assert!(errors.to_string().contains("/dev/zero is no file"), "{errors}");
}

#[test]
fn secrets_are_not_shown() {
    let errors = refused(&instance(" authentication { auth_type PASS\n auth_pass sesame }\n priority 256"));
    let rendered = format!("{errors} {:?}", miette::Report::new(errors.clone().into_report()));
    assert!(rendered.contains("priority 256") && !rendered.contains("sesame"), "{rendered}");
    let translation =
        import_keepalived(Path::new("k"), &instance(" authentication { auth_pass sesame }"), &facts());
    let report = translation.unwrap_or_else(|errors| panic!("{errors}")).report.to_string();
    assert!(report.contains("auth_pass …") && !report.contains("sesame"), "{report}");
}

#[test]
fn files_merge_and_errors_name_the_right_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name);
    let write = |name: &str, text: &str| fs::write(path(name), text).expect("a file");
    write("keepalived.conf", &instance(""));
    let service = "[[service]]\nname = \"web\"\nvip = \"192.0.2.4\"\nport = 80\nprotocol = \"tcp\"\n\
        [[service.backend]]\naddress = \"192.0.2.9\"\nmode = \"dr\"\n";
    write("a.toml", &format!("[daemon]\nrealtime = true\n{service}"));
    write("b.toml", &format!("\u{feff}[daemon]\nrealtime = false\npacket_log = \"warn\"\n\n{service}"));
    write("c.toml", "[daemon]\npacket_log = \"warn\"\nx = 1\n");
    write("syntax.toml", "[daemon]\nrealtime = \n");
    let files = |names: &[&str]| config::load_all(&names.iter().map(|name| path(name)).collect::<Vec<_>>());

    let parsed = files(&["keepalived.conf", "a.toml"]).unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!((parsed.config.virtual_routers.len(), parsed.config.services.len()), (1, 1));
    let shown = |names: &[&str]| {
        let text = files(names).expect_err("errors").to_string();
        text.replace(&format!("{}/", folder.path().display()), "")
    };
    assert_eq!(
        shown(&["a.toml", "keepalived.conf", "b.toml"]),
        "b.toml:2:1: `realtime` is there twice; the first at a.toml:2:1 (files given together are one configuration; \
         keep one of them)\n\
         b.toml:6:8: two services are named \"web\": expected another name; the first at a.toml:4:8\n\
         b.toml:7:7: two services at 192.0.2.4:80/tcp; the first at a.toml:5:7 (join their backends in one service, or \
         change the port of one)"
    );
    assert!(shown(&["keepalived.conf", "a.toml", "c.toml"]).starts_with("c.toml:3:1: unknown key `x`"));
    assert!(shown(&["a.toml", "syntax.toml"]).starts_with("syntax.toml:2:12: there is no value"));
    let two = files(&["a.toml", "missing.toml", "gone.toml"]).expect_err("no such files").to_string();
    assert!(
        two.contains("missing.toml: cannot be read") && two.contains("gone.toml: cannot be read"),
        "{two}"
    );
}

/// Each is as long as a file may be.
#[test]
fn files_of_ten_megabytes_take_bounded_time() {
    let fill = |start: &str, line: &str, end: &str| {
        let count = (MAX_FILE_BYTES as usize - start.len() - end.len()) / line.len();
        start.to_owned() + &line.repeat(count) + end
    };
    let open = "vrrp_instance VI_1 {\n interface eth0\n virtual_router_id 33\n virtual_ipaddress {\n";
    for (what, text) in [
        ("comments", fill(&instance(""), "# nothing at all, but a lot of it\n", "")),
        ("words", fill("", "prioritty 100\n", "")),
        ("VIPs", fill(open, "10.0.0.1/24\n", "}\n}\n")),
        ("VIPs and an error at the end", fill(open, "          10.0.0.1/24\n", "}\npriority x\n}\n")),
        ("words in an instance", fill("vrrp_instance V {\n", "prioritty and a lot more 100\n", "}\n")),
        ("blocks", fill("", "{\n", "")),
        ("instances", fill("", "vrrp_instance V{}\n", "")),
        ("passwords", fill("vrrp_instance V {\n", "auth_pass secret\n", "}\n")),
        ("one line", fill("", "word ", "\n")),
        ("one line with continuations", fill("", "word \\\n", "\n")),
        ("quotes", fill("", "\"", "\n")),
        ("definitions", fill("$A=aaaaaaaaaaaaaaaa\n$B=$A$A$A$A$A$A$A$A\n", "$B$B$B$B\n", "")),
    ] {
        let began = Instant::now();
        let result = import_keepalived(Path::new("keepalived.conf"), &text, &facts());
        let took = began.elapsed();
        // A debug build on a busy machine; what is quadratic takes hours.
        assert!(took < Duration::from_mins(1), "{what}: {took:?}");
        assert_eq!(result.is_ok(), what == "comments", "{what}");
    }
    let rules = fill("", "-A -t 192.0.2.1:80 -s mh\n-a -t 192.0.2.1:80 -r 192.0.2.9:80 -g\n", "");
    assert!(import_ipvsadm("rules", &rules, "eth0").is_err());
}

/// Words that mean something, put together anyhow.
fn anything() -> impl Strategy<Value = String> {
    let word = prop::sample::select(vec![
        "vrrp_instance",
        "VI_1",
        "VI_2",
        "{",
        "}",
        "\n",
        "\n",
        "\n",
        "interface",
        "eth0",
        "virtual_router_id",
        "33",
        "priority",
        "300",
        "virtual_ipaddress",
        "192.0.2.4/24",
        "192.0.2.5 dev eth1 label eth1:x",
        "2001:db8::4/64",
        "authentication",
        "auth_pass",
        "\"",
        "'",
        "\\",
        "$A=1",
        "$A",
        "${A}",
        "${",
        "!",
        "#",
        "@node-a",
        "@^x",
        "~SEQ(",
        "vrrp_script",
        "chk",
        "script",
        "/bin/true",
        "weight",
        "-5",
        "track_script",
        "track_interface",
        "vrrp_sync_group",
        "group",
        "notify_master",
        "virtual_server",
        "192.0.2.4 80",
        "real_server",
        "192.0.2.9 80",
        "TCP_CHECK",
        "HTTP_GET",
        "url",
        "status_code",
        "200",
        "lb_kind",
        "DR",
        "NAT",
        "fwmark",
        "virtual_server_group",
        "unicast_peer",
        "192.0.2.3",
        "unicast_src_ip",
        "192.0.2.2",
        "virtual_routes",
        "default via 192.0.2.1",
        "nopreempt",
        "state",
        "MASTER",
        "global_defs",
        "vrrp_version",
        "3",
        "advert_int",
        "0.5",
        "static_ipaddress",
        "ä€𝄞",
        "include",
        "/nonexistent/x",
    ]);
    prop::collection::vec(word, 0..80).prop_map(|words| words.join(" "))
}

/// A configuration that holds, with some of its lines gone, doubled or cut.
fn mutilated(text: &'static str) -> impl Strategy<Value = String> {
    let lines: Vec<&str> = text.lines().collect();
    let count = lines.len();
    let change = (0..count, 0..4_u8, 0..40_usize);
    prop::collection::vec(change, 0..6).prop_map(move |changes| {
        let mut lines: Vec<String> = lines.iter().map(|line| (*line).to_owned()).collect();
        for (place, kind, column) in changes {
            let line = &mut lines[place];
            match kind {
                0 => line.clear(),
                1 => *line = format!("{line}\n{line}"),
                2 => line.truncate(line.floor_char_boundary(column)),
                _ => line.insert(line.floor_char_boundary(column.min(line.len())), '"'),
            }
        }
        lines.join("\n")
    })
}

/// Refused with places in the text, or translated to what our own reader takes for the same.
fn holds(text: &str) -> Result<(), TestCaseError> {
    match import_keepalived(Path::new("keepalived.conf"), text, &facts()) {
        Ok(translation) => {
            let again = Config::parse("translated.toml", &translation.toml);
            prop_assert_eq!(again.map_err(|errors| errors.to_string()), Ok(translation.parsed.config));
            let lost =
                translation.report.count(Outcome::Unsupported) + translation.report.count(Outcome::Unknown);
            prop_assert_eq!(lost == 0, translation.report.is_complete());
        }
        Err(errors) => {
            prop_assert!(!errors.is_empty());
            for error in &errors {
                let lines = text.lines().count() + 1;
                prop_assert!(error.line.is_some_and(|line| (1..=lines).contains(&line)), "{}", error);
            }
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn any_text_is_translated_or_refused(text in anything()) {
        holds(&text)?;
    }

    #[test]
    fn any_characters_are_translated_or_refused(text in "(?s).{0,200}") {
        holds(&text)?;
        if let Ok(translation) = import_ipvsadm("rules", &text, "eth0") {
            prop_assert!(Config::parse("translated.toml", &translation.toml).is_ok());
        }
    }

    #[test]
    fn damaged_files_are_translated_or_refused(
        text in prop_oneof![
            mutilated(include_str!("imported/full.conf")),
            mutilated(include_str!("imported/lvs.conf")),
            mutilated(include_str!("../../configs/keepalived/keepalived-master.conf")),
        ]
    ) {
        holds(&text)?;
    }

    #[test]
    fn damaged_tables_are_translated_or_refused(text in mutilated(include_str!("imported/rules.ipvs"))) {
        if let Ok(translation) = import_ipvsadm("rules", &text, "eth0") {
            let again = Config::parse("translated.toml", &translation.toml);
            prop_assert_eq!(again.map_err(|errors| errors.to_string()), Ok(translation.parsed.config));
        }
    }
}

fn lb() -> Command {
    Command::new(env!("CARGO_BIN_EXE_lb"))
}

fn text_of(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn command_prints_toml_and_a_report_and_exits_as_documented() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name);
    let file = |name: &str, text: &str| {
        fs::write(path(name), text).expect("a file");
        path(name)
    };
    let good = file("keepalived.conf", &instance(""));
    let partly = file("partly.conf", &instance(" use_ipvlan"));
    let bad = file("bad.conf", &instance(" priority 999"));

    let output = lb().args(["import", "keepalived"]).arg(&good).output().expect("lb");
    assert_eq!(output.status.code(), Some(0));
    assert!(Config::parse("stdout", &text_of(&output.stdout)).is_ok());
    assert!(text_of(&output.stderr).ends_with("0 not supported, 0 unknown\n"), "{}", text_of(&output.stderr));

    let output = lb().args(["import", "keepalived", "--strict"]).arg(&partly).output().expect("lb");
    assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0));
    assert!(
        text_of(&output.stderr).contains(":5:2: NOT SUPPORTED use_ipvlan"),
        "{}",
        text_of(&output.stderr)
    );

    let output = lb().args(["import", "keepalived", "--report", "json"]).arg(&bad).output().expect("lb");
    assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0));
    let findings: serde_json::Value = serde_json::from_slice(&output.stderr).expect("JSON");
    let place = (&findings["errors"][0]["line"], &findings["errors"][0]["column"]);
    assert_eq!((&findings["translated"], place), (&false.into(), (&5.into(), &11.into())), "{findings}");

    let output = lb().args(["import", "keepalived", "--report", "json"]).arg(&partly).output().expect("lb");
    let findings: serde_json::Value = serde_json::from_slice(&output.stderr).expect("JSON");
    assert_eq!(
        (&findings["translated"], &findings["summary"]["unsupported"]),
        (&true.into(), &1.into()),
        "{findings}"
    );

    let toml = path("lb.toml");
    let write =
        || lb().args(["import", "keepalived", "--output"]).arg(&toml).arg(&good).output().expect("lb");
    assert_eq!(write().status.code(), Some(0));
    assert!(config::load(&toml).is_ok());
    assert_eq!(write().status.code(), Some(1), "what is there may have been edited");

    let rules = include_str!("imported/rules.ipvs");
    let output =
        lb().args(["import", "ipvsadm", "-", "--interface", "eth7"]).write_stdin(rules).output().expect("lb");
    assert_eq!(output.status.code(), Some(0));
    assert!(text_of(&output.stdout).contains("[interface.eth7]"));

    let check = |files: &[&Path]| lb().args(["check", "--no-host"]).args(files).output().expect("lb");
    assert_eq!(check(&[&good]).status.code(), Some(0));
    assert_eq!(check(&[&bad]).status.code(), Some(2));
    let output = check(&[&partly]);
    assert!(output.status.success() && text_of(&output.stderr).contains("use_ipvlan"), "a warning");
}
