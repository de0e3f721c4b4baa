//! `gaur get`, `put` and `delete`: one record.

use clap::Args;
use serde_json::json;

use super::TreeArgs;
use super::snapshot::AtArgs;
use crate::failure::{FINE, Failure, Outcome};
use crate::output;
use crate::text::{Bytes, show};

/// The longest name of a tree, in bytes.
const MAX_TREE_NAME: usize = 255;

const GET_HELP: &str = "\
Ends with exit code 2 if there is no such key.

Examples:
  gaur get demo.store greeting
  gaur get demo.store 0x00ff --tree index --json
  gaur get demo.store greeting --snapshot monday
  gaur get demo.store photo --raw > photo.jpg";

/// Read one record.
#[derive(Debug, Args)]
#[command(after_help = GET_HELP)]
pub(super) struct GetArgs {
    #[command(flatten)]
    at: TreeArgs,
    #[command(flatten)]
    then: AtArgs,
    /// The key: text, or 0x… hex.
    key: Bytes,
    /// Write the value's bytes as they are, without a line end.
    #[arg(long, conflicts_with = "json")]
    pub(super) raw: bool,
    /// Print JSON.
    #[arg(long)]
    pub(super) json: bool,
}

const PUT_HELP: &str = "\
The record is durable when the command ends. The tree is made if there is none.

Examples:
  gaur put demo.store greeting hello
  gaur put demo.store 0x00ff 0xc0ffee --tree index
  gaur put demo.store greeting hello --dry-run     what would be written over";

/// Write one record.
#[derive(Debug, Args)]
#[command(after_help = PUT_HELP)]
pub(super) struct PutArgs {
    #[command(flatten)]
    at: TreeArgs,
    /// The key: text, or 0x… hex.
    key: Bytes,
    /// The value: text, or 0x… hex.
    value: Bytes,
    /// Make the checks, tell what would be written over, and write nothing.
    #[arg(long)]
    dry_run: bool,
    /// Print JSON.
    #[arg(long)]
    pub(super) json: bool,
}

const DELETE_HELP: &str = "\
The deletion is durable when the command ends. A key that is not there is no error.

Examples:
  gaur delete demo.store greeting
  gaur delete demo.store 0x00ff --tree index --dry-run";

/// Delete one record.
#[derive(Debug, Args)]
#[command(after_help = DELETE_HELP)]
pub(super) struct DeleteArgs {
    #[command(flatten)]
    at: TreeArgs,
    /// The key: text, or 0x… hex.
    key: Bytes,
    /// Make the checks, tell what would be deleted, and write nothing.
    #[arg(long)]
    dry_run: bool,
    /// Print JSON.
    #[arg(long)]
    pub(super) json: bool,
}

pub(super) fn get(a: &GetArgs) -> Outcome {
    let (store, tree) = a.at.read(&a.then)?;
    let found = tree.get(&a.key.0)?;
    drop(tree);
    store.close()?;
    let key = show(&a.key.0);
    let absent = || {
        Failure::refused(format!(
            "no key {key} in tree {}; gaur scan lists what is there",
            a.at.tree
        ))
    };
    if a.json {
        output::json(&json!({
            "tree": a.at.tree,
            "key": key,
            "found": found.is_some(),
            "value": found.as_deref().map(show),
        }))?;
    }
    let value = found.ok_or_else(absent)?;
    if a.raw {
        output::raw(&value)?;
    } else if !a.json {
        output::line(show(&value))?;
    }
    Ok(FINE)
}

pub(super) fn put(a: &PutArgs) -> Outcome {
    if a.dry_run {
        return rehearse_put(a);
    }
    let (store, tree) = a.at.write()?;
    let named = |e| a.at.store.named(e);
    let csn = tree.put(&a.key.0, &a.value.0).map_err(named)?;
    store.close().map_err(named)?;
    if a.json {
        output::json(&json!({ "csn": csn }))?;
    } else {
        output::line(format!("committed as {csn}"))?;
    }
    Ok(FINE)
}

