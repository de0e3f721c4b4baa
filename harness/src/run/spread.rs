//! Lengths that are fixed or drawn: of keys, of values, of scans.

use std::convert::Infallible;
use std::fmt;

use rand::{Rng, RngExt, TryRng};
use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::permute::mix;
use super::zipf::Zipf;

/// The exponent of `zipfian` lengths, YCSB's.
const THETA: f64 = 0.99;

/// The longest that may be asked for: a value's limit.
pub(crate) const MOST: u64 = 1 << 30;

/// The longest scan that may be asked for: its records are kept to be checked.
pub(crate) const MOST_SCANNED: u64 = 10_000_000;

/// How lengths are drawn, as a configuration says it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Spread {
    /// A plain number. What it stands for depends on the key.
    Number(u64),
    /// One of the forms of a table.
    Table(SpreadTable),
}

/// The forms; exactly one must be there.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct SpreadTable {
    /// Always this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) fixed: Option<u64>,
    /// From the first to the second, all alike.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) uniform: Option<[u64; 2]>,
    /// From the first to the second, the short ones by far the most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) zipfian: Option<[u64; 2]>,
    /// From the first to the second, a bell with its mean in the middle and three
    /// standard deviations to each end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) normal: Option<[u64; 2]>,
    /// Lengths, each with its weight.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) weights: Option<Vec<(u64, f64)>>,
}

impl Spread {
    /// What is wrong with it, if it must lie within `least..=most`.
    pub(crate) fn wrong(&self, least: u64, most: u64) -> Option<String> {
        let table = match self {
            Self::Number(n) => &SpreadTable {
                fixed: Some(*n),
                ..SpreadTable::default()
            },
            Self::Table(table) => table,
        };
        let forms = [
            table.fixed.is_some(),
            table.uniform.is_some(),
            table.zipfian.is_some(),
            table.normal.is_some(),
            table.weights.is_some(),
        ];
        if forms.iter().filter(|&&there| there).count() != 1 {
            return Some(
                "is a table with one of fixed, uniform, zipfian, normal and weights".to_owned(),
            );
        }
        let ends = table.uniform.or(table.zipfian).or(table.normal);
        if let Some([low, high]) = ends
            && low > high
        {
            return Some(format!("goes from {low} to {high}; write the lower first"));
        }
        if let Some(weights) = &table.weights {
            let sound = |w: &f64| w.is_finite() && *w >= 0.0;
            if !weights.iter().all(|(_, w)| sound(w)) || !weights.iter().any(|(_, w)| *w > 0.0) {
                return Some(
                    "needs weights of 0 or more, not all 0, as in [[100, 3], [1000, 1]]".into(),
                );
            }
        }
        let wrong = |n: u64| format!("is {n}; it may be {least} to {most}");
        let all = ends.into_iter().flatten().chain(table.fixed);
        all.chain(table.weights.iter().flatten().map(|(n, _)| *n))
            .find(|n| !(least..=most).contains(n))
            .map(wrong)
    }
}

impl From<u64> for Spread {
    fn from(n: u64) -> Self {
        Self::Number(n)
    }
}

impl<'de> Deserialize<'de> for Spread {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct NumberOrTable;
        impl<'de> Visitor<'de> for NumberOrTable {
            type Value = Spread;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a whole number, or a table such as { uniform = [100, 200] }")
            }

            fn visit_i64<E: serde::de::Error>(self, n: i64) -> Result<Spread, E> {
                u64::try_from(n)
                    .map(Spread::Number)
                    .map_err(|_| E::custom(format!("{n} is negative")))
            }

            fn visit_u64<E>(self, n: u64) -> Result<Spread, E> {
                Ok(Spread::Number(n))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Spread, A::Error> {
                SpreadTable::deserialize(MapAccessDeserializer::new(map)).map(Spread::Table)
            }
        }
        d.deserialize_any(NumberOrTable)
    }
}

impl Serialize for Spread {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Number(n) => s.serialize_u64(*n),
            Self::Table(table) => table.serialize(s),
        }
    }
}

