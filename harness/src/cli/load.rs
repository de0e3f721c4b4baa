//! `gaur load`: records from a dump.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::{Args, ValueEnum};
use gaur::{Durability, Error, Store, Tree, WriteBatch};
use serde_json::json;

use super::StoreArgs;
use crate::dump::{Event, Reader, Totals};
use crate::failure::{FINE, Failure, Outcome};
use crate::progress::Progress;
use crate::text::show;
use crate::{output, units};

const HELP: &str = "\
A file is read twice: first it is verified, and looked for keys that exist already,
so that a damaged dump or a conflict is refused before anything is written. What
comes by a pipe is loaded as it is read. Records are committed in batches; trees
are made if there are none.

Examples:
  gaur load demo.store demo.dump
  gaur load demo.store demo.dump --dry-run
  zstd -dc users.dump.zst | gaur load demo.store - --existing overwrite";

/// Load the records of a dump into a store.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(super) struct LoadArgs {
    #[command(flatten)]
    store: StoreArgs,
    /// The dump; - is standard input.
    file: PathBuf,
    /// What to do with keys that exist already.
    #[arg(long, value_enum, default_value_t)]
    existing: Existing,
    /// Only verify the dump and look for keys that exist; write nothing.
    #[arg(long)]
    dry_run: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// What to do with keys that exist already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Existing {
    /// Load nothing if there is one.
    #[default]
    Refuse,
    /// Give them the dump's values.
    Overwrite,
    /// Leave them as they are.
    Keep,
}

/// Bytes of values in one commit, unless one value is larger; far below what a
/// commit may take in the smallest log.
const BATCH_BYTES: usize = 128 << 10;
/// Records in one commit.
const BATCH_RECORDS: usize = 512;

/// What was done.
#[derive(Clone, Copy, Debug, Default)]
struct Loaded {
    written: u64,
    kept: u64,
}

pub(super) fn load(a: &LoadArgs) -> Outcome {
    let by_pipe = a.file == Path::new("-") || !a.file.is_file();
    let mut found = None;
    if !by_pipe || a.dry_run {
        let store = a.store.open_to_look(false)?;
        found = Some(verify(a, &store)?);
        store.close()?;
    }
    let mut loaded = Loaded::default();
    let totals = match found {
        Some(totals) if a.dry_run => totals,
        _ => {
            let store = a.store.open(false)?;
            let totals = fill(a, &store, found, &mut loaded)?;
            store.close()?;
            totals
        }
    };
    if a.json {
        output::json(&json!({
            "trees": totals.trees,
            "records": totals.records,
            "left_out": totals.left_out,
            "written": loaded.written,
            "kept": loaded.kept,
            "dry_run": a.dry_run,
        }))?;
        return Ok(FINE);
    }
    let n = if a.dry_run {
        totals.records
    } else {
        loaded.written
    };
    let mut text = format!(
        "{} records of {} tree(s) {}",
        units::count(n),
        totals.trees,
        if a.dry_run {
            "verified; nothing was written"
        } else {
            "loaded"
        }
    );
    if loaded.kept > 0 {
        text += &format!(", {} keys were there and kept", units::count(loaded.kept));
    }
    if totals.left_out > 0 {
        text += &format!(
            "; the dump says that it lacks {} damaged part(s) of its store",
            totals.left_out
        );
    }
    output::line(text)?;
    Ok(FINE)
}

fn input(a: &LoadArgs) -> Result<Reader<Box<dyn BufRead>>, Failure> {
    if a.file == Path::new("-") {
        return Reader::begin(Box::new(BufReader::new(io::stdin())), "standard input");
    }
    let file = File::open(&a.file).map_err(|e| Failure::file("open", &a.file, &e))?;
    let buffered = BufReader::with_capacity(1 << 20, file);
    Reader::begin(Box::new(buffered), &a.file.display().to_string())
}

