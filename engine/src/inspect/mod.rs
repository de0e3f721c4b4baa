//! Looking at a store's structures, for people: tables of text.
//!
//! All of it opens read-only and writes nothing, and shows what lies there: the
//! checkpoint and the log behind it, not replayed. Of a store that was not closed
//! the notes say what recovery would add. What is damaged is shown as such
//! where it can be; the rest is shown. For a verdict there is
//! [`check`](crate::check()).

mod log;
mod map;
mod superblock;
mod tree;

use std::path::Path;
use std::sync::Arc;

use gaur_iodriver::{Device, DriverChoice};

use crate::error::Result;
use crate::format::superblock::{FLAG_CLEAN, Superblock};
use crate::format::{BlockNo, Geometry};
use crate::recovery::{geometry_of, log_reader};
use crate::writeback::superblock::read_pair;

/// What was found: a title and tables.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inspection {
    /// What it shows.
    pub title: String,
    /// What to know beside the tables, in sentences: that the store was not closed,
    /// and what recovery would add to what is shown.
    pub notes: Vec<String>,
    /// The tables.
    pub sections: Vec<Section>,
}

/// One table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Section {
    /// What it shows.
    pub heading: String,
    /// Names of the columns.
    pub columns: Vec<String>,
    /// The rows, each as long as `columns`.
    pub rows: Vec<Vec<String>>,
    /// Rows left out because of [`InspectOptions::limit`].
    pub left_out: u64,
}

/// What to look at, and how much of it. `Default` suits most.
#[derive(Clone, Debug)]
pub struct InspectOptions {
    /// Which driver to use.
    pub driver: DriverChoice,
    /// Rows of a table, at most.
    pub limit: usize,
    /// Of [`tree()`]: only the tree of this name.
    pub tree: Option<String>,
    /// Of [`tree()`]: only the node at this block.
    pub node: Option<BlockNo>,
    /// Of [`map()`]: all groups, also those that were never written.
    pub all: bool,
}

impl Default for InspectOptions {
    fn default() -> Self {
        Self {
            driver: DriverChoice::Auto,
            limit: 100,
            tree: None,
            node: None,
            all: false,
        }
    }
}

impl Section {
    fn new(heading: impl Into<String>, columns: &[&str]) -> Self {
        Self {
            heading: heading.into(),
            columns: columns.iter().map(|c| (*c).to_owned()).collect(),
            ..Self::default()
        }
    }

    fn pairs(heading: impl Into<String>) -> Self {
        Self::new(heading, &["field", "value"])
    }

    fn pair(&mut self, name: &str, value: impl ToString) {
        self.rows.push(vec![name.to_owned(), value.to_string()]);
    }

    /// Adds a row while there are fewer than `limit`.
    fn row(&mut self, limit: usize, cells: Vec<String>) {
        if self.rows.len() < limit {
            self.rows.push(cells);
        } else {
            self.left_out += 1;
        }
    }
}

/// A store that is looked at.
struct Subject {
    device: Arc<dyn Device>,
    geometry: Geometry,
    sb: Superblock,
}

impl Subject {
    fn new(device: Arc<dyn Device>, name: &str) -> Result<Self> {
        let sb = read_pair(device.as_ref(), name, false)?.newest;
        let geometry = geometry_of(&sb, device.as_ref())?;
        Ok(Self {
            device,
            geometry,
            sb,
        })
    }

    /// Looks at one of its structures, and says how the store was left.
    fn shown(
        &self,
        options: &InspectOptions,
        inspect: fn(&Self, &InspectOptions) -> Result<Inspection>,
    ) -> Result<Inspection> {
        let mut found = inspect(self, options)?;
        found.notes = self.notes()?;
        Ok(found)
    }

