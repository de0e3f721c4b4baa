//! `gaur scan`: many records, in key order.

use std::io::{self, Write};
use std::ops::Bound;

use clap::Args;
use serde_json::json;

use super::TreeArgs;
use super::form::Form;
use super::snapshot::AtArgs;
use crate::failure::{FINE, Failure, Outcome};
use crate::output;
use crate::text::{Bytes, show};

const HELP: &str = "\
One record a line: key, tab, value. With --json or --format jsonl, one
JSON object a line; with --format json, an array of them.

Examples:
  gaur scan demo.store --limit 10
  gaur scan demo.store --prefix user:
  gaur scan demo.store --from a --to m --reverse     from the last below m down to a
  gaur scan demo.store --tree index --keys-only
  gaur scan demo.store --snapshot monday             as it was then";

/// Read records in key order.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(super) struct ScanArgs {
    #[command(flatten)]
    at: TreeArgs,
    #[command(flatten)]
    then: AtArgs,
    /// Only keys that begin with this.
    #[arg(long, value_name = "KEY", conflicts_with_all = ["from", "to"])]
    prefix: Option<Bytes>,
    /// From this key on.
    #[arg(long, value_name = "KEY")]
    from: Option<Bytes>,
    /// Up to this key, which is left out.
    #[arg(long, value_name = "KEY")]
    to: Option<Bytes>,
    /// From the last to the first.
    #[arg(long)]
    reverse: bool,
    /// At most so many records.
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Leave out the values.
    #[arg(long)]
    keys_only: bool,
    /// Print JSON lines.
    #[arg(long)]
    pub(super) json: bool,
}

pub(super) fn scan(a: &ScanArgs) -> Outcome {
    let (store, tree) = a.at.read(&a.then)?;
    let mut records = match &a.prefix {
        Some(p) => tree.prefix(&p.0)?,
        None => {
            let from = a
                .from
                .as_ref()
                .map_or(Bound::Unbounded, |k| Bound::Included(k.0.clone()));
            let to =
                a.to.as_ref()
                    .map_or(Bound::Unbounded, |k| Bound::Excluded(k.0.clone()));
            if let (Bound::Included(f), Bound::Excluded(t)) = (&from, &to)
                && f > t
            {
                return Err(Failure::refused(
                    "--from lies after --to; swap them, and use --reverse to go down",
                ));
            }
            tree.range((from, to))?
        }
    };
    if a.reverse {
        records = records.rev();
    }
    let mut out = io::BufWriter::new(io::stdout().lock());
    let array = a.json && output::form() == Some(Form::Json);
    let mut before = if array { "[\n" } else { "" };
    for record in records.take(a.limit.unwrap_or(usize::MAX)) {
        let (key, value) = record?;
        let line = match (a.json, a.keys_only) {
            (true, true) => json!({ "key": show(&key) }).to_string(),
            (true, false) => json!({ "key": show(&key), "value": show(&value) }).to_string(),
            (false, true) => show(&key),
            (false, false) => format!("{}\t{}", show(&key), show(&value)),
        };
        if array {
            output::written(write!(out, "{before}{line}"))?;
            before = ",\n";
        } else {
            output::written(writeln!(out, "{line}"))?;
        }
    }
    if array {
        let open = if before == ",\n" { "\n" } else { "[" };
        output::written(writeln!(out, "{open}]"))?;
    }
    output::written(out.flush())?;
    drop(tree);
    store.close()?;
    Ok(FINE)
}
