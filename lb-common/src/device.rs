//! The node's own network devices, and the VLANs among them.

use crate::keys::Mac;

/// A VLAN tag (IEEE 802.1Q) as its four bytes stand in a frame: the protocol identifier, then priority, drop
/// eligibility and VLAN identifier.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tag(pub u32);

impl Tag {
    /// No tag.
    pub const NONE: Self = Self(0);
    /// In place of the tag to leave with: those the packet came with. It is no tag of any frame.
    pub const AS_IT_CAME: Self = Self(1);
    /// The protocol identifier of a tag, and of the inner one of two.
    pub const PROTOCOL: u16 = 0x8100;
    /// That of the outer one of two, a provider's (802.1ad).
    pub const PROTOCOL_PROVIDER: u16 = 0x88a8;
    /// The bits that say which VLAN it is.
    const IDENTITY: u32 = u32::from_ne_bytes([0xff, 0xff, 0x0f, 0xff]);

    /// The tag of a VLAN, without a priority.
    #[inline(always)]
    pub const fn new(protocol: u16, vlan: u16) -> Self {
        let (p, v) = (protocol.to_be_bytes(), vlan.to_be_bytes());
        Self(u32::from_ne_bytes([p[0], p[1], v[0], v[1]]))
    }

    /// The tag without priority and drop eligibility.
    #[must_use]
    #[inline(always)]
    pub const fn identity(self) -> Self {
        Self(self.0 & Self::IDENTITY)
    }

    /// This tag with the priority and the drop eligibility of another.
    #[must_use]
    #[inline(always)]
    pub const fn with_priority_of(self, other: Self) -> Self {
        Self(self.0 | other.0 & !Self::IDENTITY)
    }

    /// Whether it only has a priority: VLAN 0 is none (802.1p).
    #[inline(always)]
    pub const fn is_priority_only(self) -> bool {
        let bytes = self.identity().0.to_ne_bytes();
        bytes[2] == 0 && bytes[3] == 0
    }
}

/// What the program knows of a network device, by its index: the value of `DEVICES`.
///
/// A device is at the place [`Device::place`] says. A place that holds another device, or none, says nothing about the
/// one looked for.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Device {
    /// The kernel's index; 0 for an empty place.
    pub ifindex: u32,
    /// Its own address. Only what is for this address is steered or answered.
    pub mac: Mac,
    /// Always zero for now.
    pub reserved: u16,
    /// The index of the device below, if it is a VLAN device.
    pub parent: u32,
    /// The tag it gives what it sends; [`Tag::NONE`]: it is no VLAN device.
    pub tag: Tag,
}

impl Device {
    /// How many places there are: a power of two.
    pub const PLACES: u32 = 4_096;

    /// Where a device is in `DEVICES`.
    #[inline(always)]
    pub const fn place(ifindex: u32) -> u32 {
        ifindex & (Self::PLACES - 1)
    }

    /// The key of `VLANS` that leads to it.
    #[inline(always)]
    pub const fn vlan_key(&self) -> VlanKey {
        VlanKey { parent: self.parent, tag: self.tag }
    }
}

/// The key of `VLANS`, which has the indexes of VLAN devices.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct VlanKey {
    /// The index of the device below.
    pub parent: u32,
    /// The [identity](Tag::identity) of its tag.
    pub tag: Tag,
}

/// The key of `VIRTUAL_MACS`: a MAC address of a virtual router (RFC 9568 section 7.3), which a device takes frames for while
/// this node owns the lease that the value names.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct VirtualMac {
    /// The index of the device.
    pub ifindex: u32,
    /// The end of the address, after [`Self::PREFIX`]: 1 for IPv4 or 2 for IPv6, and the virtual router's number.
    pub end: [u8; 2],
    /// Always zero.
    pub reserved: u16,
}

impl VirtualMac {
    /// What all of them begin with.
    pub const PREFIX: [u8; 4] = [0, 0, 0x5e, 0];

    /// The address.
    pub const fn mac(self) -> Mac {
        let ([a, b, c, d], [family, number]) = (Self::PREFIX, self.end);
        Mac([a, b, c, d, family, number])
    }
}

#[cfg(feature = "user")]
mod pod {
    use super::{Device, VirtualMac, VlanKey};

    // SAFETY: `repr(C)` without padding, no pointers, any bit pattern is valid.
    unsafe impl aya::Pod for Device {}
    // SAFETY: as above.
    unsafe impl aya::Pod for VlanKey {}
    // SAFETY: as above.
    unsafe impl aya::Pod for VirtualMac {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_have_no_padding_and_a_place() {
        assert_eq!((size_of::<Device>(), size_of::<VirtualMac>()), (20, 8));
        assert!(Device::PLACES.is_power_of_two());
        assert_eq!(Device::place(Device::PLACES + 7), 7);
    }

    #[test]
    fn virtual_mac_is_that_of_the_rfc() {
        let mac = VirtualMac { ifindex: 2, end: [1, 33], reserved: 0 }.mac();
        assert_eq!(mac.to_string(), "00:00:5e:00:01:21");
    }

    #[test]
    fn tags_are_the_bytes_of_a_frame() {
        let tag = Tag(u32::from_ne_bytes([0x81, 0x00, 0xb0, 0x64]));
        assert_eq!(tag.identity(), Tag::new(Tag::PROTOCOL, 100));
        let other = Tag::new(Tag::PROTOCOL_PROVIDER, 0xfff).with_priority_of(tag);
        assert_eq!(other.0.to_ne_bytes(), [0x88, 0xa8, 0xbf, 0xff]);
        assert!(!tag.is_priority_only());
        assert!(Tag::new(Tag::PROTOCOL, 0).with_priority_of(tag).is_priority_only());
    }
}
