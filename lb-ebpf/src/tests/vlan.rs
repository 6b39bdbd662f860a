//! Tagged frames.

use super::*;

/// The interface is [`INGRESS`]; on top of it VLAN 100 and on that VLAN 7, and a provider's VLAN 100.
const VLAN: u32 = 70;
const INNER: u32 = 71;
const PROVIDER: u32 = 72;
/// On another interface, VLAN 200.
const ELSEWHERE: u32 = 80;
const OTHER_PARENT: u32 = 8;

fn maps(mode: u8) -> Maps {
    let mut maps = Maps::new(mode);
    let tag = Tag::new;
    for (ifindex, parent, tag) in [
        (VLAN, INGRESS, tag(Tag::PROTOCOL, 100)),
        (INNER, VLAN, tag(Tag::PROTOCOL, 7)),
        (PROVIDER, INGRESS, tag(Tag::PROTOCOL_PROVIDER, 100)),
        (ELSEWHERE, OTHER_PARENT, tag(Tag::PROTOCOL, 200)),
    ] {
        maps.devices.push(Device { ifindex, mac: OWN, parent, tag, ..Device::default() });
    }
    maps
}

fn leaves_through(maps: &mut Maps, ifindex: u32, tag: Tag) {
    maps.interfaces.insert(1, Interface { ifindex, mac: OWN, mtu: 1500, tag });
}

/// The frame with tags, the outer one first.
fn tagged(frame: &[u8], tags: &[[u8; 4]]) -> Vec<u8> {
    [&frame[..12], &tags.concat(), &frame[12..]].concat()
}

const ONE: [u8; 4] = [0x81, 0, 0, 100];
const URGENT: [u8; 4] = [0x81, 0, 0xf0, 100];

#[test]
fn what_is_not_ours_passes_as_it_came() {
    let foreign = segment((CLIENT, 40_000), (Be32::from_octets([198, 51, 100, 7]), 80));
    for tags in [vec![ONE], vec![URGENT], vec![[0x88, 0xa8, 0x10, 100]], vec![URGENT, [0x81, 0, 0x50, 7]]] {
        let frame = tagged(&foreign, &tags);
        assert_eq!(
            maps(MODE_DR).run_with_room::<false>(&frame),
            (Verdict::NotOurs.into(), frame),
            "{tags:x?}"
        );
    }
}

#[test]
fn local_backends_get_frames_as_they_came() {
    for tags in [vec![URGENT], vec![URGENT, [0x81, 0, 0x50, 7]], vec![[0x81, 0, 0xe0, 0]]] {
        let frame = tagged(&to_service(), &tags);
        assert_eq!(
            maps(MODE_LOCAL).run_with_room::<false>(&frame),
            (Verdict::Local.into(), frame),
            "{tags:x?}"
        );
    }
}

#[test]
fn vlans_of_nobody_are_not_ours() {
    for tags in [
        vec![[0x81, 0, 0, 101]],
        vec![[0x88, 0xa8, 0, 101]],
        vec![[0x81, 0, 0, 200]],
        vec![ONE, [0x81, 0, 0, 8]],
        vec![[0x88, 0xa8, 0, 100], ONE],
        vec![ONE, [0x81, 0, 0, 7], [0x81, 0, 0, 7]],
    ] {
        let frame = tagged(&to_service(), &tags);
        let (decision, out) = maps(MODE_DR).run_with_room::<false>(&frame);
        assert_eq!((decision.verdict, out), (Verdict::NotOurs, frame), "{tags:x?}");
    }
}

#[test]
fn steered_packet_gets_the_tag_of_where_it_leaves_and_keeps_its_priority() {
    let (vlan, provider) = (Tag::new(Tag::PROTOCOL, 100), Tag::new(Tag::PROTOCOL_PROVIDER, 5));
    for (came, egress, tag, left) in [
        (vec![], INGRESS, vlan, vec![ONE]),
        (vec![URGENT], INGRESS, vlan, vec![URGENT]),
        (vec![URGENT], INGRESS, Tag::NONE, vec![]),
        (vec![URGENT], OTHER_PARENT, Tag::new(Tag::PROTOCOL, 200), vec![[0x81, 0, 0xf0, 200]]),
        (vec![URGENT], OTHER_PARENT, Tag::NONE, vec![]),
        (vec![URGENT, [0x81, 0, 0, 7]], INGRESS, provider, vec![[0x88, 0xa8, 0xf0, 5]]),
        (vec![[0x81, 0, 0x60, 0]], INGRESS, Tag::NONE, vec![]),
    ] {
        for mode in [MODE_DR, MODE_NAT] {
            let mut untagged = Maps::new(mode);
            let mut expected = to_service();
            untagged.run::<false>(&mut expected);

            let mut maps = maps(mode);
            leaves_through(&mut maps, egress, tag);
            let (decision, out) = maps.run_with_room::<false>(&tagged(&to_service(), &came));
            let verdict = if mode == MODE_DR { Verdict::Dr } else { Verdict::Nat };
            let way = if egress == INGRESS { Egress::back(tag) } else { Egress::slot(1, tag) };
            assert_eq!(decision, Decision { verdict, egress: way }, "{came:x?}");
            assert_eq!(out, tagged(&expected, &left), "{came:x?}");
            assert_checksums(&out[left.len() * 4..]);
        }
    }
}

