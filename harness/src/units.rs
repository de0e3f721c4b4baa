//! Sizes, durations and rates: read from text, shown to people.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use bytesize::ByteSize;
use serde::de::{Error as _, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A number of bytes, written as `4096`, `256MiB` or `1GiB`; without the `i` (`1GB`,
/// `1G`) units are powers of 1000.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Size(pub(crate) u64);

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        ByteSize::from_str(text)
            .map(|b| Self(b.as_u64()))
            .map_err(|_| format!("{text:?} is no size; write bytes, or 64KiB, 256MiB, 1GiB (powers of 1024), 1GB (of 1000)"))
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Exact where a unit divides it, so that what is written reads back.
        const UNITS: [(&str, u32); 4] = [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)];
        for (unit, shift) in UNITS {
            if self.0 != 0 && self.0.trailing_zeros() >= shift {
                return write!(f, "{}{unit}", self.0 >> shift);
            }
        }
        write!(f, "{}", self.0)
    }
}

/// A time span, written as `200ms`, `5s` or `1m 30s`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Span(pub(crate) Duration);

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        humantime::parse_duration(text)
            .map(Self)
            .map_err(|_| format!("{text:?} is no time span; write 200ms, 5s or 1m"))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        humantime::format_duration(self.0).fmt(f)
    }
}

/// Text or a plain whole number.
struct TextOrNumber;

impl Visitor<'_> for TextOrNumber {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number or text with a unit")
    }

    fn visit_str<E>(self, v: &str) -> Result<String, E> {
        Ok(v.to_owned())
    }

    fn visit_i64<E: serde::de::Error>(self, v: i64) -> Result<String, E> {
        if v < 0 {
            return Err(E::custom(format!("{v} is negative")));
        }
        Ok(v.to_string())
    }

    fn visit_u64<E>(self, v: u64) -> Result<String, E> {
        Ok(v.to_string())
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        d.deserialize_any(TextOrNumber)?
            .parse()
            .map_err(D::Error::custom)
    }
}

impl Serialize for Size {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        d.deserialize_any(TextOrNumber)?
            .parse()
            .map_err(D::Error::custom)
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

/// Bytes for people: `1.5 MiB`.
pub(crate) fn bytes(n: u64) -> String {
    match n {
        0..1024 => format!("{n} B"),
        _ => ByteSize::b(n).display().iec().to_string(),
    }
}

/// Bytes for people, and exactly: `953.7 MiB (1000000000 bytes)`.
pub(crate) fn exact(n: u64) -> String {
    match n {
        0..1024 => bytes(n),
        _ => format!("{} ({n} bytes)", bytes(n)),
    }
}

/// Nanoseconds for people, three to four digits: `1.53 ms`.
pub(crate) fn nanos(n: u64) -> String {
    let x = n as f64;
    match n {
        0..1_000 => format!("{n} ns"),
        1_000..1_000_000 => format!("{} us", digits(x / 1e3)),
        1_000_000..1_000_000_000 => format!("{} ms", digits(x / 1e6)),
        _ => format!("{} s", digits(x / 1e9)),
    }
}

/// A count with separators: `1,234,567`.
pub(crate) fn count(n: u64) -> String {
    let plain = n.to_string();
    let mut out = String::with_capacity(plain.len() + plain.len() / 3);
    for (i, c) in plain.chars().enumerate() {
        if i > 0 && (plain.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(c);
    }
    out
}

/// A rate per second: whole from 100 on, else with a fraction.
pub(crate) fn rate(per_second: f64) -> String {
    if per_second >= 100.0 {
        count(per_second.round() as u64)
    } else {
        digits(per_second)
    }
}

/// Three significant digits, no exponent.
fn digits(x: f64) -> String {
    match x {
        _ if x < 10.0 => format!("{x:.2}"),
        _ if x < 100.0 => format!("{x:.1}"),
        _ => format!("{x:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_back_as_written() {
        for n in [
            0,
            1,
            512,
            1000,
            1024,
            3 << 20,
            1 << 30,
            (1 << 40) + 4096,
            1 << 44,
        ] {
            let text = Size(n).to_string();
            assert_eq!(text.parse::<Size>().unwrap(), Size(n), "{text}");
        }
        assert_eq!("1GiB".parse::<Size>().unwrap(), Size(1 << 30));
        assert_eq!("1GB".parse::<Size>().unwrap(), Size(1_000_000_000));
        assert_eq!("1G".parse::<Size>().unwrap(), Size(1_000_000_000));
        assert_eq!("1k".parse::<Size>().unwrap(), Size(1000));
        assert_eq!("64 KiB".parse::<Size>().unwrap(), Size(64 << 10));
        assert!("lots".parse::<Size>().unwrap_err().contains("256MiB"));
        assert!("-1".parse::<Size>().is_err());
    }

    #[test]
    fn spans_read_back_as_written() {
        for ms in [1, 200, 5_000, 61_500] {
            let span = Span(Duration::from_millis(ms));
            assert_eq!(span.to_string().parse::<Span>().unwrap(), span);
        }
        assert!("soon".parse::<Span>().is_err());
    }

    #[test]
    fn people_read_numbers_with_units() {
        assert_eq!(nanos(999), "999 ns");
        assert_eq!(nanos(1_530_000), "1.53 ms");
        assert_eq!(nanos(60_000_000_000), "60.0 s");
        assert_eq!(count(1_234_567), "1,234,567");
        assert_eq!(count(12), "12");
        assert_eq!(bytes(100), "100 B");
        assert_eq!(bytes(1536 << 10), "1.5 MiB");
        assert_eq!(exact(1_000_000_000), "953.7 MiB (1000000000 bytes)");
        assert_eq!(rate(1234.4), "1,234");
        assert_eq!(rate(1.5), "1.50");
    }
}
