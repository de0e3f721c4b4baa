//! Reading a configuration file, and `--set key=value` on top of it. Errors name
//! line, column and the nearest known key or value; all are told at once.

use std::path::Path;

use toml::{Table, Value};

use super::config::Config;
use super::places::{self, line_and_column, parse_value};
use super::validate::validate;
use super::ycsb;
use crate::failure::Failure;

/// Reads the file, which may be a YCSB property file, applies the overrides in
/// order, and checks the whole; gives also what was left out of it, in words.
pub(crate) fn load(path: &Path, sets: &[String]) -> Result<(Config, Vec<String>), Failure> {
    let text = std::fs::read_to_string(path).map_err(|e| Failure::file("read", path, &e))?;
    let name = path.display().to_string();
    let extension = path.extension().map(|e| e.to_string_lossy());
    let read = match ycsb::is_properties(extension.as_deref(), &text) {
        true => read_properties(&text, sets, &name),
        false => read(&text, sets, &name).map(|config| (config, Vec::new())),
    };
    read.map_err(Failure::several)
}

/// The checked configuration that `text` and the overrides make.
pub(crate) fn read(text: &str, sets: &[String], name: &str) -> Result<Config, Vec<String>> {
    let config = parse(text, sets, name)?;
    let keys = places::keys(text).unwrap_or_default();
    check(config, sets, name, |key| {
        let (_, at) = keys.iter().find(|(k, _)| k == key)?;
        Some(place_of(text, *at, name))
    })
}

/// The same of a property file, with what was left out of it.
pub(crate) fn read_properties(
    text: &str,
    sets: &[String],
    name: &str,
) -> Result<(Config, Vec<String>), Vec<String>> {
    let place = |line: usize| match line {
        0 => name.to_owned(),
        n => format!("{name}:{n}"),
    };
    let told = |(line, what): &(usize, String)| format!("{}: {what}", place(*line));
    let t = ycsb::translate(text).map_err(|wrong| wrong.iter().map(told).collect::<Vec<_>>())?;
    let config = overridden(t.table, sets, Vec::new(), name)?;
    let config = check(config, sets, name, |key| {
        // A rule about a table is about what is in it.
        let under = |k: &str| {
            k.strip_prefix(key)
                .is_some_and(|r| r.is_empty() || r.starts_with('.'))
        };
        let (_, line) = t.lines.iter().find(|(k, _)| under(k))?;
        Some(place(*line))
    })?;
    Ok((config, t.notes.iter().map(told).collect()))
}

/// The configuration, if it keeps all rules; `place` tells where the file sets a key.
fn check(
    config: Config,
    sets: &[String],
    name: &str,
    place: impl Fn(&str) -> Option<String>,
) -> Result<Config, Vec<String>> {
    let wrong = validate(&config);
    if wrong.is_empty() {
        return Ok(config);
    }
    // The last override of a key is the one that counts.
    let place = |key: &str| match sets.iter().rev().find(|s| key_of(s) == key) {
        Some(set) => format!("--set {set}"),
        None => place(key).unwrap_or_else(|| name.to_owned()),
    };
    Err(wrong
        .iter()
        .map(|w| format!("{}: {}", place(&w.key), w.what))
        .collect())
}

/// The configuration that `text` and the overrides make; `name` is for errors.
pub(crate) fn parse(text: &str, sets: &[String], name: &str) -> Result<Config, Vec<String>> {
    let wrong: Vec<String> = match places::keys(text) {
        Ok(_) => Vec::new(),
        Err(wrong) => wrong
            .into_iter()
            .map(|(at, what)| format!("{}: {what}", place_of(text, at, name)))
            .collect(),
    };
    overridden(toml::from_str(text).unwrap_or_default(), sets, wrong, name)
}

/// The configuration that the table and the overrides make, unless something is
/// wrong already.
fn overridden(
    mut table: Table,
    sets: &[String],
    mut wrong: Vec<String>,
    name: &str,
) -> Result<Config, Vec<String>> {
    for set in sets {
        if let Err(what) = apply(&mut table, set) {
            wrong.extend(what.into_iter().map(|e| format!("--set {set}: {e}")));
        }
    }
    if !wrong.is_empty() {
        return Err(wrong);
    }
    // Every key was tried alone; this is the whole.
    table
        .try_into()
        .map_err(|e: toml::de::Error| vec![format!("{name}: {}", e.message())])
}

fn place_of(text: &str, at: usize, name: &str) -> String {
    let (line, column) = line_and_column(text, at);
    format!("{name}:{line}:{column}")
}

/// The key of an override.
fn key_of(set: &str) -> &str {
    set.split_once('=').map_or(set, |(key, _)| key).trim()
}

