//! What `ipvsadm -Sn` (or `ipvsadm-save -n`) prints.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    ops::Range,
};

use super::{
    Imported,
    document::Document,
    report::{Directive, Findings},
    service::{Backend, Endpoint, Extras, SPREADING, Services, is_spreading, is_weighted},
    without_mark,
};
use crate::config::{Language, Problem, Text};

/// More than twice as many as there can be services here.
const MOST_SERVICES: usize = 10_000;

/// A line with its words.
#[derive(Clone)]
struct Line<'s> {
    words: Vec<(&'s str, Range<usize>)>,
    span: Range<usize>,
}

impl Directive for Line<'_> {
    fn span(&self) -> Range<usize> {
        self.span.clone()
    }

    fn words(&self) -> String {
        let words: Vec<&str> = self.words.iter().map(|(word, _)| *word).collect();
        words.join(" ").chars().take(100).map(|c| if c.is_control() { '?' } else { c }).collect()
    }
}

/// A service with the lines of its real servers.
struct Server<'s> {
    endpoint: Option<Endpoint>,
    /// Whether weights count, beside 0.
    is_weighted: bool,
    line: Line<'s>,
    backends: Vec<(Backend, Line<'s>)>,
}

/// Translates `source`; clients' packets come in by `interface`.
pub(super) fn translate(name: &str, source: &str, interface: &str, text: &mut Text) -> Imported {
    let source = without_mark(source);
    let base = text.add(name, source, Language::Other);
    let mut reader = Reader { findings: Findings::default(), servers: Vec::new(), places: BTreeMap::new() };
    let mut start = base;
    for line in source.split_inclusive('\n') {
        if reader.servers.len() > MOST_SERVICES {
            let problem = Problem::at(start..start + 1, format!("more than {MOST_SERVICES} services"));
            reader.findings.problem(problem.help("is this the right file?"));
            break;
        }
        reader.line(line, start);
        start += line.len();
    }
    let (document, findings) = reader.finish(name, interface);
    Imported::new(document, findings, text)
}

struct Reader<'s> {
    findings: Findings,
    servers: Vec<Server<'s>>,
    /// By kind (`-t`, `-u`, `-f`) and address, which of `servers` it is.
    places: BTreeMap<(String, String), usize>,
}

impl<'s> Reader<'s> {
    fn line(&mut self, line: &'s str, start: usize) {
        let is_whole = line.ends_with('\n');
        let content = line.trim();
        if content.is_empty() || content.starts_with('#') {
            return;
        }
        let offset = |part: &str| start + (part.as_ptr() as usize - line.as_ptr() as usize);
        let words: Vec<(&str, Range<usize>)> =
            content.split_whitespace().map(|word| (word, offset(word)..offset(word) + word.len())).collect();
        let line = Line { words, span: offset(content)..offset(content) + content.len() };
        let line = Line { words: line.words[usize::from(line.words[0].0 == "ipvsadm")..].to_vec(), ..line };
        if !is_whole {
            // What is left of it may well be understood: port 8 of port 80.
            self.findings.problem(
                Problem::at(line.span.clone(), "the last line has no end, so some of it may be missing")
                    .expected("a line feed behind it")
                    .help("write `ipvsadm -Sn` to a file again; if it is whole, end the line"),
            );
            return;
        }
        let done = match line.words.first().map(|(word, _)| *word) {
            Some("-A" | "--add-service") => self.service(&line),
            Some("-a" | "--add-server") => self.server(&line),
            Some("-C" | "--clear") => {
                self.findings.by_default(&line, "the table is empty when lb starts");
                Some(())
            }
            Some("-E" | "-e" | "-D" | "-d" | "-R" | "-Z" | "--set" | "--start-daemon" | "--stop-daemon") => {
                self.findings
                    .unsupported(&line, "it is a table that is translated, not commands that change one");
                Some(())
            }
            _ => None,
        };
        if done.is_none() {
            let problem = Problem::at(line.span.clone(), "the line is not understood")
                .expected("-A -t ADDRESS:PORT …, or -a -t ADDRESS:PORT -r ADDRESS:PORT …");
            self.findings.problem(problem.help("write what `ipvsadm -Sn` prints to a file"));
        }
    }

