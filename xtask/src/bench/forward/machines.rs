//! The benchmark in virtual machines, where IPVS is: this very program runs in there, and prints its report on the console.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use clap::ValueEnum as _;

use super::{Options, Part, Programs, verdict};
use crate::{
    Error,
    bench::machine,
    vm::{Errand, Series},
};

/// What one machine may take: emulated, and with its instructions counted, the verifier alone takes minutes.
const TIMEOUT: Duration = Duration::from_hours(1);

/// Measures in one machine after the other.
pub(super) fn execute(options: &Options, programs: &Programs, series: &[Series]) -> Result<ExitCode, Error> {
    let counting = options.machine.count_instructions;
    let mut exit = ExitCode::SUCCESS;
    for &series in series {
        let words = words(options, programs, counting)?;
        let report = machine::measure(
            series,
            Errand { command: &words, timeout: TIMEOUT, instruction_counting: counting },
        )?;
        options.output.for_part(series.name()).publish(&report)?;
        if verdict(&report) != ExitCode::SUCCESS {
            exit = ExitCode::FAILURE;
        }
    }
    Ok(exit)
}

/// This command as it runs in there.
fn words(options: &Options, programs: &Programs, counting: bool) -> Result<Vec<String>, Error> {
    let own = std::env::current_exe()
        .map_err(|source| Error::File { path: PathBuf::from("/proc/self/exe"), source })?;
    let text = |path: &Path| path.to_string_lossy().into_owned();
    // Progress in lines: what moves on a terminal is nothing for a console that is read line by line.
    let mut words = vec!["env".to_owned(), "CI=true".to_owned(), text(&own)];
    words.extend(["bench", "forward", "--print-json"].map(str::to_owned));
    // Emulated, connections are too few to say anything, and clients' clocks mean nothing.
    let parts = if options.only.is_empty() { &[Part::Frames, Part::Pktgen] } else { &options.only[..] };
    for part in parts {
        let name = part.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned());
        words.extend(["--only".to_owned(), name]);
    }
    words.extend(["--lb".to_owned(), text(&programs.lb), "--lb-bench".to_owned(), text(&programs.bench)]);
    for (option, value) in
        [("--rounds", options.rounds), ("--packets", options.packets), ("--new-flows", options.new_flows)]
    {
        words.extend(value.into_iter().flat_map(|value| [option.to_owned(), value.to_string()]));
    }
    words.extend(counting.then(|| "--instructions".to_owned()));
    Ok(words)
}
