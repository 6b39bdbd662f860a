//! Services and their backends.

use std::{collections::BTreeMap, net::IpAddr, ops::Range, time::Duration};

use lb_common::DEFAULT_RING_SIZE;
use toml::Spanned;

use super::{Context, Findings, check, copied, track::warn_of_shell, unique, unique_names};
use crate::config::{
    model::{Backend, Check, HealthNotify, Mode, Protocol, Service},
    ports::Ports,
    raw::{RawBackend, RawCheckChoice, RawConfig, RawHealthNotify, RawService},
    report::Problem,
};

/// Default of `learning_window`: a connection that says nothing for longer is rare.
const LEARNING_WINDOW: Duration = Duration::from_mins(1);
/// Default of `flow_timeout` for TCP: as long as many NATs and firewalls remember a silent connection.
const TCP_FLOW_TIMEOUT: Duration = Duration::from_mins(15);
/// Default of `flow_timeout` for UDP.
const UDP_FLOW_TIMEOUT: Duration = Duration::from_mins(1);
/// Fewer slots a backend than this, and their shares differ by more than a few percent.
const SLOTS_PER_BACKEND: usize = 100;

/// The `nat` backends of all services so far, by what a reply shows of them.
type NatBackends = BTreeMap<(IpAddr, u16, Protocol), Range<usize>>;

pub(super) fn services(
    raw: &RawConfig,
    context: &Context<'_>,
    findings: &mut Findings<'_>,
) -> (Vec<Service>, Vec<Vec<Range<usize>>>) {
    let services = || raw.services.iter().map(Spanned::get_ref);
    unique_names("service", services().filter_map(|service| service.name.as_ref()), findings);

    let endpoints = services().filter_map(|service| {
        let (vip, ports, protocol) =
            (service.vip.as_ref()?, service.ports.as_ref()?, service.protocol.as_ref()?);
        Some(((*vip.get_ref(), *ports.get_ref(), *protocol.get_ref()), vip.span()))
    });
    unique(endpoints, findings, |(vip, ports, protocol), span, first| {
        Problem::at(span, format!("two services at {}/{protocol}", endpoint(vip, ports)))
            .related(first, "the first")
            .help("join their backends in one service, or change the port of one")
    });
    check_ranges(raw, findings);
    check_agreement(raw, findings);

    let mut nat_backends = NatBackends::new();
    raw.services.iter().filter_map(|raw| service(raw, context, &mut nat_backends, findings)).unzip()
}

fn service(
    spanned: &Spanned<RawService>,
    context: &Context<'_>,
    nat_backends: &mut NatBackends,
    findings: &mut Findings<'_>,
) -> Option<(Service, Vec<Range<usize>>)> {
    let raw = spanned.get_ref();
    check_ring_size(spanned, findings);
    let (learning_window, flow_timeout) = memory(raw, findings);
    check_owner(raw, context, findings);
    check_backends(spanned, context, findings);
    check_nat_backends(raw, nat_backends, findings);
    check_probed_port(raw, findings);
    check_quorum(raw, findings);

    let service_check = check_model(raw.check.as_ref(), findings);
    let backends: Vec<(Backend, Range<usize>)> = raw
        .backends
        .iter()
        .filter_map(|spanned| backend(spanned.get_ref(), raw, service_check.as_ref(), findings))
        .collect();
    let (backends, spans) = backends.into_iter().unzip();
    let service = Service {
        name: raw.name.as_ref()?.get_ref().clone(),
        vip: copied(raw.vip.as_ref())?,
        ports: copied(raw.ports.as_ref())?,
        protocol: copied(raw.protocol.as_ref())?,
        backend_only: copied(raw.backend_only.as_ref()).unwrap_or(false),
        ring_size: copied(raw.ring_size.as_ref()).unwrap_or(DEFAULT_RING_SIZE),
        learning_window,
        flow_timeout,
        check: service_check,
        quorum: copied(raw.quorum.as_ref()).unwrap_or(1),
        notify: notify(raw.notify.as_ref(), findings),
        backends,
    };
    Some((service, spans))
}