#[test]
fn reply_asks_by_the_vlan_it_came_in_by_and_leaves_by_the_device_below() {
    let two = [URGENT, [0x81, 0, 0x50, 7]];
    for (came, route, egress, left) in [
        (&two[..1], VLAN, Egress::BACK, vec![URGENT]),
        (&two[..], INNER, Egress::BACK, two.to_vec()),
        (&two[..1], INGRESS, Egress::back(Tag::NONE), vec![]),
        (&two[..0], VLAN, Egress::back(Tag::new(Tag::PROTOCOL, 100)), vec![ONE]),
        (
            &two[..1],
            ELSEWHERE,
            Egress::interface(8, Tag::new(Tag::PROTOCOL, 200)),
            vec![[0x81, 0, 0xf0, 200]],
        ),
        (&two[..1], 9, Egress::interface(9, Tag::NONE), vec![]),
    ] {
        let mut maps = maps(MODE_NAT);
        maps.route = Route::Forward { interface: route, source: OWN, destination: NEIGHBOUR, mtu: 1500 };
        let (decision, out) = maps.run_with_room::<false>(&tagged(&reply(), came));
        assert_eq!(decision, Decision { verdict: Verdict::NatReply, egress }, "{route}");
        assert_eq!(out.len(), reply().len() + left.len() * 4);
        assert_eq!(out[12..][..left.len() * 4], *left.concat(), "{route}");
        assert_checksums(&out[left.len() * 4..]);
    }
}

#[test]
fn two_tags_are_not_written() {
    let mut maps = maps(MODE_NAT);
    maps.route = Route::Forward { interface: INNER, source: OWN, destination: NEIGHBOUR, mtu: 1500 };
    assert_eq!(maps.run_with_room::<false>(&tagged(&reply(), &[ONE])).0.verdict, Verdict::NoRoute);
}

#[test]
fn vlan_device_takes_what_is_for_its_own_address() {
    let own = Mac([2, 0, 0, 0, 0, 0x77]);
    let mut maps = maps(MODE_LOCAL);
    for device in maps.devices.iter_mut().filter(|device| device.ifindex == VLAN) {
        device.mac = own;
    }
    let frame = tagged(&to_service(), &[ONE]);
    assert_eq!(maps.run_with_room::<false>(&frame), (Verdict::OtherMac.into(), frame.clone()));
    let mut frame = frame;
    frame[..6].copy_from_slice(&own.0);
    assert_eq!(maps.run_with_room::<false>(&frame), (Verdict::Local.into(), frame));
}

#[test]
fn tagged_question_for_a_vip_is_watched_too() {
    let mut arp = vec![0; 42];
    arp[..6].fill(0xff);
    arp[12..22].copy_from_slice(&[8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
    arp[38..42].copy_from_slice(&VIP.octets());
    let frame = tagged(&arp, &[ONE]);
    for (lease, verdict) in [(1_000, Verdict::ArpOwner), (0, Verdict::ArpNotOwner)] {
        let mut maps = Maps { lease, ..maps(MODE_DR) };
        let (decision, out) = maps.run_with_room::<false>(&frame);
        assert_eq!(decision.verdict, verdict);
        assert!(verdict == Verdict::ArpNotOwner || out == frame);
    }
}

#[test]
fn cut_tags_pass() {
    for length in 14..22 {
        let frame = &tagged(&to_service(), &[ONE, [0x81, 0, 0, 7]])[..length];
        let (decision, out) = maps(MODE_DR).run_with_room::<false>(frame);
        assert_eq!((decision.verdict, &out[..]), (Verdict::NotOurs, frame), "{length}");
    }
}
