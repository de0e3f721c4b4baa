//! `gaur stat`.

use std::collections::BTreeMap;

use clap::Args;
use serde_json::json;

use super::{StoreArgs, superblock};
use crate::failure::{FINE, Outcome};
use crate::run::summary;
use crate::{output, units};

const HELP: &str = "\
Opens the store read-only: nothing is written, and what recovery would replay is
replayed in memory. For a count of records and blocks see gaur check.

Examples:
  gaur stat demo.store
  gaur stat /dev/loop0 --json";

/// Tell what a store holds and how it was left.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(super) struct StatArgs {
    #[command(flatten)]
    store: StoreArgs,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// What is shown of the superblock, under which name.
const FACTS: [(&str, &str); 7] = [
    ("id", "store_id"),
    ("size", "capacity"),
    ("free", "map_free"),
    ("log", "log_blocks"),
    ("block size", "block_size"),
    ("generation", "generation"),
    ("created", "created"),
];

pub(super) fn stat(a: &StatArgs) -> Outcome {
    let store = a.store.open(true)?;
    let facts = superblock::facts(&a.store.path, a.store.driver)?;
    let recovery = store.recovery().clone();
    let (trees, notes, stats) = (store.tree_names(), store.notes(), store.stats());
    let sparse = store.is_sparse();
    store.close()?;
    let counters = summary::counters(&stats);
    if a.json {
        output::json(&json!({
            "path": a.store.path,
            "clean": recovery.clean,
            "last_csn": recovery.last_csn,
            "replayed": recovery.replayed,
            "trees": trees,
            "sparse": sparse,
            "notes": notes,
            "superblock": facts.into_iter().collect::<BTreeMap<_, _>>(),
            "counters": counters,
        }))?;
        return Ok(FINE);
    }
    let mut rows = vec![
        ("store".to_owned(), a.store.path.display().to_string()),
        (
            "left".to_owned(),
            match recovery.clean {
                true => "closed cleanly".to_owned(),
                false => format!(
                    "not closed: {} commits to replay",
                    units::count(recovery.replayed)
                ),
            },
        ),
        ("last commit".to_owned(), recovery.last_csn.to_string()),
        (
            "trees".to_owned(),
            if trees.is_empty() {
                "none".into()
            } else {
                trees.join(", ")
            },
        ),
    ];
    if let Some(method) = superblock::durable_method(&facts) {
        rows.push(("durable by".to_owned(), method));
    }
    for (name, field) in FACTS {
        if let Some(value) = superblock::fact(&facts, field) {
            rows.push((name.to_owned(), value.to_owned()));
        }
    }
    if sparse {
        rows.push(("file".to_owned(), "sparse, gets space when written".into()));
    }
    rows.extend(notes.into_iter().map(|n| ("note".to_owned(), n)));
    output::line(output::pairs(rows))?;
    Ok(FINE)
}
