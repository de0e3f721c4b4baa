//! `gaur dump`: all records as lines of text.

use std::ffi::OsString;
use std::fs::{File, Permissions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::Args;
use gaur::Store;
use serde_json::json;

use super::StoreArgs;
use super::snapshot::AtArgs;
use crate::dump::{Totals, Writer};
use crate::failure::{FINE, FOUND, Failure, Outcome};
use crate::progress::Progress;
use crate::text::show;
use crate::{interrupt, output, units};

const HELP: &str = "\
Writes nothing to the store: one that was not closed is dumped as recovery would
leave it. The dump is a JSON object a line (see docs/dump.md), ends with a checksum,
and is read by gaur load.

Examples:
  gaur dump demo.store --out demo.dump
  gaur dump /dev/loop0 --tree users | zstd > users.dump.zst
  gaur dump demo.store --snapshot monday --out monday.dump
  gaur dump demo.store --skip-damaged --out rest.dump     what is still readable";

/// Write all records as lines of text, from which gaur load makes them again.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(super) struct DumpArgs {
    #[command(flatten)]
    store: StoreArgs,
    #[command(flatten)]
    then: AtArgs,
    /// Only this tree; may be given again for more.
    #[arg(long, value_name = "NAME")]
    tree: Vec<String>,
    /// Write to this file instead of standard output. It must not exist yet, and is
    /// there only when the dump is whole.
    #[arg(long, value_name = "FILE")]
    pub(super) out: Option<PathBuf>,
    /// Leave out what is damaged, say so in the dump, and end with exit code 1.
    #[arg(long)]
    skip_damaged: bool,
    /// Print JSON about the dump; with --out.
    #[arg(long, requires = "out")]
    pub(super) json: bool,
}

/// Said of damage.
const HINT: &str = "--skip-damaged dumps the rest";

/// How a dump went.
struct Done {
    totals: Totals,
    bytes: u64,
    /// The first thing left out.
    first: Option<String>,
}

pub(super) fn dump(a: &DumpArgs) -> Outcome {
    let store = a
        .store
        .open_to_look(a.skip_damaged)
        .map_err(|f| match f.code {
            FOUND if !a.skip_damaged => Failure::found(format!("{f}; {HINT}")),
            _ => f,
        })?;
    let done = match &a.out {
        None => write(a, &store, io::stdout().lock(), Path::new("standard output"))?,
        Some(path) => to_file(a, &store, path)?,
    };
    store.close()?;
    let t = done.totals;
    if let Some(path) = &a.out {
        if a.json {
            output::json(&json!({
                "out": path,
                "trees": t.trees,
                "records": t.records,
                "left_out": t.left_out,
                "bytes": done.bytes,
            }))?;
        } else {
            output::line(format!(
                "{} records of {} tree(s) in {}, {}",
                units::count(t.records),
                t.trees,
                path.display(),
                units::bytes(done.bytes)
            ))?;
        }
    }
    match done.first {
        None => Ok(FINE),
        Some(first) => Err(Failure::found(format!(
            "left out {} damaged part(s), which the dump names; the first: {first}",
            t.left_out
        ))),
    }
}

/// Writes to a new file, durably. It gets its name when it is whole; of a failed dump
/// nothing remains.
fn to_file(a: &DumpArgs, store: &Store, path: &Path) -> Result<Done, Failure> {
    let unmade = |e: io::Error| Failure::file("make", path, &e);
    if path.symlink_metadata().is_ok() {
        return Err(unmade(io::ErrorKind::AlreadyExists.into()));
    }
    let dir = match path.parent() {
        Some(dir) if dir != Path::new("") => dir,
        _ => Path::new("."),
    };
    let mut prefix = OsString::from(".");
    prefix.push(path.file_name().unwrap_or_default());
    let made = tempfile::Builder::new()
        .prefix(&prefix)
        .suffix(".partial")
        .permissions(Permissions::from_mode(0o666))
        .tempfile_in(dir);
    let made = made.map_err(unmade)?;
    interrupt::catch();
    let unwritten = |e: io::Error| Failure::file("write", path, &e);
    let done = write(a, store, made.as_file(), path)?;
    made.as_file().sync_all().map_err(unwritten)?;
    made.persist_noclobber(path).map_err(|e| unmade(e.error))?;
    let synced = File::open(dir).and_then(|dir| dir.sync_all());
    synced.map_err(unwritten)?;
    Ok(done)
}

fn write(a: &DumpArgs, store: &Store, to: impl Write, place: &Path) -> Result<Done, Failure> {
    let unwritten = |e: io::Error| Failure::file("write", place, &e);
    let then = a.then.open(store)?;
    let names = match &then {
        _ if !a.tree.is_empty() => a.tree.clone(),
        Some(then) => then.tree_names(),
        None => store.tree_names(),
    };
    let trees: Vec<_> = names
        .iter()
        .map(|name| match &then {
            Some(then) => then.tree(name),
            None => store.open_tree(name),
        })
        .collect::<Result<_, _>>()?;
    let recovery = store.recovery();
    let csn = then.map_or(recovery.last_csn, |then| then.csn());
    let out = BufWriter::with_capacity(1 << 20, to);
    let mut dump = Writer::begin(out, store.id(), csn).map_err(unwritten)?;
    let mut first: Option<String> = None;
    for damage in &recovery.left_out {
        let why = damage.to_string();
        dump.left_out(&[], None, &why).map_err(unwritten)?;
        first.get_or_insert(why);
    }
    let (progress, begin) = (Progress::of_work("dumping", 0), Instant::now());
    let mut records = 0u64;
    for tree in &trees {
        dump.tree(&tree.name()).map_err(unwritten)?;
        let mut scan = tree.iter()?;
        if a.skip_damaged {
            scan = scan.skip_damaged();
        }
        let mut told = 0;
        loop {
            // Only caught where there is a file to take away.
            interrupt::check().map_err(|f| f.adding("no file was made"))?;
            let next = scan.next();
            for left in &scan.left_out()[told..] {
                told += 1;
                let why = left.why.to_string();
                dump.left_out(&left.lower, left.upper.as_deref(), &why)
                    .map_err(unwritten)?;
                let at = format!(
                    "in tree {} from key {}: {why}",
                    tree.name(),
                    show(&left.lower)
                );
                first.get_or_insert(at);
            }
            let Some(record) = next else { break };
            let (key, value) = record.map_err(|e| {
                let f = Failure::engine("the dump is not whole", e);
                match f.code {
                    FOUND => Failure::found(format!("{f}; {HINT}")),
                    _ => f,
                }
            })?;
            dump.record(&key, &value).map_err(unwritten)?;
            records += 1;
            if records.is_multiple_of(1024) {
                progress.show(records, begin.elapsed());
            }
        }
    }
    let (totals, bytes) = dump.end().map_err(unwritten)?;
    Ok(Done {
        totals,
        bytes,
        first,
    })
}
