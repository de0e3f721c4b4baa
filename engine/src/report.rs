//! Statistics for people and programs: named rows.

mod help;
#[cfg(feature = "prometheus")]
mod prometheus;

use std::sync::atomic::Ordering;

use crate::core::Core;
use crate::pool::Pool;
use crate::stats::{LEVELS, WAITS, Wait};

/// What a statistic counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Things.
    Count,
    /// Bytes.
    Bytes,
    /// Nanoseconds.
    Nanos,
}

/// One statistic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StatRow {
    /// What it belongs to: `reservations`, `waits`, `log`, …
    pub group: &'static str,
    /// Its name in the group.
    pub name: &'static str,
    /// Its value.
    pub value: u64,
    /// What is counted.
    pub unit: Unit,
    /// Whether it is a state (a level, a maximum) and not a sum since opening.
    pub gauge: bool,
}

impl StatRow {
    /// What it is, in a few words.
    pub fn help(&self) -> &'static str {
        let this =
            |(group, name, _): &&(&str, &str, &str)| *group == self.group && *name == self.name;
        help::HELP.iter().find(this).map_or("", |(_, _, help)| help)
    }
}

/// All statistics of a store at a moment.
///
/// ```
/// # let dir = tempfile::tempdir().unwrap();
/// # let path = dir.path().join("stats.store");
/// # let format = gaur::FormatOptions { create_size: Some(64 << 20), ..Default::default() };
/// # gaur::Store::format(&path, &format).unwrap();
/// # let store = gaur::Store::open(&path, &gaur::OpenOptions::default()).unwrap();
/// let before = store.stats();
/// store.tree("t")?.put(b"k", b"v")?;
/// let work = store.stats().since(&before);
/// assert_eq!(work.get("work", "ops"), Some(1));
/// assert_eq!(work.get("waits", "under_latch"), Some(0));
/// # Ok::<(), gaur::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    rows: Vec<StatRow>,
}

const WAIT_NANOS: [&str; WAITS.len()] = [
    "reservation_nanos",
    "frame_nanos",
    "log_space_nanos",
    "durable_nanos",
    "read_nanos",
    "visible_nanos",
    "space_nanos",
    "write_frame_nanos",
    "hold_nanos",
];
const COPIES: [&str; LEVELS] = [
    "copies_leaf",
    "copies_level_1",
    "copies_level_2",
    "copies_above",
];

fn group_of(name: &str) -> &'static str {
    if name.starts_with("restarts") || name == "lost_races" {
        "restarts"
    } else if name.starts_with("taken") || name.starts_with("blocks") {
        "reservations"
    } else if ["misses", "duplicate_reads"].contains(&name) {
        "cache"
    } else if [
        "splits",
        "merges",
        "rebalances",
        "root_collapses",
        "moved_in_place",
    ]
    .contains(&name)
    {
        "tree"
    } else {
        "work"
    }
}

