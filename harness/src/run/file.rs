//! Reading a configuration file, and `--set key=value` on top of it. Errors name
//! the line and the nearest known key.

use std::path::Path;

use toml::{Table, Value};

use super::config::Config;
use super::validate::validate;
use crate::failure::Failure;

/// Reads the file, applies the overrides in order, and checks the whole.
pub(crate) fn load(path: &Path, sets: &[String]) -> Result<Config, Failure> {
    let text = std::fs::read_to_string(path).map_err(|e| Failure::file("read", path, &e))?;
    let config = parse(&text, sets, &path.display().to_string()).map_err(Failure::refused)?;
    validate(&config).map_err(|e| Failure::refused(format!("{}: {e}", path.display())))?;
    Ok(config)
}

/// The configuration that `text` and the overrides make; `name` is for errors.
pub(crate) fn parse(text: &str, sets: &[String], name: &str) -> Result<Config, String> {
    let mut config: Config = toml::from_str(text).map_err(|e| {
        let place = match e.span() {
            Some(span) => format!("{name}:{}", line_of(text, span.start)),
            None => name.to_owned(),
        };
        format!("{place}: {}", explain(e.message()))
    })?;
    let mut table: Table = toml::from_str(text).map_err(|e| format!("{name}: {}", e.message()))?;
    for set in sets {
        apply(&mut table, set).map_err(|e| format!("--set {set}: {e}"))?;
        config = table
            .clone()
            .try_into()
            .map_err(|e: toml::de::Error| format!("--set {set}: {}", explain(e.message())))?;
    }
    Ok(config)
}

/// Puts `dotted.key=value` into the table.
fn apply(table: &mut Table, set: &str) -> Result<(), String> {
    let (key, value) = set
        .split_once('=')
        .ok_or("write key=value, as in --set run.threads=8")?;
    let mut parts: Vec<&str> = key.trim().split('.').collect();
    let last = parts
        .pop()
        .filter(|p| !p.is_empty())
        .ok_or("the key is empty")?;
    let mut at = table;
    for part in parts {
        at = at
            .entry(part)
            .or_insert_with(|| Value::Table(Table::new()))
            .as_table_mut()
            .ok_or_else(|| format!("`{part}` has no keys below it"))?;
    }
    at.insert(last.to_owned(), value_of(value.trim()));
    Ok(())
}

/// A TOML value if it reads as one, else the text itself: `sync`, `256MiB`.
fn value_of(text: &str) -> Value {
    toml::from_str::<Table>(&format!("v = {text}"))
        .ok()
        .filter(|t| t.len() == 1)
        .and_then(|mut t| t.remove("v"))
        .unwrap_or_else(|| Value::String(text.to_owned()))
}

fn line_of(text: &str, offset: usize) -> usize {
    1 + text.bytes().take(offset).filter(|&b| b == b'\n').count()
}

/// Adds the nearest known name to what the parser says of an unknown one.
fn explain(message: &str) -> String {
    let kind = if message.starts_with("unknown field") {
        "key"
    } else if message.starts_with("unknown variant") {
        "value"
    } else {
        return message.trim_end().replace('\n', "; ");
    };
    let mut quoted = message.split('`').skip(1).step_by(2);
    let wrong = quoted.next().unwrap_or_default();
    let known: Vec<&str> = quoted.collect();
    let nearest = known
        .iter()
        .map(|k| (strsim::damerau_levenshtein(wrong, k), *k))
        .min()
        .filter(|(distance, k)| *distance <= 1 + k.len() / 3);
    match nearest {
        Some((_, k)) => format!("unknown {kind} `{wrong}`; did you mean `{k}`?"),
        None => format!("unknown {kind} `{wrong}`; known here: {}", known.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::config::{Create, Distribution, Durable};
    use crate::units::Size;

    fn error(text: &str, sets: &[&str]) -> String {
        let sets: Vec<String> = sets.iter().map(|s| (*s).to_owned()).collect();
        parse(text, &sets, "x.toml").unwrap_err()
    }

    #[test]
    fn an_unknown_key_names_its_line_and_the_nearest_one() {
        let e = error("[store]\npath = \"a\"\n\n[run]\nthreds = 4\n", &[]);
        assert_eq!(e, "x.toml:5: unknown key `threds`; did you mean `threads`?");
        let e = error("[lod]\nrecords = 1\n", &[]);
        assert_eq!(e, "x.toml:1: unknown key `lod`; did you mean `load`?");
        let e = error("[run]\nmix = { reads = 1 }\n", &[]);
        assert_eq!(e, "x.toml:2: unknown key `reads`; did you mean `read`?");
    }

    #[test]
    fn a_far_off_key_lists_the_known_ones() {
        let e = error("[output]\nzebra = 1\n", &[]);
        assert_eq!(e, "x.toml:2: unknown key `zebra`; known here: dir");
    }

    #[test]
    fn wrong_values_name_their_line() {
        let e = error("[run]\ndistribution = \"zipfain\"\n", &[]);
        assert_eq!(
            e,
            "x.toml:2: unknown value `zipfain`; did you mean `zipfian`?"
        );
        let e = error("[run]\n\nthreads = \"many\"\n", &[]);
        assert!(e.starts_with("x.toml:3: invalid type"), "{e}");
        let e = error("[store]\ncache = \"lots\"\n", &[]);
        assert!(e.starts_with("x.toml:2: \"lots\" is no size"), "{e}");
        let e = error("[store]\ncache = -1\n", &[]);
        assert!(e.starts_with("x.toml:2:") && e.contains("negative"), "{e}");
        let e = error("[store\n", &[]);
        assert!(e.starts_with("x.toml:1:"), "{e}");
    }

    #[test]
    fn overrides_reach_every_depth_and_need_no_quotes() {
        let sets = [
            "run.threads=8",
            "run.durability=sync",
            "store.cache=1GiB",
            "run.mix.read=0.25",
            "store.create=fresh",
            "run.distribution = latest",
            "output.dir=/tmp/x",
        ]
        .map(str::to_owned);
        let c = parse("[run]\nmix = { update = 1 }\n", &sets, "x").unwrap();
        assert_eq!(c.run.threads, 8);
        assert_eq!(c.run.durability, Durable::Sync);
        assert_eq!(c.store.cache, Size(1 << 30));
        assert_eq!((c.run.mix.read, c.run.mix.update), (0.25, 1.0));
        assert_eq!(c.store.create, Create::Fresh);
        assert_eq!(c.run.distribution, Distribution::Latest);
        assert_eq!(c.output.dir.as_deref(), Some("/tmp/x"));
    }

    #[test]
    fn a_wrong_override_is_named() {
        assert_eq!(
            error("", &["run.threds=8"]),
            "--set run.threds=8: unknown key `threds`; did you mean `threads`?"
        );
        assert!(error("", &["run.threads"]).contains("key=value"));
        assert!(error("", &["run.threads.x=1", "run.y=1"]).starts_with("--set run.threads.x=1"));
        assert!(error("[run]\nthreads=1\n", &["run.threads.x=1"]).contains("has no keys below it"));
        assert!(error("", &["=1"]).contains("empty"));
    }

    #[test]
    fn the_effective_configuration_reads_back() {
        let sets = [
            "run.seed=7",
            "run.seconds=1.5",
            "store.log_size=64MiB",
            "run.mix.read=1",
        ]
        .map(str::to_owned);
        let c = parse("[store]\npath = \"p\"\n", &sets, "x").unwrap();
        let text = toml::to_string_pretty(&c).unwrap();
        assert_eq!(parse(&text, &[], "y").unwrap(), c, "{text}");
    }
}