fn backend(
    raw: &RawBackend,
    service: &RawService,
    service_check: Option<&Check>,
    findings: &mut Findings<'_>,
) -> Option<(Backend, Range<usize>)> {
    let check = match &raw.check {
        None => service_check.cloned(),
        own => check_model(own.as_ref(), findings),
    };
    let address = raw.address.as_ref()?;
    let backend = Backend {
        address: *address.get_ref(),
        port: port(raw, service)?,
        mode: copied(raw.mode.as_ref())?,
        weight: copied(raw.weight.as_ref()).unwrap_or(1),
        backup: copied(raw.backup.as_ref()).unwrap_or(false),
        keep_connections: copied(raw.keep_connections.as_ref()).unwrap_or(false),
        notify: notify(raw.notify.as_ref(), findings),
        check,
    };
    Some((backend, address.span()))
}

fn notify(raw: Option<&Spanned<RawHealthNotify>>, findings: &mut Findings<'_>) -> HealthNotify {
    let Some(raw) = raw.map(Spanned::get_ref) else { return HealthNotify::default() };
    let mut command = |raw: &Option<Spanned<Vec<String>>>| {
        let Some(command) = raw else { return Vec::new() };
        warn_of_shell(command, findings);
        command.get_ref().clone()
    };
    HealthNotify {
        up: command(&raw.up),
        down: command(&raw.down),
        user: raw.user.as_ref().map(|user| user.get_ref().clone()),
        timeout: copied(raw.timeout.as_ref()).unwrap_or(HealthNotify::default().timeout),
    }
}

fn check_model(choice: Option<&RawCheckChoice>, findings: &mut Findings<'_>) -> Option<Check> {
    match choice? {
        RawCheckChoice::None => None,
        RawCheckChoice::Check(raw) => check::check(raw, findings),
    }
}

/// The backend's port, or its service's; 0 where that has several, `None` after a mistake in either.
fn port(backend: &RawBackend, service: &RawService) -> Option<u16> {
    match &backend.port {
        Some(port) => Some(*port.get_ref()),
        None if backend.sound => Some(copied(service.ports.as_ref())?.one().unwrap_or(0)),
        None => None,
    }
}

/// The VIP with its ports, as an operator writes it.
fn endpoint(vip: IpAddr, ports: Ports) -> String {
    match vip {
        IpAddr::V4(vip) => format!("{vip}:{ports}"),
        IpAddr::V6(vip) => format!("[{vip}]:{ports}"),
    }
}

/// A port may have a service of its own beside the range or the whole VIP it belongs to, but not two ranges.
fn check_ranges(raw: &RawConfig, findings: &mut Findings<'_>) {
    let mut ranges: Vec<_> = raw
        .services
        .iter()
        .map(Spanned::get_ref)
        .filter_map(|service| {
            let (vip, ports) = (copied(service.vip.as_ref())?, service.ports.as_ref()?);
            let Ports::Range(first, last) = *ports.get_ref() else { return None };
            Some(((vip, copied(service.protocol.as_ref())?, first, last), ports.span()))
        })
        .collect();
    ranges.sort_by_key(|(range, span)| (*range, span.start));
    for pair in ranges.windows(2) {
        let [((vip, protocol, first, last), span), ((other_vip, other_protocol, start, end), other)] = pair
        else {
            continue;
        };
        // The same range twice has been reported.
        if (vip, protocol) == (other_vip, other_protocol) && start <= last && (first, last) != (start, end) {
            findings.problems.push(
                Problem::at(other.clone(), format!("ranges {first}-{last} and {start}-{end} overlap"))
                    .related(span.clone(), "the other range")
                    .help("let each port belong to one range; a single port may have a service of its own"),
            );
        }
    }
}

/// Where every port is served, the port to probe must be said.
fn check_probed_port(raw: &RawService, findings: &mut Findings<'_>) {
    let Some(ports) = raw.ports.as_ref().filter(|ports| *ports.get_ref() == Ports::Any) else { return };
    let checks = raw.backends.iter().filter_map(|backend| backend.get_ref().check.as_ref());
    for check in raw.check.iter().chain(checks) {
        if let RawCheckChoice::Check(check) = check
            && check.sound
            && check.port.is_none()
            && check
                .command
                .as_ref()
                .is_none_or(|command| command.get_ref().iter().any(|word| word.contains("{port}")))
        {
            findings.problems.push(
                Problem::at(check.span.clone(), "the check has no `port`, and the service has every port")
                    .expected("`port`, the one to connect to")
                    .related(ports.span(), "the service's ports"),
            );
        }
    }
}

