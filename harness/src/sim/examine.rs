//! What a power cut left, recovered, checked in full and compared.

use std::collections::BTreeMap;
use std::sync::Arc;

use gaur::{CheckOptions, CheckReport, Durability, Error, OpenOptions, Store, check_device};
use gaur_iodriver::sim::{Cut, SimDisk};
use gaur_iodriver::sync::rng::{Rng, seeded};
use gaur_iodriver::sync::schedule::{self, Plan, Policy};
use rand::RngExt;

use super::live::{Broken, outcome};
use super::oracle::{Digest, Expected};

/// What is done to one image beside recovering it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Extra {
    Nothing,
    /// The power fails again during recovery, so many times at most.
    CutAgain(u32),
    /// One superblock copy of two that verify is destroyed.
    Superblock,
    /// A block of the space map is destroyed.
    Map,
    /// One bit of a block is flipped: damage is told, and nothing else is wrong.
    Rot,
    /// A read-only opening sees the same and writes nothing.
    Look,
    /// The store goes on, is closed, checked and opened again.
    GoOn,
}

impl Extra {
    pub(crate) const NAMES: [&'static str; 7] = [
        "recovered",
        "cut again",
        "a superblock destroyed",
        "a map block destroyed",
        "a bit flipped",
        "looked at",
        "went on",
    ];

    pub(crate) fn index(self) -> usize {
        match self {
            Self::Nothing => 0,
            Self::CutAgain(_) => 1,
            Self::Superblock => 2,
            Self::Map => 3,
            Self::Rot => 4,
            Self::Look => 5,
            Self::GoOn => 6,
        }
    }

    pub(crate) fn draw(rng: &mut Rng) -> Self {
        match rng.random_range(0..100) {
            0..60 => Self::Nothing,
            60..70 => Self::CutAgain(rng.random_range(1..=3)),
            70..76 => Self::Superblock,
            76..80 => Self::Map,
            80..86 => Self::Rot,
            86..91 => Self::Look,
            _ => Self::GoOn,
        }
    }
}

/// One image and what it is judged by.
pub(crate) struct Case<'a> {
    pub(crate) image: &'a SimDisk,
    pub(crate) expected: &'a Arc<Expected>,
    pub(crate) open: &'a OpenOptions,
    /// All up to this commit was acknowledged as durable.
    pub(crate) durable: u64,
    /// There may be no store yet.
    pub(crate) unformatted: bool,
    /// One superblock copy may be torn.
    pub(crate) torn: bool,
    /// The disk lied before: damage is no surprise, wrong data is.
    pub(crate) lied: bool,
    pub(crate) extra: Extra,
    pub(crate) seed: u64,
}

/// What was seen of one image.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// The commit it ended with; `None`: no store, or damage that was to be expected.
    pub(crate) csn: Option<u64>,
    pub(crate) replayed: u64,
    /// Cuts during recovery, and the parts of the engine they met.
    pub(crate) again: u64,
    pub(crate) sites: BTreeMap<&'static str, u64>,
    /// Damage was told.
    pub(crate) told: bool,
    pub(crate) full_checks: u64,
}

fn plan(seed: u64) -> Plan {
    let mut plan = Plan::from_seed(seed);
    // Most recoveries run nearly alone: switches cost more than all else.
    if !seed.is_multiple_of(4) {
        plan.policy = Policy::Random { one_in: 200 };
    }
    plan.max_points = 20_000_000;
    plan
}

/// Examines an image; what is wrong is the error.
pub(crate) fn examine(case: &Case<'_>) -> Result<Seen, Broken> {
    let mut seen = Seen::default();
    let mut image = case.image.clone();
    if let Extra::CutAgain(times) = case.extra {
        for n in 0..times {
            match cut_again(case, &image, u64::from(n), &mut seen)? {
                Some(next) => image = next,
                None => break,
            }
        }
    }
    let (own, expected, open) = (image, case.expected.clone(), case.open.clone());
    let facts = Facts {
        durable: case.durable,
        unformatted: case.unformatted,
        torn: case.torn || case.unformatted,
        lied: case.lied,
        extra: case.extra,
        seed: case.seed,
    };
    let (end, _) = schedule::run(&plan(case.seed), move || {
        judge(&own, &expected, &open, &facts)
    });
    let found = outcome(end)?.map_err(Broken)?;
    seen.csn = found.csn;
    seen.replayed = found.replayed;
    seen.told |= found.told;
    seen.full_checks += found.full_checks;
    Ok(seen)
}

