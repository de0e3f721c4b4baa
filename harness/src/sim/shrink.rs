//! A world that fails, made smaller: threads and steps are left out as long as it fails
//! in the same way. (Zeller and Hildebrandt, *Simplifying and Isolating Failure-Inducing
//! Input*, 2002.)

use std::time::{Duration, Instant};

use super::campaign::{Campaign, image_case};
use super::live::{Beginning, live};
use super::script::Script;
use super::swarm::World;
use super::tally::Tally;

/// What went wrong, without numbers: the word it begins with.
fn kind(why: &str) -> &str {
    why.split([' ', ':']).next().unwrap_or_default()
}

/// The smallest script found that fails as `why` says, and how many were tried.
pub(crate) fn shrink(
    c: &Campaign,
    world: &World,
    from: &Beginning,
    why: &str,
    limit: Duration,
) -> (Script, u32) {
    let end = Instant::now() + limit;
    let mut tried = 0;
    let mut fails = |script: &Script| {
        tried += 1;
        let mut smaller = world.clone();
        smaller.script = script.clone();
        first_failure(c, &smaller, from, end).is_some_and(|w| kind(&w) == kind(why))
    };
    let mut best = world.script.clone();
    // Whole threads first.
    let mut n = 0;
    while n < best.threads.len() && Instant::now() < end {
        let mut less = best.clone();
        less.threads.remove(n);
        match !less.threads.is_empty() && fails(&less) {
            true => best = less,
            false => n += 1,
        }
    }
    // Then steps, in ever shorter stretches.
    let longest = best.threads.iter().map(Vec::len).max().unwrap_or(0);
    let mut stretch = longest.next_power_of_two() / 2;
    while stretch > 0 && Instant::now() < end {
        for thread in 0..best.threads.len() {
            let mut at = 0;
            while at < best.threads[thread].len() && Instant::now() < end {
                let mut less = best.clone();
                let to = (at + stretch).min(less.threads[thread].len());
                less.threads[thread].drain(at..to);
                match fails(&less) {
                    true => best = less,
                    false => at += stretch,
                }
            }
        }
        stretch /= 2;
    }
    (best, tried)
}

/// The first thing that is wrong with a world, its crash points included.
fn first_failure(c: &Campaign, world: &World, from: &Beginning, end: Instant) -> Option<String> {
    let lived = match live(world, from) {
        Ok(lived) => lived,
        Err(why) => return Some(why.0),
    };
    let mut tally = Tally::default();
    for cut in &lived.cuts {
        for image in 0..c.images {
            if Instant::now() >= end {
                return None;
            }
            if let Err(why) = image_case(world, &lived, cut, image, &mut tally) {
                return Some(why.0);
            }
        }
    }
    None
}
