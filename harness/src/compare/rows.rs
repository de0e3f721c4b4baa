//! The rows of the comparison: what each does, and in which order.

use serde::{Deserialize, Serialize};

use crate::run::config::{Distribution, Durable, Mix};

/// What one store is made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Stage {
    /// A store that fits the cache.
    Cached,
    /// The rows of redb's own table, in its order.
    Table,
    /// A store of eight times the cache.
    Cold,
}

/// What a figure counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    /// Operations a second, or records where one writes many; more is better.
    Rate,
    /// Milliseconds; less is better.
    Millis,
    /// Bytes; less is better.
    Bytes,
}

/// What a row does.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Step {
    /// Loads all records in random order, this many a commit.
    Load { batch: usize },
    /// Draws operations.
    Mix(Cell),
    /// Asks how many records there are.
    Len,
    /// Removes half of the records, this many a commit.
    Remove { batch: usize },
    /// Looks what the store takes.
    Size,
    /// Has the engine give back space, and looks again.
    Compact,
}

/// A mix of operations.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Cell {
    pub(crate) threads: usize,
    pub(crate) mix: Mix,
    pub(crate) distribution: Distribution,
    pub(crate) durability: Durable,
    pub(crate) batch: usize,
    pub(crate) scan_length: u64,
    /// Each scan is as long as that, not up to that.
    pub(crate) exactly: bool,
    /// How many operations, if it is not by time.
    pub(crate) operations: Option<Operations>,
}

/// How many operations.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Operations {
    Exactly(u64),
    /// One for so many records.
    OneFor(u64),
}

/// A row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) label: &'static str,
    /// What `--rows` calls it, with others.
    pub(crate) group: &'static str,
    pub(crate) stage: Stage,
    pub(crate) unit: Unit,
    pub(crate) step: Step,
    /// Part of `--quick`.
    pub(crate) quick: bool,
}

/// The groups that can be chosen.
pub(crate) const GROUPS: [&str; 6] = ["load", "reads", "ycsb", "durable", "table", "cold"];

const NONE: Mix = Mix {
    read: 0.0,
    update: 0.0,
    insert: 0.0,
    scan: 0.0,
    reverse: 0.0,
    delete: 0.0,
    rmw: 0.0,
};

const READS: Cell = Cell {
    threads: 1,
    mix: Mix { read: 1.0, ..NONE },
    distribution: Distribution::Uniform,
    durability: Durable::Buffered,
    batch: 1,
    scan_length: 10,
    exactly: true,
    operations: None,
};

const SCANS: Cell = Cell {
    mix: Mix { scan: 1.0, ..NONE },
    ..READS
};

/// Durable commits of new records.
const DURABLE: Cell = Cell {
    mix: Mix {
        insert: 1.0,
        ..NONE
    },
    durability: Durable::Sync,
    ..READS
};

const fn ycsb(mix: Mix, distribution: Distribution) -> Cell {
    Cell {
        threads: 2,
        mix,
        distribution,
        scan_length: 100,
        exactly: false,
        ..READS
    }
}

const fn row(
    name: &'static str,
    label: &'static str,
    group: &'static str,
    unit: Unit,
    step: Step,
) -> Row {
    Row {
        name,
        label,
        group,
        stage: Stage::Cached,
        unit,
        step,
        quick: true,
    }
}

const fn full(row: Row) -> Row {
    Row {
        quick: false,
        ..row
    }
}

const fn table(name: &'static str, label: &'static str, unit: Unit, step: Step) -> Row {
    Row {
        stage: Stage::Table,
        ..full(row(name, label, "table", unit, step))
    }
}

const fn cold(name: &'static str, label: &'static str, step: Step) -> Row {
    Row {
        stage: Stage::Cold,
        ..full(row(name, label, "cold", Unit::Rate, step))
    }
}

const fn by(threads: usize, cell: Cell) -> Step {
    Step::Mix(Cell { threads, ..cell })
}

const fn count(operations: u64, cell: Cell) -> Step {
    Step::Mix(Cell {
        operations: Some(Operations::Exactly(operations)),
        ..cell
    })
}

/// One operation for so many records.
const fn part(records: u64, cell: Cell) -> Step {
    Step::Mix(Cell {
        operations: Some(Operations::OneFor(records)),
        ..cell
    })
}

use Distribution::{Latest, Zipfian};
use Unit::{Bytes, Millis, Rate};

