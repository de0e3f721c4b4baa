//! `gaur completions` and `gaur man`: what shells and `man` want to know, made from
//! the command line's own definition.

use std::path::{Path, PathBuf};

use clap::{Args, Command, CommandFactory};
use clap_complete::Shell;
use clap_mangen::Man;

use super::Cli;
use crate::failure::{FINE, Failure, Outcome};
use crate::output;

const COMPLETIONS_HELP: &str = "\
Examples:
  gaur completions bash > ~/.local/share/bash-completion/completions/gaur
  gaur completions zsh > \"${fpath[1]}/_gaur\"
  gaur completions fish > ~/.config/fish/completions/gaur.fish";

/// Print what a shell needs to complete gaur's command lines.
#[derive(Debug, Args)]
#[command(after_help = COMPLETIONS_HELP)]
pub(super) struct CompletionsArgs {
    /// The shell.
    shell: Shell,
}

const MAN_HELP: &str = "\
Examples:
  gaur man | man -l -                     read gaur(1) at once
  gaur man ~/.local/share/man/man1        install gaur(1), gaur-run(1) and all others";

/// Print the manual page, or write those of all verbs.
#[derive(Debug, Args)]
#[command(after_help = MAN_HELP)]
pub(super) struct ManArgs {
    /// Where to write gaur.1 and a page for each verb; made if it is not there.
    dir: Option<PathBuf>,
}

pub(super) fn completions(a: &CompletionsArgs) -> Outcome {
    let mut text = Vec::new();
    clap_complete::generate(a.shell, &mut described(), "gaur", &mut text);
    output::raw(&text)?;
    Ok(FINE)
}

pub(super) fn man(a: &ManArgs) -> Outcome {
    let mut root = described().disable_help_subcommand(true);
    root.build();
    let Some(dir) = &a.dir else {
        output::raw(&page(root)?)?;
        return Ok(FINE);
    };
    std::fs::create_dir_all(dir).map_err(|e| Failure::file("make", dir, &e))?;
    let count = write(&root, dir)?;
    output::line(format!("wrote {count} pages into {}", dir.display()))?;
    Ok(FINE)
}

/// Writes the page of a command and those of what is below it; gives how many.
fn write(command: &Command, dir: &Path) -> Result<usize, Failure> {
    let name = command.get_display_name().unwrap_or(command.get_name());
    let path = dir.join(format!("{name}.1"));
    let bytes = page(command.clone())?;
    std::fs::write(&path, bytes).map_err(|e| Failure::file("write", &path, &e))?;
    let below = command.get_subcommands().map(|c| write(c, dir));
    Ok(1 + below.sum::<Result<usize, _>>()?)
}

fn page(command: Command) -> Result<Vec<u8>, Failure> {
    let mut text = Vec::new();
    Man::new(command)
        .render(&mut text)
        .map_err(|e| Failure::refused(format!("cannot make the manual page: {e}")))?;
    Ok(text)
}

/// The command line without what is hidden, which is nobody's to type.
fn described() -> Command {
    let full = Cli::command();
    let shown = full.get_subcommands().filter(|c| !c.is_hide_set());
    let mut out = Command::new("gaur")
        .version(env!("CARGO_PKG_VERSION"))
        .args(full.get_arguments())
        .subcommands(shown);
    if let Some(about) = full.get_about() {
        out = out.about(about.clone());
    }
    if let Some(help) = full.get_after_help() {
        out = out.after_help(help.clone());
    }
    out
}
