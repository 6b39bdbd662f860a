//! What a configuration assumes about the node it runs on.

use std::{collections::BTreeMap, net::IpAddr, ops::Range, path::PathBuf};

use ipnet::IpNet;

use super::{
    Parsed,
    model::{Mode, VirtualRouter},
    read::nearest,
    report::{ConfigErrors, Problem, Severity},
};

/// The node as the kernel describes it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostFacts {
    /// Every interface, loopback too.
    pub interfaces: Vec<HostInterface>,
}

/// A network interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostInterface {
    /// For instance `eth0`.
    pub name: String,
    /// The kernel's index.
    pub index: u32,
    /// Its addresses, each with its prefix. VIPs this node happens to own may be among them.
    pub addresses: Vec<IpNet>,
}

/// Where the text says what the host must confirm.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Spans {
    /// The names of `[interface.NAME]` tables.
    pub(super) interfaces: BTreeMap<String, Range<usize>>,
    /// By virtual router, as the model has them.
    pub(super) routers: Vec<RouterSpans>,
    /// The interfaces that groups track.
    pub(super) tracked: Vec<(String, Range<usize>)>,
    /// The address of each backend: by service, then by backend, as the model has them.
    pub(super) backends: Vec<Vec<Range<usize>>>,
    /// Files of certificate authorities, where they are first named.
    pub(super) authorities: BTreeMap<PathBuf, Range<usize>>,
}

/// Places in a `[[virtual_router]]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct RouterSpans {
    pub(super) interface: Range<usize>,
    /// That of the interface where the source is not given.
    pub(super) source: Range<usize>,
    /// Of all VIPs, in the order of `VirtualRouter::all_vips`.
    pub(super) vips: Vec<Range<usize>>,
    /// The interfaces it tracks.
    pub(super) tracked: Vec<(String, Range<usize>)>,
    /// Interfaces that VIPs name.
    pub(super) places: BTreeMap<String, Range<usize>>,
    /// The keys adverts are signed with; the file's name where one is in a file.
    pub(super) keys: Vec<Range<usize>>,
}

pub(super) fn check(parsed: &Parsed, facts: &HostFacts) -> Result<(), ConfigErrors> {
    let host = Host::new(parsed, facts);
    let mut problems = Vec::new();
    for (name, span) in &parsed.spans.interfaces {
        if host.interface(name).is_none() {
            problems.push(host.no_interface(name, span.clone()));
        }
    }
    for (router, spans) in parsed.config.virtual_routers.iter().zip(&parsed.spans.routers) {
        host.check_router(router, spans, &mut problems);
    }
    let tracked = parsed.spans.routers.iter().flat_map(|router| &router.tracked);
    for (name, span) in tracked.chain(&parsed.spans.tracked) {
        if host.interface(name).is_none() {
            problems.push(host.no_interface(name, span.clone()));
        }
    }
    for (service, spans) in parsed.config.services.iter().zip(&parsed.spans.backends) {
        for (backend, span) in service.backends.iter().zip(spans) {
            if backend.mode == Mode::Local {
                problems.extend(host.not_local(backend.address, span.clone()));
            }
        }
    }
    if problems.is_empty() { Ok(()) } else { Err(ConfigErrors::new(&parsed.text, Severity::Error, problems)) }
}

/// The interfaces and their addresses without the configuration's VIPs: one that this node owns at the moment
/// proves nothing.
struct Host<'f> {
    interfaces: Vec<(&'f str, Vec<IpNet>)>,
}

