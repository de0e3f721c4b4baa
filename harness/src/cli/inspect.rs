//! `gaur inspect`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use gaur::inspect::{self, InspectOptions, Inspection, Section};
use serde_json::{Value, json};

use crate::failure::{FINE, Failure, Outcome};
use crate::output;
use crate::run::config::Driver;

const HELP: &str = "\
Shows the structures as they lie on the device, the log not replayed, and writes
nothing. Of a store that was not closed it says what recovery would add.

Examples:
  gaur inspect superblock /dev/loop0
  gaur inspect tree demo.store --tree default
  gaur inspect tree demo.store --node 4711
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
    /// The log: its ends, and each of its blocks.
    Log(Place),
    /// The space map: its index, and each group.
    Map(MapArgs),
    /// The trees, level by level; or one node.
    Tree(TreeArgs),
}

/// Where to look.
#[derive(Debug, Args)]
struct Place {
    /// The device or file.
    path: PathBuf,
    /// At most so many rows in a table.
    #[arg(long, value_name = "N", default_value_t = 100)]
    limit: usize,
    /// The I/O driver.
    #[arg(long, value_enum, default_value_t)]
    driver: Driver,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct MapArgs {
    #[command(flatten)]
    place: Place,
    /// Also groups that were never written.
    #[arg(long)]
    all: bool,
}

#[derive(Debug, Args)]
struct TreeArgs {
    #[command(flatten)]
    place: Place,
    /// Only this tree.
    #[arg(long, value_name = "NAME")]
    tree: Option<String>,
    /// Only the node at this block.
    #[arg(long, value_name = "BLOCK")]
    node: Option<u64>,
}

impl InspectArgs {
    /// Whether to print JSON.
    pub(super) fn json(&mut self) -> &mut bool {
        let place = match &mut self.what {
            What::Superblock(place) | What::Log(place) => place,
            What::Map(a) => &mut a.place,
            What::Tree(a) => &mut a.place,
        };
        &mut place.json
    }
}

pub(super) fn inspect(a: &InspectArgs) -> Outcome {
    let (place, found) = match &a.what {
        What::Superblock(p) => (p, inspect::superblock(&p.path, &p.options())?),
        What::Log(p) => (p, inspect::log(&p.path, &p.options())?),
        What::Map(m) => {
            let o = InspectOptions {
                all: m.all,
                ..m.place.options()
            };
            (&m.place, inspect::map(&m.place.path, &o)?)
        }
        What::Tree(t) => {
            let o = InspectOptions {
                tree: t.tree.clone(),
                node: t.node,
                ..t.place.options()
            };
            let found = inspect::tree(&t.place.path, &o)?;
            // Facts in place of a table of slots: there is no such node.
            if let Some(s) = found.sections.first()
                && t.node.is_some()
                && s.columns == ["field", "value"]
            {
                return Err(Failure::refused(format!(
                    "{}: {}; gaur inspect tree shows the roots",
                    t.place.path.display(),
                    s.heading
                )));
            }
            (&t.place, found)
        }
    };
    if place.json {
        output::json(&as_json(&found))?;
    } else {
        output::line(as_text(&found))?;
    }
    Ok(FINE)
}

impl Place {
    fn options(&self) -> InspectOptions {
        InspectOptions {
            driver: self.driver.into(),
            limit: self.limit,
            ..InspectOptions::default()
        }
    }
}

/// As data.
pub(super) fn as_json(i: &Inspection) -> Value {
    let section = |s: &Section| {
        json!({
            "heading": s.heading,
            "columns": s.columns,
            "rows": s.rows,
            "left_out": s.left_out,
        })
    };
    json!({
        "title": i.title,
        "notes": i.notes,
        "sections": i.sections.iter().map(section).collect::<Vec<_>>(),
    })
}

/// As aligned tables.
pub(super) fn as_text(i: &Inspection) -> String {
    let mut parts = vec![i.title.clone()];
    if !i.notes.is_empty() {
        let notes: Vec<String> = i.notes.iter().map(|n| format!("note: {n}")).collect();
        parts.push(notes.join("\n"));
    }
    for s in &i.sections {
        // A list of facts needs no header.
        let body = if s.columns == ["field", "value"] {
            output::pairs(s.rows.iter().filter_map(|row| match row.as_slice() {
                [field, value] => Some((field.clone(), value.clone())),
                _ => None,
            }))
        } else {
            output::table(s.columns.clone(), s.rows.clone())
        };
        let more = match s.left_out {
            0 => String::new(),
            n => format!("\n  and {n} more; see --limit"),
        };
        parts.push(format!("{}\n{body}{more}", s.heading));
    }
    parts.join("\n\n")
}
