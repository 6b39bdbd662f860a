//! Health checks of real servers.

use std::{net::IpAddr, ops::Range, time::Duration};

use super::{
    Translator, duration, quoted,
    tree::{Node, Word},
    words,
};
use crate::import::report::{Directive as _, Outcome};

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
    Http { url: Option<&'n Node>, host: Option<&'n Word> },
}

impl Translator<'_> {
    /// Whether the directive is about the timing of checks, which is then noted.
    pub(super) fn timing(&mut self, node: &Node, timing: &mut Timing) -> bool {
        match node.key() {
            "delay_loop" => {
                timing.interval = self.seconds(node).map(|(interval, _)| interval).or(timing.interval);
                self.findings.translated(node, "interval of checks");
            }
            "connect_timeout" | "misc_timeout" => {
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
        let is_known = |node: &&&Node| ["TCP_CHECK", "HTTP_GET"].contains(&node.key());
        let best = nodes.iter().find(|node| node.key() == "HTTP_GET").or(nodes.iter().find(is_known));
        let chosen = *best.or(nodes.first())?;
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
        let is_kind = matches!(node.key(), "TCP_CHECK" | "HTTP_GET");
        let mut kind = match node.key() {
            "TCP_CHECK" => {
                self.findings.translated(node, "check");
                Kind::Tcp
            }
            "HTTP_GET" => {
                self.findings.translated(node, "check");
                Kind::Http { url: None, host }
            }
            _ if protocol == "tcp" => {
                self.findings.unsupported(
                    node,
                    "there is no such check; whether it accepts a TCP connection is checked instead",
                );
                Kind::Tcp
            }
            _ => {
                self.findings.unsupported(node, "there is no such check, so the backend always counts as up");
                self.inside(node, false);
                return None;
            }
        };
        let mut port = None;
        for child in node.children() {
            if self.timing(child, &mut timing) {
                continue;
            }
            match (child.key(), &mut kind) {
                ("connect_port", _) => {
                    port = self.number(child).map(|(port, _)| port);
                    self.findings.translated(child, "port of the check");
                }
                ("url", Kind::Http { url: url @ None, .. }) => *url = Some(child),
                ("url", Kind::Http { .. }) => {
                    self.findings.unsupported(child, "a check asks for one path, the first");
                    self.inside(child, false);
                }
                ("virtualhost", Kind::Http { host, .. }) => {
                    *host = self.argument(child).or(*host);
                    self.findings.translated(child, "host of the check");
                }
                ("http_protocol", Kind::Http { .. }) => {
                    self.findings.by_default(child, "checks speak HTTP/1.1");
                }
                _ if !is_kind => {
                    self.findings.part(child, Outcome::Unsupported, node.key());
                    self.inside(child, false);
                }
                _ => self.other(child, words::CHECK_OTHERS, words::CHECK),
            }
        }
        let mut keys = match kind {
            Kind::Tcp => vec!["tcp = true".to_owned()],
            Kind::Http { url, host } => self.http(url, host, backend),
        };
        if let Some(port) = port {
            keys.push(format!("port = {port}"));
        }
        let interval = timing.interval.unwrap_or(INTERVAL);
        let fast = timing
            .before_retry
            .unwrap_or(before_retry)
            .clamp(SHORTEST_INTERVAL, interval.max(SHORTEST_INTERVAL));
        keys.push(format!("interval = {}", duration(interval)));
        keys.push(format!("fast_interval = {}", duration(fast)));
        keys.push(format!("timeout = {}", duration(timing.timeout.unwrap_or(TIMEOUT))));
        keys.push("rise = 1".to_owned());
        keys.push(format!("fall = {}", timing.retry.unwrap_or(retries).saturating_add(1)));
        Some(format!("{{ {} }}", keys.join(", ")))
    }

    fn http<'n>(
        &mut self,
        url: Option<&'n Node>,
        mut host: Option<&'n Word>,
        backend: IpAddr,
    ) -> Vec<String> {
        let (mut path, mut statuses) = ("/".to_owned(), Vec::new());
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
                    self.findings.unsupported(child, "the page itself is not compared, the status is");
                }
                "regex" | "regex_no_match" | "regex_options" | "regex_stack" | "regex_min_offset"
                | "regex_max_offset" => {
                    self.findings.unsupported(child, "the page itself is not searched, the status counts");
                }
                "tls_compliant" => self.findings.unsupported(child, "checks speak no TLS"),
                _ => self.other(child, &[], &["path", "status_code", "virtualhost", "digest", "regex"]),
            }
        }
        // keepalived asks for the real server's address, lb would for the VIP.
        let host = host.map_or_else(|| authority(backend), |host| host.text.clone());
        if statuses.is_empty() {
            statuses.push(quoted("200-299"));
        }
        vec![
            format!("http = {}", quoted(&path)),
            format!("host = {}", quoted(&host)),
            format!("status = [{}]", statuses.join(", ")),
        ]
    }
}

fn authority(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    }
}
