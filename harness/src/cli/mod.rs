//! The command line: what each verb takes, and what it prints.

mod changes;
pub(crate) mod check;
mod compare;
pub(crate) mod contents;
mod cow;
mod crash;
pub(crate) mod device;
mod diff;
mod dump;
mod experiment;
#[cfg(faults)]
mod faults;
pub(crate) mod form;
mod format;
mod groups;
mod grow;
mod inspect;
mod load;
mod plot;
mod point;
mod run;
mod scan;
mod shell;
#[cfg(feature = "simulation")]
mod sim;
mod snapshot;
mod stat;
pub(crate) mod superblock;
mod tree;
mod trim;

use std::path::{Path, PathBuf};

use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use gaur::{Error, OpenOptions, Store, Tree};

use crate::failure::{Failure, Outcome};
use crate::run::config::Driver;
use crate::units::Size;

/// The tree that is meant where none is named.
pub(crate) const DEFAULT_TREE: &str = "default";

const HELP: &str = "\
Examples:
  gaur run configs/quickstart.toml        a first run, in a file it makes itself
  gaur format /dev/nvme0n1p3              make a store of a whole partition
  gaur put demo.store greeting hello      write one record
  gaur scan demo.store --prefix user:     read many
  gaur check demo.store                   account for every block

Keys and values are UTF-8 text, or bytes as 0x… hex. Sizes are bytes, or a number with
KiB, MiB, GiB, TiB (powers of 1024) or K, M, G, T, kB, MB, GB, TB (powers of 1000).
Exit codes: 0 fine; 1 found damage or missed a bound; 2 wrong usage, refused, or
interrupted before it was of use.";

/// Transactional, ordered key-value stores on raw block devices.
#[derive(Debug, Parser)]
#[command(name = "gaur", version, after_help = HELP)]
pub(crate) struct Cli {
    /// The form of the results: for people, one JSON document, or JSON lines.
    #[arg(long, global = true, value_enum, value_name = "FORM")]
    format: Option<form::Form>,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Format(format::FormatArgs),
    Grow(grow::GrowArgs),
    Run(run::RunArgs),
    Plot(plot::PlotArgs),
    Diff(diff::DiffArgs),
    Stat(stat::StatArgs),
    Check(check::CheckArgs),
    Changes(changes::ChangesArgs),
    Trim(trim::TrimArgs),
    Inspect(inspect::InspectArgs),
    Get(point::GetArgs),
    Put(point::PutArgs),
    Delete(point::DeleteArgs),
    Scan(scan::ScanArgs),
    Dump(dump::DumpArgs),
    Load(load::LoadArgs),
    Tree(tree::TreeVerbArgs),
    Snapshot(snapshot::SnapshotArgs),
    Device(device::DeviceArgs),
    Crash(crash::CrashArgs),
    #[cfg(feature = "simulation")]
    Sim(sim::SimArgs),
    Compare(compare::CompareArgs),
    Experiment(experiment::ExperimentArgs),
    #[cfg(faults)]
    Faults(faults::FaultsArgs),
    Completions(shell::CompletionsArgs),
    Man(shell::ManArgs),
    #[command(hide = true, name = crate::crash::CHILD_VERB)]
    CrashChild(crash::ChildArgs),
    #[command(hide = true, name = crate::experiment::fill::child::VERB)]
    FillChild(experiment::FillChildArgs),
    #[command(hide = true, name = crate::compare::child::VERB)]
    CompareChild,
}

/// Reads the command line. What is wrong with it ends the process, with what to
/// do and exit code 2; so does `--help`, with 0.
pub(crate) fn parse() -> Cli {
    Cli::from_arg_matches(&command().get_matches()).unwrap_or_else(|e| e.exit())
}

/// The command line, its verbs in groups.
fn command() -> clap::Command {
    groups::grouped(Cli::command())
}

/// Does what the command line says.
pub(crate) fn dispatch(mut cli: Cli) -> Outcome {
    form::apply(&mut cli)?;
    match cli.verb {
        Verb::Format(a) => format::format(&a),
        Verb::Grow(a) => grow::grow(&a),
        Verb::Run(a) => run::run(&a),
        Verb::Plot(a) => plot::plot(&a),
        Verb::Diff(a) => diff::diff(&a),
        Verb::Stat(a) => stat::stat(&a),
        Verb::Check(a) => check::check(&a),
        Verb::Changes(a) => changes::changes(&a),
        Verb::Trim(a) => trim::trim(&a),
        Verb::Inspect(a) => inspect::inspect(&a),
        Verb::Get(a) => point::get(&a),
        Verb::Put(a) => point::put(&a),
        Verb::Delete(a) => point::delete(&a),
        Verb::Scan(a) => scan::scan(&a),
        Verb::Dump(a) => dump::dump(&a),
        Verb::Load(a) => load::load(&a),
        Verb::Tree(a) => tree::tree(&a),
        Verb::Snapshot(a) => snapshot::snapshot(&a),
        Verb::Device(a) => device::device(&a),
        Verb::Crash(a) => crash::crash(&a),
        #[cfg(feature = "simulation")]
        Verb::Sim(a) => sim::sim(&a),
        Verb::Compare(a) => compare::compare(&a),
        Verb::Experiment(a) => experiment::experiment(&a),
        #[cfg(faults)]
        Verb::Faults(a) => faults::faults(&a),
        Verb::Completions(a) => shell::completions(&a),
        Verb::Man(a) => shell::man(&a),
        Verb::CrashChild(a) => crash::child(&a),
        Verb::FillChild(a) => experiment::fill_child(&a),
        Verb::CompareChild => crate::compare::child::serve(),
    }
}

