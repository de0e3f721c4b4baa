//! Many worlds, side by side.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use gaur_iodriver::sim::Cut;
use gaur_iodriver::sync::Mutex;
use gaur_iodriver::sync::rng::{Rng, seeded};
use rand::RngExt;

use super::examine::{Case, Extra, examine};
use super::live::{Beginning, Broken, Lived, live};
use super::shrink::shrink;
use super::swarm::{Trouble, World};
use super::tally::Tally;
use crate::failure::Failure;
use crate::run::knobs::Pin;
use crate::run::pin;

/// What to do.
#[derive(Clone, Debug)]
pub(crate) struct Campaign {
    /// Of the first world; the next has the next.
    pub(crate) seed: u64,
    pub(crate) worlds: Option<u64>,
    /// Rounds of each world.
    pub(crate) rounds: u32,
    /// Images of each crash point.
    pub(crate) images: u32,
    /// Crash points examined in a round, at most.
    pub(crate) most: usize,
    /// For how long a world that fails is made smaller.
    pub(crate) shrink: Option<Duration>,
}

/// What was found wrong.
#[derive(Clone, Debug)]
pub(crate) struct Finding {
    pub(crate) seed: u64,
    pub(crate) round: u32,
    /// The crash point, and which image of it; `None`: while the world lived.
    pub(crate) at: Option<(u64, u32)>,
    pub(crate) site: &'static str,
    pub(crate) world: String,
    pub(crate) why: String,
    /// What is left of its script when it was made smaller.
    pub(crate) shrunk: Option<String>,
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "seed {}, round {}", self.seed, self.round)?;
        if let Some((event, image)) = self.at {
            write!(f, ", power cut at write or flush {event}, image {image}")?;
            if !self.site.is_empty() {
                write!(f, " (in {})", self.site)?;
            }
        }
        write!(f, ": {}\n{}", self.world, self.why)?;
        match &self.shrunk {
            Some(shrunk) => write!(f, "\n{shrunk}"),
            None => Ok(()),
        }
    }
}

/// Threads that examine side by side, each with its simulations on a processor of its
/// own.
#[derive(Debug)]
pub(crate) struct Workers {
    pub(crate) jobs: usize,
    pub(crate) time: Option<Duration>,
    pub(crate) points: Option<u64>,
    /// Tell how far it is.
    pub(crate) tell: fn(String),
}

/// What one worker is given: notes crash points, and knows whether it is over.
pub(crate) struct Progress<'a> {
    workers: &'a Workers,
    examined: &'a AtomicU64,
    end: &'a AtomicBool,
    begun: Instant,
}

impl Progress<'_> {
    fn is_over(&self) -> bool {
        self.end.load(Ordering::Relaxed)
            || crate::interrupt::requested()
            || self.workers.time.is_some_and(|t| self.begun.elapsed() >= t)
            || self
                .workers
                .points
                .is_some_and(|n| self.examined.load(Ordering::Relaxed) >= n)
    }
}

impl Workers {
    #[cfg(test)]
    pub(crate) fn for_tests() -> Self {
        Self {
            jobs: 2,
            time: None,
            points: None,
            tell: |_| {},
        }
    }

