//! A device's floor: what it gives by itself, below any engine. Reads and writes by
//! size and queue depth, and each way to make a write durable.
//!
//! What must hold: nothing that anybody needs is written over. Writes go into free
//! space that an open store lends, or into a file made for it; elsewhere there are
//! reads alone. And like is compared with like: what is measured was written once
//! before, and the cells run in turn, round by round, so that a machine whose speed
//! drifts favours none of them.

pub(crate) mod area;
pub(crate) mod cell;
pub(crate) mod machine;
mod report;
pub(crate) mod subject;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use gaur::Error;
use gaur_iodriver::IoError;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use cell::{Cell, Tally};
use subject::Subject;

pub(crate) use machine::{Machine, Moment};
pub(crate) use report::{as_json, as_text};
pub(crate) use subject::check;

use crate::failure::Failure;
use crate::interrupt;
use crate::progress::Progress;
use crate::run::config::Driver;

/// Rounds, if there is time for them.
const ROUNDS: u32 = 5;
/// A cell runs at least this long in a round.
const SLICE: Duration = Duration::from_millis(10);

/// What is to be measured.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) path: PathBuf,
    /// Seconds of measuring, all cells together.
    pub(crate) seconds: f64,
    /// Bytes written to, at most.
    pub(crate) size: u64,
    pub(crate) seed: u64,
    pub(crate) driver: Driver,
}

impl Plan {
    /// Its I/O failed.
    fn failed(&self, what: &str, e: IoError) -> Failure {
        Failure::engine(&format!("{}: {what}", self.path.display()), Error::Io(e))
    }
}

/// What was found.
#[derive(Debug)]
pub(crate) struct Floor {
    pub(crate) plan: Plan,
    pub(crate) subject: Subject,
    /// How long the writing beforehand took.
    pub(crate) prepared: Duration,
    pub(crate) rounds: u32,
    pub(crate) slice: Duration,
    pub(crate) cells: Vec<(Cell, Tally)>,
    pub(crate) machine: Machine,
    pub(crate) interrupted: bool,
}

/// Measures.
pub(crate) fn measure(plan: &Plan) -> Result<Floor, Failure> {
    let begin = Instant::now();
    let mut rng = ChaCha8Rng::seed_from_u64(plan.seed);
    let subject = Subject::open(plan, &mut rng)?;
    let prepared = begin.elapsed();
    let mut cells = cell::all(&subject)
        .into_iter()
        .map(|c| Ok((c, Tally::new()?)))
        .collect::<Result<Vec<_>, Failure>>()?;
    let rounds = rounds(plan.seconds, cells.len());
    let slice = Duration::from_secs_f64(plan.seconds / f64::from(rounds) / cells.len() as f64);
    let progress = Progress::of_time("measuring", Duration::from_secs_f64(plan.seconds));
    let (before, begin) = (Moment::now(), Instant::now());
    let mut ops = 0;
    for round in 0..rounds {
        let count = cells.len();
        for i in 0..count {
            if interrupt::requested() {
                break;
            }
            // The order alternates, so that none always follows the same other.
            let i = if round % 2 == 0 { i } else { count - 1 - i };
            let (cell, tally) = &mut cells[i];
            ops += cell.run(&subject, slice, &mut rng, tally)?;
            progress.show(ops, begin.elapsed());
        }
    }
    progress.finish();
    Ok(Floor {
        plan: plan.clone(),
        subject,
        prepared,
        rounds,
        slice,
        cells,
        machine: before.until_now(),
        interrupted: interrupt::requested(),
    })
}

/// Random reads a second of `block` bytes in these ranges, for each of these queue
/// depths, by turns. Nothing is written.
pub(crate) fn read_rates(
    path: &std::path::Path,
    extents: Vec<(u64, u64)>,
    block: u32,
    depths: &[u32],
    time: Duration,
    seed: u64,
) -> Result<Vec<f64>, Failure> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let subject = Subject::of_ranges(path, extents, block)?;
    let mut cells = depths
        .iter()
        .map(|&depth| Ok((Cell::random_reads(u64::from(block), depth), Tally::new()?)))
        .collect::<Result<Vec<_>, Failure>>()?;
    for _ in 0..ROUNDS {
        for (cell, tally) in &mut cells {
            cell.run(&subject, time / ROUNDS, &mut rng, tally)?;
        }
    }
    subject.close()?;
    Ok(cells.iter().map(|(_, tally)| tally.iops()).collect())
}

/// As many rounds as there is time for, and at least one.
fn rounds(seconds: f64, cells: usize) -> u32 {
    let slices = seconds / SLICE.as_secs_f64() / cells.max(1) as f64;
    (slices as u32).clamp(1, ROUNDS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_fit_the_time() {
        assert_eq!(rounds(10.0, 20), ROUNDS);
        assert_eq!(rounds(0.4, 20), 2);
        assert_eq!(rounds(0.0, 20), 1);
    }
}
