//! `gaur check`.

use std::path::PathBuf;

use clap::Args;
use gaur::{CheckOptions, CheckReport, Problem};
use serde_json::json;

use crate::failure::{FINE, FOUND, Outcome};
use crate::{output, units};

const HELP: &str = "\
Reads the whole store and writes nothing: every tree, every map block, the log.
Ends with exit code 1 if anything is wrong.

Examples:
  gaur check /dev/loop0
  gaur check demo.store --json";

/// Walk everything and account for every block.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(super) struct CheckArgs {
    /// The device or file.
    path: PathBuf,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn check(a: &CheckArgs) -> Outcome {
    let report = gaur::check(&a.path, &CheckOptions::default())?;
    if a.json {
        output::json(&as_json(&report))?;
    } else {
        output::line(as_text(&report))?;
    }
    Ok(if report.clean { FINE } else { FOUND })
}

/// A problem in one line.
pub(crate) fn problem(p: &Problem) -> String {
    let tree = p.tree.map(|t| format!(" of tree {t}")).unwrap_or_default();
    format!("{}{tree} at block {}: {}", p.what, p.place, p.detail)
}

fn as_json(r: &CheckReport) -> serde_json::Value {
    let b = &r.blocks;
    json!({
        "clean": r.clean,
        "problems": r.problems.iter().map(|p| json!({
            "what": p.what, "place": p.place, "tree": p.tree, "detail": p.detail,
        })).collect::<Vec<_>>(),
        "blocks": {
            "total": b.total, "reachable": b.reachable, "free": b.free, "log": b.log,
            "metadata": b.metadata, "unaccounted": b.unaccounted, "doubly_used": b.doubly_used,
        },
        "trees": r.trees.iter().map(|t| json!({
            "name": t.name, "id": t.id, "records": t.records, "leaves": t.leaves,
            "inner": t.inner, "depth": t.depth, "bytes": t.bytes,
        })).collect::<Vec<_>>(),
        "notes": r.notes,
    })
}

fn as_text(r: &CheckReport) -> String {
    let b = &r.blocks;
    let blocks = [
        ("total", b.total),
        ("reachable", b.reachable),
        ("free", b.free),
        ("log", b.log),
        ("metadata", b.metadata),
        ("unaccounted", b.unaccounted),
        ("doubly used", b.doubly_used),
    ];
    let mut parts = vec![
        output::table(
            ["blocks", "count"],
            blocks.map(|(n, v)| vec![n.to_owned(), units::count(v)]),
        ),
        output::table(
            ["tree", "id", "records", "leaves", "inner", "depth", "bytes"],
            r.trees.iter().map(|t| {
                vec![
                    t.name.clone(),
                    t.id.to_string(),
                    units::count(t.records),
                    units::count(t.leaves),
                    units::count(t.inner),
                    t.depth.to_string(),
                    units::bytes(t.bytes),
                ]
            }),
        ),
    ];
    if !r.notes.is_empty() {
        parts.push(r.notes.join("\n"));
    }
    parts.push(if r.clean {
        "clean: every block is accounted for".to_owned()
    } else {
        let lines: Vec<String> = r.problems.iter().map(problem).collect();
        format!("{} problem(s)\n{}", lines.len(), lines.join("\n"))
    });
    parts.join("\n\n")
}