/// Draws lengths.
#[derive(Clone, Debug)]
pub(crate) enum Lengths {
    /// Always this.
    Fixed(u64),
    /// From `low` to `high`.
    Uniform { low: u64, high: u64 },
    /// `low` the most often.
    Zipfian { low: u64, ranks: Zipf },
    /// A bell between `low` and `high`.
    Normal { low: u64, high: u64 },
    /// Each length with the upper end of its part of 0 to 1.
    Weights(Vec<(u64, f64)>),
}

impl Lengths {
    /// Of keys and values: a plain number is a fixed length.
    pub(crate) fn fixed(spread: &Spread) -> Self {
        match spread {
            Spread::Number(n) => Self::Fixed(*n),
            Spread::Table(table) => Self::of_table(table),
        }
    }

    /// Of scans: a plain number is the most, and all from 1 on are alike.
    pub(crate) fn up_to(spread: &Spread) -> Self {
        match spread {
            Spread::Number(n) => Self::Uniform { low: 1, high: *n },
            Spread::Table(table) => Self::of_table(table),
        }
    }

    fn of_table(t: &SpreadTable) -> Self {
        if let Some([low, high]) = t.uniform {
            return Self::Uniform { low, high };
        }
        if let Some([low, high]) = t.zipfian
            && let Some(ranks) = Zipf::new(high.saturating_sub(low) + 1, THETA)
        {
            return Self::Zipfian { low, ranks };
        }
        if let Some([low, high]) = t.normal {
            return Self::Normal { low, high };
        }
        if let Some(weights) = &t.weights {
            let sum: f64 = weights.iter().map(|(_, w)| w).sum();
            let mut end = 0.0;
            let ends = weights.iter().filter(|(_, w)| *w > 0.0).map(|(n, w)| {
                end += w / sum;
                (*n, end)
            });
            return Self::Weights(ends.collect());
        }
        Self::Fixed(t.fixed.unwrap_or_default())
    }

    /// A length.
    #[inline]
    pub(crate) fn draw(&self, rng: &mut impl Rng) -> u64 {
        match self {
            Self::Fixed(n) => *n,
            Self::Uniform { low, high } => rng.random_range(*low..=*high),
            Self::Zipfian { low, ranks } => low + ranks.draw(rng) - 1,
            Self::Normal { low, high } => bell(*low, *high, rng),
            Self::Weights(ends) => {
                let at = rng.random::<f64>();
                ends.iter()
                    .find(|(_, end)| at < *end)
                    .or(ends.last())
                    .map_or(0, |(n, _)| *n)
            }
        }
    }

    /// The length that belongs to `what`: always the same.
    #[inline]
    pub(crate) fn of(&self, what: u64) -> u64 {
        match self {
            Self::Fixed(n) => *n,
            _ => self.draw(&mut Fixed(what)),
        }
    }

    /// Whether this length may be drawn, as far as its bounds tell.
    pub(crate) fn may_be(&self, n: u64) -> bool {
        (self.least()..=self.most()).contains(&n)
    }

    /// The shortest.
    fn least(&self) -> u64 {
        match self {
            Self::Fixed(n) => *n,
            Self::Uniform { low, .. } | Self::Zipfian { low, .. } | Self::Normal { low, .. } => {
                *low
            }
            Self::Weights(ends) => ends.iter().map(|(n, _)| *n).min().unwrap_or_default(),
        }
    }

    /// The longest.
    pub(crate) fn most(&self) -> u64 {
        match self {
            Self::Fixed(n) => *n,
            Self::Uniform { high, .. } | Self::Normal { high, .. } => *high,
            Self::Zipfian { low, ranks } => low + ranks.ranks() - 1,
            Self::Weights(ends) => ends.iter().map(|(n, _)| *n).max().unwrap_or_default(),
        }
    }

    /// About the mean: of a thousand drawn by a fixed seed.
    pub(crate) fn mean(&self) -> u64 {
        (0..1000_u64).map(|i| self.of(mix(i))).sum::<u64>() / 1000
    }
}