    /// `-A -t|-u|-f SERVICE [-s SCHEDULER] [-p [TIMEOUT]] …`
    fn service(&mut self, line: &Line<'s>) -> Option<()> {
        let mut words = line.words[1..].iter().peekable();
        let (kind, service) = (words.next()?, words.next()?);
        let protocol = match kind.0 {
            "-t" | "--tcp-service" => Some("tcp"),
            "-u" | "--udp-service" => Some("udp"),
            "-f" | "--fwmark-service" | "--sctp-service" => None,
            _ => return None,
        };
        let endpoint = protocol.and_then(|protocol| {
            let (vip, port) = self.socket(service.0, &service.1)?;
            let ports = (port > 0).then_some((port, port));
            Some(Endpoint { vip, ports, protocol, at: line.span.clone() })
        });
        let mut left_out = Vec::new();
        let mut scheduler = "wlc";
        while let Some((option, _)) = words.next() {
            match *option {
                "-s" | "--scheduler" => scheduler = words.next()?.0,
                "-p" | "--persistent" => {
                    words.next_if(|(word, _)| word.parse::<u32>().is_ok());
                    left_out.push("persistence (connections of one client may go to different backends)");
                }
                "-M" | "--netmask" | "-b" | "--sched-flags" => {
                    words.next()?;
                }
                "-o" | "--ops" => left_out.push("one-packet scheduling"),
                "--pe" => {
                    words.next()?;
                    left_out.push("the persistence engine");
                }
                _ => return None,
            }
        }
        match scheduler {
            "mh" => {}
            name if is_spreading(name) => {
                self.findings.differs(line.span.clone(), format!("{name} becomes the ring"), SPREADING);
            }
            "sh" | "dh" | "lblc" | "lblcr" => left_out.push(
                "the scheduler (the ring goes by addresses and ports, so connections of one client may go to different backends)",
            ),
            _ => left_out.push("the scheduler (a ring has no preference but weights)"),
        }
        match (&endpoint, left_out.is_empty()) {
            (None, _) => self.findings.unsupported(
                line,
                "packets are told by address, port and protocol of TCP and UDP, not by firewall marks; it is left out",
            ),
            (Some(_), true) => self.findings.translated(line, "[[service]]"),
            (Some(_), false) => {
                let why = format!("[[service]], but without {}", left_out.join(", "));
                self.findings.unsupported(line, why);
            }
        }
        self.places.insert((kind.0.to_owned(), service.0.to_owned()), self.servers.len());
        let is_weighted = is_weighted(scheduler);
        self.servers.push(Server { endpoint, is_weighted, line: line.clone(), backends: Vec::new() });
        Some(())
    }

    fn socket(&mut self, text: &str, span: &Range<usize>) -> Option<(IpAddr, u16)> {
        let parsed: Option<SocketAddr> = text.parse().ok();
        if parsed.is_none() {
            self.findings.problem(
                Problem::at(span.clone(), format!("{text:?} is no address and port"))
                    .expected("for instance 192.0.2.4:80 or [2001:db8::4]:80")
                    .help("names are not resolved: -n makes ipvsadm print numbers"),
            );
        }
        parsed.map(|socket| (socket.ip(), socket.port()))
    }

