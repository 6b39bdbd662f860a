//! Health checks of real servers.

use std::{net::IpAddr, ops::Range, time::Duration};

use super::{
    Translator, duration, quoted,
    tree::{Node, Word},
    words,
};
use crate::{
    config::Problem,
    import::{
        document::{Table, command},
        report::{Directive as _, Outcome},
    },
};

/// keepalived's defaults.
const INTERVAL: Duration = Duration::from_mins(1);
const TIMEOUT: Duration = Duration::from_secs(5);
/// The least our own reader takes.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(10);

/// When a check is made and what its results mean, as far as it is said.
#[derive(Clone, Debug, Default)]
pub(super) struct Timing {
    interval: Option<Duration>,
    timeout: Option<Duration>,
    retry: Option<u32>,
    before_retry: Option<Duration>,
}

/// What a check asks.
enum Kind<'n> {
    Tcp,
    Http { url: Option<&'n Node>, host: Option<&'n Word>, is_tls: bool, sni: Option<&'n Word> },
    Command(Command<'n>),
}

/// A `MISC_CHECK`.
#[derive(Default)]
struct Command<'n> {
    path: Option<&'n Node>,
    words: Vec<String>,
    user: Option<&'n Word>,
    /// Every exit status but 1 is a success.
    is_dynamic: bool,
    timeout: Option<Duration>,
}

/// Checks that say more of a server come first.
const KINDS: [&str; 4] = ["HTTP_GET", "SSL_GET", "MISC_CHECK", "TCP_CHECK"];

