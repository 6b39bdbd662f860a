//! How long a large configuration takes to get into the maps, and how much memory it takes there.

use std::io::Write;

use clap::Args;
use serde::Serialize;

use super::{BenchError, memory};
use crate::{
    control::scale::{self, Shape},
    dataplane::{LoadOptions, XdpDataplane},
};

/// `cargo xtask bench scale`.
#[derive(Args, Debug)]
pub struct Options {
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// How many services
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=1_024))]
    services: u32,
    /// Backends of each
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(2..=1_000))]
    backends: u32,
    /// Slots of each service's ring
    #[arg(long, default_value_t = lb_common::DEFAULT_RING_SIZE)]
    ring_size: u32,
}

#[derive(Debug, Serialize)]
struct Report {
    services: u32,
    backends: u32,
    ring_size: u32,
    steps: Vec<Line>,
    /// Of the process, in MiB: before anything was read, and at its end.
    resident_before: u64,
    resident: u64,
    /// What the kernel charges for the maps without rings, in MiB.
    maps: u64,
    /// For the rings.
    rings: u64,
}

#[derive(Debug, Serialize)]
struct Line {
    what: &'static str,
    milliseconds: u64,
}

/// Carries the command out.
pub fn execute(options: &Options) -> Result<(), BenchError> {
    let Options { services, backends, ring_size, json } = *options;
    let room = services.saturating_mul(backends).saturating_add(1);
    let resident_before = memory::resident()?;
    let load = LoadOptions { backends: room, ..LoadOptions::new("/nonexistent") };
    let mut dataplane = XdpDataplane::load(load)?;
    let steps = scale::run(&mut dataplane, room, Shape { services, backends, ring_size })
        .map_err(BenchError::Scale)?;
    let report = Report {
        services,
        backends,
        ring_size,
        steps: steps
            .iter()
            .map(|step| Line { what: step.what, milliseconds: step.time.as_millis() as u64 })
            .collect(),
        resident_before,
        resident: memory::resident()?,
        maps: memory::open_maps()?,
        rings: dataplane.rings_memory()? >> 20,
    };
    show(&report, json)
}

fn show(report: &Report, json: bool) -> Result<(), BenchError> {
    let mut out = std::io::stdout().lock();
    if json {
        serde_json::to_writer_pretty(&mut out, report).map_err(std::io::Error::from)?;
        return Ok(writeln!(out)?);
    }
    writeln!(
        out,
        "{} services of {} backends, rings of {} slots",
        report.services, report.backends, report.ring_size
    )?;
    for line in &report.steps {
        writeln!(out, "{:>8} ms  {}", line.milliseconds, line.what)?;
    }
    writeln!(out, "{:>8} MiB resident before, {} MiB after", report.resident_before, report.resident)?;
    Ok(writeln!(out, "{:>8} MiB of maps, {} MiB of rings", report.maps, report.rings)?)
}
