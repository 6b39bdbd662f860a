//! Native or generic XDP, by interface. Nothing is attached to find out.

use std::{fs, path::Path};

use super::{
    netdev,
    report::{Check, Report},
};

const SECTION: &str = "XDP by interface";

/// Drivers with native XDP, for kernels before 6.3 that do not tell themselves. By module name.
const NATIVE_DRIVERS: [&str; 23] = [
    "atlantic",
    "bnxt_en",
    "dpaa2_eth",
    "ena",
    "enetc",
    "fec",
    "gve",
    "hv_netvsc",
    "i40e",
    "ice",
    "igb",
    "igc",
    "ixgbe",
    "ixgbevf",
    "mlx4_en",
    "mlx5_core",
    "mvneta",
    "nfp",
    "qede",
    "sfc",
    "stmmac",
    "veth",
    "virtio_net",
];

pub(super) fn checks(report: &mut Report) {
    match netdev::devices() {
        Ok(devices) => {
            for device in devices {
                report.add(
                    SECTION,
                    Check::ok(&device.name, format!("{} (the kernel says)", device.features.describe())),
                );
            }
        }
        Err(error) => {
            for name in names() {
                report.add(SECTION, by_driver(&name, &error.to_string()));
            }
        }
    }
}

fn names() -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir("/sys/class/net")
        .map(|entries| {
            entries.filter_map(Result::ok).filter_map(|entry| entry.file_name().into_string().ok()).collect()
        })
        .unwrap_or_default();
    names.sort();
    names
}

fn by_driver(name: &str, why: &str) -> Check {
    let driver = Path::new("/sys/class/net").join(name).join("device/driver").canonicalize().ok();
    let driver =
        driver.as_deref().and_then(Path::file_name).map(|driver| driver.to_string_lossy().into_owned());
    let detail = match driver {
        Some(driver) if NATIVE_DRIVERS.contains(&driver.replace('-', "_").as_str()) => {
            format!("native, by the list of drivers ({driver})")
        }
        Some(driver) => format!("generic only, by the list of drivers ({driver})"),
        None => "a virtual interface; whether native works shows when attaching".to_owned(),
    };
    Check::not_applicable(name, format!("{detail}; the kernel does not tell: {why}"), None)
}
