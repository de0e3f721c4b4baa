//! The verbs in groups, as `gaur help` shows them.

use std::fmt::Write as _;

use clap::Command;

/// Verbs by what they are for. What is in no group is shown at the end.
const GROUPS: [(&str, &[&str]); 6] = [
    (
        "Make and keep a store",
        &["format", "tree", "snapshot", "grow", "trim"],
    ),
    (
        "Read and write records",
        &["get", "put", "delete", "scan", "dump", "load"],
    ),
    ("Look", &["device", "stat", "check", "inspect", "changes"]),
    (
        "Measure and torment",
        &["run", "compare", "experiment", "crash", "sim"],
    ),
    ("Look at measurements", &["plot", "diff"]),
    ("Set up the tool", &["completions", "man"]),
];

const TEMPLATE: &str = "\
{about-with-newline}
{usage-heading} {usage}

{before-help}Options:
{options}{after-help}";

/// The command with its verbs in groups.
pub(super) fn grouped(command: Command) -> Command {
    let text = listing(&command);
    command.help_template(TEMPLATE).before_help(text)
}

fn listing(command: &Command) -> String {
    let shown = |c: &&Command| !c.is_hide_set();
    let width = command
        .get_subcommands()
        .filter(shown)
        .map(|c| c.get_name().len())
        .max()
        .unwrap_or(0);
    let line = |c: &Command| {
        let about = c.get_about().map(ToString::to_string).unwrap_or_default();
        format!("  {:width$}  {about}\n", c.get_name())
    };
    let mut out = String::new();
    for (title, verbs) in GROUPS {
        let _ = writeln!(out, "{title}:");
        for verb in verbs {
            out.extend(command.find_subcommand(verb).map(line));
        }
        out.push('\n');
    }
    let rest: String = command
        .get_subcommands()
        .filter(shown)
        .filter(|c| {
            !GROUPS
                .iter()
                .any(|(_, verbs)| verbs.contains(&c.get_name()))
        })
        .map(line)
        .collect();
    if !rest.is_empty() {
        let _ = write!(out, "More:\n{rest}\n");
    }
    out.trim_end().to_owned()
}
