//! `gaur load`: records from a dump.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Seek, SeekFrom};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::{Args, ValueEnum};
use gaur::{BulkLoader, Durability, Error, Store, Tree, WriteBatch};
use serde_json::json;

use super::StoreArgs;
use crate::dump::{Event, Reader, Totals};
use crate::failure::{FINE, Failure, Outcome};
use crate::progress::Progress;
use crate::text::{self, show};
use crate::{interrupt, output, units};

const HELP: &str = "\
A file is read twice: first it is verified, and looked for keys that exist already,
so that a damaged dump or a conflict is refused before anything is written. What
comes by a pipe is loaded as it is read. Records are committed in batches; trees
are made if there are none. Ctrl-C ends it with exit code 2: what was loaded stays, and
it is said how to go on.

With --bulk a tree that is not there yet is built beside the log, at about the speed of the
device, and appears whole when its last record was read.

Examples:
  gaur load demo.store demo.dump
  gaur load demo.store demo.dump --dry-run
  gaur load demo.store demo.dump --bulk
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
    /// Build new trees in bulk: each appears when all of it is loaded.
    #[arg(long)]
    bulk: bool,
    /// Only verify the dump and look for keys that exist; write nothing.
    #[arg(long)]
    dry_run: bool,
    /// Print JSON.
    #[arg(long)]
    pub(super) json: bool,
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
    let input = Input::open(a)?;
    let mut found = None;
    if input.again.is_some() || a.dry_run {
        let store = a.store.open_to_look(false)?;
        found = Some(verify(a, &input, &store)?);
        store.close()?;
    }
    let mut loaded = Loaded::default();
    let totals = match found {
        Some(totals) if a.dry_run => totals,
        _ => fill(a, &input, found, &mut loaded)?,
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

/// Where the dump comes from. A file is opened once, so that what is loaded is what was
/// verified, whatever has its name by then.
#[derive(Debug)]
struct Input {
    file: File,
    name: String,
    /// Where the dump begins, if it can be read again from there.
    again: Option<u64>,
}

impl Input {
    fn open(a: &LoadArgs) -> Result<Self, Failure> {
        let (file, name) = if a.file == Path::new("-") {
            // Without the buffer of the library's handle.
            let own = io::stdin().as_fd().try_clone_to_owned();
            (own.map(File::from), "standard input".to_owned())
        } else {
            (File::open(&a.file), a.file.display().to_string())
        };
        let mut file = file.map_err(|e| Failure::file("open", &a.file, &e))?;
        let again = match file.metadata() {
            Ok(m) if m.is_file() => file.stream_position().ok(),
            _ => None,
        };
        Ok(Self { file, name, again })
    }

    /// Reads from the beginning.
    fn reader(&self) -> Result<Reader<impl BufRead>, Failure> {
        let mut file = &self.file;
        if let Some(start) = self.again {
            file.seek(SeekFrom::Start(start))
                .map_err(|e| Failure::refused(format!("cannot read {}: {e}", self.name)))?;
        }
        let buffered = BufReader::with_capacity(1 << 20, interrupt::Watched(file));
        Reader::begin(buffered, &self.name)
    }

    fn bytes(&self) -> u64 {
        self.file.metadata().map_or(0, |m| m.len())
    }
}

/// Reads the whole dump, and looks for its keys if they must not be there.
fn verify(a: &LoadArgs, input: &Input, store: &Store) -> Result<Totals, Failure> {
    let mut dump = input.reader()?;
    let (progress, begin) = (
        Progress::of_work("verifying", input.bytes()),
        Instant::now(),
    );
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

/// Loads the dump. What was loaded is committed, also if it ends early.
fn fill(
    a: &LoadArgs,
    input: &Input,
    verified: Option<Totals>,
    loaded: &mut Loaded,
) -> Result<Totals, Failure> {
    let store = a.store.open(false)?;
    // Until here it may end at once: nothing was written.
    interrupt::catch();
    let filled = fill_all(a, input, &store, verified, loaded);
    let closed = store.close();
    let failure = match filled {
        Ok(totals) => return closed.map(|()| totals).map_err(Failure::from),
        Err(failure) => failure,
    };
    Err(match (loaded.written, closed) {
        (0, _) => failure.adding("nothing was loaded"),
        (n, Ok(())) => failure.adding(&format!(
            "{} records were loaded before and are committed; to go on behind them: {}",
            units::count(n),
            again(a)
        )),
        (n, Err(e)) => failure.adding(&format!(
            "up to {} records were loaded before: {e}; to load all: {}",
            units::count(n),
            again(a)
        )),
    })
}

/// The command that goes on where this one ended.
fn again(a: &LoadArgs) -> String {
    let existing = match a.existing {
        Existing::Overwrite => "overwrite",
        Existing::Refuse | Existing::Keep => "keep",
    };
    let mut words = vec!["gaur".to_owned()];
    let mut given = std::env::args().skip(1);
    while let Some(word) = given.next() {
        if word == "--existing" {
            given.next();
        } else if !word.starts_with("--existing=") {
            words.push(text::word(&word));
        }
    }
    words.extend(["--existing".to_owned(), existing.to_owned()]);
    words.join(" ")
}

fn fill_all(
    a: &LoadArgs,
    input: &Input,
    store: &Store,
    verified: Option<Totals>,
    loaded: &mut Loaded,
) -> Result<Totals, Failure> {
    let mut dump = input.reader()?;
    let total = verified.map_or(0, |t| t.records);
    let (progress, begin) = (Progress::of_work("loading", total), Instant::now());
    let mut tree: Option<Tree> = None;
    let mut loader: Option<BulkLoader> = None;
    let mut batch: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
    let mut bytes = 0;
    loop {
        let event = dump.next();
        if matches!(event, Ok(None | Some(Event::Tree(_))))
            && let Some(loader) = loader.take()
        {
            let records = loader.len();
            loader.finish().map_err(|e| a.store.named(e))?;
            loaded.written += records;
            progress.show(loaded.written, begin.elapsed());
        }
        let full = bytes >= BATCH_BYTES || batch.len() >= BATCH_RECORDS;
        let more = matches!(event, Ok(Some(Event::Record(..) | Event::LeftOut)));
        if let Some(tree) = &tree
            && (full || !more)
        {
            loaded.written += commit(store, tree, &batch).map_err(|e| a.store.named(e))?;
            batch.clear();
            bytes = 0;
            progress.show(loaded.written, begin.elapsed());
        }
        interrupt::check()?;
        match event? {
            None => break,
            Some(Event::Tree(name)) => {
                let exists = store.open_tree(&name).is_ok();
                (tree, loader) = match a.bulk && !exists {
                    true => (None, Some(store.bulk_load(&name)?)),
                    false => (Some(store.tree(&name)?), None),
                };
            }
            Some(Event::LeftOut) => {}
            Some(Event::Record(key, value)) => {
                if let Some(loader) = &mut loader {
                    loader.push(&key, &value).map_err(|e| a.store.named(e))?;
                    if loader.len().is_multiple_of(4096) {
                        progress.show(loaded.written + loader.len(), begin.elapsed());
                    }
                    continue;
                }
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
    store.flush().map_err(|e| a.store.named(e))?;
    Ok(dump.totals())
}

/// Commits these records; in two, if that is too much for one.
fn commit(store: &Store, tree: &Tree, records: &[(Vec<u8>, Vec<u8>)]) -> gaur::Result<u64> {
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
        Err(e) => Err(e),
    }
}
