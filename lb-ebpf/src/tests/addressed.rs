//! Frames for other machines.

use super::*;

const SOMEBODY: Mac = Mac([2, 0, 0, 0, 0, 0x55]);
const EVERYBODY: Mac = Mac([0xff; 6]);

fn to(mac: Mac, mut frame: Vec<u8>) -> Vec<u8> {
    frame[..6].copy_from_slice(&mac.0);
    frame
}

fn arp_request() -> Vec<u8> {
    let mut frame = vec![0; 42];
    frame[12..22].copy_from_slice(&[8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
    frame[38..42].copy_from_slice(&VIP.octets());
    frame
}

#[test]
fn what_is_for_another_machine_is_left_alone() {
    for frame in [to_service(), segment((CLIENT, 40_000), (VIP, 81)), reply(), arp_request()] {
        for mac in [SOMEBODY, Mac([2, 0, 0, 0, 0, 2]), Mac([3, 0, 0, 0, 0, 1])] {
            let mut maps = Maps::new(MODE_NAT);
            let frame = to(mac, frame.clone());
            if frame[12..14] == [8, 6] && mac.0[0] & 1 != 0 {
                continue;
            }
            let mut seen = frame.clone();
            assert_eq!(maps.run::<false>(&mut seen), Verdict::OtherMac.into(), "{mac}");
            assert_eq!(seen, frame);
            assert!(maps.counted.borrow().is_empty());
        }
    }
}

#[test]
fn question_to_everybody_is_answered_and_so_is_one_to_this_interface() {
    for mac in [EVERYBODY, OWN] {
        assert_eq!(Maps::new(MODE_DR).run::<false>(&mut to(mac, arp_request())).verdict, Verdict::ArpOwner);
    }
}

#[test]
fn foreign_traffic_is_not_asked_whom_it_is_for() {
    let mut frame = to(SOMEBODY, segment((CLIENT, 40_000), (Be32::from_octets([198, 51, 100, 7]), 80)));
    assert_eq!(Maps::new(MODE_DR).run::<false>(&mut frame).verdict, Verdict::NotOurs);
}

#[test]
fn interface_that_nobody_described_takes_everything() {
    let mut maps = Maps { devices: Vec::new(), ..Maps::new(MODE_DR) };
    assert_eq!(maps.run::<false>(&mut to(SOMEBODY, to_service())).verdict, Verdict::Dr);
    maps.devices.push(Device { ifindex: INGRESS + 1, mac: OWN, ..Device::default() });
    assert_eq!(maps.run::<false>(&mut to(SOMEBODY, to_service())).verdict, Verdict::Dr);
}

#[test]
fn frame_for_a_virtual_mac_is_the_owners() {
    let mac = VirtualMac { ifindex: INGRESS, end: [1, 33], reserved: 0 };
    let of = |lease: u64, mac: VirtualMac| {
        let mut maps = Maps { lease, virtual_macs: HashMap::from([(mac, 1)]), ..Maps::new(MODE_DR) };
        let frame = [0, 0, 0x5e, 0, 1, 33];
        let mut run = |packet| maps.run::<false>(&mut to(Mac(frame), packet)).verdict;
        [run(to_service()), run(segment((CLIENT, 40_000), (VIP, 81))), run(arp_request())]
    };
    assert_eq!(of(1_000, mac), [Verdict::Dr, Verdict::VipStack, Verdict::ArpOwner]);
    assert_eq!(of(lb_common::LEASE_BACKUP, mac), [Verdict::VirtualMacNotOwner; 3]);
    assert_eq!(of(499, mac), [Verdict::LeaseExpired, Verdict::LeaseExpired, Verdict::ArpLeaseExpired]);
    for other in [VirtualMac { ifindex: INGRESS + 1, ..mac }, VirtualMac { end: [2, 33], ..mac }] {
        assert_eq!(of(1_000, other), [Verdict::OtherMac; 3]);
    }
}

#[test]
fn node_that_has_just_handed_over_takes_what_still_comes_and_answers_no_question() {
    let run = |lease: u64, vip_flags: u32| {
        let run = |packet: Vec<u8>| {
            let mut maps = Maps { lease, vip_flags, ..Maps::new(MODE_DR) };
            maps.run::<false>(&mut packet.clone()).verdict
        };
        [run(segment((CLIENT, 40_000), (VIP, 81))), run(to(OWN, arp_request()))]
    };
    let backup = lb_common::LEASE_BACKUP;
    assert_eq!(run(backup, Vip::HELD), [Verdict::VipStack, Verdict::ArpNotOwner]);
    assert_eq!(run(backup, 0), [Verdict::VipNotOwner, Verdict::ArpNotOwner]);
    assert_eq!(run(backup, Vip::HELD | Vip::NOT_ACCEPTED), [Verdict::VipNotOwner, Verdict::ArpNotOwner]);
    assert_eq!(run(499, Vip::HELD), [Verdict::LeaseExpired, Verdict::ArpLeaseExpired], "fell silent");
}

#[test]
fn owner_that_does_not_accept_takes_services_and_questions_only() {
    let run = |packet: Vec<u8>| {
        let mut maps = Maps { vip_flags: Vip::NOT_ACCEPTED, ..Maps::new(MODE_DR) };
        maps.run::<false>(&mut packet.clone()).verdict
    };
    assert_eq!(run(segment((CLIENT, 40_000), (VIP, 81))), Verdict::NotAccepted);
    assert_eq!(run(to_service()), Verdict::Dr);
    assert_eq!(run(to(EVERYBODY, arp_request())), Verdict::ArpOwner);
}