/// A store on the command line.
#[derive(Debug, Args)]
struct StoreArgs {
    /// The device or file.
    path: PathBuf,
    /// The memory budget.
    #[arg(long, value_name = "SIZE", default_value = "64MiB")]
    cache: Size,
    /// The I/O driver.
    #[arg(long, value_enum, default_value_t)]
    driver: Driver,
    /// When reading a store that was not closed: the most memory for what its log
    /// changes.
    #[arg(long, value_name = "SIZE", default_value = "1GiB")]
    replay_memory: Size,
}

impl StoreArgs {
    /// Opens it; a read-only open writes nothing at all.
    fn open(&self, read_only: bool) -> Result<Store, Failure> {
        self.open_by(OpenOptions {
            read_only,
            ..OpenOptions::default()
        })
    }

    /// Opens it read-only; with `salvage` also if its log or its tree of trees is
    /// damaged.
    fn open_to_look(&self, salvage: bool) -> Result<Store, Failure> {
        self.open_by(OpenOptions {
            read_only: true,
            salvage,
            ..OpenOptions::default()
        })
    }

    fn open_by(&self, o: OpenOptions) -> Result<Store, Failure> {
        let o = OpenOptions {
            cache_bytes: self.cache.0,
            driver: self.driver.into(),
            replay_memory: self.replay_memory.0,
            ..o
        };
        Store::open(&self.path, &o).map_err(|e| match e {
            // These do not know where.
            Error::Shrunk { .. } | Error::Damaged(_) | Error::UnknownFormat(_) => self.named(e),
            e => e.into(),
        })
    }

    /// What went wrong in an open store, with its path.
    fn named(&self, e: Error) -> Failure {
        Failure::engine(&self.path.display().to_string(), e)
    }

    /// Opens it for reading, if it could be opened for writing: for dry runs.
    fn rehearse(&self) -> Result<Store, Failure> {
        crate::run::store::claim(&self.path)?;
        self.open(true)
    }
}

/// A tree of a store on the command line.
#[derive(Debug, Args)]
struct TreeArgs {
    #[command(flatten)]
    store: StoreArgs,
    /// The tree.
    #[arg(long, value_name = "NAME", default_value = DEFAULT_TREE)]
    tree: String,
}

impl TreeArgs {
    /// Opens the store for reading; none if it has no such tree.
    fn read(&self, at: &snapshot::AtArgs) -> Result<(Store, Tree), Failure> {
        let store = self.store.open(true)?;
        let tree = at.tree(&store, &self.tree)?;
        Ok((store, tree))
    }

    /// Opens the store for writing, and makes the tree if there is none.
    fn write(&self) -> Result<(Store, Tree), Failure> {
        let store = self.store.open(false)?;
        let tree = store.tree(&self.tree)?;
        Ok((store, tree))
    }
}

/// Whether this is a file, or nothing yet, which will be a file.
fn is_file(path: &Path) -> bool {
    !path.exists() || path.is_file()
}

/// A driver's name on the command line.
pub(crate) fn name_of(driver: Driver) -> String {
    driver
        .to_possible_value()
        .map_or_else(String::new, |v| v.get_name().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        command().debug_assert();
    }

    #[test]
    fn help_names_every_verb_once() {
        let help = command().render_help().to_string();
        for verb in command().get_subcommands() {
            let name = format!("\n  {} ", verb.get_name());
            let times = help
                .split("Examples:")
                .next()
                .map_or(0, |h| h.matches(&name).count());
            assert_eq!(times, usize::from(!verb.is_hide_set()), "{name}: {help}");
        }
    }

    #[test]
    fn every_verb_shows_examples() {
        for mut verb in command().get_subcommands().cloned() {
            if verb.is_hide_set() || verb.get_name() == "help" {
                continue;
            }
            let help = verb.render_help().to_string();
            assert!(help.contains("Examples:"), "{}", verb.get_name());
        }
    }
}
