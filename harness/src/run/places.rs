//! The keys of a configuration with their places, and what is wrong with each.
//!
//! Each key is tried alone, so that all that is wrong is told at once, and the
//! types say themselves what they take: there is no second list of keys.

use toml::de::{DeTable, DeValue};
use toml::{Spanned, Table, Value};

use super::config::Config;

/// Where keys may lie; for those that are written under the wrong heading.
const SECTIONS: [&str; 8] = [
    "store",
    "load",
    "precondition",
    "run",
    "run.mix",
    "run.background",
    "verify",
    "output",
];

/// A key or a table of keys, and the byte offsets of its name and value.
struct Node {
    name: String,
    name_at: usize,
    value_at: usize,
    value: Inner,
}

enum Inner {
    Table(Vec<Node>),
    /// `None`: not to be told from its text alone.
    Leaf(Option<Value>),
}

/// What is wrong with a key: at which offset, and in words.
pub(super) type Wrong = (usize, String);

/// The keys of a file: each dotted, with the offset of its name. Or all that is
/// wrong with them, in the order of the file.
pub(super) fn keys(text: &str) -> Result<Vec<(String, usize)>, Vec<Wrong>> {
    let (table, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        let wrong = |e: &toml::de::Error| {
            let at = e.span().map_or(0, |span| span.start);
            (at, e.message().trim_end().replace('\n', "; "))
        };
        return Err(errors.iter().map(wrong).collect());
    }
    let mut found = Vec::new();
    let mut wrong = Vec::new();
    let nodes = nodes_of(text, table.get_ref());
    walk(&nodes, &mut Vec::new(), &mut found, &mut wrong);
    if wrong.is_empty() {
        return Ok(found);
    }
    wrong.sort();
    Err(wrong)
}

/// What is wrong with one value at a dotted key, on its own.
pub(super) fn check(path: &[&str], value: &Value) -> Vec<String> {
    let Some((name, above)) = path.split_last() else {
        return Vec::new();
    };
    let mut above: Vec<String> = above.iter().map(|s| (*s).to_owned()).collect();
    // A wrong heading says more than a wrong key below it.
    for depth in 1..=above.len() {
        if let Err(e) = try_alone(&above[..depth], Value::Table(Table::new())) {
            return vec![explain(&e, &above[..depth], None)];
        }
    }
    let mut wrong = Vec::new();
    let nodes = [node_of(name, value)];
    walk(&nodes, &mut above, &mut Vec::new(), &mut wrong);
    wrong.into_iter().map(|(_, what)| what).collect()
}

fn nodes_of(text: &str, table: &DeTable<'_>) -> Vec<Node> {
    let node = |key: &Spanned<std::borrow::Cow<'_, str>>, value: &Spanned<DeValue<'_>>| Node {
        name: key.get_ref().clone().into_owned(),
        name_at: key.span().start,
        value_at: value.span().start,
        value: match value.get_ref() {
            DeValue::Table(below) => Inner::Table(nodes_of(text, below)),
            _ => Inner::Leaf(text.get(value.span()).and_then(parse_value)),
        },
    };
    table.iter().map(|(k, v)| node(k, v)).collect()
}

fn node_of(name: &str, value: &Value) -> Node {
    Node {
        name: name.to_owned(),
        name_at: 0,
        value_at: 0,
        value: match value {
            Value::Table(t) => Inner::Table(t.iter().map(|(k, v)| node_of(k, v)).collect()),
            other => Inner::Leaf(Some(other.clone())),
        },
    }
}

/// A TOML value from its text.
pub(super) fn parse_value(text: &str) -> Option<Value> {
    let mut table = toml::from_str::<Table>(&format!("v = {text}")).ok()?;
    table.remove("v").filter(|_| table.is_empty())
}

fn walk(
    nodes: &[Node],
    path: &mut Vec<String>,
    found: &mut Vec<(String, usize)>,
    wrong: &mut Vec<Wrong>,
) {
    for node in nodes {
        path.push(node.name.clone());
        let alone = match &node.value {
            Inner::Table(_) => Some(Value::Table(Table::new())),
            Inner::Leaf(value) => value.clone(),
        };
        match alone.clone().map(|value| try_alone(path, value)) {
            Some(Err(e)) => {
                let at = if e.starts_with("unknown field") {
                    node.name_at
                } else {
                    node.value_at
                };
                wrong.push((at, explain(&e, path, alone.as_ref())));
            }
            Some(Ok(())) | None => {
                found.push((path.join("."), node.name_at));
                if let Inner::Table(below) = &node.value {
                    walk(below, path, found, wrong);
                }
            }
        }
        path.pop();
    }
}

/// A configuration with this key alone.
fn try_alone(path: &[String], value: Value) -> Result<(), String> {
    let mut at = value;
    for name in path.iter().rev() {
        let mut table = Table::new();
        table.insert(name.clone(), at);
        at = Value::Table(table);
    }
    at.try_into::<Config>()
        .map(drop)
        .map_err(|e: toml::de::Error| e.message().to_owned())
}

