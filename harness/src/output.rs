//! Standard output: text, tables and JSON. A reader that goes away early (`| head`)
//! ends the command quietly, as it should.

use std::io::{self, ErrorKind, Write};
use std::sync::OnceLock;

use comfy_table::{CellAlignment, ContentArrangement, Row, Table, presets};
use serde::Serialize;

use crate::cli::form::Form;
use crate::failure::Failure;

/// What `--format` says, if it is given.
static FORM: OnceLock<Form> = OnceLock::new();

/// Gives results in this form from now on.
pub(crate) fn choose(form: Form) {
    let _ = FORM.set(form);
}

/// The form that was asked for.
pub(crate) fn form() -> Option<Form> {
    FORM.get().copied()
}

/// Whether results are lines of JSON.
pub(crate) fn in_lines() -> bool {
    form() == Some(Form::Jsonl)
}

/// Writes a line while work is under way. False: its reader is gone, and the work is
/// to end in good order.
pub(crate) fn stream(line: &[u8]) -> Result<bool, Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(line).and_then(|()| out.flush()) {
        Err(e) if e.kind() == ErrorKind::BrokenPipe => Ok(false),
        done => written(done).map(|()| true),
    }
}

/// Writes one line to standard output.
pub(crate) fn line(text: impl AsRef<str>) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    written(
        out.write_all(text.as_ref().as_bytes())
            .and_then(|()| out.write_all(b"\n")),
    )
}

/// Writes one line to standard error. If nobody reads it, there is nobody to tell.
pub(crate) fn complain(text: &str) {
    let _ = writeln!(io::stderr().lock(), "gaur: {text}");
}

/// Writes raw bytes to standard output.
pub(crate) fn raw(bytes: &[u8]) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    written(out.write_all(bytes).and_then(|()| out.flush()))
}

/// Writes a value as JSON.
pub(crate) fn json(value: &impl Serialize) -> Result<(), Failure> {
    line(to_json(value)?)
}

/// A value as JSON: indented, or one line if results are lines.
pub(crate) fn to_json(value: &impl Serialize) -> Result<String, Failure> {
    let text = match in_lines() {
        true => serde_json::to_string(value),
        false => serde_json::to_string_pretty(value),
    };
    text.map_err(|e| Failure::refused(format!("cannot write this as JSON: {e}")))
}

/// Turns the outcome of a write to standard output into ours.
pub(crate) fn written(outcome: io::Result<()>) -> Result<(), Failure> {
    match outcome {
        Ok(()) => Ok(()),
        Err(e) if e.kind() == ErrorKind::BrokenPipe => std::process::exit(0),
        Err(e) => Err(Failure::refused(format!(
            "cannot write to standard output: {e}"
        ))),
    }
}

/// An aligned table: the first column to the left, the others to the right.
pub(crate) fn table(
    header: impl IntoIterator<Item = impl Into<String>>,
    rows: impl IntoIterator<Item = Vec<String>>,
) -> String {
    let mut t = filled(header, rows);
    for c in t.column_iter_mut().skip(1) {
        c.set_cell_alignment(CellAlignment::Right);
    }
    indented(&t)
}

/// The same with one space between columns, for tables of many.
pub(crate) fn dense_table(
    header: impl IntoIterator<Item = impl Into<String>>,
    rows: impl IntoIterator<Item = Vec<String>>,
) -> String {
    let mut t = filled(header, rows);
    for (i, c) in t.column_iter_mut().enumerate() {
        c.set_padding((1, 0));
        if i > 0 {
            c.set_cell_alignment(CellAlignment::Right);
        }
    }
    t.lines()
        .map(|l| l.trim_end().to_owned())
        .collect::<Vec<_>>()
        .join("\n")
}

/// The same, but the last column is to the left too: it is text.
pub(crate) fn table_ending_left(
    header: impl IntoIterator<Item = impl Into<String>>,
    rows: impl IntoIterator<Item = Vec<String>>,
) -> String {
    let mut t = filled(header, rows);
    let last = t.column_count().saturating_sub(1);
    for (i, c) in t.column_iter_mut().enumerate() {
        if i > 0 && i < last {
            c.set_cell_alignment(CellAlignment::Right);
        }
    }
    indented(&t)
}

fn filled(
    header: impl IntoIterator<Item = impl Into<String>>,
    rows: impl IntoIterator<Item = Vec<String>>,
) -> Table {
    let header: Vec<String> = header.into_iter().map(Into::into).collect();
    let mut t = plain();
    t.set_header(Row::from(header));
    t.add_rows(rows);
    t
}

/// Columns of a line.
const WIDTH: usize = 98;

/// Names and what they are, aligned; what is long goes on in further lines.
pub(crate) fn pairs(rows: impl IntoIterator<Item = (String, String)>) -> String {
    let rows: Vec<_> = rows.into_iter().collect();
    let names = rows.iter().map(|(name, _)| name.chars().count()).max();
    // The indent, and blanks around the name and before the text.
    let room = WIDTH.saturating_sub(names.unwrap_or(0) + 4).max(WIDTH / 2);
    let mut t = plain();
    t.add_rows(rows.into_iter().map(|(a, b)| vec![a, wrapped(&b, room)]));
    indented(&t)
}

/// Lines of at most `room` characters, broken at blanks only: a path stays whole.
fn wrapped(text: &str, room: usize) -> String {
    let mut out = String::with_capacity(text.len());
    let mut used = 0;
    for word in text.split(' ') {
        let len = word.chars().count();
        if used > 0 && used + 1 + len > room {
            out.push('\n');
            used = 0;
        } else if used > 0 {
            out.push(' ');
            used += 1;
        }
        out.push_str(word);
        used += len;
    }
    out
}

fn plain() -> Table {
    let mut t = Table::new();
    t.load_style(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Disabled);
    t
}

fn indented(t: &Table) -> String {
    t.lines()
        .map(|l| format!(" {}", l.trim_end()))
        .collect::<Vec<_>>()
        .join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lines_go_on_below() {
        let path = format!("/{}", "x".repeat(120));
        let long = "word ".repeat(60);
        let text = pairs([
            ("a name".to_owned(), long.trim().to_owned()),
            ("b".to_owned(), format!("at {path} there")),
        ]);
        assert!(text.lines().any(|l| l.contains(&path)), "{text}");
        let rest: Vec<_> = text.lines().filter(|l| !l.contains(&path)).collect();
        assert!(rest.iter().all(|l| l.chars().count() <= WIDTH), "{text}");
        assert!(rest.iter().filter(|l| l.contains("word")).count() >= 4);
        assert_eq!(text.matches("word").count(), 60);
    }

    #[test]
    fn columns_line_up() {
        let text = table(
            ["op", "count"],
            [
                vec!["read".into(), "10".into()],
                vec!["x".into(), "1000".into()],
            ],
        );
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 3);
        assert!(lines.iter().all(|l| l.len() == lines[0].len()), "{text}");
    }
}
