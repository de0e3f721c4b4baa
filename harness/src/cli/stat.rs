//! `gaur stat`.

use std::collections::BTreeMap;

use clap::Args;
use gaur::{RecoveryReport, Stats, Store};
use serde_json::json;

use super::{StoreArgs, superblock};
use crate::failure::{FINE, FOUND, Failure, Outcome};
use crate::run::summary;
use crate::{output, units};

const HELP: &str = "\
Opens the store read-only: nothing is written. Trees and commits are shown as
recovery would leave them; what is said of size, free space, generation and log is
of the last checkpoint, as it lies there. Ends with exit code 1 if damage was met;
gaur check looks everywhere.

Examples:
  gaur stat demo.store
  gaur stat demo.store --count            also reads all keys and counts them
  gaur stat /dev/loop0 --json
  gaur stat demo.store --format prometheus  the statistics, for a text-file collector";

/// Tell what a store holds and how it was left.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(super) struct StatArgs {
    #[command(flatten)]
    store: StoreArgs,
    /// Count the records of each tree, which reads all of their nodes.
    #[arg(long)]
    count: bool,
    /// Print JSON.
    #[arg(long)]
    pub(super) json: bool,
    /// `--format prometheus`.
    #[arg(skip)]
    pub(super) prometheus: bool,
}

/// What is shown of the superblock, under which name.
const FACTS: [(&str, &str); 10] = [
    ("id", "store_id"),
    ("size", "capacity"),
    ("free", "map_free"),
    ("log", "log_blocks"),
    ("log head", "log_head"),
    ("block size", "block_size"),
    ("generation", "generation"),
    ("incarnation", "incarnation"),
    ("checkpoint at", "cut"),
    ("created", "created"),
];

/// The records of a tree.
struct Counted {
    records: u64,
    key_bytes: u64,
    /// Parts that could not be read, which are not in it.
    left_out: Vec<String>,
}

pub(super) fn stat(a: &StatArgs) -> Outcome {
    let store = a.store.open_to_look(true)?;
    let facts = superblock::facts(&a.store.path, a.store.driver)?;
    let recovery = store.recovery().clone();
    let trees = store.tree_names();
    let counted = if a.count {
        Some(count(&store, &trees)?)
    } else {
        None
    };
    let driver = store.driver();
    let direct = store.is_direct();
    let mut notes: Vec<String> = recovery
        .superblocks_behind
        .iter()
        .map(|(copy, why)| {
            format!(
                "superblock copy {copy}: {why}; the other holds, and the next open for writing \
                 completes the pair"
            )
        })
        .collect();
    notes.extend(store.notes());
    let mut damage: Vec<String> = recovery.left_out.iter().map(ToString::to_string).collect();
    let all = counted.iter().flat_map(BTreeMap::values);
    damage.extend(all.flat_map(|c| c.left_out.iter().cloned()));
    let stats = store.stats();
    let counters = summary::counters(&stats);
    let sparse = store.is_sparse();
    store.close()?;
    if a.prometheus {
        let text = stats.to_prometheus(&a.store.path.display().to_string());
        output::raw(text.as_bytes())?;
        return Ok(if damage.is_empty() { FINE } else { FOUND });
    }
    let next = next(&recovery, &damage);
    let code = if damage.is_empty() { FINE } else { FOUND };
    if a.json {
        let counts = counted.map(|all| {
            let one = |(name, c): (String, Counted)| {
                (
                    name,
                    json!({ "records": c.records, "key_bytes": c.key_bytes, "left_out": c.left_out }),
                )
            };
            all.into_iter().map(one).collect::<BTreeMap<_, _>>()
        });
        output::json(&json!({
            "path": a.store.path,
            "clean": recovery.clean,
            "last_csn": recovery.last_csn,
            "replayed": recovery.replayed,
            "operations": recovery.operations,
            "changed_keys": recovery.changes.0,
            "trees": trees,
            "counts": counts,
            "driver": driver,
            "direct": direct,
            "sparse": sparse,
            "notes": notes,
            "damage": damage,
            "next": next,
            "superblock": facts.into_iter().collect::<BTreeMap<_, _>>(),
            "counters": counters,
        }))?;
        return Ok(code);
    }
    let mut rows = vec![
        ("store".to_owned(), a.store.path.display().to_string()),
        ("left".to_owned(), left(&recovery)),
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
    for (name, c) in counted.iter().flatten() {
        let more = if c.left_out.is_empty() {
            ""
        } else {
            " readable"
        };
        let what = format!(
            "{}{more} records, {} of keys",
            units::count(c.records),
            units::bytes(c.key_bytes)
        );
        rows.push((format!("  {name}"), what));
    }
    if let Some(method) = superblock::durable_method(&facts) {
        rows.push(("durable by".to_owned(), method));
    }
    for (name, field) in FACTS {
        if let Some(value) = superblock::fact(&facts, field) {
            rows.push((name.to_owned(), value.to_owned()));
        }
    }
    rows.push(("blocks".to_owned(), space(&stats)));
    let how = if direct { "O_DIRECT" } else { "the page cache" };
    rows.push(("read by".to_owned(), format!("{driver}, {how}")));
    if sparse {
        rows.push(("file".to_owned(), "sparse, gets space when written".into()));
    }
    rows.extend(notes.into_iter().map(|n| ("note".to_owned(), n)));
    rows.extend(damage.into_iter().map(|d| ("damage".to_owned(), d)));
    rows.extend(next.map(|n| ("next".to_owned(), n.to_owned())));
    output::line(output::pairs(rows))?;
    Ok(code)
}

fn left(r: &RecoveryReport) -> String {
    match (r.clean, r.replayed) {
        (true, _) => "closed cleanly".to_owned(),
        (false, 0) => "not closed: nothing to replay behind the checkpoint".to_owned(),
        (false, n) => format!(
            "not closed: {} commits to replay, {} operations on {} keys",
            units::count(n),
            units::count(r.operations),
            units::count(r.changes.0)
        ),
    }
}

/// What to do now, if anything.
fn next(r: &RecoveryReport, damage: &[String]) -> Option<&'static str> {
    if !damage.is_empty() {
        return Some(
            "gaur check lists all damage; gaur dump --skip-damaged saves what is readable, \
             without writing to the store",
        );
    }
    (!r.clean).then_some(
        "opening it for writing recovers it; gaur check verifies before that what recovery \
         would leave",
    )
}

fn count(store: &Store, names: &[String]) -> Result<BTreeMap<String, Counted>, Failure> {
    let mut all = BTreeMap::new();
    for name in names {
        let mut c = Counted {
            records: 0,
            key_bytes: 0,
            left_out: Vec::new(),
        };
        let mut scan = store.open_tree(name)?.iter()?.keys_only().skip_damaged();
        for record in &mut scan {
            c.records += 1;
            c.key_bytes += record?.0.len() as u64;
        }
        c.left_out
            .extend(scan.left_out().iter().map(|l| l.why.to_string()));
        all.insert(name.clone(), c);
    }
    Ok(all)
}

/// How full the store is.
fn space(stats: &Stats) -> String {
    let get = |name| stats.get("space", name).unwrap_or(0);
    let (used, all, free) = (get("used"), get("blocks"), get("free"));
    format!(
        "{} of {} used ({:.1} %), {} kept for deletes and checkpoints{}",
        units::count(used),
        units::count(all),
        100.0 * used as f64 / all.max(1) as f64,
        units::count(get("reserved")),
        if free == 0 { "; full" } else { "" }
    )
}