/// All rows, in the order in which they are done. Within a stage the store is what
/// the rows before made of it.
#[rustfmt::skip]
pub(crate) const ROWS: &[Row] = &[
    row("load", "random load, batches of 1000", "load", Rate, Step::Load { batch: 1000 }),
    row("read-1", "point reads", "reads", Rate, by(1, READS)),
    row("read-2", "point reads, 2 threads", "reads", Rate, by(2, READS)),
    full(row("zipf-2", "zipfian reads, 2 threads", "reads", Rate,
        by(2, Cell { distribution: Zipfian, ..READS }))),
    row("scan-1", "scans of 10", "reads", Rate, by(1, SCANS)),
    full(row("scan-2", "scans of 10, 2 threads", "reads", Rate, by(2, SCANS))),
    full(row("ycsb-c", "YCSB c, 2 threads", "ycsb", Rate,
        Step::Mix(ycsb(Mix { read: 1.0, ..NONE }, Zipfian)))),
    row("ycsb-b", "YCSB b, 2 threads", "ycsb", Rate,
        Step::Mix(ycsb(Mix { read: 0.95, update: 0.05, ..NONE }, Zipfian))),
    row("ycsb-a", "YCSB a, 2 threads", "ycsb", Rate,
        Step::Mix(ycsb(Mix { read: 0.5, update: 0.5, ..NONE }, Zipfian))),
    row("ycsb-f", "YCSB f, 2 threads", "ycsb", Rate,
        Step::Mix(ycsb(Mix { read: 0.5, rmw: 0.5, ..NONE }, Zipfian))),
    row("ycsb-d", "YCSB d, 2 threads", "ycsb", Rate,
        Step::Mix(ycsb(Mix { read: 0.95, insert: 0.05, ..NONE }, Latest))),
    full(row("ycsb-e", "YCSB e, 2 threads", "ycsb", Rate,
        Step::Mix(ycsb(Mix { scan: 0.95, insert: 0.05, ..NONE }, Zipfian)))),
    row("durable-1", "durable commits", "durable", Rate, by(1, DURABLE)),
    row("durable-16", "durable commits, 16 threads", "durable", Rate, by(16, DURABLE)),
    full(row("durable-64", "durable commits, 64 threads", "durable", Rate, by(64, DURABLE))),
    row("batch-1", "durable batches of 1000", "durable", Rate,
        by(1, Cell { batch: 1000, ..DURABLE })),

    table("bulk", "bulk load", Millis, Step::Load { batch: 20_000 }),
    table("single", "individual durable writes", Millis, count(1000, DURABLE)),
    table("batches", "durable batches, 100 of 1000", Millis,
        count(100, Cell { batch: 1000, ..DURABLE })),
    table("len", "len()", Millis, Step::Len),
    table("random", "random reads, a fifth", Millis, part(5, READS)),
    table("ranges", "range reads of 10, a tenth", Millis, part(10, SCANS)),
    table("reads-4", "random reads, all, 4 threads", Millis, part(1, Cell { threads: 4, ..READS })),
    table("reads-32", "random reads, all, 32 threads", Millis, part(1, Cell { threads: 32, ..READS })),
    table("remove", "removals of half", Millis, Step::Remove { batch: 20_000 }),
    table("size", "size", Bytes, Step::Size),
    table("compacted", "compacted size", Bytes, Step::Compact),

    cold("cold-load", "random load, 8 x cache", Step::Load { batch: 1000 }),
    cold("cold-1", "reads, 8 x cache", by(1, READS)),
    cold("cold-32", "reads, 8 x cache, 32 threads", by(32, READS)),
];

/// What the device gives by itself, on the blocks of the cold store.
pub(crate) const FLOOR: [(&str, u32); 2] = [("cold-1", 1), ("cold-32", 32)];

/// The row of this name.
pub(crate) fn of(name: &str) -> Option<&'static Row> {
    ROWS.iter().find(|r| r.name == name)
}

impl Row {
    /// Whether it makes the store that its stage works on.
    pub(crate) fn is_load(&self) -> bool {
        matches!(self.step, Step::Load { .. })
    }
}

impl Cell {
    /// Whether nobody writes.
    pub(crate) fn reads_only(&self) -> bool {
        let m = &self.mix;
        m.update + m.insert + m.delete + m.rmw == 0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_row_has_a_name_of_its_own_and_a_known_group() {
        for (i, row) in ROWS.iter().enumerate() {
            assert!(ROWS[..i].iter().all(|r| r.name != row.name), "{}", row.name);
            assert!(GROUPS.contains(&row.group), "{}", row.group);
            // Both are asked for by name, and mean the same if they are one.
            assert!(
                row.name == row.group || !GROUPS.contains(&row.name),
                "{}",
                row.name
            );
            assert!(row.label.len() <= 29, "{}", row.label);
        }
    }

    #[test]
    fn a_stage_begins_with_its_load() {
        for stage in [Stage::Cached, Stage::Table, Stage::Cold] {
            let first = ROWS.iter().find(|r| r.stage == stage).unwrap();
            assert!(matches!(first.step, Step::Load { .. }), "{}", first.name);
        }
    }
}
