//! Tier 3: a backend that stands in for another, checked by a command, and who is told.

mod common;

use std::{fs, os::unix::fs::PermissionsExt as _, path::PathBuf, time::Duration};

use common::{Pair, lb_with, shipped, start};
use xtask::lab::{LabSpec, Node};

/// Of node-a's nginx a command says whether it is well: as long as a file is there. node-b's stands in for it.
const SERVICE: &str = r#"
[[service]]
name = "web"
vip = "172.20.128.4"
port = 80
protocol = "tcp"

[service.notify]
up = ["sh", "-c", "echo web up >> /run/told/health"]
down = ["sh", "-c", "echo web down >> /run/told/health"]

[[service.backend]]
address = "172.20.128.2"
mode = "dr"
check = { command = ["sh", "-c", "[ -e /run/told/well ] && [ $0 = 172.20.128.2 ]", "{address}"], interval = "50ms", timeout = "2s", rise = 1, fall = 1 }

[service.backend.notify]
up = ["sh", "-c", "echo node-a up >> /run/told/backend"]
down = ["sh", "-c", "echo node-a down >> /run/told/backend"]

[[service.backend]]
address = "172.20.128.3"
mode = "dr"
backup = true
"#;

/// The verifier takes seconds for the program.
const STARTED: Duration = Duration::from_mins(1);

/// Where files are that the commands, which run as nobody, read and write.
fn folder(node: &Node) -> PathBuf {
    let folder = node.path("/run/told");
    fs::create_dir_all(&folder).expect("the node's /run is there");
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o777)).expect("it is ours");
    folder
}

#[test]
#[ignore = "needs root and network namespaces: cargo xtask test"]
fn a_backup_stands_in_while_a_command_says_that_the_backend_is_ill() {
    let config = |file| {
        let text = shipped(file);
        let services = text.find("[[service]]").expect("it has a service");
        lb_with(text[..services].to_owned() + SERVICE)
    };
    let spec = LabSpec::pair(&common::named("backup"), config("tutorial-a.toml"), config("tutorial-b.toml"));
    let pair = Pair::of(start(&spec));
    let well = [&pair.a, &pair.b].map(|node| folder(node).join("well"));
    pair.wait_for("node-a owns the VIP", STARTED, || pair.a.status().is_ok_and(|status| status.is_owner()));
    let told = |file: &str| fs::read_to_string(folder(&pair.a).join(file)).unwrap_or_default();
    let serves = |node: &str| {
        pair.wait(&format!("{node} alone serves"), || {
            (0..10).all(|_| pair.try_get().is_some_and(|answered| answered == node))
        });
    };

    serves("node-b");
    pair.wait("it is told", || told("health") == "web down\n" && told("backend") == "node-a down\n");
    for file in &well {
        fs::write(file, "").expect("written");
    }
    serves("node-a");
    pair.wait("it is told", || told("health") == "web down\nweb up\n");
    for file in &well {
        fs::remove_file(file).expect("it was there");
    }
    serves("node-b");
    pair.wait("it is told", || told("health") == "web down\nweb up\nweb down\n");
    assert_eq!(told("backend"), "node-a down\nnode-a up\nnode-a down\n");
    let status = pair.a.status().expect("lb answers");
    let states: Vec<String> = status.backends().into_iter().map(|backend| backend.state).collect();
    assert_eq!(states, ["down", "up"]);
    assert_eq!(pair.holders(), ["node-a"], "a backend's fault does not move the VIP");
}
