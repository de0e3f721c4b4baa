//! What a configuration must also fulfil, beyond its types.

use std::time::Duration;

use gaur::MAX_THREADS;

use super::config::{Config, Create, Engine, Exponential, Mix};
use super::keys::{MAX_KEY, MIN_KEY};
use super::knobs::{Arrival, Pin, Think};
use super::{beside, spread, trace};

/// Records of one operation: they are kept in memory while it lasts.
const MAX_RECORDS: usize = 10_000_000;

/// Five rounds of this must each hold enough looks at the counts.
const LEAST_WINDOW: Duration = Duration::from_millis(500);

/// Each thread keeps so many while it runs.
const MOST_WORST: usize = 10_000;

/// A rule that is not kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wrong {
    /// The key it is about; empty if it is about the whole.
    pub(crate) key: String,
    /// What is wrong, and what to do.
    pub(crate) what: String,
}

/// Says all that is wrong.
pub(crate) fn validate(c: &Config) -> Vec<Wrong> {
    let mut wrong = Vec::new();
    let mut unless = |kept: bool, key: &str, what: String| {
        if !kept {
            wrong.push(Wrong {
                key: key.to_owned(),
                what,
            });
        }
    };
    for (key, value) in [
        ("load.batch", c.load.batch),
        ("load.threads", c.load.threads),
        ("precondition.batch", c.precondition.batch),
        ("precondition.threads", c.precondition.threads),
        ("run.batch", c.run.batch),
        ("run.threads", c.run.threads),
        ("verify.threads", c.verify.threads),
    ] {
        let what = format!("{key} is {value}; it must be at least 1");
        unless(value >= 1, key, what);
    }
    for (key, value) in [
        ("load.batch", c.load.batch),
        ("precondition.batch", c.precondition.batch),
        ("run.batch", c.run.batch),
    ] {
        let what = format!("{key} is {value}; it may be {MAX_RECORDS} at most");
        unless(value <= MAX_RECORDS, key, what);
    }
    for (key, value) in [
        ("load.threads", c.load.threads),
        ("precondition.threads", c.precondition.threads),
        ("run.threads", c.run.threads),
        ("verify.threads", c.verify.threads),
    ] {
        let what = format!("{key} is {value}; at most {MAX_THREADS} threads use a store at once");
        unless(value <= MAX_THREADS, key, what);
    }
    for (key, spread, least, most) in [
        ("load.key_bytes", &c.load.key_bytes, MIN_KEY, MAX_KEY),
        ("load.value_bytes", &c.load.value_bytes, 0, spread::MOST),
        (
            "run.scan_length",
            &c.run.scan_length,
            1,
            spread::MOST_SCANNED,
        ),
    ] {
        if let Some(what) = spread.wrong(least, most) {
            unless(false, key, format!("{key} {what}"));
        }
    }
    for (key, share) in [
        ("load.compression_ratio", c.load.compression_ratio),
        ("run.hotspot.data", c.run.hotspot.data),
        ("run.hotspot.operations", c.run.hotspot.operations),
    ] {
        let what = format!("{key} is {share}; it may be 0 to 1");
        unless((0.0..=1.0).contains(&share), key, what);
    }
    let Exponential {
        percentile,
        fraction,
    } = c.run.exponential;
    unless(
        percentile > 0.0 && percentile < 100.0,
        "run.exponential.percentile",
        format!("run.exponential.percentile is {percentile}; it must be above 0 and below 100"),
    );
    unless(
        fraction > 0.0 && fraction.is_finite(),
        "run.exponential.fraction",
        format!("run.exponential.fraction is {fraction}; it must be above 0"),
    );
    unless(
        !c.store.path.is_empty() || c.store.engine == Engine::Null,
        "store.path",
        "store.path is missing; set it, or use --device PATH".into(),
    );
    unless(
        !c.store.tree.is_empty(),
        "store.tree",
        "store.tree is empty; give the tree a name".into(),
    );
    if let Some(most) = c.store.grow_to {
        let size = c.store.size;
        unless(
            c.store.create == Create::Never || most >= size,
            "store.grow_to",
            format!("store.grow_to is {most}; it must not be below store.size ({size})"),
        );
    }
    if let Some(s) = c.run.seconds {
        unless(
            s.is_finite() && s > 0.0 && s < 1e9,
            "run.seconds",
            format!("run.seconds is {s}; it must be above 0"),
        );
    }
    unless(
        c.run.operations != Some(0),
        "run.operations",
        "run.operations is 0; leave it out for a run by time".into(),
    );
    if let Some(r) = c.run.rate {
        unless(
            r.is_finite() && r > 0.0 && r <= 1e9,
            "run.rate",
            format!("run.rate is {r}; it must be above 0, and at most 1e9"),
        );
    }
    let theta = c.run.theta;
    unless(
        theta.is_finite() && theta >= 0.0,
        "run.theta",
        format!("run.theta is {theta}; it must be 0 or more"),
    );
    let s = c.floor.seconds;
    unless(
        s.is_finite() && s > 0.0 && s <= 60.0,
        "floor.seconds",
        format!("floor.seconds is {s}; it must be above 0 and at most 60"),
    );
    unless(
        c.run.worst <= MOST_WORST,
        "run.worst",
        format!(
            "run.worst is {}; at most {MOST_WORST} operations are explained",
            c.run.worst
        ),
    );
    mix(c, &mut unless);
    beside::validate(c, &mut unless);
    trace::validate(c, &mut unless);
    pacing(c, &mut unless);
    before(c, &mut unless);
    unless(
        !(c.verify.check && c.store.engine == Engine::Null),
        "verify.check",
        "verify.check needs a store; leave it out with store.engine = \"null\"".into(),
    );
    let none = c.load.records == 0;
    unless(
        !(c.verify.read_back && none),
        "verify.read_back",
        "verify.read_back needs load.records; set it".into(),
    );
    unless(
        !(c.load.skip && none),
        "load.skip",
        "load.skip needs load.records, the number that was loaded".into(),
    );
    unless(
        !none || c.run.wanted(),
        "",
        "nothing to do: set load.records, or run.seconds with run.mix".into(),
    );
    wrong
}

