//! What a configuration must also fulfil, beyond its types.

use super::config::{Config, Create, Mix};
use super::keys::{MAX_KEY, MIN_KEY};

/// Says what is wrong, by key, or nothing.
pub(crate) fn validate(c: &Config) -> Result<(), String> {
    at_least("load.batch", c.load.batch, 1)?;
    at_least("load.threads", c.load.threads, 1)?;
    at_least("run.batch", c.run.batch, 1)?;
    at_least("run.threads", c.run.threads, 1)?;
    at_least("run.scan_length", c.run.scan_length as usize, 1)?;
    at_least("verify.threads", c.verify.threads, 1)?;
    if !(MIN_KEY..=MAX_KEY).contains(&c.load.key_bytes) {
        return Err(format!(
            "load.key_bytes is {}; it may be {MIN_KEY} to {MAX_KEY}",
            c.load.key_bytes
        ));
    }
    if c.store.path.is_empty() {
        return Err("store.path is missing; set it, or use --device PATH".into());
    }
    if let Some(most) = c.store.grow_to
        && c.store.create != Create::Never
        && most < c.store.size
    {
        return Err(format!(
            "store.grow_to is {most}; it must not be below store.size ({})",
            c.store.size
        ));
    }
    if c.store.tree.is_empty() {
        return Err("store.tree is empty; give the tree a name".into());
    }
    if let Some(s) = c.run.seconds
        && !(s.is_finite() && s > 0.0 && s < 1e9)
    {
        return Err(format!("run.seconds is {s}; it must be above 0"));
    }
    if c.run.operations == Some(0) {
        return Err("run.operations is 0; leave it out for a run by time".into());
    }
    if let Some(r) = c.run.rate
        && !(r.is_finite() && r > 0.0)
    {
        return Err(format!("run.rate is {r}; it must be above 0"));
    }
    if !(c.run.theta.is_finite() && c.run.theta >= 0.0) {
        return Err(format!(
            "run.theta is {}; it must be 0 or more",
            c.run.theta
        ));
    }
    mix(c)?;
    if c.verify.read_back && c.load.records == 0 {
        return Err("verify.read_back needs load.records".into());
    }
    if c.load.skip && c.load.records == 0 {
        return Err("load.skip needs load.records, the number that was loaded".into());
    }
    if c.load.records == 0 && !c.run.wanted() {
        return Err("nothing to do: set load.records, or run.seconds with run.mix".into());
    }
    Ok(())
}

fn mix(c: &Config) -> Result<(), String> {
    let mut sum = 0.0;
    for (name, weight) in weights(&c.run.mix) {
        if !(weight.is_finite() && weight >= 0.0) {
            return Err(format!("run.mix.{name} is {weight}; weights are 0 or more"));
        }
        sum += weight;
    }
    match (c.run.wanted(), sum > 0.0) {
        (true, false) => Err("run.mix is empty; say what to run, as in mix = { read = 1 }".into()),
        (false, true) => Err("run.mix needs run.seconds or run.operations".into()),
        (true, true) if c.load.records == 0 && sum > c.run.mix.insert => Err(
            "the mix works on loaded records: set load.records, with load.skip if they are there"
                .into(),
        ),
        _ => Ok(()),
    }
}

/// The mix as names and weights.
pub(crate) fn weights(m: &Mix) -> [(&'static str, f64); 6] {
    [
        ("read", m.read),
        ("update", m.update),
        ("insert", m.insert),
        ("scan", m.scan),
        ("delete", m.delete),
        ("rmw", m.rmw),
    ]
}

fn at_least(name: &str, value: usize, least: usize) -> Result<(), String> {
    if value < least {
        return Err(format!("{name} is {value}; it must be at least {least}"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::file::parse;

    fn verdict(text: &str) -> Result<(), String> {
        validate(&parse(text, &[], "x").unwrap())
    }

    #[test]
    fn each_rule_names_its_key() {
        let ok = "store.path = 'p'\nload.records = 10\nrun = { seconds = 1, mix = { read = 1 } }\n";
        assert_eq!(verdict(ok), Ok(()));
        for (text, key) in [
            ("load.records = 1", "store.path"),
            ("store.path = 'p'", "nothing to do"),
            (
                "store = { path = 'p', grow_to = '1MiB' }\nload.records = 1",
                "store.grow_to",
            ),
            (
                "store.path = 'p'\nload = { records = 1, key_bytes = 7 }",
                "load.key_bytes",
            ),
            (
                "store.path = 'p'\nload = { records = 1, batch = 0 }",
                "load.batch",
            ),
            (
                "store.path = 'p'\nload.records = 1\nrun = { threads = 0 }",
                "run.threads",
            ),
            (
                "store.path = 'p'\nload.records = 1\nrun = { seconds = 1 }",
                "run.mix is empty",
            ),
            (
                "store.path = 'p'\nload.records = 1\nrun = { mix = { read = 1 } }",
                "run.seconds",
            ),
            (
                "store.path = 'p'\nload.records = 1\nrun = { seconds = -1, mix = { read = 1 } }",
                "run.seconds",
            ),
            (
                "store.path = 'p'\nload.records = 1\nrun = { seconds = 1, mix = { read = -1 } }",
                "run.mix.read",
            ),
            (
                "store.path = 'p'\nload.records = 1\nrun = { seconds = 1, rate = 0, mix = { read = 1 } }",
                "run.rate",
            ),
            (
                "store.path = 'p'\nrun = { seconds = 1, mix = { read = 1 } }",
                "load.records",
            ),
            (
                "store.path = 'p'\nrun = { seconds = 1, mix = { insert = 1 } }\nverify.read_back = true",
                "load.records",
            ),
            (
                "store.path = 'p'\nload.skip = true\nrun = { seconds = 1, mix = { insert = 1 } }",
                "load.skip",
            ),
        ] {
            let e = verdict(text).unwrap_err();
            assert!(e.contains(key), "{text}: {e}");
        }
    }

    #[test]
    fn inserts_alone_need_no_loaded_records() {
        assert_eq!(
            verdict("store.path = 'p'\nrun = { seconds = 1, mix = { insert = 1 } }"),
            Ok(())
        );
    }
}