fn check_ring_size(spanned: &Spanned<RawService>, findings: &mut Findings<'_>) {
    let raw = spanned.get_ref();
    let size = copied(raw.ring_size.as_ref()).unwrap_or(DEFAULT_RING_SIZE);
    if let Some(given) = raw.ring_size.as_ref().filter(|_| !is_prime(size)) {
        let next = (size..=16_777_213).find(|&number| is_prime(number)).unwrap_or(16_777_213);
        findings.problems.push(
            Problem::at(given.span(), format!("`ring_size` {size} is not a prime"))
                .expected(format!("a prime, such as {next}"))
                .help("backends take turns in steps that only a prime number of slots lets reach every slot"),
        );
    }
    let backends = raw.backends.len();
    if (size as usize) < backends * SLOTS_PER_BACKEND {
        let span = raw.ring_size.as_ref().map_or(spanned.span(), Spanned::span);
        findings.warnings.push(
            Problem::at(span, format!("{size} slots for {backends} backends spread the load unevenly")).help(
                format!("a prime `ring_size` of at least {} does better", backends * SLOTS_PER_BACKEND),
            ),
        );
    }
}

/// The learning window and the time a flow is remembered for. A flow forgotten within the window would be taken for an
/// old one.
fn memory(raw: &RawService, findings: &mut Findings<'_>) -> (Duration, Duration) {
    let window = copied(raw.learning_window.as_ref()).unwrap_or(LEARNING_WINDOW);
    let default = match copied(raw.protocol.as_ref()) {
        Some(Protocol::Udp) => UDP_FLOW_TIMEOUT,
        Some(Protocol::Tcp) | None => TCP_FLOW_TIMEOUT,
    };
    let Some(given) = &raw.flow_timeout else { return (window, default.max(window)) };
    let timeout = *given.get_ref();
    if timeout < window {
        let shown = humantime::format_duration(window);
        let problem = Problem::at(given.span(), "`flow_timeout` is shorter than the learning window")
            .expected(format!("at least {shown}"));
        findings.problems.push(match &raw.learning_window {
            Some(window) => problem.related(window.span(), "the learning window"),
            None => problem.help(format!("`learning_window` is {shown} unless given")),
        });
    }
    (window, timeout)
}

/// Who answers for the VIP: a virtual router's owner, this node always, or somebody else.
fn check_owner(raw: &RawService, context: &Context<'_>, findings: &mut Findings<'_>) {
    let Some(vip) = &raw.vip else { return };
    let given = |key: &Option<Spanned<bool>>| key.as_ref().filter(|on| *on.get_ref()).map(Spanned::span);
    let standalone = given(&raw.standalone).map(|span| (span, "standalone"));
    let backend_only = given(&raw.backend_only).map(|span| (span, "backend_only"));
    if let (Some((first, _)), Some((span, _))) = (&standalone, &backend_only) {
        findings.problems.push(
            Problem::at(span.clone(), "`backend_only` and `standalone` exclude each other")
                .related(first.clone(), "always answers for the VIP")
                .help("`backend_only`: directors elsewhere answer for the VIP, this node never does"),
        );
        return;
    }
    match (context.router_vips.get(vip.get_ref()), standalone.or(backend_only)) {
        (Some((span, router)), Some((place, key))) => findings.problems.push(
            Problem::at(place, format!("`{key}`, but virtual router {router:?} owns the VIP"))
                .related(span.clone(), "its VIP")
                .help(format!("remove `{key}`, or the VIP from the virtual router")),
        ),
        (None, None) => findings.warnings.push(
            Problem::at(vip.span(), format!("no virtual router owns {}", vip.get_ref())).help(
                "this node will always answer for it; add it to `vips` of a [[virtual_router]], or write \
                 standalone = true if that is meant",
            ),
        ),
        _ => {}
    }
}

/// A VIP is answered for or not, whatever the service.
fn check_agreement(raw: &RawConfig, findings: &mut Findings<'_>) {
    let mut seen: BTreeMap<IpAddr, (bool, Range<usize>)> = BTreeMap::new();
    for service in raw.services.iter().map(Spanned::get_ref) {
        let Some(vip) = &service.vip else { continue };
        let backend_only = copied(service.backend_only.as_ref()).unwrap_or(false);
        let (first, span) = seen.entry(*vip.get_ref()).or_insert((backend_only, vip.span()));
        if *first != backend_only {
            findings.problems.push(
                Problem::at(
                    vip.span(),
                    format!("services of {} disagree about `backend_only`", vip.get_ref()),
                )
                .related(span.clone(), "the other service")
                .help("write it in all services of the VIP or in none"),
            );
        }
    }
}