impl Stats {
    pub(crate) fn of(core: &Core) -> Self {
        let mut s = Self::default();
        let workers: Vec<_> = core.forest.workers.all().collect();
        let mut sums: Vec<(&'static str, u64)> = Vec::new();
        for w in &workers {
            for (i, (name, value)) in w.counters.named().into_iter().enumerate() {
                match sums.get_mut(i) {
                    None => sums.push((name, value)),
                    Some(sum) if name == "restarts_most" => sum.1 = sum.1.max(value),
                    Some(sum) => sum.1 += value,
                }
            }
        }
        for (name, value) in sums {
            s.add(
                group_of(name),
                name,
                value,
                Unit::Count,
                name == "restarts_most",
            );
        }
        let stashed = workers.iter().map(|w| Pool::stashed(w)).sum();
        s.add("reservations", "blocks_stashed", stashed, Unit::Count, true);
        for (level, name) in COPIES.iter().enumerate() {
            let n = workers.iter().map(|w| w.counters.copies[level].get()).sum();
            s.add("tree", name, n, Unit::Count, false);
        }
        for (kind, name) in WAITS.iter().enumerate() {
            let n = workers.iter().map(|w| w.counters.waits[kind].0.get()).sum();
            let nanos = workers.iter().map(|w| w.counters.waits[kind].1.get()).sum();
            s.add("waits", name, n, Unit::Count, false);
            s.add("waits", WAIT_NANOS[kind], nanos, Unit::Nanos, false);
        }
        let under = gaur_iodriver::sync::latch::waits_under_latch();
        s.add("waits", "under_latch", under, Unit::Count, true);

        let cache = &core.forest.cache;
        let block = u64::from(core.forest.geometry.block_size);
        s.add(
            "cache",
            "bytes",
            cache.present() as u64 * block,
            Unit::Bytes,
            true,
        );
        s.add(
            "cache",
            "wanted_bytes",
            cache.frames() as u64 * block,
            Unit::Bytes,
            true,
        );
        s.add("cache", "frame_bytes", block, Unit::Bytes, true);
        s.add(
            "cache",
            "free_frames",
            cache.free_frames() as u64,
            Unit::Count,
            true,
        );
        s.add(
            "cache",
            "dirty_frames",
            cache.dirty_frames() as u64,
            Unit::Count,
            true,
        );
        let load = |a: &std::sync::atomic::AtomicU64| a.load(Ordering::Relaxed);
        s.add(
            "cache",
            "evicted",
            load(&core.evicting.evicted),
            Unit::Count,
            false,
        );
        s.add(
            "cache",
            "written_early",
            load(&core.evicting.written_early),
            Unit::Count,
            false,
        );
        s.add(
            "cache",
            "moved",
            load(&core.evicting.moved),
            Unit::Count,
            false,
        );
        s.add(
            "versions",
            "bytes",
            core.versions.bytes() as u64,
            Unit::Bytes,
            true,
        );

        let (open, ages): (Vec<u64>, Vec<_>) = workers.iter().map(|w| w.open_views()).unzip();
        s.add("views", "open", open.iter().sum(), Unit::Count, true);
        let oldest = ages.iter().max().map_or(0, |age| age.as_nanos() as u64);
        s.add("views", "oldest_nanos", oldest, Unit::Nanos, true);
        let upto = core.visible.upto();
        let mut oldest = upto;
        for worker in &workers {
            worker.visit_views(|key, _| {
                oldest = oldest.min(key.announced);
                false
            });
        }
        let behind = upto.saturating_sub(oldest);
        s.add("views", "oldest_behind", behind, Unit::Count, true);
        let generations = core.forest.pins.count().0;
        s.add("views", "generations", generations, Unit::Count, true);
        let given_up = load(&core.readers.given_up);
        s.add("views", "given_up", given_up, Unit::Count, false);

        s.add_feeds(core);
        let c = &core.checkpointing;
        s.add(
            "checkpoints",
            "checkpoints",
            load(&c.checkpoints),
            Unit::Count,
            false,
        );
        s.add("checkpoints", "nanos", load(&c.nanos), Unit::Nanos, false);
        s.add(
            "checkpoints",
            "freeze_nanos",
            load(&c.freeze_nanos),
            Unit::Nanos,
            false,
        );
        s.add(
            "checkpoints",
            "freeze_nanos_most",
            load(&c.freeze_nanos_most),
            Unit::Nanos,
            true,
        );
        s.add("checkpoints", "nodes", load(&c.nodes), Unit::Count, false);
        s.add(
            "checkpoints",
            "write_requests",
            load(&c.requests),
            Unit::Count,
            false,
        );
        s.add("checkpoints", "bytes", load(&c.bytes), Unit::Bytes, false);

        let c = &core.reclaiming;
        s.add("reclaim", "trees", load(&c.trees), Unit::Count, true);
        s.add("reclaim", "blocks", load(&c.blocks), Unit::Count, false);
        let (deleted, held) = {
            let shelf = core.shelf.lock();
            let deleted = shelf.all.iter().filter(|s| s.held.deleted).count();
            let held: u64 = shelf.all.iter().map(|s| s.held.dead_blocks).sum();
            (deleted as u64, held)
        };
        s.add("reclaim", "snapshots", deleted, Unit::Count, true);
        s.add("reclaim", "held_blocks", held, Unit::Count, true);

        let allocator = core.forest.pool.allocator();
        for (name, value) in allocator.counts().named() {
            match name.strip_prefix("discard_") {
                Some(name) => s.add("discard", name, value, Unit::Count, false),
                None => s.add("allocator", name, value, Unit::Count, false),
            }
        }
        let places = allocator.stats();
        let free = allocator.free_blocks();
        s.add("allocator", "free_blocks", free, Unit::Count, true);
        let growth = &core.forest.growth;
        s.add("growth", "capacity", core.forest.bytes(), Unit::Bytes, true);
        s.add(
            "growth",
            "growths",
            load(&growth.growths),
            Unit::Count,
            false,
        );
        s.add(
            "growth",
            "failures",
            load(&growth.failures),
            Unit::Count,
            false,
        );
        s.add_space(core);
        s.add_throttle(core);
        for (name, value, unit) in [
            ("damaged_groups", places.damaged_groups, Unit::Count),
            ("loaded_groups", places.loaded_groups, Unit::Count),
            ("map_bytes", places.map_bytes, Unit::Bytes),
            ("map_bytes_most", places.map_bytes_most, Unit::Bytes),
        ] {
            s.add("allocator", name, value, unit, true);
        }
        let waiting = places.discard_waiting;
        s.add("discard", "waiting_blocks", waiting, Unit::Count, true);
        let in_flight = places.discarding.saturating_sub(waiting);
        s.add("discard", "in_flight_blocks", in_flight, Unit::Count, true);
        let rate = allocator.discard_rate();
        s.add(
            "discard",
            "on",
            u64::from(rate.is_some()),
            Unit::Count,
            true,
        );
        // A second; 0: no limit.
        let limit = rate.map_or(0, |r| r.bytes_per_second);
        s.add("discard", "limit_bytes", limit, Unit::Bytes, true);
        if let Some(log) = core.log_if_started() {
            for (name, value) in log.stats().named() {
                let unit = match name.rsplit('_').next() {
                    Some("nanos") => Unit::Nanos,
                    Some("bytes") => Unit::Bytes,
                    _ => Unit::Count,
                };
                s.add("log", name, value, unit, name.starts_with("max"));
            }
            s.add("log", "used_blocks", log.usage().used, Unit::Count, true);
            s.add("log", "last_csn", log.last_csn(), Unit::Count, true);
            s.add("log", "durable_csn", log.durable_csn(), Unit::Count, true);
        }
        let d = core.forest.device.counters();
        s.add("device", "reads", d.reads, Unit::Count, false);
        s.add("device", "writes", d.writes, Unit::Count, false);
        s.add(
            "device",
            "durable_writes",
            d.durable_writes,
            Unit::Count,
            false,
        );
        s.add("device", "flushes", d.flushes, Unit::Count, false);
        s.add("device", "discards", d.discards, Unit::Count, false);
        s.add("device", "read_bytes", d.read_bytes, Unit::Bytes, false);
        s.add(
            "device",
            "written_bytes",
            d.written_bytes,
            Unit::Bytes,
            false,
        );
        let bytes = d.discarded_bytes;
        s.add("device", "discarded_bytes", bytes, Unit::Bytes, false);
        s
    }

    /// Group `space`: all blocks for data, and where they are.
    fn add_space(&mut self, core: &Core) {
        let u = core.forest.space_use();
        for (name, value) in [
            ("blocks", u.blocks),
            ("used", u.used),
            ("free", u.free),
            ("reserved", u.reserved),
            ("pending", u.pending),
            ("discarding", u.discarding),
            ("pinned", u.pinned),
            ("full", u64::from(u.full)),
        ] {
            self.add("space", name, value, Unit::Count, true);
        }
        let c = &core.forest.shortage.counters;
        for (name, counter) in [
            ("shortages", &c.shortages),
            ("recalls", &c.recalls),
            ("recalled_blocks", &c.recalled_blocks),
            ("checkpoints_for_space", &c.checkpoints),
            ("refused", &c.refused),
        ] {
            let n = counter.load(Ordering::Relaxed);
            self.add("space", name, n, Unit::Count, false);
        }
    }

    /// Group `feeds`: how many are open, and how far the last of them is behind.
    fn add_feeds(&mut self, core: &Core) {
        let f = core.forest.feeds.facts();
        self.add("feeds", "open", f.open, Unit::Count, true);
        let (mut commits, mut bytes) = (0, 0);
        if let (Some((csn, position)), Some(log)) = (f.oldest, core.log_if_started()) {
            commits = log.durable_csn().saturating_sub(csn);
            let blocks = log.reach().durable.saturating_sub(position);
            bytes = log.history().bytes(blocks);
        }
        self.add("feeds", "behind", commits, Unit::Count, true);
        self.add("feeds", "behind_bytes", bytes, Unit::Bytes, true);
        self.add("feeds", "overtaken", f.overtaken, Unit::Count, false);
        self.add("feeds", "values_let_go", f.let_go, Unit::Count, false);
    }

    /// Group `throttle`: whether writers are slowed now and why, how long a commit
    /// would wait, how many did; and how often somebody had to stop all the same.
    fn add_throttle(&mut self, core: &Core) {
        let t = core.throttle.state();
        let active = t.causes.contains(&true);
        self.add("throttle", "active", u64::from(active), Unit::Count, true);
        for (name, is) in ["for_log", "for_cache", "for_space"].iter().zip(t.causes) {
            self.add("throttle", name, u64::from(is), Unit::Count, true);
        }
        self.add("throttle", "delay_nanos", t.delay, Unit::Nanos, true);
        let load = |a: &std::sync::atomic::AtomicU64| a.load(Ordering::Relaxed);
        let (commits, nanos) = (load(&core.throttle.commits), load(&core.throttle.nanos));
        self.add("throttle", "commits", commits, Unit::Count, false);
        self.add("throttle", "nanos", nanos, Unit::Nanos, false);
        let hard = [Wait::LogSpace, Wait::WriteFrame, Wait::Space];
        let (mut stalls, mut stalled) = (0, 0);
        for w in core.forest.workers.all() {
            for kind in hard {
                let (n, time) = &w.counters.waits[kind as usize];
                stalls += n.get();
                stalled += time.get();
            }
        }
        self.add("throttle", "stalls", stalls, Unit::Count, false);
        self.add("throttle", "stall_nanos", stalled, Unit::Nanos, false);
    }

    fn add(
        &mut self,
        group: &'static str,
        name: &'static str,
        value: u64,
        unit: Unit,
        gauge: bool,
    ) {
        self.rows.push(StatRow {
            group,
            name,
            value,
            unit,
            gauge,
        });
    }

    /// All rows, in a stable order.
    pub fn rows(&self) -> &[StatRow] {
        &self.rows
    }

    /// One value.
    pub fn get(&self, group: &str, name: &str) -> Option<u64> {
        self.rows
            .iter()
            .find(|r| r.group == group && r.name == name)
            .map(|r| r.value)
    }

    /// What was added since `earlier`; gauges as they are now.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let rows = self.rows.iter().map(|r| {
            let before = if r.gauge {
                0
            } else {
                earlier.get(r.group, r.name).unwrap_or(0)
            };
            StatRow {
                value: r.value.saturating_sub(before),
                ..*r
            }
        });
        Self {
            rows: rows.collect(),
        }
    }
}
