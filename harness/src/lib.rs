//! `gaur`, the command-line tool: makes stores, runs workloads, reports latency,
//! inspects and checks.

mod blockdev;
mod cli;
mod compare;
mod crash;
mod device;
mod dump;
mod experiment;
mod failure;
#[cfg(faults)]
mod faults;
mod floor;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod interrupt;
mod memory;
mod output;
mod progress;
mod report;
mod run;
#[cfg(feature = "simulation")]
mod sim;
mod subject;
mod text;
mod units;

/// Thousands of stores are opened and closed a second, with their threads and buffers.
#[cfg(feature = "simulation")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

use std::process::ExitCode;

/// Does what the command line says, and gives the exit code.
pub fn main() -> ExitCode {
    let outcome = cli::dispatch(cli::parse());
    ExitCode::from(outcome.unwrap_or_else(|failure| {
        for line in failure.lines() {
            output::complain(&line);
        }
        failure.code
    }))
}