fn check_backends(spanned: &Spanned<RawService>, context: &Context<'_>, findings: &mut Findings<'_>) {
    let raw = spanned.get_ref();
    if raw.backends.is_empty() {
        let name = raw.name.as_ref().map_or("", |name| name.get_ref());
        findings.problems.push(
            Problem::at(spanned.span(), format!("service {name:?} has no backend"))
                .help("add [[service.backend]] with `address` and `mode` below it"),
        );
    }
    for backend in raw.backends.iter().map(Spanned::get_ref) {
        check_address(backend, raw, context, findings);
        check_family(backend, raw, findings);
        check_port(backend, raw, findings);
    }

    let identities = raw.backends.iter().map(Spanned::get_ref).filter_map(|backend| {
        let address = backend.address.as_ref()?;
        Some(((*address.get_ref(), port(backend, raw)?), address.span()))
    });
    unique(identities, findings, |(address, port), span, first| {
        let place = if port == 0 { address.to_string() } else { format!("{address} port {port}") };
        Problem::at(span, format!("backend {place} is listed twice"))
            .related(first, "the first time")
            .help("for a larger share of the traffic raise its `weight`")
    });

    let mut ordinary =
        raw.backends.iter().map(Spanned::get_ref).filter(|backend| !is_backup(backend)).peekable();
    let first_backup = raw.backends.iter().find_map(|backend| backend.get_ref().backup.as_ref());
    if let (None, Some(backup)) = (ordinary.peek(), first_backup) {
        findings.problems.push(
            Problem::at(backup.span(), "every backend of the service is a `backup`")
                .expected("at least one that serves while all is well"),
        );
        return;
    }
    let weights: Option<Vec<_>> = ordinary.map(zero_weight).collect();
    if let Some(first) = weights.as_ref().and_then(|weights| weights.first()) {
        findings.problems.push(
            Problem::at(first.clone(), "every backend of the service has weight 0: nobody would be served")
                .expected("a weight above 0 for at least one of them"),
        );
    }
}

fn is_backup(backend: &RawBackend) -> bool {
    copied(backend.backup.as_ref()).unwrap_or(false)
}

/// A quorum decides between ordinary backends and those that stand in for them.
fn check_quorum(raw: &RawService, findings: &mut Findings<'_>) {
    let Some(quorum) = &raw.quorum else { return };
    let backends = || raw.backends.iter().map(Spanned::get_ref);
    if !backends().any(is_backup) && raw.notify.is_none() {
        findings.warnings.push(
            Problem::at(quorum.span(), "`quorum` means nothing without a `backup` backend and `notify`")
                .help("below the quorum those take over and are told; without them the service goes on with what it has"),
        );
    }
    let weight = |backend: &RawBackend| u64::from(copied(backend.weight.as_ref()).unwrap_or(1));
    let all: u64 = backends().filter(|backend| !is_backup(backend)).map(weight).sum();
    if u64::from(*quorum.get_ref()) > all && backends().all(|backend| backend.sound) {
        findings.problems.push(
            Problem::at(quorum.span(), format!("`quorum` is more than all weights together, {all}"))
                .expected(format!("at most {all}"))
                .help("it could never be reached, even with all of them up"),
        );
    }
}

/// Where a backend is given the weight 0.
fn zero_weight(backend: &RawBackend) -> Option<Range<usize>> {
    let weight = backend.weight.as_ref().filter(|weight| backend.sound && *weight.get_ref() == 0)?;
    Some(weight.span())
}

fn check_address(
    backend: &RawBackend,
    service: &RawService,
    context: &Context<'_>,
    findings: &mut Findings<'_>,
) {
    let (Some(address), Some(vip)) = (&backend.address, &service.vip) else { return };
    let own_vip = (address.get_ref() == vip.get_ref()).then(|| vip.span());
    let any_vip = || {
        let of_router = context.router_vips.get(address.get_ref()).map(|(span, _)| span);
        of_router.or_else(|| context.service_vips.get(address.get_ref())).cloned()
    };
    if let Some(vip) = own_vip.or_else(any_vip) {
        findings.problems.push(
            Problem::at(address.span(), format!("backend {} is a VIP", address.get_ref()))
                .expected("an address that stays with its machine")
                .related(vip, "the VIP"),
        );
    }
}