    /// `-a -t|-u|-f SERVICE -r SERVER [-g|-m|-i] [-w WEIGHT] …`
    fn server(&mut self, line: &Line<'s>) -> Option<()> {
        let mut words = line.words[1..].iter();
        let (kind, service) = (words.next()?, words.next()?);
        if !["-r", "--real-server"].contains(&words.next()?.0) {
            return None;
        }
        let real = words.next()?;
        let (mut mode, mut weight, mut tunnel) = (Some("dr"), None, "ipip");
        let mut left_out = Vec::new();
        while let Some((option, _)) = words.next() {
            match *option {
                "-g" | "--gatewaying" => mode = Some("dr"),
                "-m" | "--masquerading" => mode = Some("nat"),
                "-i" | "--ipip" => mode = Some("ipip"),
                "-w" | "--weight" => {
                    let (word, span) = words.next()?;
                    weight = Some((word.parse().ok()?, span.clone()));
                }
                "-x" | "-y" | "--u-threshold" | "--l-threshold" => {
                    if words.next()?.0 != "0" {
                        left_out.push("limits of connections");
                    }
                }
                "--tun-type" => tunnel = words.next()?.0,
                "--tun-port" => {
                    if words.next()?.0 != "6080" {
                        mode = None;
                    }
                }
                "--tun-nocsum" | "--tun-csum" | "--tun-remcsum" => {}
                _ => return None,
            }
        }
        if mode == Some("ipip") {
            mode = ["ipip", "gue"].into_iter().find(|known| *known == tunnel);
        }
        let key = (kind.0.to_owned(), service.0.to_owned());
        let Some(&place) = self.places.get(&key) else {
            self.findings.problem(
                Problem::at(
                    service.1.clone(),
                    format!("no line before adds the service {} {}", kind.0, service.0),
                )
                .expected("-A and the same service")
                .help("the beginning of the table may be missing: write `ipvsadm -Sn` to a file again"),
            );
            return Some(());
        };
        if self.servers[place].endpoint.is_none() {
            self.findings.unsupported(line, "its service is left out");
            return Some(());
        }
        let Some((address, port)) = self.socket(real.0, &real.1) else { return Some(()) };
        let Some(mode) = mode else {
            self.findings
                .unsupported(line, "packets travel by nat, dr, ipip or gue to port 6080; it is left out");
            return Some(());
        };
        if !left_out.is_empty() {
            let message = format!("{} are left out", left_out.join(", "));
            self.findings.differs(line.span.clone(), message, "connections are not counted by backend");
        }
        let port = Some(port).filter(|port| *port > 0);
        let weight = weight.filter(|(weight, _)| self.servers[place].is_weighted || *weight == 0);
        let backend = Backend {
            address,
            port,
            mode,
            weight,
            check: None,
            backup: false,
            keep_connections: None,
            notify: None,
            at: line.span.clone(),
        };
        self.servers[place].backends.push((backend, line.clone()));
        Some(())
    }

    fn finish(mut self, name: &str, interface: &str) -> (Document, Findings) {
        let mut services = Services::default();
        let vips = BTreeSet::new();
        for Server { endpoint, line, backends, .. } in self.servers {
            let Some(endpoint) = endpoint else { continue };
            if backends.is_empty() {
                self.findings.differs(
                    line.span,
                    "the service has no real server, so it is left out",
                    "add it once it has one",
                );
                continue;
            }
            let (backends, lines): (Vec<Backend>, Vec<Line<'_>>) = backends.into_iter().unzip();
            let left_out: BTreeMap<usize, &str> =
                services.add(&endpoint, &backends, &Extras::default(), &vips).into_iter().collect();
            for (place, line) in lines.iter().enumerate() {
                match left_out.get(&place) {
                    Some(why) => self.findings.unsupported(line, *why),
                    None => self.findings.translated(line, "[[service.backend]]"),
                }
            }
        }
        let preface = vec![
            format!("Translated by lb import ipvsadm from {name}."),
            "The comments name the lines it comes from. IPVS checks no backend, so nor does this: add `check`.".to_owned(),
        ];
        let comment = match services.first_nat() {
            Some(_) => {
                "Clients' packets come in here; so must, here or by another such table, the replies of `nat` backends."
            }
            None => "Clients' packets come in here.",
        };
        let mut tables: Vec<_> = services.interface(interface, comment.to_owned()).into_iter().collect();
        tables.extend(services.tables);
        (Document { preface, tables }, self.findings)
    }
}
