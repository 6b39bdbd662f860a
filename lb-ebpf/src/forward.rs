//! How a packet gets to its backend: `local`, `dr`, `nat`; `ipip` and `gue` are in [`tunnel`].

use lb_common::{MODE_DR, MODE_GUE, MODE_IPIP, MODE_LOCAL, MODE_NAT, NextHop, Stage, Tag, Verdict};

use crate::{
    backend::BackendEntry,
    decision::{Decision, Egress, Way},
    ip::Ip,
    kernel::{Kernel, Question, Route},
    packet::Header,
    parse::{ETHERNET, Ethernet, MacWords, Segment},
    rewrite::{self, Side},
    tunnel,
};

/// Sends a packet to the backend with the identifier `id`, and counts it for that backend.
#[inline(always)]
pub(crate) fn to_backend<K: Kernel, I: Ip, const GENERIC: bool>(
    kernel: &K,
    ethernet: Ethernet,
    segment: &Segment<I>,
    id: u32,
    backend: BackendEntry<'_>,
    hash: u32,
) -> Result<Decision, Verdict> {
    let bytes = segment.frame_length();
    let decision = match backend.mode() {
        MODE_LOCAL => Verdict::Local.into(),
        MODE_DR => {
            let hop = Hop::to_backend(kernel, backend, segment.ip)?;
            if hop.is_too_long(bytes) {
                return Ok(Decision::go_on_in(Stage::TooBig));
            }
            // Generic mode keeps the kernel's note that a checksum is partial, and nothing it covers changes.
            if !GENERIC {
                rewrite::finish_partial(kernel, segment)?;
            }
            hop.take(ethernet, segment.ip);
            Decision { verdict: Verdict::Dr, egress: hop.egress }
        }
        MODE_NAT => {
            let hop = Hop::to_backend(kernel, backend, segment.ip)?;
            if !GENERIC && hop.is_too_long(bytes) {
                return Ok(Decision::go_on_in(Stage::TooBig));
            }
            rewrite::endpoint::<K, I, GENERIC>(
                kernel,
                segment,
                Side::Destination,
                backend.address(),
                backend.port(),
            )?;
            Decision {
                verdict: Verdict::Nat,
                egress: hop.take_or_leave_to_stack::<I, GENERIC>(ethernet, segment.ip, bytes),
            }
        }
        MODE_IPIP | MODE_GUE => {
            let hop = Hop::to_backend(kernel, backend, segment.ip)?;
            let length = bytes - ETHERNET;
            if length > longest::<GENERIC>(backend, &hop) {
                return Ok(Decision::go_on_in(Stage::TooBig));
            }
            if !GENERIC {
                rewrite::finish_partial(kernel, segment)?;
            }
            segment.ip.spend_hop();
            tunnel::encapsulate(kernel, segment.ip, length, backend, &hop, hash)?
        }
        _ => return Err(Verdict::Internal),
    };
    kernel.count_backend(id, bytes, segment.opens_connection);
    Ok(decision)
}

/// The longest IP packet that gets to a backend through `hop` in one piece, in bytes.
#[inline(always)]
pub(crate) fn longest<const GENERIC: bool>(backend: BackendEntry<'_>, hop: &Hop) -> u32 {
    let mtu = u32::from(hop.mtu);
    match backend.mode() {
        // What generic mode cannot send the kernel cannot cut either, not knowing of the outer header.
        MODE_IPIP | MODE_GUE if GENERIC => backend.room().min(mtu),
        MODE_IPIP | MODE_GUE => backend.room(),
        _ if hop.egress.way == Way::Back => u32::MAX,
        _ => mtu,
    }
}

/// Whether a packet may make another hop.
#[inline(always)]
pub(crate) fn require_ttl<I: Ip>(ip: I) -> Result<(), Verdict> {
    if ip.hops() <= 1 { Err(Verdict::TtlExpired) } else { Ok(()) }
}

/// The next station of a packet.
pub(crate) struct Hop {
    /// The neighbour's address.
    pub(crate) destination: MacWords,
    /// The address of the interface it leaves through.
    pub(crate) source: MacWords,
    /// That interface.
    pub(crate) egress: Egress,
    /// The longest IP packet it takes, in bytes.
    pub(crate) mtu: u16,
}

