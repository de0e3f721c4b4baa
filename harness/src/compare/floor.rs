//! What the device gives by itself, on the blocks that a store of ours uses.

use std::path::Path;
use std::time::Duration;

use gaur::{Error, FreeSpace, OpenOptions, Store};

use super::rows::FLOOR;
use super::wire::{Figure, Job};
use crate::failure::Failure;
use crate::floor::read_rates;

/// Nothing is read through the store.
const CACHE: u64 = 16 << 20;
/// The least piece of free space that is looked for.
const LEAST: u64 = 1 << 20;

/// The rates for those cold rows that are wanted, as often as they are read in the
/// rows: right after them, so equally warm.
pub(super) fn measure(job: &Job) -> Result<Vec<Figure>, Failure> {
    let wanted: Vec<_> = FLOOR
        .into_iter()
        .filter(|(row, _)| job.rows.iter().any(|r| r == row))
        .collect();
    let (extents, block) = in_use(&job.path)?;
    let depths: Vec<u32> = wanted.iter().map(|(_, depth)| *depth).collect();
    let time = Duration::from_secs_f64(job.seconds);
    let rates = read_rates(&job.path, extents, block, &depths, time, job.seed)?;
    Ok(wanted
        .into_iter()
        .zip(rates)
        .map(|((row, _), value)| Figure {
            row: row.to_owned(),
            value,
            ..Figure::default()
        })
        .collect())
}

/// Where the blocks lie that the store uses, its log among them: all but what it
/// lends as free, and no more than it says it uses; and the size of a block.
fn in_use(path: &Path) -> Result<(Vec<(u64, u64)>, u32), Failure> {
    let options = OpenOptions {
        cache_bytes: CACHE,
        ..OpenOptions::default()
    };
    let store = Store::open(path, &options)?;
    let (mut leases, mut want): (Vec<FreeSpace>, _) = (Vec::new(), store.capacity());
    while want >= LEAST {
        match store.borrow_free_space(want) {
            Ok(lease) => leases.push(lease),
            Err(Error::Full { .. }) => want /= 2,
            Err(e) => return Err(e.into()),
        }
    }
    let mut free: Vec<_> = leases.iter().flat_map(FreeSpace::extents).collect();
    free.sort_unstable();
    let block = leases.first().map_or(4096, FreeSpace::block_size);
    let used = store.stats().get("space", "used").unwrap_or(u64::MAX);
    let extents = complement(
        &free,
        store.capacity(),
        used.saturating_mul(u64::from(block)),
    );
    drop(leases);
    store.close()?;
    Ok((extents, block))
}

/// What lies between these extents, up to `most` bytes of it.
fn complement(free: &[(u64, u64)], end: u64, most: u64) -> Vec<(u64, u64)> {
    let (mut at, mut left, mut out) = (0, most, Vec::new());
    for &(start, len) in free.iter().chain([&(end, 0)]) {
        let n = start.saturating_sub(at).min(left);
        if n > 0 {
            out.push((at, n));
        }
        left -= n;
        at = at.max(start + len);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_free_is_in_use() {
        let free = [(10, 10), (20, 5), (50, 10)];
        assert_eq!(complement(&free, 100, 1000), [(0, 10), (25, 25), (60, 40)]);
        assert_eq!(complement(&free, 100, 20), [(0, 10), (25, 10)]);
        assert_eq!(complement(&[], 100, 1000), [(0, 100)]);
    }
}
