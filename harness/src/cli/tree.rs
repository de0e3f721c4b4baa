//! `gaur tree`: the trees of a store.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::StoreArgs;
use crate::failure::{FINE, Outcome};
use crate::{output, units};

const HELP: &str = "\
A tree is an ordered map of its own; what names none means the one called default.

Examples:
  gaur tree list demo.store
  gaur tree create demo.store users
  gaur tree rename demo.store users people
  gaur tree drop demo.store people --dry-run     what would be lost
  gaur tree drop demo.store people";

/// Show, make, rename and drop trees.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(super) struct TreeVerbArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Show what there are, and about how large they are.
    List(ListArgs),
    /// Make an empty one.
    Create(CreateArgs),
    /// Give one another name.
    Rename(RenameArgs),
    /// Drop one with all that is in it.
    Drop(DropArgs),
}

#[derive(Debug, Args)]
struct ListArgs {
    #[command(flatten)]
    store: StoreArgs,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct CreateArgs {
    #[command(flatten)]
    store: StoreArgs,
    /// Its name.
    name: String,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct RenameArgs {
    #[command(flatten)]
    store: StoreArgs,
    /// The tree.
    name: String,
    /// What it is to be called.
    new_name: String,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct DropArgs {
    #[command(flatten)]
    store: StoreArgs,
    /// The tree.
    name: String,
    /// Make the checks, tell what would be dropped, and write nothing.
    #[arg(long)]
    dry_run: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl TreeVerbArgs {
    /// Whether to print JSON.
    pub(super) fn json(&mut self) -> &mut bool {
        match &mut self.what {
            What::List(a) => &mut a.json,
            What::Create(a) => &mut a.json,
            What::Rename(a) => &mut a.json,
            What::Drop(a) => &mut a.json,
        }
    }
}

pub(super) fn tree(a: &TreeVerbArgs) -> Outcome {
    match &a.what {
        What::List(a) => list(a),
        What::Create(a) => create(a),
        What::Rename(a) => rename(a),
        What::Drop(a) => drop_tree(a),
    }
}

/// A tree's name, and about how many records and bytes it has.
fn sizes(store: &gaur::Store) -> gaur::Result<Vec<(String, u64, u64)>> {
    let names = store.tree_names().into_iter();
    names
        .map(|name| {
            let size = store.open_tree(&name)?.approximate_size(..)?;
            Ok((name, size.records, size.bytes))
        })
        .collect()
}

fn list(a: &ListArgs) -> Outcome {
    let store = a.store.open(true)?;
    let all = sizes(&store).map_err(|e| a.store.named(e))?;
    store.close()?;
    if a.json {
        let tree = |(name, records, bytes): &(String, u64, u64)| json!({ "name": name, "about_records": records, "about_bytes": bytes });
        output::json(&json!({ "trees": all.iter().map(tree).collect::<Vec<_>>() }))?;
        return Ok(FINE);
    }
    if all.is_empty() {
        output::line("no trees; the first record of one makes it")?;
        return Ok(FINE);
    }
    let columns = ["tree", "records, about", "size, about"].map(str::to_owned);
    let rows = all.iter().map(|(name, records, bytes)| {
        vec![name.clone(), units::count(*records), units::bytes(*bytes)]
    });
    output::line(output::table(columns.to_vec(), rows.collect::<Vec<_>>()))?;
    Ok(FINE)
}

fn create(a: &CreateArgs) -> Outcome {
    let store = a.store.open(false)?;
    let named = |e| a.store.named(e);
    drop(store.create_tree(&a.name).map_err(named)?);
    store.close().map_err(named)?;
    let facts = json!({ "tree": a.name });
    tell(a.json, &facts, || format!("made tree {}", a.name))
}

fn rename(a: &RenameArgs) -> Outcome {
    let store = a.store.open(false)?;
    let named = |e| a.store.named(e);
    store.rename_tree(&a.name, &a.new_name).map_err(named)?;
    store.close().map_err(named)?;
    let facts = json!({ "tree": a.name, "new_name": a.new_name });
    tell(a.json, &facts, || {
        format!("tree {} is called {} now", a.name, a.new_name)
    })
}

fn drop_tree(a: &DropArgs) -> Outcome {
    let store = match a.dry_run {
        true => a.store.rehearse()?,
        false => a.store.open(false)?,
    };
    let named = |e| a.store.named(e);
    let size = store
        .open_tree(&a.name)
        .and_then(|t| t.approximate_size(..));
    let size = size.map_err(named)?;
    if !a.dry_run {
        store.drop_tree(&a.name).map_err(named)?;
    }
    store.close().map_err(named)?;
    let facts = json!({
        "tree": a.name,
        "about_records": size.records,
        "about_bytes": size.bytes,
        "dry_run": a.dry_run,
    });
    tell(a.json, &facts, || {
        let about = format!(
            "tree {} with about {} records in {}",
            a.name,
            units::count(size.records),
            units::bytes(size.bytes)
        );
        match a.dry_run {
            true => format!("would drop {about}; nothing was written"),
            false => format!("dropped {about}"),
        }
    })
}

fn tell(json: bool, facts: &Value, text: impl FnOnce() -> String) -> Outcome {
    match json {
        true => output::json(facts)?,
        false => output::line(text())?,
    }
    Ok(FINE)
}