/// The sum of a mix, whose weights must be sound.
pub(super) fn sum(mix: &Mix, at: &str, unless: &mut impl FnMut(bool, &str, String)) -> f64 {
    let mut sum = 0.0;
    for (name, weight) in weights(mix) {
        let key = format!("{at}.{name}");
        let what = format!("{key} is {weight}; weights are 0 or more");
        unless(weight.is_finite() && weight >= 0.0, &key, what);
        sum += weight;
    }
    sum
}

fn mix(c: &Config, unless: &mut impl FnMut(bool, &str, String)) {
    let sum = sum(&c.run.mix, "run.mix", unless);
    if c.run.trace.is_some() {
        return;
    }
    match (c.run.wanted(), sum > 0.0) {
        (true, false) => unless(
            false,
            "run.mix",
            "run.mix is empty; say what to run, as in mix = { read = 1 }".into(),
        ),
        (false, true) => unless(
            false,
            "run.mix",
            "run.mix needs run.seconds or run.operations; set one".into(),
        ),
        (true, true) => unless(
            c.load.records > 0 || sum <= c.run.mix.insert,
            "run.mix",
            "the mix works on loaded records: set load.records, with load.skip if they are there"
                .into(),
        ),
        (false, false) => {}
    }
}

/// When operations begin, and where.
fn pacing(c: &Config, unless: &mut impl FnMut(bool, &str, String)) {
    let run = &c.run;
    unless(
        run.rate.is_some() || run.arrival == Arrival::Constant,
        "run.arrival",
        "run.arrival needs run.rate; set how many operations arrive a second".into(),
    );
    unless(
        run.think.is_none() || run.rate.is_none(),
        "run.think",
        "run.think is for a closed loop; with run.rate operations begin when they are due".into(),
    );
    unless(
        run.think.is_some() || run.think_kind == Think::Constant,
        "run.think_kind",
        "run.think_kind needs run.think, the mean time".into(),
    );
    unless(
        run.pin != Pin::Cpus(Vec::new()),
        "run.pin",
        "run.pin names no processor; set true, or a list as in [0, 1]".into(),
    );
    if let Some(stall) = c.store.stall {
        unless(
            !stall.lasts.0.is_zero() && run.wanted(),
            "store.stall",
            "store.stall needs a time above 0 and a measured mix to stall".into(),
        );
    }
}