/// Only what travels inside another packet, or not at all, may be of another family than that packet.
fn check_family(backend: &RawBackend, service: &RawService, findings: &mut Findings<'_>) {
    let (Some(address), Some(mode), Some(vip)) = (&backend.address, &backend.mode, &service.vip) else {
        return;
    };
    let mode = *mode.get_ref();
    if !matches!(mode, Mode::Dr | Mode::Nat) || address.get_ref().is_ipv4() == vip.get_ref().is_ipv4() {
        return;
    }
    let family = |address: &IpAddr| if address.is_ipv4() { "IPv4" } else { "IPv6" };
    let (own, other) = (family(vip.get_ref()), family(address.get_ref()));
    findings.problems.push(
        Problem::at(address.span(), format!("`{mode}` backend {} is {other}", address.get_ref()))
            .expected(format!("an {own} address, as the VIP"))
            .related(vip.span(), format!("the VIP is {own}"))
            .help("mode = \"ipip\" or \"gue\" carries packets of one family inside the other"),
    );
}

fn check_port(backend: &RawBackend, service: &RawService, findings: &mut Findings<'_>) {
    let (Some(mode), Some(ports)) = (&backend.mode, &service.ports) else { return };
    let (mode, one) = (*mode.get_ref(), ports.get_ref().one());
    if mode == Mode::Nat {
        if one.is_none()
            && let Some(address) = &backend.address
        {
            findings.problems.push(
                Problem::at(address.span(), "a `nat` backend behind several ports")
                    .expected("a service of one port")
                    .related(ports.span(), "the service's ports")
                    .help("telling its replies apart would need state for every flow; the other modes need none"),
            );
        }
        return;
    }
    let Some(port) = backend.port.as_ref().filter(|port| one != Some(*port.get_ref())) else { return };
    let expected = one.map_or("no `port`".to_owned(), |one| format!("{one}, or no `port`"));
    findings.problems.push(
        Problem::at(port.span(), format!("a `{mode}` backend cannot have a port of its own"))
            .expected(expected)
            .related(ports.span(), "the service's port")
            .help(format!(
                "`{mode}` delivers packets with the port the client chose; mode = \"nat\" rewrites it"
            )),
    );
}

/// The reply of a `nat` backend shows its address, port and protocol; they must lead back to one service.
fn check_nat_backends(raw: &RawService, nat_backends: &mut NatBackends, findings: &mut Findings<'_>) {
    let Some(protocol) = copied(raw.protocol.as_ref()) else { return };
    let mut own = NatBackends::new();
    for backend in raw.backends.iter().map(Spanned::get_ref) {
        let (Some(address), Some(Mode::Nat)) = (&backend.address, copied(backend.mode.as_ref())) else {
            continue;
        };
        let Some(port) = port(backend, raw) else { continue };
        let key = (*address.get_ref(), port, protocol);
        if let Some(first) = nat_backends.get(&key) {
            findings.problems.push(
                Problem::at(
                    address.span(),
                    format!("`nat` backend {} port {port}/{protocol} serves two services", key.0),
                )
                .related(first.clone(), "here for another service")
                .help("its replies could belong to either, and telling them apart would need state for every flow; let it \
                     listen on another port for one of them"),
            );
        }
        own.insert(key, address.span());
    }
    nat_backends.extend(own);
}

fn is_prime(number: u32) -> bool {
    let divisors = (2..).take_while(|divisor| u64::from(*divisor) * u64::from(*divisor) <= u64::from(number));
    number >= 2 && divisors.into_iter().all(|divisor| !number.is_multiple_of(divisor))
}

#[cfg(test)]
mod tests {
    use super::is_prime;

    #[test]
    fn primes_are_told_from_other_numbers() {
        for prime in [2, 3, 101, 251, 65_537, 16_777_213] {
            assert!(is_prime(prime), "{prime}");
        }
        for other in [0, 1, 4, 100, 65_535, 65_536, 16_777_215, 10_201] {
            assert!(!is_prime(other), "{other}");
        }
    }
}