impl Hop {
    /// The next station on the way to a backend.
    #[inline(always)]
    pub(crate) fn resolve<K: Kernel>(kernel: &K, next_hop: NextHop) -> Result<Self, Verdict> {
        if next_hop == NextHop::UNRESOLVED {
            return Err(Verdict::NoNeighbour);
        }
        let slot = next_hop.slot();
        let interface =
            kernel.interface(slot).filter(|interface| interface.ifindex != 0).ok_or(Verdict::Internal)?;
        let egress = if interface.ifindex == kernel.ingress() {
            Egress::back(interface.tag)
        } else {
            Egress::slot(u32::from(slot), interface.tag)
        };
        Ok(Self {
            destination: next_hop.mac().into(),
            source: interface.mac.into(),
            egress,
            mtu: interface.mtu,
        })
    }

    /// The same for a packet that is going to make that hop.
    #[inline(always)]
    pub(crate) fn to_backend<K: Kernel, I: Ip>(
        kernel: &K,
        backend: BackendEntry<'_>,
        ip: I,
    ) -> Result<Self, Verdict> {
        let hop = Self::resolve(kernel, backend.next_hop())?;
        require_ttl(ip)?;
        Ok(hop)
    }

    /// The next station on the way the routing table says.
    #[inline(always)]
    pub(crate) fn by_route<K: Kernel>(kernel: &K, question: &Question) -> Result<Self, Verdict> {
        match kernel.route(question) {
            Route::Forward { interface, source, destination, mtu } => {
                let egress = Self::out_of(kernel, interface)?;
                Ok(Self { destination: destination.into(), source: source.into(), egress, mtu })
            }
            Route::NotForwarded => Err(Verdict::NotOurs),
            Route::ForwardingOff => Err(Verdict::ForwardingOff),
            Route::Nowhere => Err(Verdict::NoRoute),
        }
    }

    /// Out of the device that the routing table names: of a VLAN device by the one below, because drivers send nothing
    /// through the former.
    #[inline(always)]
    fn out_of<K: Kernel>(kernel: &K, interface: u32) -> Result<Egress, Verdict> {
        if interface == kernel.logical_ingress() {
            return Ok(Egress::BACK);
        }
        let tagged = |ifindex| kernel.device(ifindex).filter(|device| device.tag != Tag::NONE);
        let (ifindex, tag) = match tagged(interface) {
            None => (interface, Tag::NONE),
            // One tag is what is written.
            Some(device) if tagged(device.parent).is_some() => return Err(Verdict::NoRoute),
            Some(device) => (device.parent, device.tag),
        };
        Ok(if ifindex == kernel.ingress() { Egress::back(tag) } else { Egress::interface(ifindex, tag) })
    }

    /// Whether the kernel does not redirect a frame of so many bytes. Sending it back where it came from works, also
    /// where GRO has made one of many, or TSO has yet to make many of one.
    #[inline(always)]
    pub(crate) fn is_too_long(&self, bytes: u32) -> bool {
        self.egress.way != Way::Back && bytes > ETHERNET + u32::from(self.mtu)
    }

    /// Sends a packet of a frame of `bytes` bytes on whose addresses lead to its next station anyway. What generic mode
    /// cannot redirect, the stack forwards by them; it also counts the hop.
    #[inline(always)]
    pub(crate) fn take_or_leave_to_stack<I: Ip, const GENERIC: bool>(
        &self,
        ethernet: Ethernet,
        ip: I,
        bytes: u32,
    ) -> Egress {
        if GENERIC && self.is_too_long(bytes) {
            return Egress::STACK;
        }
        self.take(ethernet, ip);
        self.egress
    }

    /// Sends the packet on: new Ethernet addresses, one hop fewer to make.
    #[inline(always)]
    pub(crate) fn take<I: Ip>(&self, ethernet: Ethernet, ip: I) {
        ip.spend_hop();
        ethernet.set_addresses(self.destination, self.source);
    }

    /// Writes an Ethernet header.
    #[inline(always)]
    pub(crate) fn address<const N: usize>(&self, frame: Header<N>, ethertype: u16) {
        address(frame, self.destination, self.source, ethertype);
    }
}

/// Writes an Ethernet header.
#[inline(always)]
pub(crate) fn address<const N: usize>(
    frame: Header<N>,
    destination: MacWords,
    source: MacWords,
    ethertype: u16,
) {
    frame.write::<u32, 0>(destination.start);
    frame.write::<u16, 4>(destination.rest);
    frame.write::<u32, 6>(source.start);
    frame.write::<u16, 10>(source.rest);
    frame.write::<u16, 12>(ethertype);
}
