//! `--format`: in which form a verb gives its results.

use clap::ValueEnum;

use super::{Cli, Verb};
use crate::failure::Failure;
use crate::output;

/// The form of what goes to standard output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Form {
    /// For people.
    Text,
    /// One JSON document.
    Json,
    /// JSON, one object a line.
    Jsonl,
    /// For a document; of `gaur compare` alone.
    Markdown,
    /// Metrics in Prometheus' text format; of `gaur stat` alone.
    Prometheus,
}

/// Has the verb give its results as `--format` says; refused where it cannot.
pub(super) fn apply(cli: &mut Cli) -> Result<(), Failure> {
    let Some(form) = cli.format else {
        return Ok(());
    };
    output::choose(form);
    let wanted = form != Form::Text;
    if wanted {
        possible(&cli.verb, form)?;
    }
    if let (Form::Prometheus, Verb::Stat(a)) = (form, &mut cli.verb) {
        if a.json {
            return Err(Failure::refused(
                "--json and --format prometheus contradict each other; leave out one of them",
            ));
        }
        a.prometheus = true;
        return Ok(());
    }
    match flag(&mut cli.verb) {
        Some(json) if *json && !wanted => Err(Failure::refused(
            "--json and --format text contradict each other; leave out one of them",
        )),
        Some(json) => {
            *json = wanted;
            Ok(())
        }
        None => Ok(()),
    }
}

/// What makes a verb print JSON; none, if nothing does.
fn flag(verb: &mut Verb) -> Option<&mut bool> {
    Some(match verb {
        Verb::Format(a) => &mut a.json,
        Verb::Grow(a) => &mut a.json,
        Verb::Run(a) => &mut a.to_stdout,
        Verb::Diff(a) => &mut a.json,
        Verb::Stat(a) => &mut a.json,
        Verb::Check(a) => &mut a.json,
        Verb::Changes(a) => &mut a.json,
        Verb::Trim(a) => &mut a.json,
        Verb::Inspect(a) => a.json(),
        Verb::Get(a) => &mut a.json,
        Verb::Put(a) => &mut a.json,
        Verb::Delete(a) => &mut a.json,
        Verb::Scan(a) => &mut a.json,
        Verb::Dump(a) => &mut a.json,
        Verb::Load(a) => &mut a.json,
        Verb::Tree(a) => a.json(),
        Verb::Snapshot(a) => a.json(),
        Verb::Device(a) => &mut a.json,
        Verb::Crash(a) => &mut a.json,
        Verb::Experiment(a) => return a.json(),
        #[cfg(feature = "simulation")]
        Verb::Sim(_) => return None,
        Verb::Plot(_)
        | Verb::Completions(_)
        | Verb::Man(_)
        | Verb::CrashChild(_)
        | Verb::FillChild(_)
        | Verb::CompareChild => return None,
        #[cfg(faults)]
        Verb::Faults(_) => return None,
        // It has text of two kinds, and asks for the form itself.
        Verb::Compare(_) => return None,
    })
}

/// Refuses what has no such form.
fn possible(verb: &Verb, form: Form) -> Result<(), Failure> {
    let none = |name: &str, instead: &str| {
        Err(Failure::refused(format!(
            "gaur {name} has no structured output; leave out --format{instead}"
        )))
    };
    match verb {
        Verb::Stat(_) if form == Form::Prometheus => Ok(()),
        _ if form == Form::Prometheus => Err(Failure::refused(
            "only gaur stat writes metrics for Prometheus; use --format text, json or jsonl",
        )),
        Verb::Compare(_) => Ok(()),
        Verb::Plot(_) => none("plot", ", and see summary.json of the runs"),
        Verb::Completions(_) => none("completions", ""),
        #[cfg(feature = "simulation")]
        Verb::Sim(_) => none("sim", ""),
        Verb::Man(_) => none("man", ""),
        #[cfg(faults)]
        Verb::Faults(_) => none("faults", ""),
        Verb::CrashChild(_) | Verb::FillChild(_) | Verb::CompareChild => none("here", ""),
        Verb::Experiment(a) => match a.unstructured() {
            Some("cow") => none("experiment cow", ", and use --json FILE"),
            Some(name) => none(&format!("experiment {name}"), ""),
            None => Ok(()),
        },
        _ if form == Form::Markdown => Err(Failure::refused(
            "only gaur compare writes Markdown; use --format text, json or jsonl",
        )),
        Verb::Get(a) if a.raw => Err(Failure::refused(
            "--raw writes a value's bytes alone; leave out --raw or --format",
        )),
        Verb::Dump(a) if a.out.is_none() && form == Form::Json => Err(Failure::refused(
            "a dump is lines of JSON; use --format jsonl, or --out FILE for a document about it",
        )),
        _ => Ok(()),
    }
}