/// What the types say, in words that help: the nearest known name, or what is
/// expected.
fn explain(message: &str, path: &[String], value: Option<&Value>) -> String {
    let key = path.join(".");
    let quoted: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
    if message.starts_with("unknown field") {
        let (wrong, known) = quoted.split_first().unwrap_or((&"", &[]));
        if let Some(k) = nearest(wrong, known) {
            return format!("unknown key `{wrong}`; did you mean `{k}`?");
        }
        if let Some(section) = value.and_then(|v| section_of(wrong, v)) {
            return format!("unknown key `{wrong}` here; it belongs to [{section}]");
        }
        return format!("unknown key `{wrong}`; known here: {}", known.join(", "));
    }
    if message.starts_with("unknown variant") {
        let (wrong, known) = quoted.split_first().unwrap_or((&"", &[]));
        return match nearest(wrong, known) {
            Some(k) => format!("unknown value `{wrong}` of {key}; did you mean `{k}`?"),
            None => format!(
                "unknown value `{wrong}` of {key}; it takes {}",
                known.join(", ")
            ),
        };
    }
    let invalid = message
        .strip_prefix("invalid type: ")
        .or_else(|| message.strip_prefix("invalid value: "));
    match invalid.and_then(|rest| rest.rsplit_once(", expected ")) {
        Some((got, expected)) => {
            let got = got.replace('`', "");
            format!(
                "{key} takes {}, not {}",
                kind(expected),
                got.replace("string", "the text")
            )
        }
        None => format!("{key}: {}", message.trim_end().replace('\n', "; ")),
    }
}

/// What the types' names mean.
fn kind(expected: &str) -> &str {
    match expected.trim_end() {
        "usize" | "u64" | "u32" | "u16" => "a whole number, 0 or more",
        "f64" => "a number",
        "a boolean" => "true or false",
        "a string" => "text in quotes",
        "a number or text with a unit" => {
            "a number, or text with a unit as in \"64MiB\" or \"200ms\""
        }
        other if other.starts_with("struct ") => "a table of keys",
        other if other.starts_with("enum ") => "one of its names, in quotes",
        other => other,
    }
}

fn nearest<'a>(wrong: &str, known: &[&'a str]) -> Option<&'a str> {
    known
        .iter()
        .map(|k| (strsim::damerau_levenshtein(wrong, k), *k))
        .min()
        .filter(|(distance, k)| *distance <= 1 + k.len() / 3)
        .map(|(_, k)| k)
}

/// The heading under which a key with this value would be right.
fn section_of(key: &str, value: &Value) -> Option<&'static str> {
    SECTIONS.into_iter().find(|section| {
        let mut path: Vec<String> = section.split('.').map(str::to_owned).collect();
        path.push(key.to_owned());
        try_alone(&path, value.clone()).is_ok()
    })
}

/// Line and column of an offset, both from 1 on, as editors count.
pub(super) fn line_and_column(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let line = before.rsplit('\n').next().unwrap_or_default();
    (
        1 + before.bytes().filter(|&b| b == b'\n').count(),
        1 + line.chars().count(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_count_characters() {
        assert_eq!(line_and_column("ä = 1\nb", 0), (1, 1));
        assert_eq!(line_and_column("ä = 1\nb", 5), (1, 5));
        assert_eq!(line_and_column("ä = 1\nb", 7), (2, 1));
        assert_eq!(line_and_column("a", 99), (1, 2));
    }

    #[test]
    fn good_keys_are_found_with_their_places() {
        let text = "store.path = 'p'\n[run]\nmix = { read = 1 }\nthreads = 2\n";
        let found = keys(text).unwrap();
        let at = |key: &str| found.iter().find(|(k, _)| k == key).unwrap().1;
        assert_eq!(line_and_column(text, at("store.path")), (1, 7));
        assert_eq!(line_and_column(text, at("run.mix.read")), (3, 9));
        assert_eq!(line_and_column(text, at("run.threads")), (4, 1));
    }

    #[test]
    fn every_wrong_thing_is_told_at_once() {
        let text = "[store]\npth = 'a'\ncache = 'lots'\n[run]\nthreads = 'many'\nmix = { red = 1 }\n[lod]\nx = 1\n";
        let wrong = keys(text).unwrap_err();
        let lines: Vec<usize> = wrong.iter().map(|w| line_and_column(text, w.0).0).collect();
        assert_eq!(lines, [2, 3, 5, 6, 7], "{wrong:?}");
    }

    #[test]
    fn text_that_is_no_toml_is_told_too() {
        for text in ["[store\n", "a = \n", "x = [1\n", "= 3", "a = 1\na = 2\n"] {
            assert!(!keys(text).unwrap_err().is_empty(), "{text}");
        }
    }
}