    /// How the store was left, if not closed.
    fn notes(&self) -> Result<Vec<String>> {
        if self.sb.flags & FLAG_CLEAN != 0 {
            return Ok(Vec::new());
        }
        let mut reader = log_reader(&self.device, &self.sb)?;
        let (mut commits, mut operations) = (0u64, 0u64);
        let damage = loop {
            match reader.next_record() {
                Ok(None) => break None,
                Ok(Some(r)) => {
                    commits += 1;
                    operations += u64::from(r.count);
                }
                Err(e) => break Some(e),
            }
        };
        let last = self.sb.cut + commits;
        let mut notes = vec![format!(
            "the store was not closed; this is what lies there, up to commit {} and with the log \
             not replayed",
            self.sb.cut
        )];
        notes.push(match damage {
            Some(e) => format!(
                "recovery would fail behind commit {last} ({commits} commits into the log): {e}"
            ),
            None if commits == 0 => "recovery would add nothing: the log is empty".to_owned(),
            None => format!(
                "recovery would add {commits} commits with {operations} operations, up to commit \
                 {last}; gaur check verifies that, stat, get, scan and dump show it"
            ),
        });
        Ok(notes)
    }
}

fn open(path: &Path, options: &InspectOptions) -> Result<Subject> {
    let opened = gaur_iodriver::open(
        path,
        &gaur_iodriver::OpenOptions {
            read_only: true,
            driver: options.driver,
            ..Default::default()
        },
    )?;
    Subject::new(opened.device, &opened.name)
}

macro_rules! inspections {
    ($($(#[$m:meta])* $name:ident, $on_device:ident, $module:ident;)*) => {$(
        $(#[$m])*
        ///
        /// # Errors
        /// [`Error::NotAStore`](crate::Error::NotAStore),
        /// [`Error::UnknownFormat`](crate::Error::UnknownFormat),
        /// [`Error::Damaged`](crate::Error::Damaged) if no superblock verifies,
        /// [`Error::NoSuchTree`](crate::Error::NoSuchTree),
        /// [`Error::Io`](crate::Error::Io), also if somebody has it open for writing.
        pub fn $name(path: impl AsRef<Path>, options: &InspectOptions) -> Result<Inspection> {
            open(path.as_ref(), options)?.shown(options, $module::inspect)
        }

        /// The same on a device that is open already.
        ///
        /// # Errors
        #[doc = concat!("As [`", stringify!($name), "()`].")]
        pub fn $on_device(
            device: Arc<dyn Device>,
            options: &InspectOptions,
        ) -> Result<Inspection> {
            Subject::new(device, "device")?.shown(options, $module::inspect)
        }
    )*};
}

inspections! {
    /// Both superblock copies, field by field.
    superblock, superblock_device, superblock;
    /// The log: where it begins and ends, and each log block of the region.
    log, log_device, log;
    /// The space map: its index, and each group.
    map, map_device, map;
    /// The trees: their shape by level; or one node.
    tree, tree_device, tree;
}

/// Seconds since 1970 as a date of the Gregorian calendar, and as they are stored.
fn date(seconds: u64) -> String {
    let (day, second) = (seconds / 86_400, seconds % 86_400);
    // Years that begin in March, so that the leap day is the last of one; 400 of them
    // have 146,097 days. Day 0 is 1 March of the year 0.
    let day = day + 719_468;
    let (era, day) = (day / 146_097, day % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 {
        (month + 3, 0)
    } else {
        (month - 9, 1)
    };
    let year = era * 400 + year + next;
    let (h, m, s) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02} {h:02}:{m:02}:{s:02} UTC ({seconds} s since 1970)")
}

/// Bytes as people read them.
pub(crate) fn bytes(n: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if n < 1024 {
        return format!("{n} B");
    }
    let mut value = n as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {} ({n} B)", UNITS[unit])
}

fn percent(part: u64, whole: u64) -> String {
    if whole == 0 {
        return "–".to_owned();
    }
    format!("{:.1} %", 100.0 * part as f64 / whole as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_dates() {
        for (seconds, day) in [
            (0, "1970-01-01 00:00:00"),
            (951_782_399, "2000-02-28 23:59:59"),
            (951_782_400, "2000-02-29 00:00:00"),
            (951_868_800, "2000-03-01 00:00:00"),
            (4_107_542_400, "2100-03-01 00:00:00"),
            (1_735_689_599, "2024-12-31 23:59:59"),
            (1_795_480_619, "2026-11-24 00:36:59"),
        ] {
            assert_eq!(date(seconds), format!("{day} UTC ({seconds} s since 1970)"));
        }
        // Whatever lies there can be shown.
        assert!(date(u64::MAX).contains("UTC"));
    }
}
