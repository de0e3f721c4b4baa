//! What a campaign did, in numbers.

use std::collections::{BTreeMap, HashSet};
use std::fmt;

use gaur_iodriver::sync::schedule::{Report, Switches};

use super::examine::{Extra, Seen};
use super::live::Lived;

/// The sums over worlds.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) worlds: u64,
    /// Power cuts examined, those during recovery included.
    pub(crate) points: u64,
    pub(crate) during_recovery: u64,
    /// Different images that they left.
    pub(crate) images: HashSet<u64>,
    /// Power cuts by the part of the engine that they met.
    pub(crate) sites: BTreeMap<&'static str, u64>,
    pub(crate) switches: BTreeMap<&'static str, Switches>,
    pub(crate) switched: u64,
    pub(crate) scheduled: u64,
    pub(crate) commits: u64,
    pub(crate) replayed: u64,
    pub(crate) full: u64,
    pub(crate) stopped: u64,
    pub(crate) checks: u64,
    pub(crate) told: u64,
    pub(crate) extras: [u64; 7],
}

impl Tally {
    pub(crate) fn world(&mut self, lived: &Lived) {
        self.worlds += 1;
        self.commits += lived.commits;
        self.full += lived.full;
        self.stopped += u64::from(lived.stopped.is_some());
        self.scheduler(&lived.report);
    }

    pub(crate) fn scheduler(&mut self, report: &Report) {
        self.switched += report.switches;
        self.scheduled += report.points;
        for (site, s) in &report.sites {
            let sum = self.switches.entry(site).or_default();
            sum.preempted += s.preempted;
            sum.waited += s.waited;
        }
    }

    pub(crate) fn point(&mut self, site: &'static str, image: u64, extra: Extra, seen: &Seen) {
        self.points += 1 + seen.again;
        self.during_recovery += seen.again;
        self.images.insert(image);
        *self.sites.entry(site).or_default() += 1;
        for (site, n) in &seen.sites {
            *self.sites.entry(site).or_default() += n;
        }
        self.extras[extra.index()] += 1;
        self.replayed += seen.replayed;
        self.checks += seen.full_checks;
        self.told += u64::from(seen.told);
    }

    pub(crate) fn merge(&mut self, o: Self) {
        self.worlds += o.worlds;
        self.points += o.points;
        self.during_recovery += o.during_recovery;
        self.images.extend(o.images);
        for (site, n) in o.sites {
            *self.sites.entry(site).or_default() += n;
        }
        for (site, s) in o.switches {
            let sum = self.switches.entry(site).or_default();
            sum.preempted += s.preempted;
            sum.waited += s.waited;
        }
        self.switched += o.switched;
        self.scheduled += o.scheduled;
        self.commits += o.commits;
        self.replayed += o.replayed;
        self.full += o.full;
        self.stopped += o.stopped;
        self.checks += o.checks;
        self.told += o.told;
        for (mine, n) in self.extras.iter_mut().zip(o.extras) {
            *mine += n;
        }
    }
}

/// A part of the engine, by name.
fn named(site: &str) -> &str {
    if site.is_empty() { "elsewhere" } else { site }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} worlds, {} crash points ({} of them during recovery), {} different images, {} full checks",
            self.worlds,
            self.points,
            self.during_recovery,
            self.images.len(),
            self.checks
        )?;
        writeln!(
            f,
            "{} commits, {} replayed, {} times full, {} stores stopped by faults, damage told {} times",
            self.commits, self.replayed, self.full, self.stopped, self.told
        )?;
        let extras = Extra::NAMES.iter().zip(self.extras);
        let extras: Vec<String> = extras.map(|(name, n)| format!("{name} {n}")).collect();
        writeln!(f, "images: {}", extras.join(", "))?;
        let sites = self.sites.iter().map(|(s, n)| format!("{} {n}", named(s)));
        let sites: Vec<String> = sites.collect();
        writeln!(f, "crash points by part: {}", sites.join(", "))?;
        let switches = self.switches.iter();
        let switches = switches.map(|(s, n)| format!("{} {}+{}", named(s), n.preempted, n.waited));
        let switches: Vec<String> = switches.collect();
        write!(
            f,
            "{} switches at {} points (preempted+waited): {}",
            self.switched,
            self.scheduled,
            switches.join(", ")
        )
    }
}
