//! The form of the table of signatures.

use super::{Kind, Pieces, container, filesystem, partition};

/// A place, in bytes.
#[derive(Clone, Copy, Debug)]
pub(super) enum At {
    /// From the start of the device.
    Start(u64),
    /// From the start: this one, and as many behind it at a distance.
    Every {
        /// The first.
        first: u64,
        /// From one to the next.
        step: u64,
        /// How many.
        count: u64,
    },
    /// So many bytes before the end.
    End(u64),
    /// So many bytes before the end, after that was rounded down to a multiple of
    /// `unit`.
    EndOf {
        /// The multiple.
        unit: u64,
        /// Bytes before it.
        back: u64,
    },
}

/// One thing that can be recognised.
#[derive(Debug)]
pub(super) struct Entry {
    /// As messages call it.
    pub(super) name: &'static str,
    /// What it is.
    pub(super) kind: Kind,
    /// The bytes: any of these.
    pub(super) magics: &'static [&'static [u8]],
    /// Where: at any of these places.
    pub(super) at: &'static [At],
    /// Whether what is around the magic, found at this place, fits it.
    pub(super) check: Option<fn(&Pieces, u64) -> bool>,
}

/// An entry of the table.
pub(super) const fn row(
    name: &'static str,
    kind: Kind,
    magics: &'static [&'static [u8]],
    at: &'static [At],
) -> Entry {
    Entry {
        name,
        kind,
        magics,
        at,
        check: None,
    }
}

impl Entry {
    /// The same, only where the check holds.
    pub(super) const fn when(self, check: fn(&Pieces, u64) -> bool) -> Self {
        Self {
            check: Some(check),
            ..self
        }
    }

    /// All places on a device of `capacity` bytes where a magic of it fits.
    pub(super) fn places(&self, capacity: u64) -> impl Iterator<Item = (u64, &'static [u8])> {
        let all = self.at.iter().flat_map(move |at| at.on(capacity));
        let magics = self.magics;
        all.flat_map(move |at| magics.iter().map(move |m| (at, *m)))
            .filter(move |(at, magic)| {
                at.checked_add(magic.len() as u64)
                    .is_some_and(|end| end <= capacity)
            })
    }
}

impl At {
    /// The places on a device of `capacity` bytes.
    fn on(self, capacity: u64) -> impl Iterator<Item = u64> {
        let (first, step, count) = match self {
            Self::Start(at) => (Some(at), 0, 1),
            Self::Every { first, step, count } => (Some(first), step, count),
            Self::End(back) => (capacity.checked_sub(back), 0, 1),
            Self::EndOf { unit, back } => ((capacity - capacity % unit).checked_sub(back), 0, 1),
        };
        first
            .into_iter()
            .flat_map(move |first| (0..count).map(move |i| first + i * step))
    }
}

/// The whole table.
pub(super) fn all() -> impl Iterator<Item = &'static Entry> {
    partition::TABLE
        .iter()
        .chain(container::TABLE)
        .chain(filesystem::TABLE)
}