/// A whole number from a bell between `low` and `high`.
fn bell(low: u64, high: u64, rng: &mut impl Rng) -> u64 {
    let (from, to) = (low as f64, high as f64 + 1.0);
    let (mean, deviation) = ((from + to) / 2.0, (to - from) / 6.0);
    loop {
        // Box and Muller; 1 - u is never 0.
        let (u, v) = (1.0 - rng.random::<f64>(), rng.random::<f64>());
        let z = (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos();
        let at = mean + deviation * z;
        if (from..to).contains(&at) {
            return (at as u64).clamp(low, high);
        }
    }
}

/// SplitMix64: numbers that depend on nothing but where it starts.
struct Fixed(u64);

impl TryRng for Fixed {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        self.try_next_u64().map(|n| (n >> 32) as u32)
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        Ok(mix(self.0))
    }

    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), Infallible> {
        for piece in out.chunks_mut(8) {
            let word = self.try_next_u64()?.to_le_bytes();
            piece.copy_from_slice(&word[..piece.len()]);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::goodness::{self, fits};

    fn spread(text: &str) -> Spread {
        let mut table: toml::Table = toml::from_str(&format!("v = {text}")).unwrap();
        table.remove("v").unwrap().try_into().unwrap()
    }

    fn hits(lengths: &Lengths, most: usize) -> Vec<u64> {
        let mut hits = vec![0; most + 1];
        for i in 0..1_000_000 {
            hits[lengths.of(mix(i)) as usize] += 1;
        }
        hits
    }

    #[test]
    fn every_form_follows_its_law() {
        let mut even = vec![0.0; 101];
        even[1..].fill(0.01);
        fits(
            "up to 100",
            &hits(&Lengths::up_to(&spread("100")), 100),
            &even,
        );
        let uniform = Lengths::fixed(&spread("{ uniform = [1, 100] }"));
        fits("uniform", &hits(&uniform, 100), &even);

        let mut law = vec![0.0; 10];
        law.extend(goodness::zipf(91, 0.99));
        let zipfian = Lengths::fixed(&spread("{ zipfian = [10, 100] }"));
        fits("zipfian", &hits(&zipfian, 100), &law);

        let weights = Lengths::fixed(&spread("{ weights = [[3, 1], [9, 0], [7, 3]] }"));
        let mut law = vec![0.0; 10];
        (law[3], law[7]) = (0.25, 0.75);
        fits("weights", &hits(&weights, 9), &law);
    }

    #[test]
    fn the_bell_is_a_bell() {
        let normal = Lengths::fixed(&spread("{ normal = [40, 99] }"));
        let density = |x: f64| (-0.5 * ((x - 70.0) / 10.0).powi(2)).exp();
        // Simpson's rule over each whole number.
        let law = (0..100)
            .map(|n| match n {
                0..40 => 0.0,
                _ => {
                    let x = f64::from(n);
                    density(x) + 4.0 * density(x + 0.5) + density(x + 1.0)
                }
            })
            .collect();
        fits("normal", &hits(&normal, 99), &goodness::normal(law));
        assert!((68..=71).contains(&normal.mean()), "{}", normal.mean());
    }

    #[test]
    fn what_is_written_reads_back_and_bounds_are_kept() {
        for (text, least, most) in [
            ("7", 7, 7),
            ("{ fixed = 7 }", 7, 7),
            ("{ uniform = [3, 9] }", 3, 9),
            ("{ zipfian = [3, 9] }", 3, 9),
            ("{ normal = [3, 3] }", 3, 3),
            ("{ weights = [[5, 1.0], [2, 2.0]] }", 2, 5),
        ] {
            let s = spread(text);
            assert_eq!(s.wrong(least, most), None, "{text}");
            assert!(s.wrong(least + 1, most).is_some() && s.wrong(least, most - 1).is_some());
            let l = Lengths::fixed(&s);
            assert!((0..1000).all(|i| l.may_be(l.of(i))), "{text}");
            assert_eq!((l.least(), l.most()), (least, most), "{text}");
            let mut table = toml::Table::new();
            table.insert("v".into(), toml::Value::try_from(&s).unwrap());
            let back = table.remove("v").unwrap().try_into::<Spread>().unwrap();
            assert_eq!(back, s);
        }
        for text in [
            "{}",
            "{ fixed = 3, uniform = [1, 2] }",
            "{ uniform = [2, 1] }",
            "{ weights = [] }",
            "{ weights = [[1, 0.0]] }",
            "{ weights = [[1, -1.0], [2, 5.0]] }",
            "{ weights = [[1, nan]] }",
        ] {
            assert!(spread(text).wrong(0, MOST).is_some(), "{text}");
        }
    }
}
