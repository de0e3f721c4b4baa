//! How a single write is made durable, and which way is the faster one.
//!
//! Both ways give the same promise. Which is faster differs a hundredfold
//! between devices, and in sign, so it is measured ([`measure_durability`]) and
//! the store keeps the answer.

mod measure;

use std::fmt;
use std::str::FromStr;

pub use measure::{DurabilityReport, MethodTimes, measure_durability, was_measured};

/// A way to make one write durable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DurableMethod {
    /// Write, then flush the device's cache (`fdatasync`). What every device and
    /// file system honours; the default until measured.
    #[default]
    WriteFlush,
    /// Write with `RWF_DSYNC`: forced unit access where the device has it, a
    /// write and a flush inside the kernel where not.
    Dsync,
}

impl DurableMethod {
    /// All methods.
    pub const ALL: [Self; 2] = [Self::WriteFlush, Self::Dsync];

    /// The number a store keeps. It never changes its meaning.
    pub const fn code(self) -> u8 {
        match self {
            Self::WriteFlush => 1,
            Self::Dsync => 2,
        }
    }

    /// The method of a number, if there is one.
    pub const fn from_code(code: u8) -> Option<Self> {
        match code {
            1 => Some(Self::WriteFlush),
            2 => Some(Self::Dsync),
            _ => None,
        }
    }
}

impl fmt::Display for DurableMethod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::WriteFlush => "write-flush",
            Self::Dsync => "dsync",
        })
    }
}

/// A name that is no [`DurableMethod`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no durable method `{0}`: use `write-flush` or `dsync`")]
pub struct UnknownDurableMethod(String);

impl FromStr for DurableMethod {
    type Err = UnknownDurableMethod;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|m| m.to_string() == s)
            .ok_or_else(|| UnknownDurableMethod(s.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_codes_go_both_ways() {
        for m in DurableMethod::ALL {
            assert_eq!(m.to_string().parse::<DurableMethod>(), Ok(m));
            assert_eq!(DurableMethod::from_code(m.code()), Some(m));
        }
        assert!("fua".parse::<DurableMethod>().is_err());
        assert_eq!(DurableMethod::from_code(0), None);
        assert_eq!(DurableMethod::from_code(3), None);
    }
}