/// Reads the whole dump, and looks for its keys if they must not be there.
fn verify(a: &LoadArgs, store: &Store) -> Result<Totals, Failure> {
    let mut dump = input(a)?;
    let size = std::fs::metadata(&a.file).map_or(0, |m| m.len());
    let (progress, begin) = (Progress::of_work("verifying", size), Instant::now());
    let mut tree: Option<Tree> = None;
    let mut n = 0u64;
    while let Some(event) = dump.next()? {
        match event {
            Event::Tree(name) => {
                // Nothing can exist in a tree that is not there, or empty.
                tree = match store.open_tree(&name) {
                    Ok(t) if a.existing == Existing::Refuse => {
                        t.iter()?.keys_only().next().is_some().then_some(t)
                    }
                    Ok(_) | Err(Error::NoSuchTree(_)) => None,
                    Err(e) => return Err(e.into()),
                };
            }
            Event::Record(key, _) => {
                if let Some(tree) = &tree {
                    refuse_existing(tree, &key)?;
                }
            }
            Event::LeftOut => {}
        }
        n += 1;
        if n.is_multiple_of(1024) {
            progress.show(dump.bytes(), begin.elapsed());
        }
    }
    Ok(dump.totals())
}

fn refuse_existing(tree: &Tree, key: &[u8]) -> Result<(), Failure> {
    if !tree.contains(key)? {
        return Ok(());
    }
    Err(Failure::refused(format!(
        "key {} exists already in tree {}; --existing overwrite replaces what is there, --existing keep leaves it",
        show(key),
        tree.name()
    )))
}

/// Loads the dump.
fn fill(
    a: &LoadArgs,
    store: &Store,
    verified: Option<Totals>,
    loaded: &mut Loaded,
) -> Result<Totals, Failure> {
    let filled = fill_all(a, store, verified, loaded);
    filled.map_err(|failure| match loaded.written {
        0 => failure,
        n => failure.adding(&format!(
            "{n} records were loaded before, and --existing keep goes on behind them"
        )),
    })
}

fn fill_all(
    a: &LoadArgs,
    store: &Store,
    verified: Option<Totals>,
    loaded: &mut Loaded,
) -> Result<Totals, Failure> {
    let mut dump = input(a)?;
    let total = verified.map_or(0, |t| t.records);
    let (progress, begin) = (Progress::of_work("loading", total), Instant::now());
    let mut tree: Option<Tree> = None;
    let mut batch: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
    let mut bytes = 0;
    loop {
        let event = dump.next();
        let full = bytes >= BATCH_BYTES || batch.len() >= BATCH_RECORDS;
        let more = matches!(event, Ok(Some(Event::Record(..) | Event::LeftOut)));
        if let Some(tree) = &tree
            && (full || !more)
        {
            loaded.written += commit(store, tree, &batch)?;
            batch.clear();
            bytes = 0;
            progress.show(loaded.written, begin.elapsed());
        }
        match event? {
            None => break,
            Some(Event::Tree(name)) => tree = Some(store.tree(&name)?),
            Some(Event::LeftOut) => {}
            Some(Event::Record(key, value)) => {
                // The reader gives no record before a tree.
                let Some(tree) = &tree else { continue };
                match a.existing {
                    // A file was looked through before.
                    Existing::Refuse if verified.is_none() => refuse_existing(tree, &key)?,
                    Existing::Keep if tree.contains(&key)? => {
                        loaded.kept += 1;
                        continue;
                    }
                    _ => {}
                }
                bytes += key.len() + value.len();
                batch.push((key, value));
            }
        }
    }
    store.flush()?;
    Ok(dump.totals())
}

/// Commits these records; in two, if that is too much for one.
fn commit(store: &Store, tree: &Tree, records: &[(Vec<u8>, Vec<u8>)]) -> Result<u64, Failure> {
    let mut batch = WriteBatch::new();
    for (key, value) in records {
        batch.put(tree, key, value);
    }
    match store.commit(batch, Durability::Buffered) {
        Ok(_) => Ok(records.len() as u64),
        Err(Error::BatchTooWide { .. } | Error::BatchTooLarge { .. }) if records.len() > 1 => {
            let (a, b) = records.split_at(records.len() / 2);
            Ok(commit(store, tree, a)? + commit(store, tree, b)?)
        }
        Err(e) => Err(e.into()),
    }
}