/// Puts `dotted.key=value` into the table.
fn apply(table: &mut Table, set: &str) -> Result<(), Vec<String>> {
    let one = |e: &str| vec![e.to_owned()];
    let (key, value) = set
        .split_once('=')
        .ok_or_else(|| one("write key=value, as in --set run.threads=8"))?;
    let mut parts: Vec<&str> = key.trim().split('.').collect();
    // Text that is no TOML value stands for itself: `sync`, `256MiB`.
    let value = parse_value(value.trim()).unwrap_or_else(|| Value::String(value.trim().to_owned()));
    if parts.iter().any(|p| p.is_empty()) {
        return Err(one(
            "a part of the key is empty; write key=value, as in --set run.threads=8",
        ));
    }
    let wrong = places::check(&parts, &value);
    if !wrong.is_empty() {
        return Err(wrong);
    }
    let Some(last) = parts.pop() else {
        return Ok(());
    };
    let mut at = table;
    for part in parts {
        at = at
            .entry(part)
            .or_insert_with(|| Value::Table(Table::new()))
            .as_table_mut()
            .ok_or_else(|| one("a part of the key has no keys below it"))?;
    }
    at.insert(last.to_owned(), value);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::config::{Create, Distribution, Durable};
    use crate::units::Size;

    fn errors(text: &str, sets: &[&str]) -> Vec<String> {
        let sets: Vec<String> = sets.iter().map(|s| (*s).to_owned()).collect();
        read(text, &sets, "x.toml").unwrap_err()
    }

    fn error(text: &str, sets: &[&str]) -> String {
        errors(text, sets).join(" | ")
    }

    #[test]
    fn an_unknown_key_names_its_place_and_the_nearest_one() {
        let e = error("[store]\npath = \"a\"\n\n[run]\nthreds = 4\n", &[]);
        assert_eq!(
            e,
            "x.toml:5:1: unknown key `threds`; did you mean `threads`?"
        );
        let e = error("[lod]\nrecords = 1\n", &[]);
        assert_eq!(e, "x.toml:1:2: unknown key `lod`; did you mean `load`?");
        let e = error("[run]\nmix = { reads = 1 }\n", &[]);
        assert_eq!(e, "x.toml:2:9: unknown key `reads`; did you mean `read`?");
    }

    #[test]
    fn a_far_off_key_lists_the_known_ones() {
        let e = error("[output]\nzebra = 1\n", &[]);
        assert_eq!(e, "x.toml:2:1: unknown key `zebra`; known here: dir");
        let e = error("[output]\nrecords = 1\n", &[]);
        assert_eq!(
            e,
            "x.toml:2:1: unknown key `records` here; it belongs to [load]"
        );
    }

    #[test]
    fn wrong_values_name_their_place_and_what_is_expected() {
        for (text, expected) in [
            (
                "[run]\ndistribution = \"zipfain\"\n",
                "x.toml:2:16: unknown value `zipfain` of run.distribution; did you mean `zipfian`?",
            ),
            (
                "[run]\n\nthreads = \"many\"\n",
                "x.toml:3:11: run.threads takes a whole number, 0 or more, not the text \"many\"",
            ),
            (
                "[run]\nthreads = -1\n",
                "x.toml:2:11: run.threads takes a whole number, 0 or more, not integer -1",
            ),
            (
                "[run]\nverify = 1\n",
                "x.toml:2:10: run.verify takes true or false, not integer 1",
            ),
            (
                "run = 3\n",
                "x.toml:1:7: run takes a table of keys, not integer 3",
            ),
            (
                "[store]\npath = 3\n",
                "x.toml:2:8: store.path takes text in quotes, not integer 3",
            ),
            (
                "[store]\ncache = \"lots\"\n",
                "x.toml:2:9: store.cache: \"lots\" is no size; write bytes, or 64KiB, 256MiB, 1GiB (powers of 1024), 1GB (of 1000)",
            ),
            (
                "[store]\ncache = -1\n",
                "x.toml:2:9: store.cache: -1 is negative",
            ),
        ] {
            assert_eq!(error(text, &[]), expected);
        }
        let e = error("[store\n", &[]);
        assert!(e.starts_with("x.toml:1:"), "{e}");
    }

    #[test]
    fn rules_beyond_types_name_the_place_too() {
        let text = "[load]\nrecords = 1\nbatch = 0\n[store]\npath = 'p'\n";
        assert_eq!(
            error(text, &[]),
            "x.toml:3:1: load.batch is 0; it must be at least 1"
        );
        let both = errors(text, &["run.threads=0"]);
        assert_eq!(both.len(), 2, "{both:?}");
        assert!(both[1].starts_with("--set run.threads=0: run.threads is 0"));
    }

    #[test]
    fn several_errors_are_told_at_once() {
        let all = errors(
            "[run]\nthreds = 4\ntheta = 'x'\n",
            &["store.cahe=1", "load.order=up"],
        );
        assert_eq!(all.len(), 4, "{all:?}");
        assert!(all[3].starts_with("--set load.order=up: unknown value `up`"));
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
        assert_eq!(
            error("[run]\nthreads=1\n", &["run.threads.x=1"]),
            "--set run.threads.x=1: run.threads takes a whole number, 0 or more, not map"
        );
        assert!(error("", &["rn.threads=1"]).contains("did you mean `run`"));
        assert!(error("", &["run.mix={read=1,wite=2}"]).contains("unknown key `wite`"));
        assert!(error("", &["=1"]).contains("empty"));
    }

    #[test]
    fn rules_name_the_line_of_a_property_too() {
        let text =
            "recordcount=10\n\noperationcount=5\nexponential.percentile=100\nmaxscanlength=0\n";
        let sets = ["store.path=p".to_owned(), "load.batch=0".to_owned()];
        let wrong = read_properties(text, &sets, "w").unwrap_err();
        for part in [
            "w:4: run.exponential.percentile is 100",
            "w:5: run.scan_length goes from 1 to 0",
            "--set load.batch=0: load.batch is 0",
        ] {
            assert!(
                wrong.iter().any(|w| w.starts_with(part)),
                "{part}: {wrong:?}"
            );
        }
    }

    #[test]
    fn the_effective_configuration_reads_back() {
        let sets = [
            "run.seed=7",
            "run.seconds=1.5",
            "store.log_size=64MiB",
            "run.mix.read=1",
            "load.value_bytes={ weights = [[10, 1], [20, 2.5]] }",
            "run.distribution=exponential",
        ]
        .map(str::to_owned);
        let c = parse("[store]\npath = \"p\"\n", &sets, "x").unwrap();
        let text = toml::to_string_pretty(&c).unwrap();
        assert_eq!(parse(&text, &[], "y").unwrap(), c, "{text}");
    }
}