impl Translator<'_> {
    /// Whether the directive is about the timing of checks, which is then noted.
    pub(super) fn timing(&mut self, node: &Node, timing: &mut Timing) -> bool {
        match node.key() {
            "delay_loop" => {
                timing.interval = self.seconds(node).map(|(interval, _)| interval).or(timing.interval);
                self.findings.translated(node, "interval of checks");
            }
            "connect_timeout" => {
                timing.timeout = self.seconds(node).map(|(timeout, _)| timeout).or(timing.timeout);
                self.findings.translated(node, "timeout of checks");
            }
            "retry" | "nb_get_retry" | "nb_sock_retry" => {
                let number = self.number(node).map(|(number, _)| number.parse().unwrap_or(u32::MAX));
                timing.retry = number.or(timing.retry);
                self.findings.translated(node, "fall of checks, one more");
            }
            "delay_before_retry" => {
                timing.before_retry = self.seconds(node).map(|(delay, _)| delay).or(timing.before_retry);
                self.findings.translated(node, "fast_interval of checks");
            }
            "warmup" => self.findings.by_default(node, "the first checks are spread over the interval"),
            _ => return false,
        }
        true
    }

    /// One check of those a real server has, as an inline table.
    pub(super) fn check(
        &mut self,
        nodes: &[&Node],
        timing: &Timing,
        host: Option<&Word>,
        backend: IpAddr,
        protocol: &str,
    ) -> Option<(String, Range<usize>)> {
        let of = |kind: &&str| nodes.iter().find(|node| node.key() == *kind);
        let chosen = *KINDS.iter().find_map(of).or(nodes.first())?;
        let mut result = None;
        for node in nodes {
            let node = *node;
            if std::ptr::eq(node, chosen) {
                result = self.one_check(node, timing.clone(), host, backend, protocol);
            } else {
                self.findings.unsupported(
                    node,
                    "a backend has one check; the others of this real server are left out",
                );
                self.inside(node, false);
            }
        }
        result.map(|check| (check, chosen.span()))
    }

    fn one_check(
        &mut self,
        node: &Node,
        mut timing: Timing,
        host: Option<&Word>,
        backend: IpAddr,
        protocol: &str,
    ) -> Option<String> {
        let (retries, before_retry) = match node.key() {
            "HTTP_GET" | "SSL_GET" => (3, Duration::from_secs(3)),
            "MISC_CHECK" => (0, Duration::from_secs(1)),
            "DNS_CHECK" => (3, Duration::from_secs(1)),
            _ => (1, Duration::from_secs(1)),
        };
        let is_kind = KINDS.contains(&node.key());
        let mut kind = match node.key() {
            "HTTP_GET" | "SSL_GET" => {
                Kind::Http { url: None, host, is_tls: node.key() == "SSL_GET", sni: None }
            }
            "MISC_CHECK" => Kind::Command(Command::default()),
            _ if is_kind || protocol == "tcp" => Kind::Tcp,
            _ => {
                self.findings.unsupported(node, "there is no such check, so the backend always counts as up");
                self.inside(node, false);
                return None;
            }
        };
        if is_kind {
            self.findings.translated(node, "check");
        } else {
            self.findings.unsupported(
                node,
                "there is no such check; whether it accepts a TCP connection is checked instead",
            );
        }
        let mut port = None;
        for child in node.children() {
            if self.timing(child, &mut timing) {
                continue;
            }
            match child.key() {
                "connect_port" if !matches!(kind, Kind::Command(_)) => {
                    port = self.number(child).map(|(port, _)| port);
                    self.findings.translated(child, "port of the check");
                }
                _ if !is_kind => {
                    self.findings.part(child, Outcome::Unsupported, node.key());
                    self.inside(child, false);
                }
                _ => self.of_kind(child, &mut kind),
            }
        }
        let interval = timing.interval.unwrap_or(INTERVAL);
        let mut timeout = timing.timeout.unwrap_or(TIMEOUT);
        let mut keys = match kind {
            Kind::Tcp => vec!["tcp = true".to_owned()],
            Kind::Http { url, host, is_tls, sni } => self.http(url, host, is_tls, sni, backend),
            Kind::Command(misc) => {
                // keepalived gives a script as long as the interval.
                timeout = misc.timeout.unwrap_or(interval);
                self.misc(node, &misc)?
            }
        };
        if let Some(port) = port {
            keys.push(format!("port = {port}"));
        }
        let fast = timing
            .before_retry
            .unwrap_or(before_retry)
            .clamp(SHORTEST_INTERVAL, interval.max(SHORTEST_INTERVAL));
        keys.push(format!("interval = {}", duration(interval)));
        keys.push(format!("fast_interval = {}", duration(fast)));
        keys.push(format!("timeout = {}", duration(timeout)));
        keys.push("rise = 1".to_owned());
        keys.push(format!("fall = {}", timing.retry.unwrap_or(retries).saturating_add(1)));
        Some(format!("{{ {} }}", keys.join(", ")))
    }

    /// What only some kinds of checks have.
    fn of_kind<'n>(&mut self, node: &'n Node, kind: &mut Kind<'n>) {
        match (node.key(), kind) {
            ("url", Kind::Http { url: url @ None, .. }) => *url = Some(node),
            ("url", Kind::Http { .. }) => {
                self.findings.unsupported(node, "a check asks for one path, the first");
                self.inside(node, false);
            }
            ("virtualhost", Kind::Http { host, .. }) => {
                *host = self.argument(node).or(*host);
                self.findings.translated(node, "host of the check");
            }
            ("http_protocol", Kind::Http { .. }) => {
                self.findings.by_default(node, "checks speak HTTP/1.1");
            }
            ("enable_sni", Kind::Http { is_tls: true, .. }) => {
                self.findings.by_default(node, "the host is asked for by SNI, where it is a name");
            }
            ("sni_name", Kind::Http { is_tls: true, sni, .. }) => {
                *sni = self.argument(node);
                self.findings.translated(node, "sni of the check");
            }
            ("tls_compliant", Kind::Http { is_tls: true, .. }) => {
                self.findings.by_default(node, "TLS goes by its RFC");
            }
            ("misc_path", Kind::Command(misc)) => {
                if let Some(words) = self.command(node, node.arguments()) {
                    (misc.path, misc.words) = (Some(node), words);
                    self.findings.translated(node, "command of the check");
                }
            }
            ("misc_timeout", Kind::Command(misc)) => {
                misc.timeout =
                    self.seconds(node).map(|(timeout, _)| timeout).filter(|timeout| !timeout.is_zero());
                self.findings.translated(node, "timeout of the check");
            }
            ("misc_dynamic", Kind::Command(misc)) => {
                misc.is_dynamic = true;
                self.findings.differs(
                    node.span(),
                    "the weight that the script asks for by its exit status is left out",
                    "2 to 255 are successes, as with keepalived; the weight stays the configured one",
                );
                self.findings.translated(node, "exit of the check");
            }
            ("user", Kind::Command(misc)) => {
                misc.user = self.argument(node);
                self.findings.translated(node, "user of the check");
            }
            _ => self.other(node, words::CHECK_OTHERS, words::CHECK),
        }
    }

    /// A script as the check; `None` if none is named.
    fn misc(&mut self, node: &Node, misc: &Command<'_>) -> Option<Vec<String>> {
        let Some(path) = misc.path else {
            self.findings.problem(
                Problem::at(node.span(), "MISC_CHECK names no script").expected("misc_path and its path"),
            );
            return None;
        };
        let mut table = Table::new("", node.span());
        self.user(&mut table, misc.user, &misc.words, path);
        let mut keys = vec![format!("command = {}", command(&misc.words))];
        keys.extend(table.value("user").map(|(user, _)| format!("user = {user}")));
        if misc.is_dynamic {
            keys.push("exit = [0, \"2-255\"]".to_owned());
        }
        Some(keys)
    }

    fn http<'n>(
        &mut self,
        url: Option<&'n Node>,
        mut host: Option<&'n Word>,
        is_tls: bool,
        sni: Option<&Word>,
        backend: IpAddr,
    ) -> Vec<String> {
        let (mut path, mut statuses, mut digest) = ("/".to_owned(), Vec::new(), None);
        if let Some(url) = url {
            self.findings.translated(url, "http");
        }
        for child in url.into_iter().flat_map(Node::children) {
            match child.key() {
                "path" => {
                    if let Some(given) = self.argument(child) {
                        path.clone_from(&given.text);
                        self.findings.translated(child, "http");
                    }
                }
                "status_code" => {
                    statuses.extend(child.arguments().iter().map(|word| match word.text.parse::<u16>() {
                        Ok(status) => status.to_string(),
                        Err(_) => quoted(&word.text),
                    }));
                    self.findings.translated(child, "status");
                }
                "virtualhost" => {
                    host = self.argument(child).or(host);
                    self.findings.translated(child, "host of the check");
                }
                "digest" => {
                    digest = self.argument(child);
                    self.findings.translated(child, "md5 of the check");
                }
                "regex" | "regex_no_match" | "regex_options" | "regex_stack" | "regex_min_offset"
                | "regex_max_offset" => {
                    self.findings.unsupported(child, "the page itself is not searched, the status counts");
                }
                "tls_compliant" if is_tls => self.findings.by_default(child, "TLS goes by its RFC"),
                _ => self.other(child, &[], &["path", "status_code", "virtualhost", "digest", "regex"]),
            }
        }
        // keepalived asks for the real server's address, lb would for the VIP.
        let host = host.map_or_else(|| authority(backend), |host| host.text.clone());
        if statuses.is_empty() {
            statuses.push(quoted("200-299"));
        }
        let mut keys = vec![
            format!("{} = {}", if is_tls { "https" } else { "http" }, quoted(&path)),
            format!("host = {}", quoted(&host)),
            format!("status = [{}]", statuses.join(", ")),
        ];
        keys.extend(digest.map(|digest| format!("md5 = {}", quoted(&digest.text))));
        keys.extend(sni.map(|name| format!("sni = {}", quoted(&name.text))));
        keys
    }
}

fn authority(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    }
}