/// What comes before the measured mix.
fn before(c: &Config, unless: &mut impl FnMut(bool, &str, String)) {
    let (p, run) = (&c.precondition, &c.run);
    unless(
        (0.0..=1e6).contains(&p.times),
        "precondition.times",
        format!("precondition.times is {}; it may be 0 to 1e6", p.times),
    );
    unless(
        p.times == 0.0 || c.load.records > 0,
        "precondition.times",
        "precondition.times needs load.records to write over; set it".into(),
    );
    unless(
        !run.warms_up() || run.wanted(),
        "run",
        "a warm-up needs run.seconds or run.operations after it; set one".into(),
    );
    unless(
        run.warmup_operations != Some(0),
        "run.warmup_operations",
        "run.warmup_operations is 0; leave it out for no warm-up".into(),
    );
    let warmup = run.warmup_seconds.unwrap_or(1.0);
    unless(
        warmup.is_finite() && warmup > 0.0 && warmup < 1e9,
        "run.warmup_seconds",
        format!("run.warmup_seconds is {warmup}; it must be above 0"),
    );
    let Some(steady) = run.steady else {
        return;
    };
    unless(
        run.warmup_operations.is_none(),
        "run.warmup_operations",
        "run.warmup_operations and run.steady exclude each other; leave one out".into(),
    );
    let (window, limit) = (steady.window, steady.limit);
    unless(
        window.0 >= LEAST_WINDOW,
        "run.steady.window",
        format!("run.steady.window is {window}; it must be at least 500ms"),
    );
    unless(
        limit >= window
            && run
                .warmup_seconds
                .is_none_or(|s| s <= limit.0.as_secs_f64()),
        "run.steady.limit",
        format!("run.steady.limit is {limit}; it must not be below window or warmup_seconds"),
    );
    unless(
        limit.0.as_secs_f64() < 1e9,
        "run.steady.limit",
        format!("run.steady.limit is {limit}; it must be below 1e9 seconds"),
    );
    unless(
        steady.tolerance > 0.0 && steady.tolerance < 1.0,
        "run.steady.tolerance",
        format!(
            "run.steady.tolerance is {}; it is a share between 0 and 1",
            steady.tolerance
        ),
    );
}

/// The mix as names and weights.
pub(crate) fn weights(m: &Mix) -> [(&'static str, f64); 7] {
    [
        ("read", m.read),
        ("update", m.update),
        ("insert", m.insert),
        ("scan", m.scan),
        ("reverse", m.reverse),
        ("delete", m.delete),
        ("rmw", m.rmw),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::file::parse;

    fn verdict(text: &str) -> Vec<String> {
        let wrong = validate(&parse(text, &[], "x").unwrap());
        wrong.into_iter().map(|w| w.what).collect()
    }

    #[test]
    fn each_rule_names_its_key() {
        let ok = "store.path = 'p'\nload.records = 10\nrun = { seconds = 1, mix = { read = 1 } }\n";
        assert!(verdict(ok).is_empty());
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
                "store.path = 'p'\nload = { records = 1, value_bytes = { uniform = [9, 3] } }",
                "write the lower first",
            ),
            (
                "store.path = 'p'\nload = { records = 1, value_bytes = {} }",
                "one of fixed, uniform",
            ),
            (
                "store.path = 'p'\nload = { records = 1, compression_ratio = 2 }",
                "load.compression_ratio",
            ),
            (
                "store.path = 'p'\nload.records = 1\nrun.scan_length = 0",
                "run.scan_length",
            ),
            (
                "store.path = 'p'\nload.records = 1\nrun.hotspot.data = 1.5",
                "run.hotspot.data",
            ),
            (
                "store.path = 'p'\nload.records = 1\nrun.exponential.percentile = 100",
                "run.exponential.percentile",
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
            (
                "store.path = 'p'\nprecondition.times = 1\nrun = { seconds = 1, mix = { insert = 1 } }",
                "precondition.times",
            ),
            (
                "store.path = 'p'\nload.records = 1\nprecondition = { times = -1 }",
                "precondition.times",
            ),
            (
                "store.path = 'p'\nload.records = 1\nrun = { seconds = 1, mix = { read = 1 }, arrival = 'poisson' }",
                "run.arrival needs",
            ),
            (
                "store.path = 'p'\nload.records = 1\nrun = { seconds = 1, mix = { read = 1 }, rate = 1, think = '1ms' }",
                "run.think is for a closed loop",
            ),
            (
                "store.path = 'p'\nload.records = 1\nrun = { seconds = 1, mix = { read = 1 }, pin = [] }",
                "run.pin",
            ),
            (
                "store.path = 'p'\nload.records = 1\nrun = { warmup_seconds = 1 }",
                "warm-up needs",
            ),
            (
                "store.path = 'p'\nload.records = 1\nrun = { seconds = 1, mix = { read = 1 }, steady = { tolerance = 1 } }",
                "run.steady.tolerance",
            ),
            (
                "store.path = 'p'\nload.records = 1\nrun = { seconds = 1, mix = { read = 1 }, steady = { limit = '1s' } }",
                "run.steady.limit",
            ),
            (
                "store.path = 'p'\nload.records = 1\nload.batch = 9223372036854775807",
                "load.batch is 9223372036854775807",
            ),
            (
                "store.path = 'p'\nload.records = 1\nstore.stall = { at = '1s' }",
                "store.stall",
            ),
            (
                "store.engine = 'null'\nload.records = 1\nverify.check = true",
                "verify.check",
            ),
        ] {
            let all = verdict(text);
            assert!(all.iter().any(|e| e.contains(key)), "{text}: {all:?}");
        }
    }

    #[test]
    fn inserts_alone_need_no_loaded_records() {
        let text = "store.path = 'p'\nrun = { seconds = 1, mix = { insert = 1 } }";
        assert!(verdict(text).is_empty());
    }
}