pub(super) fn delete(a: &DeleteArgs) -> Outcome {
    if a.dry_run {
        return rehearse_delete(a);
    }
    let store = a.at.store.open(false)?;
    let named = |e| a.at.store.named(e);
    let tree = store.open_tree(&a.at.tree)?;
    // Nobody else writes here, so that this is still so at the deletion.
    let found = tree.contains(&a.key.0).map_err(named)?;
    let csn = tree.delete(&a.key.0).map_err(named)?;
    drop(tree);
    store.close().map_err(named)?;
    if a.json {
        output::json(&json!({ "found": found, "csn": csn }))?;
        return Ok(FINE);
    }
    output::line(match found {
        true => format!("committed as {csn}"),
        false => format!(
            "there was no {} in tree {}; committed as {csn} all the same",
            show(&a.key.0),
            a.at.tree
        ),
    })?;
    Ok(FINE)
}

/// Only the room there is shows no sooner than at the commit.
fn rehearse_put(a: &PutArgs) -> Outcome {
    let store = a.at.store.rehearse()?;
    let (key, value) = (&a.key.0, &a.value.0);
    if key.len() > gaur::MAX_KEY {
        return Err(a.at.store.named(gaur::Error::KeyTooLong {
            len: key.len(),
            max: gaur::MAX_KEY,
        }));
    }
    if value.len() as u64 > gaur::MAX_VALUE {
        return Err(a.at.store.named(gaur::Error::ValueTooLong {
            len: value.len() as u64,
            max: gaur::MAX_VALUE,
        }));
    }
    let tree = match store.open_tree(&a.at.tree) {
        Ok(tree) => Some(tree),
        Err(gaur::Error::NoSuchTree(_)) => {
            check_tree_name(&a.at.tree)?;
            None
        }
        Err(e) => return Err(e.into()),
    };
    let old = match &tree {
        Some(tree) => tree.get(key)?,
        None => None,
    };
    let makes_tree = tree.is_none();
    drop(tree);
    store.close()?;
    if a.json {
        output::json(&json!({
            "dry_run": true,
            "tree": a.at.tree,
            "makes_tree": makes_tree,
            "key": show(key),
            "value_bytes": value.len(),
            "replaces_bytes": old.as_ref().map(Vec::len),
        }))?;
        return Ok(FINE);
    }
    output::line(format!(
        "would {}put {} with a value of {} bytes into tree {}, {}; nothing was written",
        if makes_tree { "make the tree and " } else { "" },
        show(key),
        value.len(),
        a.at.tree,
        match &old {
            Some(old) => format!("in place of one of {} bytes", old.len()),
            None => "where there is none".to_owned(),
        }
    ))?;
    Ok(FINE)
}

fn check_tree_name(name: &str) -> Result<(), Failure> {
    if name.is_empty() || name.len() > MAX_TREE_NAME {
        return Err(gaur::Error::BadOption {
            name: "tree name",
            detail: format!("{} bytes; 1 to {MAX_TREE_NAME}", name.len()),
        }
        .into());
    }
    Ok(())
}

fn rehearse_delete(a: &DeleteArgs) -> Outcome {
    let store = a.at.store.rehearse()?;
    let old = store.open_tree(&a.at.tree)?.get(&a.key.0)?;
    store.close()?;
    if a.json {
        output::json(&json!({
            "dry_run": true,
            "tree": a.at.tree,
            "key": show(&a.key.0),
            "found": old.is_some(),
            "value_bytes": old.as_ref().map(Vec::len),
        }))?;
        return Ok(FINE);
    }
    output::line(match &old {
        Some(old) => format!(
            "would delete {} with its value of {} bytes from tree {}; nothing was written",
            show(&a.key.0),
            old.len(),
            a.at.tree
        ),
        None => format!(
            "there is no {} in tree {}: its deletion would change nothing; nothing was written",
            show(&a.key.0),
            a.at.tree
        ),
    })?;
    Ok(FINE)
}
