//! The kernel's own packet generator (`Documentation/networking/pktgen.rst`). It sends packets of the stack, so a node with an
//! XDP program has to turn each into a frame first.

use std::{
    fs, io,
    net::Ipv4Addr,
    thread,
    time::{Duration, Instant},
};

use xtask_report::plan::Route;

use super::{
    super::BenchError,
    live::{self, Traffic},
};

/// Bytes of a packet without its checksum: as long as a live frame.
const LENGTH: usize = 80;
/// How long all packets of a run may take, a slow machine's included.
const SEND_WITHIN: Duration = Duration::from_secs(15);
/// The first client, 100.64.0.0, and how many there are.
const CLIENTS: u32 = 0x6440_0000;
const MASK: u32 = 0x3f_ffff;

/// Sends UDP packets of as many clients as there are flows; nanoseconds for each.
pub(super) fn send(route: &Route, traffic: Traffic, packets: u32, cpu: usize) -> Result<f64, BenchError> {
    let folder = format!("/proc/{}/net/pktgen", route.generator.process);
    let (thread, device) =
        (format!("{folder}/kpktgend_{cpu}"), format!("{}@{cpu}", route.generator.interface));
    let write = |path: &str, command: &str| {
        fs::write(path, format!("{command}\n"))
            .map_err(|source| io::Error::new(source.kind(), format!("{path}: {command}: {source}")))
    };
    write(&thread, "rem_device_all")?;
    write(&thread, &format!("add_device {device}"))?;
    let path = format!("{folder}/{device}");
    for command in commands(route, traffic, packets) {
        write(&path, &command)?;
    }
    // Whose generator it starts the kernel tells by the network of the thread that writes, whatever the path says. Returns when
    // all have been sent, or at once if the generator's thread has not begun within 125 ms.
    live::within(route.generator.process, || write(&format!("{folder}/pgctrl"), "start"))??;
    let deadline = Instant::now() + SEND_WITHIN;
    let took = loop {
        let text = fs::read_to_string(&path)?;
        if let Some(took) = nanoseconds(&text, packets) {
            break took;
        }
        if Instant::now() > deadline {
            let both = format!("{} / {}", fs::read_to_string(&thread)?.trim(), text.trim());
            return Err(io::Error::other(format!("{path} says: {}", both.replace('\n', " / "))).into());
        }
        thread::sleep(Duration::from_millis(10));
    };
    write(&thread, "rem_device_all")?;
    Ok(took)
}

fn commands(route: &Route, traffic: Traffic, packets: u32) -> Vec<String> {
    let clients = if traffic.flows == 0 { packets } else { traffic.flows };
    let first = CLIENTS | traffic.from & MASK;
    // The range must not run over the end of the network.
    let first = first.min(CLIENTS + MASK - (clients - 1));
    let mac = route.mac.map(|byte| format!("{byte:02x}")).join(":");
    vec![
        format!("count {packets}"),
        "delay 0".to_owned(),
        "clone_skb 0".to_owned(),
        format!("pkt_size {LENGTH}"),
        format!("dst_mac {mac}"),
        format!("dst {}", route.to),
        format!("src_min {}", Ipv4Addr::from_bits(first)),
        format!("src_max {}", Ipv4Addr::from_bits(first + (clients - 1))),
        format!("udp_dst_min {}", route.port),
        format!("udp_dst_max {}", route.port),
        "udp_src_min 1024".to_owned(),
        "udp_src_max 1024".to_owned(),
    ]
}

/// From `Result: OK: 37541(c37540+d1) usec, 20000 (80byte,0frags)`.
fn nanoseconds(text: &str, packets: u32) -> Option<f64> {
    let result = text.lines().find_map(|line| line.trim().strip_prefix("Result: OK: "))?;
    let (took, rest) = result.split_once('(')?;
    let sent = rest.split_once("usec, ")?.1.split(' ').next()?;
    (sent.parse() == Ok(packets)).then_some(())?;
    Some(took.parse::<f64>().ok()? * 1e3 / f64::from(packets))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_generators_answer_is_understood() {
        let text = "Params: count 20000\n     flags: \nCurrent:\n     pkts-sofar: 20000\n\
                    Result: OK: 40000(c39000+d1000) usec, 20000 (80byte,0frags)\n  500000pps 320Mb/sec\n";
        assert_eq!(nanoseconds(text, 20_000), Some(2_000.0));
        assert_eq!(nanoseconds(text, 20_001), None, "some were not sent");
        assert_eq!(nanoseconds("Result: Idle\n", 1), None);
    }
}
