//! VIPs as addresses of this node: what is there because of us, and what should be.

use std::collections::BTreeSet;

use ipnet::IpNet;

/// An address with its prefix on an interface.
pub(super) type Assigned = (String, IpNet);

/// The addresses that this daemon, or one before it, put on the node.
#[derive(Debug, Default)]
pub(super) struct Addresses {
    applied: BTreeSet<Assigned>,
    /// Wanted ones that somebody else had put there before: they stay when they are not wanted any more.
    found: BTreeSet<Assigned>,
}

impl Addresses {
    /// Notes an address as there: just added, or left by an earlier daemon.
    pub(super) fn note(&mut self, address: Assigned) {
        self.applied.insert(address);
    }

    /// Notes a wanted address as somebody else's.
    pub(super) fn note_found(&mut self, address: Assigned) {
        self.found.insert(address);
    }

    /// Notes an address as gone, whoever removed it. Returns whether it was one of ours.
    pub(super) fn forget(&mut self, address: &Assigned) -> bool {
        self.applied.remove(address) | self.found.remove(address)
    }

    /// Forgets every address that is not there.
    pub(super) fn retain(&mut self, is_there: impl Fn(&str, IpNet) -> bool) {
        self.applied.retain(|(interface, address)| is_there(interface, *address));
        self.found.retain(|(interface, address)| is_there(interface, *address));
    }

    /// What has to be removed, then what has to be added.
    ///
    /// Loopback comes last among the removals and first among the additions, so that the stack accepts
    /// packets to the VIP all the while.
    pub(super) fn difference(&self, desired: &BTreeSet<Assigned>) -> (Vec<Assigned>, Vec<Assigned>) {
        let on_loopback = |(name, _): &Assigned| name == super::desired::LOOPBACK;
        let mut remove: Vec<Assigned> = self.applied.difference(desired).cloned().collect();
        remove.sort_by_key(on_loopback);
        let mut add: Vec<Assigned> =
            desired.difference(&self.applied).filter(|a| !self.found.contains(*a)).cloned().collect();
        add.sort_by_key(|address| !on_loopback(address));
        (remove, add)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on(interface: &str, address: &str) -> Assigned {
        (interface.to_owned(), address.parse().unwrap())
    }

    #[test]
    fn address_removed_by_somebody_else_is_added_again() {
        let vip = on("eth0", "172.20.128.4/24");
        let desired = BTreeSet::from([vip.clone()]);
        let mut addresses = Addresses::default();
        addresses.note(vip.clone());
        assert_eq!(addresses.difference(&desired), (vec![], vec![]));
        assert!(addresses.forget(&vip));
        assert_eq!(addresses.difference(&desired), (vec![], vec![vip]));
    }

    #[test]
    fn address_that_somebody_else_had_put_there_stays() {
        let own = on("eth0", "172.20.128.9/24");
        let desired = BTreeSet::from([own.clone()]);
        let mut addresses = Addresses::default();
        addresses.note_found(own.clone());
        assert_eq!(addresses.difference(&desired), (vec![], vec![]));
        assert_eq!(addresses.difference(&BTreeSet::new()), (vec![], vec![]));
        assert!(addresses.forget(&own));
        assert_eq!(addresses.difference(&desired), (vec![], vec![own]));
    }

    #[test]
    fn loopback_goes_last_and_comes_first() {
        let (vip, local) = (on("eth0", "172.20.128.4/24"), on("lo", "172.20.128.4/32"));
        let both = BTreeSet::from([vip.clone(), local.clone()]);
        let mut addresses = Addresses::default();
        assert_eq!(addresses.difference(&both).1, vec![local.clone(), vip.clone()]);
        addresses.note(vip.clone());
        addresses.note(local.clone());
        assert_eq!(addresses.difference(&BTreeSet::new()).0, vec![vip, local]);
    }
}
