//! `gaur crash`: kills a writing process again and again, and looks whether the
//! store keeps its promises: what was acknowledged as Sync is there, what is
//! there is a prefix of the commits, batches are whole, every block is accounted for.

pub(crate) mod child;
mod plan;
pub(crate) mod process;
mod state;
mod verdict;
pub(crate) mod wire;

use std::ffi::OsString;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use gaur::{CheckOptions, FormatOptions, Store};
use gaur_iodriver::IoErrorKind;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use child::Orders;
use process::Running;
use state::State;
use verdict::{History, Tally, judge};
use wire::Ack;

use crate::failure::{FOUND, Failure};
use crate::progress::Progress;
use crate::run::config::Driver;
use crate::{interrupt, units};

/// The verb that makes this program a child.
pub(crate) const CHILD_VERB: &str = "crash-child";

/// How long to wait for a killed process's hold on the device to end.
const RELEASE: Duration = Duration::from_secs(10);

/// Beyond the stated interval, a Buffered commit may be this much older and lost:
/// the child's threads may not have run for a while.
const SLACK: Duration = Duration::from_secs(2);

/// A campaign.
#[derive(Clone, Debug)]
pub(crate) struct Campaign {
    pub(crate) path: PathBuf,
    pub(crate) size: Option<u64>,
    pub(crate) force: bool,
    pub(crate) rounds: u32,
    pub(crate) seed: u64,
    pub(crate) time: Duration,
    pub(crate) threads: u16,
    pub(crate) cache: u64,
    pub(crate) driver: Driver,
    pub(crate) buffered_interval: Duration,
}

impl Campaign {
    /// How its store is made.
    pub(crate) fn format_options(&self) -> FormatOptions {
        FormatOptions {
            create_size: self.size,
            force: self.force,
            driver: self.driver.into(),
            ..FormatOptions::default()
        }
    }
}

/// What a campaign showed.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Total {
    pub(crate) rounds: u32,
    pub(crate) acknowledged: u64,
    pub(crate) sync: u64,
    pub(crate) lost: u64,
    pub(crate) oldest_lost: Option<Duration>,
    pub(crate) recoveries_killed: u64,
}

/// Makes the store and runs the rounds; ends with the first broken promise, or with
/// Ctrl-C. `say` gets a line when the store is there, and one per round.
pub(crate) fn run(
    c: &Campaign,
    mut say: impl FnMut(String) -> Result<(), Failure>,
) -> Result<Total, Failure> {
    Store::format(&c.path, &c.format_options())?;
    say(format!(
        "{} rounds, {} writers, seed {}",
        c.rounds, c.threads, c.seed
    ))?;
    let mut total = Total::default();
    let mut states = vec![State::default(); usize::from(c.threads)];
    let (progress, begun) = (Progress::of_work("rounds", c.rounds.into()), Instant::now());
    for round in 1..=c.rounds {
        if interrupt::requested() {
            break;
        }
        let (tally, line) = match one_round(c, round, &mut states, &mut total) {
            Ok(done) => done,
            Err(f) if f.code != FOUND && interrupt::requested() => break,
            Err(f) => return Err(Failure::found(format!("round {round}: {f}"))),
        };
        total.rounds += 1;
        total.acknowledged += tally.acknowledged;
        total.sync += tally.sync;
        total.lost += tally.lost;
        total.oldest_lost = total.oldest_lost.max(tally.oldest_lost);
        progress.aside(|| say(line))?;
        progress.show(total.rounds.into(), begun.elapsed());
    }
    Ok(total)
}

