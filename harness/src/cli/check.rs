//! `gaur check`.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use clap::Args;
use gaur::check::{Blocks, Problem, RecoveredTree, RecoveryFacts, TreeFacts};
use gaur::{CheckOptions, CheckReport};
use serde_json::{Value, json};

use crate::failure::{FINE, FOUND, Outcome};
use crate::progress::Progress;
use crate::run::config::Driver;
use crate::units::Size;
use crate::{output, units};

const HELP: &str = "\
Reads the whole store as it lies there and writes nothing: both superblocks, every
tree, every large value, every map block, the log. Of a store that was not closed it
also verifies the state that recovery would leave: that every change in the log finds
its place. Ends with exit code 1 if anything is wrong.

Examples:
  gaur check /dev/loop0
  gaur check demo.store --json";

/// Walk everything and account for every block.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(super) struct CheckArgs {
    /// The device or file.
    path: PathBuf,
    /// Account for the places of large values, but do not read them.
    #[arg(long)]
    skip_values: bool,
    /// Tell at most so many problems; all are counted.
    #[arg(long, value_name = "N", default_value_t = 1000)]
    max_problems: usize,
    /// The most memory for what the log changes; above it, the state that recovery
    /// would leave is not verified.
    #[arg(long, value_name = "SIZE", default_value = "1GiB")]
    replay_memory: Size,
    /// The I/O driver.
    #[arg(long, value_enum, default_value_t)]
    driver: Driver,
    /// Print JSON.
    #[arg(long)]
    pub(super) json: bool,
}

pub(super) fn check(a: &CheckArgs) -> Outcome {
    let report = gaur::check(
        &a.path,
        &CheckOptions {
            values: !a.skip_values,
            max_problems: a.max_problems,
            replay_memory: a.replay_memory.0,
            ..options(a.driver)
        },
    )?;
    if a.json {
        let mut json = as_json(&report);
        if output::in_lines()
            && let Some(Value::Array(problems)) = json.get_mut("problems").map(Value::take)
        {
            // A line each, before what sums them up.
            problems.iter().try_for_each(output::json)?;
            json.as_object_mut().map(|o| o.remove("problems"));
        }
        output::json(&json)?;
    } else {
        output::line(as_text(&report))?;
    }
    Ok(if report.clean { FINE } else { FOUND })
}

/// A whole check that shows its progress.
pub(crate) fn options(driver: Driver) -> CheckOptions {
    let (progress, begin) = (Progress::of_work("checking", 0), Instant::now());
    CheckOptions {
        driver: driver.into(),
        progress: Some(Arc::new(move |p| {
            progress.resize(p.expected);
            progress.show(p.reached, begin.elapsed());
        })),
        ..CheckOptions::default()
    }
}

