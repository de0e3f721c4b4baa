//! `gaur get`, `put` and `delete`: one record.

use clap::Args;
use serde_json::json;

use super::TreeArgs;
use crate::failure::{FINE, Failure, Outcome};
use crate::output;
use crate::text::{Bytes, show};

const GET_HELP: &str = "\
Ends with exit code 2 if there is no such key.

Examples:
  gaur get demo.store greeting
  gaur get demo.store 0x00ff --tree index --json
  gaur get demo.store photo --raw > photo.jpg";

/// Read one record.
#[derive(Debug, Args)]
#[command(after_help = GET_HELP)]
pub(super) struct GetArgs {
    #[command(flatten)]
    at: TreeArgs,
    /// The key: text, or 0x… hex.
    key: Bytes,
    /// Write the value's bytes as they are, without a line end.
    #[arg(long, conflicts_with = "json")]
    raw: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

const PUT_HELP: &str = "\
The record is durable when the command ends. The tree is made if there is none.

Examples:
  gaur put demo.store greeting hello
  gaur put demo.store 0x00ff 0xc0ffee --tree index";

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
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

const DELETE_HELP: &str = "\
The deletion is durable when the command ends. A key that is not there is no error.

Examples:
  gaur delete demo.store greeting
  gaur delete demo.store 0x00ff --tree index";

/// Delete one record.
#[derive(Debug, Args)]
#[command(after_help = DELETE_HELP)]
pub(super) struct DeleteArgs {
    #[command(flatten)]
    at: TreeArgs,
    /// The key: text, or 0x… hex.
    key: Bytes,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn get(a: &GetArgs) -> Outcome {
    let (store, tree) = a.at.read()?;
    let found = tree.get(&a.key.0)?;
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
    let (store, tree) = a.at.write()?;
    let csn = tree.put(&a.key.0, &a.value.0)?;
    store.close()?;
    committed(csn, a.json)
}

pub(super) fn delete(a: &DeleteArgs) -> Outcome {
    let store = a.at.store.open(false)?;
    let csn = store.open_tree(&a.at.tree)?.delete(&a.key.0)?;
    store.close()?;
    committed(csn, a.json)
}

fn committed(csn: gaur::Csn, json: bool) -> Outcome {
    if json {
        output::json(&json!({ "csn": csn }))?;
    } else {
        output::line(format!("committed as {csn}"))?;
    }
    Ok(FINE)
}
