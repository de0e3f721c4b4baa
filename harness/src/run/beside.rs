//! What runs beside the mix: threads of their own with a mix of their own, for as
//! long as the mix runs. Writers beside readers, above all.

use gaur::MAX_THREADS;
use serde::{Deserialize, Serialize};

use super::config::{Config, Distribution, Durable, Mix, RunConfig};
use super::stream::Plan;
use super::validate::sum;

/// The name of its phase.
pub(crate) const BACKGROUND: &str = "background";

/// `[run.background]`. What it does not say is as in `[run]`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct BackgroundConfig {
    /// How many threads, beside those of the mix.
    pub(crate) threads: usize,
    /// Weights of their operations.
    pub(crate) mix: Mix,
    /// Operations per second, all of these threads together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) rate: Option<f64>,
    /// Records per writing operation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) batch: Option<usize>,
    /// What a commit waits for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) durability: Option<Durable>,
    /// Which records they are about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) distribution: Option<Distribution>,
}

/// The background of a phase.
pub(crate) struct Beside {
    pub(crate) run: RunConfig,
    pub(crate) plan: Plan,
}

impl Beside {
    /// The background that the configuration asks for, if any. `ordinal` tells it
    /// apart from all phases of the run and their backgrounds.
    pub(crate) fn new(config: &Config, ordinal: u64, seed: u64) -> Option<Self> {
        let b = config.run.background.as_ref().filter(|b| b.threads > 0)?;
        let run = RunConfig {
            threads: b.threads,
            // The mix beside it ends it.
            seconds: None,
            operations: None,
            think: None,
            mix: b.mix,
            rate: b.rate,
            batch: b.batch.unwrap_or(config.run.batch),
            durability: b.durability.unwrap_or(config.run.durability),
            distribution: b.distribution.unwrap_or(config.run.distribution),
            ..config.run.clone()
        };
        let plan = Plan::new(BACKGROUND, ordinal, &run, config, seed);
        Some(Self { run, plan })
    }
}

/// What a configuration's background must also fulfil.
pub(super) fn validate(c: &Config, unless: &mut impl FnMut(bool, &str, String)) {
    let Some(b) = &c.run.background else {
        return;
    };
    let sum = sum(&b.mix, "run.background.mix", unless);
    let most = MAX_THREADS.saturating_sub(c.run.threads);
    unless(
        b.threads <= most,
        "run.background.threads",
        format!(
            "run.background.threads is {}; beside run.threads there may be {most}",
            b.threads
        ),
    );
    unless(
        (b.threads == 0) == (sum == 0.0),
        "run.background",
        "run.background needs threads and a mix, as in { threads = 1, mix = { update = 1 } }"
            .into(),
    );
    unless(
        b.threads == 0 || c.run.wanted(),
        "run.background",
        "run.background runs beside a mix; set run.seconds and run.mix".into(),
    );
    unless(
        c.load.records > 0 || sum <= b.mix.insert,
        "run.background.mix",
        "run.background works on loaded records: set load.records, with load.skip if they are there"
            .into(),
    );
    unless(
        b.batch != Some(0),
        "run.background.batch",
        "run.background.batch is 0; it must be at least 1".into(),
    );
    if let Some(r) = b.rate {
        unless(
            r.is_finite() && r > 0.0,
            "run.background.rate",
            format!("run.background.rate is {r}; it must be above 0"),
        );
    }
}
