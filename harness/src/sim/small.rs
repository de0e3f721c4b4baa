//! Every small world: all sequences of up to so many operations on a fresh store, cut
//! off before each write and flush, with nothing, with all and with some of what was not
//! flushed. (Mohan et al., *Finding Crash-Consistency Bugs with Bounded Black-Box Crash
//! Testing*, 2018.)

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use gaur::{FormatOptions, OpenOptions};
use gaur_iodriver::DurableMethod;
use gaur_iodriver::sim::{CrashMode, SimOptions};
use gaur_iodriver::sync::schedule::Plan;

use super::campaign::{Finding, Workers};
use super::examine::{Case, Extra, examine};
use super::live::{Beginning, Broken, live};
use super::script::{Change, Mix, Script, Step, Value};
use super::swarm::{Trouble, World};
use super::tally::Tally;
use crate::failure::Failure;

/// What the sequences are made of.
pub(crate) const OPERATIONS: [&str; 14] = [
    "put",
    "put, buffered",
    "delete",
    "batch",
    "checkpoint",
    "large value",
    "tree",
    "grow",
    "trim",
    "drop",
    "snapshot",
    "delete snapshot",
    "roll back",
    "delete range",
];

/// The ways in which the power fails: `None` is drawn.
const MODES: [Option<CrashMode>; 4] = [
    Some(CrashMode::Nothing),
    Some(CrashMode::Everything),
    Some(CrashMode::Sectors { keep: 0.5 }),
    None,
];

/// The steps of one sequence; the place in it makes keys and values differ.
fn step(operation: usize, at: usize) -> Step {
    let value = |len| Value {
        seed: at as u64 + 1,
        len,
    };
    let commit = |changes: &[Change], sync| Step::Commit {
        changes: changes.into(),
        sync,
        transaction: false,
    };
    match operation {
        0 => commit(&[Change::Put(0, at as u32, value(40))], true),
        1 => commit(&[Change::Put(0, at as u32, value(40))], false),
        // Of what the place before put, if it did.
        2 => commit(&[Change::Delete(0, (at as u32).saturating_sub(1))], true),
        3 => {
            let put = |tree, key| Change::Put(tree, key, value(300));
            commit(
                &[put(0, 0), put(1, 1), put(0, 2), Change::Delete(1, 3)],
                true,
            )
        }
        4 => Step::Checkpoint,
        5 => commit(&[Change::Put(0, at as u32, value(20_000))], true),
        6 => Step::Create(2 + at as u8),
        7 => Step::Grow(1 << 20),
        8 => Step::Trim,
        9 => Step::Drop(0),
        10 => Step::Snapshot(at as u8),
        // What the place before took.
        11 => Step::Forget((at as u8).saturating_sub(1)),
        12 => Step::Back((at as u8).saturating_sub(1)),
        _ => commit(&[Change::Range(0, 1, 2)], true),
    }
}

/// All sequences of `length` operations.
fn sequences(length: usize) -> impl Iterator<Item = Vec<usize>> {
    let n = OPERATIONS.len();
    (0..n.pow(length as u32)).map(move |mut number| {
        let digit = |_| {
            let digit = number % n;
            number /= n;
            digit
        };
        (0..length).map(digit).collect()
    })
}

fn world(sequence: &[usize], number: u64) -> World {
    World {
        seed: number,
        disk: SimOptions {
            capacity: 4 << 20,
            seed: 1,
            file: true,
            ..SimOptions::default()
        },
        format: FormatOptions {
            log_size: Some(128 << 10),
            sparse: true,
            durable_method: Some(DurableMethod::Dsync),
            ..FormatOptions::default()
        },
        open: OpenOptions {
            cache_bytes: 1 << 20,
            checkpoint_interval: Duration::from_secs(3600),
            discard: true,
            ..OpenOptions::default()
        },
        mix: Mix::none(),
        plan: Plan::from_seed(number),
        trouble: Trouble::Calm,
        faults: Vec::new(),
        script: Script {
            trees: 2,
            threads: vec![
                sequence
                    .iter()
                    .enumerate()
                    .map(|(at, &o)| step(o, at))
                    .collect(),
            ],
            close: number.is_multiple_of(2),
        },
    }
}

/// Runs them all; returns how many sequences there were.
pub(crate) fn run(
    length: usize,
    workers: &Workers,
) -> Result<(u64, Tally, Vec<Finding>, Duration), Failure> {
    let all: Vec<Vec<usize>> = (1..=length).flat_map(sequences).collect();
    let next = AtomicU64::new(0);
    let (tally, found, took) = workers.run(&|tally, _| {
        let number = next.fetch_add(1, Ordering::Relaxed);
        let Some(sequence) = all.get(number as usize) else {
            return Ok(false);
        };
        // The disk is formatted and the trees are made in the same way each time: that
        // part is looked at once.
        one(sequence, number, tally).map(|()| true)
    })?;
    Ok((all.len() as u64, tally, found, took))
}

fn one(sequence: &[usize], number: u64, tally: &mut Tally) -> Result<(), Finding> {
    let world = world(sequence, number);
    let finding = |at: Option<(u64, u32)>, site, why: Broken| {
        let names: Vec<&str> = sequence.iter().map(|&o| OPERATIONS[o]).collect();
        Finding {
            seed: number,
            round: 0,
            at,
            site,
            world: format!("{} (sequence {number})", names.join("; ")),
            why: why.0,
            shrunk: None,
        }
    };
    let lived = live(&world, &Beginning::fresh()).map_err(|why| finding(None, "", why))?;
    tally.world(&lived);
    let again = number > 0;
    for cut in &lived.cuts {
        if again && cut.event <= lived.formatted {
            continue;
        }
        for (image, mode) in (0..).zip(MODES) {
            let seed = number << 24 ^ cut.event << 4 ^ u64::from(image);
            let disk = match mode {
                Some(mode) => cut.crash_with(mode, seed),
                None => cut.crash(seed),
            };
            let hash = disk.image_hash();
            let seen = examine(&Case {
                image: &disk,
                expected: lived.expected(cut.event),
                open: &world.open,
                durable: cut.mark,
                unformatted: cut.event <= lived.formatted,
                torn: lived.torn.at(cut.event),
                lied: false,
                extra: Extra::Nothing,
                seed,
            })
            .map_err(|why| finding(Some((cut.event, image)), cut.site, why))?;
            tally.point(cut.site, hash, Extra::Nothing, &seen);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_sequences_are_there_once() {
        let all: Vec<_> = (1..=2).flat_map(sequences).collect();
        let n = OPERATIONS.len();
        assert_eq!(all.len(), n + n * n);
        let different: std::collections::BTreeSet<_> = all.iter().collect();
        assert_eq!(different.len(), all.len());
    }

    #[test]
    fn every_small_world_of_one_operation_survives_every_cut() {
        let (n, tally, found, _) = run(1, &Workers::for_tests()).unwrap();
        assert_eq!(n, OPERATIONS.len() as u64);
        assert!(found.is_empty(), "{}", found[0]);
        assert!(tally.points > 200, "{tally}");
    }
}