/// Opens the store and has the power fail meanwhile, or in the checkpoint after it.
fn cut_again(
    case: &Case<'_>,
    image: &SimDisk,
    n: u64,
    seen: &mut Seen,
) -> Result<Option<SimDisk>, Broken> {
    let rng = &mut seeded(case.seed ^ n << 20 ^ 0xc07);
    let disk = image.snapshot();
    disk.record_cuts();
    let (own, open) = (disk.clone(), case.open.clone());
    let checkpoint = rng.random_bool(0.5);
    let seed = case.seed.wrapping_add(n + 1);
    let (end, _) = schedule::run(&plan(seed), move || {
        let store = Store::open_device(own.device(), &open)?;
        if checkpoint {
            store.checkpoint()?;
        }
        Ok::<(), Error>(())
    });
    match outcome(end)? {
        Ok(()) => {}
        Err(_) if case.unformatted || case.lied => return Ok(None),
        Err(e) => return Err(Broken(format!("recovery: {e}"))),
    }
    let cuts: Vec<Cut> = disk.take_cuts();
    if cuts.is_empty() {
        return Ok(None);
    }
    let cut = &cuts[rng.random_range(0..cuts.len())];
    seen.again += 1;
    *seen.sites.entry(cut.site).or_default() += 1;
    Ok(Some(cut.crash(rng.random())))
}

/// The part of a case that goes into its simulation.
struct Facts {
    durable: u64,
    unformatted: bool,
    torn: bool,
    lied: bool,
    extra: Extra,
    seed: u64,
}

fn full_check(disk: &SimDisk, seen: &mut Seen) -> Result<CheckReport, Error> {
    seen.full_checks += 1;
    let options = CheckOptions {
        depth: 16,
        ..CheckOptions::default()
    };
    check_device(disk.device(), &options)
}

/// Nothing is wrong, and every block is in one place.
fn clean(report: &CheckReport, what: &str) -> Result<(), String> {
    if !report.clean {
        let all: Vec<String> = report.problems.iter().map(ToString::to_string).collect();
        return Err(format!("CHECK of {what}: {}", all.join("; ")));
    }
    if let Some(why) = &report.recovery.fails {
        return Err(format!("CHECK of {what}: recovery would fail: {why}"));
    }
    let b = &report.blocks;
    let sum =
        b.metadata + b.log + b.nodes + b.extents + b.kept + b.free + b.unaccounted + b.unknown;
    if sum != b.total {
        return Err(format!("CHECK of {what}: the blocks do not add up: {b:?}"));
    }
    Ok(())
}

fn judge(
    disk: &SimDisk,
    expected: &Expected,
    open: &OpenOptions,
    facts: &Facts,
) -> Result<Seen, String> {
    let mut seen = Seen::default();
    let mut report = match full_check(disk, &mut seen) {
        Ok(report) => report,
        Err(Error::NotAStore { .. }) if facts.unformatted => return Ok(seen),
        // Both superblocks torn before there was a store.
        Err(Error::Damaged(_)) if facts.unformatted => return Ok(seen),
        Err(_) if facts.lied => {
            seen.told = true;
            return Ok(seen);
        }
        Err(e) => return Err(format!("CHECK: {e}")),
    };
    if facts.torn {
        // One superblock is there, the other not yet, or only in part.
        report.problems.retain(|p| p.what != "superblock");
        report.clean = report.problem_count() == 0;
    }
    if facts.lied && !report.clean {
        seen.told = true;
    } else {
        clean(&report, "what the power cut left")?;
    }
    let mut damaged = facts.lied;
    let mut map_lost = false;
    match facts.extra {
        Extra::Superblock if report.superblocks.iter().all(|s| s.decoded.is_some()) => {
            let copy = &report.superblocks[(facts.seed % 2) as usize];
            let size = u64::from(report.superblock.block_size);
            disk.corrupt(copy.place * size, size);
            if full_check(disk, &mut seen).is_ok_and(|r| r.clean) {
                return Err("a destroyed superblock is not told".into());
            }
            seen.told = true;
        }
        Extra::Map if report.superblock.map_untouched == 0 => {
            let size = u64::from(report.superblock.block_size);
            // Both places of the first group's block: all of it, or some bits.
            match facts.seed.is_multiple_of(2) {
                true => disk.corrupt(size, 2 * size),
                false => {
                    let rng = &mut seeded(facts.seed);
                    for _ in 0..64 {
                        disk.flip_bit(size + rng.random_range(0..2 * size), rng.random_range(0..8));
                    }
                }
            }
            // Where nothing was ever allocated there is no map block yet.
            map_lost = !full_check(disk, &mut seen).is_ok_and(|r| r.clean);
            if !map_lost && report.blocks.nodes + report.blocks.extents > 0 {
                return Err("a destroyed map block is not told".into());
            }
            seen.told |= map_lost;
        }
        Extra::Rot => {
            let rng = &mut seeded(facts.seed);
            let size = u64::from(report.superblock.block_size);
            let used = 64.min(report.superblock.capacity) + report.blocks.nodes * 4;
            let block = match rng.random_bool(0.3) {
                true => rng.random_range(0..report.superblock.capacity),
                false => rng.random_range(0..used.min(report.superblock.capacity)),
            };
            let offset = block * size + rng.random_range(0..size);
            disk.flip_bit(offset, rng.random_range(0..8));
            damaged = true;
        }
        Extra::Look => return look(disk, expected, open, facts, seen),
        _ => {}
    }
    let store = match Store::open_device(disk.device(), open) {
        Ok(store) => store,
        Err(_) if damaged => {
            seen.told = true;
            return Ok(seen);
        }
        Err(e) => return Err(format!("OPEN: {e}")),
    };
    let csn = store.recovery().last_csn;
    seen.replayed = store.recovery().replayed;
    let found = match Digest::of(&store, facts.seed.is_multiple_of(3)) {
        Ok(found) => found,
        Err(_) if damaged => {
            seen.told = true;
            return Ok(seen);
        }
        Err(e) => return Err(format!("SCAN after recovery to commit {csn}: {e}")),
    };
    if facts.lied {
        // A log that a lost write ends early is a shorter log, and that is all.
        if !expected.is_a_state(found) {
            return Err(format!(
                "after a lie of the disk the store holds no state there ever was, and tells no damage (commit {csn})"
            ));
        }
        return Ok(seen);
    }
    if damaged && csn < facts.durable.max(expected.first()) && expected.is_a_state(found) {
        // The bit was in the last log block: it is the log's end then. Whether that is
        // told depends on what was known durable.
        return Ok(seen);
    }
    expected.judge(csn, found, facts.durable).map_err(|why| {
        let list = expected.differences(&store, csn);
        format!("{why}\n  {}", list.join("\n  "))
    })?;
    for info in store.snapshots() {
        let found = store.open_snapshot(&info.name);
        let found = found.and_then(|s| Digest::of_snapshot(&s));
        match found {
            Ok(found) => expected.judge_snapshot(info.csn, found)?,
            Err(_) if damaged => {
                seen.told = true;
                return Ok(seen);
            }
            Err(e) => return Err(format!("SNAPSHOT {:?}: {e}", info.name)),
        }
    }
    if !damaged && report.recovery.verified && report.recovery.last_csn != csn {
        return Err(format!(
            "the check foresaw commit {}, recovery ended with {csn}",
            report.recovery.last_csn
        ));
    }
    seen.csn = Some(csn);
    if store.stats().get("waits", "under_latch") != Some(0) {
        return Err("a wait under a latch".into());
    }
    // What is written then needs the map, which is made anew from the trees.
    if facts.extra == Extra::GoOn || map_lost {
        go_on(disk, store, expected, open, csn, map_lost, &mut seen)?;
    }
    Ok(seen)
}