/// Runs the child, kills it, recovers, judges; `states` become what was recovered.
fn one_round(
    c: &Campaign,
    round: u32,
    states: &mut [State],
    total: &mut Total,
) -> Result<(Tally, String), Failure> {
    let mut rng = ChaCha8Rng::seed_from_u64(c.seed);
    rng.set_stream((u64::from(round) << 16) | u64::from(u16::MAX));
    let mut orders = Orders {
        path: c.path.clone(),
        seed: c.seed,
        round,
        threads: c.threads,
        cache: c.cache,
        driver: c.driver,
        checkpoint_interval: Duration::from_millis(rng.random_range(20..400)),
        buffered_interval: c.buffered_interval,
        recover_only: false,
    };
    // Some kills come early, while the first checkpoint runs or before.
    let time = if rng.random_ratio(1, 8) {
        c.time / 20
    } else {
        c.time
    };
    let time = time.mul_f64(rng.random());

    let mut running = Running::start(&orders)?;
    if running.wait_ready() {
        running.leave_for(time);
    }
    let remains = running.kill()?;
    interrupt::check()?;
    if let Some(end) = remains.ended_itself {
        return Err(Failure::found(format!(
            "the writing process ended by itself ({end})"
        )));
    }

    // Recovery may itself be killed at any point.
    let kills = if rng.random_ratio(1, 3) {
        rng.random_range(1..=3)
    } else {
        0
    };
    for _ in 0..kills {
        let patience = Duration::from_micros(rng.random_range(0..60_000));
        orders.recover_only = true;
        let mut recovering = Running::start(&orders)?;
        recovering.leave_for(patience);
        recovering.kill()?;
        interrupt::check()?;
        total.recoveries_killed += 1;
    }

    clean(c, "before recovery")?;
    let begin = Instant::now();
    let (store, trees) = patiently(|| orders.open())?;
    let recovery = begin.elapsed();
    let mut histories = Vec::new();
    for (thread, base) in (0..c.threads).zip(states.iter()) {
        histories.push(History {
            thread,
            base: base.clone(),
            acks: acks_of(&remains.acks, thread),
            recovered: State::read(&trees, thread).map_err(Failure::found)?,
        });
    }
    let tally = judge(c.seed, round, &histories, remains.killed).map_err(Failure::found)?;
    if let Some(age) = tally.oldest_lost
        && age > c.buffered_interval + SLACK
    {
        return Err(Failure::found(format!(
            "a Buffered commit acknowledged {} before the kill is gone; the stated interval is {}",
            units::nanos(age.as_nanos() as u64),
            units::nanos(c.buffered_interval.as_nanos() as u64),
        )));
    }
    drop(trees);
    store.close()?;
    clean(c, "after recovery")?;
    for (state, h) in states.iter_mut().zip(histories) {
        *state = h.recovered;
    }
    let line = format!(
        "round {round:>4}: killed after {:>7}, {:>7} commits acknowledged ({} Sync), {:>4} Buffered lost{}, recovered in {}{}, a prefix, clean",
        units::nanos(time.as_nanos() as u64),
        units::count(tally.acknowledged),
        units::count(tally.sync),
        units::count(tally.lost),
        tally
            .oldest_lost
            .map(|t| format!(" (oldest {})", units::nanos(t.as_nanos() as u64)))
            .unwrap_or_default(),
        units::nanos(recovery.as_nanos() as u64),
        if kills > 0 {
            format!(
                " after {kills} killed recover{}",
                if kills == 1 { "y" } else { "ies" }
            )
        } else {
            String::new()
        },
    );
    Ok((tally, line))
}

fn acks_of(acks: &[Ack], thread: u16) -> Vec<Ack> {
    acks.iter()
        .filter(|a| a.thread == thread)
        .copied()
        .collect()
}

/// `check` must find nothing.
fn clean(c: &Campaign, when: &str) -> Result<(), Failure> {
    let o = CheckOptions {
        driver: c.driver.into(),
        ..CheckOptions::default()
    };
    let report = patiently(|| gaur::check(&c.path, &o))?;
    if report.clean {
        return Ok(());
    }
    let problems: Vec<String> = report
        .problems
        .iter()
        .take(5)
        .map(ToString::to_string)
        .collect();
    Err(Failure::found(format!(
        "check {when}: {} problem(s): {}",
        report.problems.len(),
        problems.join("; ")
    )))
}

/// Tries again while a killed process's I/O still holds the device.
pub(crate) fn patiently<T>(mut open: impl FnMut() -> gaur::Result<T>) -> Result<T, Failure> {
    let until = Instant::now() + RELEASE;
    loop {
        match open() {
            Err(e) if Instant::now() < until && is_held(&e) => {
                interrupt::check()?;
                thread::sleep(Duration::from_millis(10))
            }
            other => return other.map_err(Failure::from),
        }
    }
}

/// Whether the device is refused because another process has it open.
fn is_held(e: &gaur::Error) -> bool {
    matches!(e, gaur::Error::Io(e) if e.kind == IoErrorKind::Busy)
}

/// The command line that makes a child do what `orders` say.
fn child_args(o: &Orders) -> Vec<OsString> {
    let mut args: Vec<OsString> = vec![CHILD_VERB.into(), o.path.clone().into()];
    let mut add = |name: &str, value: String| args.push(format!("--{name}={value}").into());
    add("seed", o.seed.to_string());
    add("round", o.round.to_string());
    add("threads", o.threads.to_string());
    add("cache", o.cache.to_string());
    add("driver", crate::cli::name_of(o.driver));
    add(
        "checkpoint-interval",
        units::Span(o.checkpoint_interval).to_string(),
    );
    add(
        "buffered-interval",
        units::Span(o.buffered_interval).to_string(),
    );
    if o.recover_only {
        args.push("--recover-only".into());
    }
    args
}
