//! A large configuration.

use std::{fmt::Write as _, time::Instant};

use super::*;

const SERVICES: u32 = 1_000;
const BACKENDS: u32 = 100;

fn large() -> Config {
    let mut text = "[interface.eth0]\n".to_owned();
    for service in 0..SERVICES {
        let (high, low) = (service / 200, service % 200 + 1);
        // Small rings: what is tried is the reconciler, not how long rings take.
        write!(
            text,
            "[[service]]\nname = \"s{service}\"\nvip = \"192.168.{high}.{low}\"\nport = 80\nprotocol = \"tcp\"\n\
             standalone = true\nring_size = 10007\n"
        )
        .unwrap();
        for backend in 0..BACKENDS {
            let number = service * BACKENDS + backend;
            let [_, a, b, c] = number.to_be_bytes();
            write!(text, "[[service.backend]]\naddress = \"10.{a}.{b}.{c}\"\nmode = \"gue\"\n").unwrap();
        }
    }
    Config::parse("large", &text.replace("\"10.0.0.0\"", "\"10.9.0.0\""))
        .unwrap_or_else(|errors| panic!("{errors}"))
}

#[test]
fn thousand_services_of_a_hundred_backends_are_applied_once_and_then_by_difference() {
    let started = Instant::now();
    let config = large();
    println!("parsed in {:?}", started.elapsed());
    let mut node = Node::default();
    let started = Instant::now();
    let wanted = desired(&config, &NodeA::default());
    println!("desired state in {:?}", started.elapsed());
    let started = Instant::now();
    let operations = node.apply(&wanted).len();
    println!("applied by {operations} operations in {:?}", started.elapsed());
    assert_eq!(node.dataplane.backends.len(), (SERVICES * BACKENDS) as usize);
    assert_eq!(node.dataplane.services.len(), SERVICES as usize);

    let started = Instant::now();
    assert_eq!(node.apply(&wanted), []);
    println!("applied again in {:?}", started.elapsed());

    let address = config.services[500].backends[7].address;
    let failed = NodeA { unhealthy: BTreeSet::from([address]), ..NodeA::default() };
    let wanted = desired(&config, &failed);
    let started = Instant::now();
    let operations = node.apply(&wanted);
    println!("one failure applied in {:?}", started.elapsed());
    // The work is that of one service, not of all.
    let rings = operations.iter().filter(|operation| matches!(operation, Operation::PutRing(..))).count();
    assert!((1..=2).contains(&rings) && operations.len() <= 8, "{} operations", operations.len());
}