/// A read-only opening.
fn look(
    disk: &SimDisk,
    expected: &Expected,
    open: &OpenOptions,
    facts: &Facts,
    mut seen: Seen,
) -> Result<Seen, String> {
    let options = OpenOptions {
        read_only: true,
        ..open.clone()
    };
    let looked = Store::open_device(disk.device(), &options)
        .and_then(|store| Ok((store.recovery().last_csn, Digest::of(&store, false)?)));
    let (csn, found) = match looked {
        Ok((_, found)) if facts.lied && !expected.is_a_state(found) => {
            return Err("LOOK: after a lie of the disk no state there ever was".into());
        }
        Ok(_) if facts.lied => return Ok(seen),
        Err(_) if facts.lied => {
            seen.told = true;
            return Ok(seen);
        }
        Ok(looked) => looked,
        Err(e) => return Err(format!("LOOK: {e}")),
    };
    expected
        .judge(csn, found, facts.durable)
        .map_err(|e| format!("LOOK: {e}"))?;
    let stats = disk.stats();
    if stats.writes + stats.flushes + stats.discards > 0 {
        return Err("LOOK: a read-only opening wrote".into());
    }
    seen.csn = Some(csn);
    Ok(seen)
}

/// Writes a little more, closes, checks, and opens again.
fn go_on(
    disk: &SimDisk,
    store: Store,
    expected: &Expected,
    open: &OpenOptions,
    csn: u64,
    map_lost: bool,
    seen: &mut Seen,
) -> Result<(), String> {
    let what = |e: Error| format!("GOING ON: {e}");
    let name = store.tree_names().into_iter().next();
    let mut last = csn;
    if let Some(tree) = name {
        let tree = store.open_tree(&tree).map_err(what)?;
        let spare = b"a key that no world has";
        for durability in [Durability::Sync, Durability::Buffered] {
            match tree.put_with(spare, b"", durability) {
                Ok(csn) => last = csn,
                Err(Error::Full { .. }) => {}
                Err(e) => return Err(what(e)),
            }
        }
        last = last.max(tree.delete(spare).map_err(what)?);
    }
    store.close().map_err(what)?;
    let mut report = full_check(disk, seen).map_err(what)?;
    if map_lost && report.blocks.free > 0 {
        // Nobody needed the lost group: there are others.
        report
            .problems
            .retain(|p| p.what != "map block" || !(1..=2).contains(&p.place));
        report.clean = report.problem_count() == 0;
    }
    clean(&report, "the store after going on")?;
    let store = Store::open_device(disk.device(), open).map_err(what)?;
    if store.recovery().last_csn != last || store.recovery().replayed > 0 {
        return Err(format!(
            "GOING ON: closed at commit {last}, opened at {} with {} replayed",
            store.recovery().last_csn,
            store.recovery().replayed
        ));
    }
    let found = Digest::of(&store, false).map_err(what)?;
    expected
        .judge(csn, found, csn)
        .map_err(|e| format!("GOING ON: {e}"))
}