impl<'f> Host<'f> {
    fn new(parsed: &Parsed, facts: &'f HostFacts) -> Self {
        let routers = &parsed.config.virtual_routers;
        let is_vip =
            |address: IpAddr| routers.iter().any(|router| router.all_vips().any(|vip| vip.addr() == address));
        let own = |interface: &'f HostInterface| {
            let addresses = interface.addresses.iter().filter(|address| !is_vip(address.addr()));
            (interface.name.as_str(), addresses.copied().collect())
        };
        Self { interfaces: facts.interfaces.iter().map(own).collect() }
    }

    fn interface(&self, name: &str) -> Option<&[IpNet]> {
        self.interfaces.iter().find(|(candidate, _)| *candidate == name).map(|(_, own)| own.as_slice())
    }

    fn addresses(&self) -> impl Iterator<Item = (&'f str, IpNet)> {
        self.interfaces.iter().flat_map(|(name, own)| own.iter().map(|address| (*name, *address)))
    }

    fn has(&self, address: IpAddr) -> bool {
        self.addresses().any(|(_, own)| own.addr() == address)
    }

    fn check_router(&self, router: &VirtualRouter, spans: &RouterSpans, problems: &mut Vec<Problem>) {
        let source = router.source();
        if !source.is_unspecified() && !self.has(source) {
            problems.push(
                Problem::at(spans.source.clone(), format!("{source} is not an address of this node"))
                    .help(format!("this node has {}; is this another node's file?", self.list_addresses())),
            );
        }
        if self.interface(&router.interface).is_none() {
            problems.push(self.no_interface(&router.interface, spans.interface.clone()));
        } else if source.is_unspecified() && !self.can_choose(router) {
            let family = if source.is_ipv4() { "IPv4" } else { "link-local IPv6" };
            problems.push(
                Problem::at(spans.source.clone(), format!("{} has no {family} address", router.interface))
                    .help("adverts need one to come from; add it, or name another by `source`"),
            );
        }
        for (name, span) in &spans.places {
            if self.interface(name).is_none() {
                problems.push(self.no_interface(name, span.clone()));
            }
        }
        for (vip, span) in router.all_vips().map(|vip| vip.addr()).zip(&spans.vips) {
            let link = router.link_of(vip);
            let Some(own) = self.interface(link) else { continue };
            if !own.iter().any(|network| network.contains(&vip)) {
                let place = spans.places.get(link).unwrap_or(&spans.interface);
                problems.push(self.outside(vip, link, own, span, place));
            }
        }
    }

    /// Whether the interface has an address that adverts can come from.
    fn can_choose(&self, router: &VirtualRouter) -> bool {
        let own = self.interface(&router.interface).unwrap_or_default();
        router.choose_source(own.iter().map(IpNet::addr)).is_some()
    }

    fn outside(
        &self,
        vip: IpAddr,
        interface: &str,
        own: &[IpNet],
        span: &Range<usize>,
        place: &Range<usize>,
    ) -> Problem {
        let problem = Problem::at(span.clone(), format!("VIP {vip} is in no network of {interface}"))
            .related(place.clone(), "the interface");
        let other = self.addresses().find(|(_, network)| network.contains(&vip));
        let problem = match other {
            Some((other, network)) => problem.help(format!("{other} has {network}: is that the interface?")),
            None => {
                problem.help("neighbours would not ask this link for it; add an address of its network first")
            }
        };
        let family =
            |address: &&IpNet| address.addr().is_ipv4() == vip.is_ipv4() && !is_link_local(**address);
        let networks: Vec<String> =
            own.iter().filter(family).map(|address| address.trunc().to_string()).collect();
        if networks.is_empty() {
            let name = if vip.is_ipv4() { "IPv4" } else { "IPv6" };
            problem.expected(format!("an {name} address on {interface}, which has none"))
        } else {
            problem.expected(format!("an address in {}", networks.join(" or ")))
        }
    }

    fn no_interface(&self, name: &str, span: Range<usize>) -> Problem {
        let names: Vec<&str> = self.interfaces.iter().map(|(name, _)| *name).collect();
        let hint = nearest(name, &names).map(|near| format!("did you mean {near:?}? ")).unwrap_or_default();
        Problem::at(span, format!("interface {name:?} does not exist"))
            .help(format!("{hint}this node has {}", names.join(", ")))
    }

    fn not_local(&self, address: IpAddr, span: Range<usize>) -> Option<Problem> {
        let local = address.is_loopback() || self.has(address);
        (!local).then(|| {
            Problem::at(span, format!("`local` backend {address} is not an address of this node")).help(
                format!(
                    "this node has {}; with mode = \"dr\" one text serves all nodes: each is local to itself",
                    self.list_addresses()
                ),
            )
        })
    }

    fn list_addresses(&self) -> String {
        let addresses = self.addresses().filter(|(_, own)| !own.addr().is_loopback() && !is_link_local(*own));
        let list: Vec<String> = addresses.map(|(name, own)| format!("{} on {name}", own.addr())).collect();
        if list.is_empty() { "no address".to_owned() } else { list.join(", ") }
    }
}

fn is_link_local(address: IpNet) -> bool {
    matches!(address, IpNet::V6(address) if address.addr().is_unicast_link_local())
}
