//! Looking for faults on purpose: one campaign after the other on a build that has
//! them, until one notices.
//!
//! Each runs in a process of its own, whose environment names the fault: it may end
//! by a panic, an abort or not at all. A campaign that ends well, or that is still
//! going when the budget is over, has not noticed.

mod finder;
mod verdict;

use std::time::{Duration, Instant};

use gaur_iodriver::faults::Fault;
use gaur_iodriver::sync::rng;
use rand::seq::SliceRandom;

use crate::failure::{FINE, FOUND, Failure, Outcome};
use crate::output;
use finder::Ended;
pub(crate) use finder::Finder;

/// What to look for, and how long.
#[derive(Debug)]
pub(crate) struct Search {
    /// These faults; all if there are none.
    pub(crate) faults: Vec<Fault>,
    /// So many of them, chosen by the seed.
    pub(crate) pick: Option<usize>,
    pub(crate) seed: u64,
    /// For one fault, over all campaigns.
    pub(crate) budget: Duration,
    /// Only these campaigns, if any are named.
    pub(crate) by: Vec<String>,
    /// First that nothing is found without a fault.
    pub(crate) control: bool,
    /// A table for a document in the end.
    pub(crate) markdown: bool,
}

/// What became of one fault.
#[derive(Debug)]
struct Row {
    fault: Fault,
    found: Option<Found>,
    /// Its code was reached.
    met: bool,
    took: Duration,
}

#[derive(Debug)]
struct Found {
    by: &'static str,
    check: String,
}

/// Searches, and tells.
pub(crate) fn search(search: &Search) -> Outcome {
    let mut faults = match search.faults.as_slice() {
        [] => Fault::ALL.to_vec(),
        some => some.to_vec(),
    };
    if let Some(n) = search.pick {
        faults.shuffle(&mut rng::seeded(search.seed));
        faults.truncate(n);
    }
    let finders = finder::all(search.seed, &search.by)?;
    output::line(format!(
        "{} faults, {} s for each, seed {}",
        faults.len(),
        search.budget.as_secs(),
        search.seed
    ))?;
    if search.control {
        control(&finders, search.budget)?;
    }
    let mut rows = Vec::new();
    for fault in faults {
        let row = look_for(fault, &finders, search.budget)?;
        output::line(row.text())?;
        rows.push(row);
    }
    let found = rows.iter().filter(|r| r.found.is_some()).count();
    output::line(format!("found {found} of {}", rows.len()))?;
    if search.markdown {
        output::line("\n| fault | what is wrong | breaks | found | by |")?;
        output::line("|---|---|---|---|---|")?;
        for row in &rows {
            output::line(row.markdown())?;
        }
    }
    Ok(if found == rows.len() { FINE } else { FOUND })
}

/// Without a fault nothing may be found.
fn control(finders: &[Finder], budget: Duration) -> Result<(), Failure> {
    for finder in finders {
        if let Ended::Noticed(check) = finder.run(None, budget)?.0 {
            let name = finder.name;
            return Err(Failure::refused(format!(
                "`{name}` fails without any fault: {check}"
            )));
        }
    }
    output::line("none: all campaigns end well")
}

fn look_for(fault: Fault, finders: &[Finder], budget: Duration) -> Result<Row, Failure> {
    let begun = Instant::now();
    let mut row = Row {
        fault,
        found: None,
        met: false,
        took: Duration::ZERO,
    };
    for finder in finders {
        let left = budget.saturating_sub(begun.elapsed());
        if left.is_zero() {
            break;
        }
        let (ended, met) = finder.run(Some(fault), left)?;
        row.met |= met;
        if let Ended::Noticed(check) = ended {
            let by = finder.name;
            row.found = Some(Found { by, check });
            break;
        }
    }
    row.took = begun.elapsed();
    Ok(row)
}

impl Row {
    fn text(&self) -> String {
        let name = self.fault.name();
        let seconds = self.took.as_secs_f64();
        match &self.found {
            Some(f) => format!(
                "{name}: found after {seconds:.1} s by {}: {}",
                f.by, f.check
            ),
            None if self.met => format!("{name}: NOT FOUND in {seconds:.1} s"),
            None => format!("{name}: NOT FOUND in {seconds:.1} s, and its code never reached"),
        }
    }

    fn markdown(&self) -> String {
        let (after, by) = match &self.found {
            Some(f) => (
                format!("{:.1} s", self.took.as_secs_f64()),
                format!("{}: {}", f.by, f.check.replace('|', "\\|")),
            ),
            None => ("**not found**".to_owned(), String::new()),
        };
        format!(
            "| `{}` | {} | {} | {after} | {by} |",
            self.fault.name(),
            self.fault.what(),
            self.fault.promises()
        )
    }
}
