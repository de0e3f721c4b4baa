//! `gaur inspect`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use gaur::inspect::{self, Inspection};
use serde_json::json;

use crate::failure::{FINE, Outcome};
use crate::output;

const HELP: &str = "\
Shows the structures as they lie on the device, and writes nothing.

Examples:
  gaur inspect superblock /dev/loop0
  gaur inspect tree demo.store --tree default
  gaur inspect log demo.store --json";

/// Show what lies on the device.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(super) struct InspectArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Both copies of the superblock.
    Superblock(Place),
    /// The log.
    Log(Place),
    /// The space map.
    Map(Place),
    /// A tree's nodes.
    Tree(Place),
}

/// Where to look.
#[derive(Debug, Args)]
struct Place {
    /// The device or file.
    path: PathBuf,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn inspect(a: &InspectArgs) -> Outcome {
    let (place, found) = match &a.what {
        What::Superblock(p) => (p, inspect::superblock(&p.path)?),
        What::Log(p) => (p, inspect::log(&p.path)?),
        What::Map(p) => (p, inspect::map(&p.path)?),
        What::Tree(p) => (p, inspect::tree(&p.path)?),
    };
    if place.json {
        output::json(&as_json(&found))?;
    } else {
        output::line(as_text(&found))?;
    }
    Ok(FINE)
}

pub(super) fn as_json(i: &Inspection) -> serde_json::Value {
    json!({
        "title": i.title,
        "rows": i.rows,
        "tables": i.tables.iter().map(|t| json!({
            "title": t.title, "columns": t.columns, "rows": t.rows,
        })).collect::<Vec<_>>(),
    })
}

pub(super) fn as_text(i: &Inspection) -> String {
    let mut parts = vec![format!("{}\n{}", i.title, output::pairs(i.rows.clone()))];
    for t in &i.tables {
        parts.push(format!(
            "{}\n{}",
            t.title,
            output::table(t.columns.clone(), t.rows.clone())
        ));
    }
    parts.join("\n\n")
}
