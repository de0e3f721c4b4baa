//! `gaur snapshot`: named snapshots, what comes from them, and going back.

use std::time::{SystemTime, UNIX_EPOCH};

use clap::{Args, Subcommand};
use gaur::{NamedSnapshot, SnapshotInfo, Store};
use serde_json::{Value, json};

use super::StoreArgs;
use crate::failure::{FINE, Failure, Outcome};
use crate::{output, units};

const HELP: &str = "\
A snapshot has all trees as they were when it was taken, until it is deleted. What is
overwritten or deleted since, and it has, stays on the device: held, says list.
gaur get, scan and dump read one with --snapshot.

Examples:
  gaur snapshot create demo.store monday
  gaur snapshot list demo.store
  gaur scan demo.store --snapshot monday
  gaur snapshot clone demo.store monday default what-if
  gaur snapshot rollback demo.store monday --dry-run     what would be lost
  gaur snapshot delete demo.store monday";

/// Take snapshots that last, read, clone and delete them, or go back to one.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(super) struct SnapshotArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Take one.
    Create(CreateArgs),
    /// Show what there are, the oldest first.
    List(ListArgs),
    /// Delete one; its space comes back.
    Delete(DeleteArgs),
    /// Make a tree to be written to that begins as one in a snapshot.
    Clone(CloneArgs),
    /// Take all trees, or one, back to what they were.
    Rollback(RollbackArgs),
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
struct ListArgs {
    #[command(flatten)]
    store: StoreArgs,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct DeleteArgs {
    #[command(flatten)]
    store: StoreArgs,
    /// Its name.
    name: String,
    /// Make the checks, tell what would be deleted, and write nothing.
    #[arg(long)]
    dry_run: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct CloneArgs {
    #[command(flatten)]
    store: StoreArgs,
    /// The snapshot.
    name: String,
    /// A tree that it has.
    tree: String,
    /// The new tree.
    new_tree: String,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct RollbackArgs {
    #[command(flatten)]
    store: StoreArgs,
    /// The snapshot.
    name: String,
    /// Only this tree.
    #[arg(long, value_name = "NAME")]
    tree: Option<String>,
    /// Make the checks, tell what would be lost, and write nothing.
    #[arg(long)]
    dry_run: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl SnapshotArgs {
    /// Whether to print JSON.
    pub(super) fn json(&mut self) -> &mut bool {
        match &mut self.what {
            What::Create(a) => &mut a.json,
            What::List(a) => &mut a.json,
            What::Delete(a) => &mut a.json,
            What::Clone(a) => &mut a.json,
            What::Rollback(a) => &mut a.json,
        }
    }
}

pub(super) fn snapshot(a: &SnapshotArgs) -> Outcome {
    match &a.what {
        What::Create(a) => create(a),
        What::List(a) => list(a),
        What::Delete(a) => delete(a),
        What::Clone(a) => clone(a),
        What::Rollback(a) => rollback(a),
    }
}

fn create(a: &CreateArgs) -> Outcome {
    let store = a.store.open(false)?;
    let named = |e| a.store.named(e);
    let taken = store.create_snapshot(&a.name).map_err(named)?;
    let (csn, trees) = (taken.csn(), taken.tree_names());
    drop(taken);
    store.close().map_err(named)?;
    let facts = json!({ "name": a.name, "csn": csn, "trees": trees });
    tell(a.json, &facts, || {
        format!("snapshot {:?} has all up to commit {csn}", a.name)
    })
}

fn list(a: &ListArgs) -> Outcome {
    let store = a.store.open(true)?;
    let all = store.snapshots();
    store.close()?;
    if a.json {
        let all: Vec<Value> = all.iter().map(as_json).collect();
        output::json(&json!({ "snapshots": all }))?;
        return Ok(FINE);
    }
    if all.is_empty() {
        output::line("no snapshots; gaur snapshot create takes one")?;
        return Ok(FINE);
    }
    let rows = all.iter().map(|s| {
        let held = units::bytes(s.held_bytes);
        vec![s.name.clone(), s.csn.to_string(), ago(s.created), held]
    });
    let columns = ["name", "commit", "taken", "held"].map(str::to_owned);
    output::line(output::table(columns.to_vec(), rows.collect::<Vec<_>>()))?;
    Ok(FINE)
}

fn delete(a: &DeleteArgs) -> Outcome {
    let store = match a.dry_run {
        true => a.store.rehearse()?,
        false => a.store.open(false)?,
    };
    let named = |e| a.store.named(e);
    let info = store.snapshots().into_iter().find(|s| s.name == a.name);
    let info = info.ok_or_else(|| named(gaur::Error::NoSuchSnapshot(a.name.clone())))?;
    if !a.dry_run {
        store.delete_snapshot(&a.name).map_err(named)?;
    }
    store.close().map_err(named)?;
    let mut facts = as_json(&info);
    facts["dry_run"] = a.dry_run.into();
    let held = units::bytes(info.held_bytes);
    tell(a.json, &facts, || match a.dry_run {
        true => format!(
            "would delete snapshot {:?}, which holds {held}; nothing was written",
            a.name
        ),
        false => format!("deleted snapshot {:?}, which held {held}", a.name),
    })
}

fn clone(a: &CloneArgs) -> Outcome {
    let store = a.store.open(false)?;
    let named = |e| a.store.named(e);
    let from = store.open_snapshot(&a.name).map_err(named)?;
    let made = store.clone_tree(&from, &a.tree, &a.new_tree);
    drop(made.map_err(named)?);
    drop(from);
    store.close().map_err(named)?;
    let facts = json!({ "snapshot": a.name, "tree": a.tree, "new_tree": a.new_tree });
    tell(a.json, &facts, || {
        format!(
            "tree {} begins as {} was in snapshot {:?}, which cannot be deleted while it is there",
            a.new_tree, a.tree, a.name
        )
    })
}

fn rollback(a: &RollbackArgs) -> Outcome {
    let store = match a.dry_run {
        true => a.store.rehearse()?,
        false => a.store.open(false)?,
    };
    let named = |e| a.store.named(e);
    let to = store.open_snapshot(&a.name).map_err(named)?;
    let lost = Lost::of(&store, &to, a.tree.as_deref()).map_err(named)?;
    if !a.dry_run {
        match &a.tree {
            Some(tree) => drop(store.roll_back_tree(&to, tree).map_err(named)?),
            None => store.roll_back(&to).map_err(named)?,
        }
    }
    let csn = to.csn();
    drop(to);
    store.close().map_err(named)?;
    let facts = json!({
        "snapshot": a.name,
        "csn": csn,
        "dry_run": a.dry_run,
        "replaced": lost.replaced,
        "dropped": lost.dropped,
        "made": lost.made,
    });
    tell(a.json, &facts, || {
        let (what, end) = match a.dry_run {
            true => ("would go back", "; nothing was written"),
            false => ("went back", ""),
        };
        format!("{what} to commit {csn}: {lost}{end}")
    })
}

/// What becomes of the trees when a store goes back.
struct Lost {
    replaced: Vec<String>,
    dropped: Vec<String>,
    made: Vec<String>,
}

impl Lost {
    fn of(store: &Store, to: &NamedSnapshot, only: Option<&str>) -> gaur::Result<Self> {
        let (now, then) = (store.tree_names(), to.tree_names());
        if let Some(tree) = only.filter(|t| !then.iter().any(|n| n == t)) {
            return Err(gaur::Error::NoSuchTree(tree.to_owned()));
        }
        let chosen = |name: &&String| only.is_none_or(|t| t == *name);
        let pick = |from: &[String], other: &[String], there: bool| -> Vec<String> {
            let names = from.iter().filter(chosen);
            let names = names.filter(|n| other.contains(n) == there);
            names.cloned().collect()
        };
        Ok(Self {
            replaced: pick(&now, &then, true),
            dropped: pick(&now, &then, false),
            made: pick(&then, &now, false),
        })
    }
}

impl std::fmt::Display for Lost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names = |all: &[String]| match all.is_empty() {
            true => "none".to_owned(),
            false => all.join(", "),
        };
        write!(
            f,
            "trees as they were: {}; made again: {}; dropped: {}",
            names(&self.replaced),
            names(&self.made),
            names(&self.dropped)
        )
    }
}

fn as_json(s: &SnapshotInfo) -> Value {
    json!({
        "name": s.name,
        "csn": s.csn,
        "created": s.created,
        "held_bytes": s.held_bytes,
    })
}

fn tell(json: bool, facts: &Value, text: impl FnOnce() -> String) -> Outcome {
    match json {
        true => output::json(facts)?,
        false => output::line(text())?,
    }
    Ok(FINE)
}

/// How long ago that was, in the largest unit that fits.
fn ago(seconds: u64) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let age = now.map_or(0, |d| d.as_secs().saturating_sub(seconds));
    match age {
        0..60 => format!("{age} s ago"),
        60..3600 => format!("{} min ago", age / 60),
        3600..86_400 => format!("{} h ago", age / 3600),
        _ => format!("{} d ago", age / 86_400),
    }
}

/// Which snapshot to read, on the command line.
#[derive(Debug, Args)]
pub(super) struct AtArgs {
    /// As it was in this named snapshot.
    #[arg(long, value_name = "NAME")]
    snapshot: Option<String>,
}

impl AtArgs {
    /// The snapshot that is meant, if one is.
    pub(super) fn open(&self, store: &Store) -> Result<Option<NamedSnapshot>, Failure> {
        let name = self.snapshot.as_deref();
        Ok(name.map(|name| store.open_snapshot(name)).transpose()?)
    }

    /// A tree as it is, or as it was then.
    pub(super) fn tree(&self, store: &Store, name: &str) -> Result<gaur::Tree, Failure> {
        Ok(match self.open(store)? {
            Some(then) => then.tree(name)?,
            None => store.open_tree(name)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_in_the_largest_unit_that_fits() {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap()
            .as_secs();
        assert_eq!(ago(now - 120), "2 min ago");
        assert_eq!(ago(now - 7300), "2 h ago");
        assert_eq!(ago(now - 200_000), "2 d ago");
        // A clock that was set back.
        assert_eq!(ago(now + 1000), "0 s ago");
    }
}