    /// Has `one` called by all workers again and again, until it returns false or
    /// something was found. Each call gets a tally of its own.
    pub(crate) fn run(
        &self,
        one: &(dyn Fn(&mut Tally, &Progress<'_>) -> Result<bool, Finding> + Sync),
    ) -> Result<(Tally, Vec<Finding>, Duration), Failure> {
        let processors = pin::processors(&Pin::All(true))?;
        let (examined, end, left) = (
            AtomicU64::new(0),
            AtomicBool::new(false),
            AtomicUsize::new(self.jobs),
        );
        let progress = Progress {
            workers: self,
            examined: &examined,
            end: &end,
            begun: Instant::now(),
        };
        let found = Mutex::new(Vec::new());
        let total = Mutex::new(Tally::default());
        std::thread::scope(|s| {
            for job in 0..self.jobs {
                let (progress, processors, left) = (&progress, &processors, &left);
                let (found, total) = (&found, &total);
                s.spawn(move || {
                    // The threads of a simulation take turns: on one processor that is cheap.
                    let _ = pin::pin(processors, job);
                    while !progress.is_over() {
                        let mut tally = Tally::default();
                        let result = one(&mut tally, progress);
                        progress.examined.fetch_add(tally.points, Ordering::Relaxed);
                        total.lock().merge(tally);
                        match result {
                            Ok(true) => {}
                            Ok(false) => break,
                            Err(finding) => {
                                found.lock().push(finding);
                                progress.end.store(true, Ordering::Relaxed);
                            }
                        }
                    }
                    left.fetch_sub(1, Ordering::Relaxed);
                });
            }
            let mut told = Instant::now();
            while left.load(Ordering::Relaxed) > 0 {
                std::thread::sleep(Duration::from_millis(10));
                if told.elapsed() >= Duration::from_secs(10) {
                    told = Instant::now();
                    let n = examined.load(Ordering::Relaxed);
                    let seconds = progress.begun.elapsed().as_secs_f64();
                    (self.tell)(format!(
                        "{seconds:.0} s: {n} crash points, {:.0} a second",
                        n as f64 / seconds
                    ));
                }
            }
        });
        let took = progress.begun.elapsed();
        Ok((total.into_inner(), found.into_inner(), took))
    }
}

/// Runs a campaign.
pub(crate) fn run(
    c: &Campaign,
    workers: &Workers,
) -> Result<(Tally, Vec<Finding>, Duration), Failure> {
    let next = AtomicU64::new(0);
    workers.run(&|tally, progress| {
        let n = next.fetch_add(1, Ordering::Relaxed);
        if c.worlds.is_some_and(|w| n >= w) {
            return Ok(false);
        }
        world(c, c.seed.wrapping_add(n), tally, &|| progress.is_over())?;
        Ok(true)
    })
}

/// One world, all its rounds, or until it is `over`.
pub(crate) fn world(
    c: &Campaign,
    seed: u64,
    tally: &mut Tally,
    over: &dyn Fn() -> bool,
) -> Result<(), Finding> {
    let mut from = Beginning::fresh();
    for round in 0..c.rounds {
        let world = World::new(seed, round);
        let finding = |at: Option<(&Cut, u32)>, why: Broken| Finding {
            seed,
            round,
            at: at.map(|(cut, image)| (cut.event, image)),
            site: at.map_or("", |(cut, _)| cut.site),
            world: world.describe(),
            shrunk: c.shrink.map(|limit| {
                let (script, tried) = shrink(c, &world, &from, &why.0, limit);
                format!(
                    "{} of {} steps are enough ({tried} tries): {script:?}",
                    script.steps(),
                    world.script.steps()
                )
            }),
            why: why.0,
        };
        let lived = live(&world, &from).map_err(|why| finding(None, why))?;
        tally.world(&lived);
        let rng = &mut seeded(seed ^ u64::from(round) << 40 ^ 0x1a6e);
        let chosen = choose(&lived.cuts, c.most, rng);
        for at in &chosen {
            let cut = &lived.cuts[*at];
            for image in 0..c.images {
                image_case(&world, &lived, cut, image, tally)
                    .map_err(|why| finding(Some((cut, image)), why))?;
                if over() {
                    return Ok(());
                }
            }
        }
        if world.trouble == Trouble::Lying {
            return Ok(());
        }
        match next(&world, &lived, rng) {
            Ok(Some(next)) => from = next,
            Ok(None) => return Ok(()),
            Err((cut, why)) => return Err(finding(Some((cut, u32::MAX)), why)),
        }
    }
    Ok(())
}

/// Which crash points are examined: all, or as many as may be, drawn.
fn choose(cuts: &[Cut], most: usize, rng: &mut Rng) -> Vec<usize> {
    let mut all: Vec<usize> = (0..cuts.len()).collect();
    while all.len() > most {
        all.swap_remove(rng.random_range(0..all.len()));
    }
    all.sort_unstable();
    all
}

/// The seed of one image.
fn image_seed(seed: u64, event: u64, image: u32) -> u64 {
    let mut x = seed ^ event.rotate_left(24) ^ u64::from(image).rotate_left(52);
    x = (x ^ (x >> 31)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    x ^ (x >> 29)
}

/// One image of a crash point, examined.
pub(crate) fn image_case(
    world: &World,
    lived: &Lived,
    cut: &Cut,
    image: u32,
    tally: &mut Tally,
) -> Result<(), Broken> {
    let seed = image_seed(world.plan.seed, cut.event, image);
    let rng = &mut seeded(seed);
    let disk = cut.crash(rng.random());
    let extra = Extra::draw(rng);
    let hash = disk.image_hash();
    let seen = examine(&Case {
        image: &disk,
        expected: lived.expected(cut.event),
        open: &world.open,
        durable: cut.mark,
        unformatted: cut.event <= lived.formatted,
        torn: lived.torn.at(cut.event),
        lied: world.trouble == Trouble::Lying,
        extra,
        seed,
    })?;
    tally.point(cut.site, hash, extra, &seen);
    Ok(())
}

/// From where the next round goes on.
fn next<'a>(
    world: &World,
    lived: &'a Lived,
    rng: &mut Rng,
) -> Result<Option<Beginning>, (&'a Cut, Broken)> {
    let there: Vec<&Cut> = lived
        .cuts
        .iter()
        .filter(|c| c.event > lived.formatted)
        .collect();
    if there.is_empty() {
        return Ok(None);
    }
    // Late ones: what happened should have been for something.
    let from = there.len() / 2;
    let cut = there[rng.random_range(from..there.len())];
    let disk = cut.crash(rng.random());
    let seen = examine(&Case {
        image: &disk.snapshot(),
        expected: lived.expected(cut.event),
        open: &world.open,
        durable: cut.mark,
        unformatted: false,
        torn: lived.torn.at(cut.event),
        lied: false,
        extra: Extra::Nothing,
        seed: world.seed,
    })
    .map_err(|why| (cut, why))?;
    Ok(seen.csn.map(|csn| Beginning {
        disk: Some(disk),
        past: lived.expected(cut.event).clone(),
        csn,
        torn: lived.torn.at(cut.event),
    }))
}

/// The traces of a world lived through so many times, each with its first recoveries,
/// and how often each was met.
pub(crate) fn traces(
    c: &Campaign,
    times: u64,
    workers: &Workers,
) -> Result<(BTreeMap<u64, u64>, Duration), Failure> {
    let next = AtomicU64::new(0);
    let traces = Mutex::new(BTreeMap::new());
    let (_, _, took) = workers.run(&|_, _| {
        if next.fetch_add(1, Ordering::Relaxed) >= times {
            return Ok(false);
        }
        let mut trace = 0_u64;
        let mut add = |word: u64| trace = (trace ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let world = World::new(c.seed, 0);
        match live(&world, &Beginning::fresh()) {
            Ok(lived) => {
                add(lived.report.trace);
                lived
                    .cuts
                    .iter()
                    .for_each(|cut| add(cut.crash(c.seed).image_hash()));
            }
            Err(why) => why.0.bytes().for_each(|b| add(u64::from(b))),
        }
        *traces.lock().entry(trace).or_default() += 1;
        Ok(true)
    })?;
    Ok((traces.into_inner(), took))
}
