//! `gaur changes`: the commits that the log still has.

use std::collections::HashMap;
use std::io::{self, Write};

use clap::Args;
use gaur::{ChangeFeed, Csn, Error, FeedCommit, FeedOp, FeedOptions, Store};
use serde_json::{Value, json};

use super::StoreArgs;
use super::form::Form;
use crate::failure::{FINE, Failure, Outcome};
use crate::output;
use crate::text::show;

const HELP: &str = "\
One operation a line: commit, what it did, tree, key, value. With --json or --format
jsonl, one JSON object a line for each commit; with --format json, an array of them.
The log is a ring: what checkpoints truncated is there until it is overwritten. Of a
large value that was deleted or replaced since, the blocks may have been used again:
then it is shown as gone.

Examples:
  gaur changes demo.store                    all that the log still has
  gaur changes demo.store --from 1200 --limit 10
  gaur changes demo.store --tree users --keys-only --json";

/// Show the commits that are still in the log.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(super) struct ChangesArgs {
    #[command(flatten)]
    store: StoreArgs,
    /// From this commit on; without: from the oldest there is.
    #[arg(long, value_name = "CSN", value_parser = clap::value_parser!(u64).range(1..))]
    from: Option<Csn>,
    /// Only what was done to this tree.
    #[arg(long, value_name = "NAME")]
    tree: Option<String>,
    /// At most so many commits.
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Leave out the values.
    #[arg(long)]
    keys_only: bool,
    /// Print JSON lines.
    #[arg(long)]
    pub(super) json: bool,
}

/// The feed that is asked for.
fn feed(store: &Store, from: Option<Csn>) -> Result<ChangeFeed, Failure> {
    let options = FeedOptions::default();
    let opened = match (store.changes(from.unwrap_or(1) - 1, &options), from) {
        (Err(Error::ChangesGone { oldest, .. }), None) => store.changes(oldest - 1, &options),
        (Err(Error::ChangesGone { oldest, .. }), Some(from)) => {
            return Err(Failure::refused(format!(
                "commit {from} is no more in the log, whose oldest is {oldest}; use --from {oldest}"
            )));
        }
        (Err(Error::BadOption { detail, .. }), Some(_)) => {
            return Err(Failure::refused(format!(
                "--from lies behind what there is: {detail}"
            )));
        }
        (opened, _) => opened,
    };
    Ok(opened?)
}

/// One operation in words: what, tree, key, value.
struct Told {
    what: &'static str,
    tree: String,
    key: Option<String>,
    value: Option<String>,
    gone: bool,
}

/// The operations of a commit that are asked for; notes the trees that it makes.
fn told(
    commit: &FeedCommit,
    names: &mut HashMap<u32, String>,
    a: &ChangesArgs,
) -> Result<Vec<Told>, Failure> {
    let mut all = Vec::new();
    for op in commit.iter() {
        if let FeedOp::CreateTree { tree, name }
        | FeedOp::CreateFilled { tree, name }
        | FeedOp::RenameTree { tree, name } = op
        {
            names.insert(tree, String::from_utf8_lossy(name).into_owned());
        }
        let name = names.get(&op.tree()).cloned();
        if a.tree.is_some() && a.tree != name {
            continue;
        }
        let mut t = Told {
            what: match op {
                FeedOp::Put { .. } | FeedOp::PutLarge { .. } => "put",
                FeedOp::Delete { .. } => "delete",
                FeedOp::DeleteRange { .. } => "delete range",
                FeedOp::CreateTree { .. } => "create",
                FeedOp::CreateFilled { .. } => "create, with records",
                FeedOp::RenameTree { .. } => "rename",
                FeedOp::DropTree { .. } => "drop",
                _ => "other",
            },
            tree: name.unwrap_or_else(|| format!("#{}", op.tree())),
            key: match &op {
                FeedOp::Put { key, .. }
                | FeedOp::PutLarge { key, .. }
                | FeedOp::Delete { key, .. } => Some(show(key)),
                FeedOp::DeleteRange { lower, upper, .. } => {
                    let upper = upper.map(show).unwrap_or_default();
                    Some(format!("{}..{upper}", show(lower)))
                }
                _ => None,
            },
            value: None,
            gone: false,
        };
        if !a.keys_only {
            match op.value() {
                Err(Error::ValueGone { .. }) => t.gone = true,
                value => t.value = value?.as_deref().map(show),
            }
        }
        all.push(t);
    }
    Ok(all)
}

fn as_json(csn: Csn, ops: &[Told]) -> Value {
    let ops = ops.iter().map(|t| {
        let mut op = json!({ "op": t.what, "tree": t.tree });
        for (name, part) in [("key", &t.key), ("value", &t.value)] {
            if let Some(part) = part {
                op[name] = json!(part);
            }
        }
        if t.gone {
            op["gone"] = json!(true);
        }
        op
    });
    json!({ "csn": csn, "ops": ops.collect::<Vec<_>>() })
}

fn as_text(csn: Csn, ops: &[Told], out: &mut impl Write) -> io::Result<()> {
    for t in ops {
        write!(out, "{csn}\t{}\t{}", t.what, t.tree)?;
        let value = if t.gone {
            Some("(gone)")
        } else {
            t.value.as_deref()
        };
        for part in t.key.as_deref().into_iter().chain(value) {
            write!(out, "\t{part}")?;
        }
        writeln!(out)?;
    }
    Ok(())
}

pub(super) fn changes(a: &ChangesArgs) -> Outcome {
    let store = a.store.open(true)?;
    let mut names = HashMap::new();
    for name in store.tree_names() {
        names.insert(store.open_tree(&name)?.id(), name);
    }
    let feed = feed(&store, a.from)?;
    let mut out = io::BufWriter::new(io::stdout().lock());
    let array = a.json && output::form() == Some(Form::Json);
    let mut before = if array { "[\n" } else { "" };
    let mut left = a.limit.unwrap_or(usize::MAX);
    for commit in feed {
        if left == 0 {
            break;
        }
        let commit = commit?;
        let ops = told(&commit, &mut names, a)?;
        if ops.is_empty() {
            continue;
        }
        left -= 1;
        if array {
            output::written(write!(out, "{before}{}", as_json(commit.csn(), &ops)))?;
            before = ",\n";
        } else if a.json {
            output::written(writeln!(out, "{}", as_json(commit.csn(), &ops)))?;
        } else {
            output::written(as_text(commit.csn(), &ops, &mut out))?;
        }
    }
    if array {
        let open = if before == ",\n" { "\n" } else { "[" };
        output::written(writeln!(out, "{open}]"))?;
    }
    output::written(out.flush())?;
    store.close()?;
    Ok(FINE)
}