/// Where the blocks are.
fn blocks(b: &Blocks) -> [(&'static str, u64); 11] {
    [
        ("total", b.total),
        ("metadata", b.metadata),
        ("log", b.log),
        ("nodes", b.nodes),
        ("extents", b.extents),
        ("free", b.free),
        ("unaccounted", b.unaccounted),
        ("unknown", b.unknown),
        ("reached_but_free", b.reached_but_free),
        ("doubly_used", b.doubly_used),
        ("named_by_log", b.named_by_log),
    ]
}

fn as_json(r: &CheckReport) -> Value {
    let problem = |p: &Problem| {
        json!({
            "what": p.what,
            "place": p.place,
            "tree_id": p.tree.as_ref().map(|(id, _)| id),
            "tree": p.tree.as_ref().map(|(_, name)| name),
            "detail": p.detail,
        })
    };
    let tree = |t: &TreeFacts| {
        json!({
            "name": t.name,
            "id": t.id,
            "records": t.records,
            "leaves": t.leaves,
            "inner": t.inner,
            "depth": t.depth,
            "key_bytes": t.key_bytes,
            "value_bytes": t.value_bytes,
            "large_values": t.large_values,
            "extent_bytes": t.extent_bytes,
            "free_bytes": t.free_bytes,
            "newest_csn": t.newest_csn,
        })
    };
    let recovered = |t: &RecoveredTree| json!({ "name": t.name, "id": t.id, "records": t.records });
    let named: serde_json::Map<String, Value> = blocks(&r.blocks)
        .into_iter()
        .map(|(name, n)| (name.to_owned(), n.into()))
        .collect();
    json!({
        "clean": r.clean,
        "problem_count": r.problem_count(),
        "problems": r.problems.iter().map(problem).collect::<Vec<_>>(),
        "blocks": named,
        "trees": r.trees.iter().map(tree).collect::<Vec<_>>(),
        "log": {
            "blocks": r.log.region,
            "commits_to_replay": r.log.commits_to_replay,
            "last_csn": r.log.last_csn,
        },
        "recovery": {
            "commits": r.recovery.commits,
            "operations": r.recovery.operations,
            "last_csn": r.recovery.last_csn,
            "changes": r.recovery.changes,
            "memory": r.recovery.memory,
            "created": r.recovery.created,
            "dropped": r.recovery.dropped,
            "verified": r.recovery.verified,
            "trees": r.recovery.trees.iter().map(recovered).collect::<Vec<_>>(),
            "fails": r.recovery.fails,
        },
        "notes": r.notes,
        "bytes_read": r.bytes_read,
        "nanos": r.nanos,
    })
}

fn as_text(r: &CheckReport) -> String {
    let trees = r.trees.iter().map(|t| {
        vec![
            t.name.clone(),
            units::count(t.records),
            units::count(t.leaves),
            units::count(t.inner),
            t.depth.to_string(),
            units::bytes(t.key_bytes),
            units::bytes(t.value_bytes),
            units::count(t.large_values),
        ]
    });
    let mut parts = vec![
        output::table(
            ["blocks", "count"],
            blocks(&r.blocks).map(|(name, n)| vec![name.replace('_', " "), units::count(n)]),
        ),
        output::table(
            [
                "tree", "records", "leaves", "inner", "depth", "keys", "values", "large",
            ],
            trees,
        ),
    ];
    let recovery = &r.recovery;
    if recovery.commits > 0 && recovery.verified && recovery.fails.is_none() {
        let unknown = || "unknown".to_owned();
        let rows = recovery.trees.iter().map(|t| {
            let records = t.records.map_or_else(unknown, units::count);
            vec![t.name.clone(), records]
        });
        parts.push(output::table(["tree as recovered", "records"], rows));
    }
    parts.extend(r.notes.iter().map(|n| format!("note: {n}")));
    parts.push(format!(
        "read {} in {}",
        units::bytes(r.bytes_read),
        units::nanos(r.nanos)
    ));
    parts.extend(as_recovered(recovery));
    parts.push(if r.clean {
        "clean: every block is accounted for".to_owned()
    } else {
        let lines: Vec<String> = r.problems.iter().map(ToString::to_string).collect();
        let more = match r.problems_left_out {
            0 => String::new(),
            n => format!("\nand {n} more"),
        };
        format!(
            "{} problem(s)\n{}{more}",
            r.problem_count(),
            lines.join("\n")
        )
    });
    parts.join("\n\n")
}

/// What recovery would make of it, in a line; none if there is nothing to recover.
fn as_recovered(r: &RecoveryFacts) -> Option<String> {
    if r.commits == 0 && r.fails.is_none() {
        return None;
    }
    let adds = format!(
        "recovery would add {} commits ({} operations), up to commit {}",
        units::count(r.commits),
        units::count(r.operations),
        r.last_csn
    );
    Some(match &r.fails {
        Some(why) => format!("recovery would fail: {why}; opening for writing is in vain"),
        None if r.verified => format!(
            "{adds}: every change, on {} keys, finds its place",
            units::count(r.changes)
        ),
        None => format!("{adds}: not verified"),
    })
}
