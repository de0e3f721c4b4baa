//! What the simulated disk holds: stable storage, and a volatile cache of which
//! a power cut keeps any part.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, OnceLock};

use rand::RngExt;

use super::CrashMode;
use crate::sync::rng::Rng;

const PAGE: usize = 4096;

/// A write or discard that was started and has not ended.
#[derive(Clone, Debug)]
pub(crate) struct InFlight {
    pub(crate) offset: u64,
    pub(crate) len: u64,
    /// The whole data, or one sector of fill that repeats.
    pub(crate) data: Arc<[u8]>,
}

impl InFlight {
    fn at(&self, position: usize) -> usize {
        position % self.data.len()
    }
}

/// What a sector would hold if one write of it reached stable storage.
#[derive(Clone, Debug)]
struct Version {
    /// When it was completed; what a failed flush gave up has the largest.
    seq: u64,
    write: u64,
    data: Arc<[u8]>,
    at: usize,
}

/// A page, and its hash once somebody asked for it.
#[derive(Clone, Debug)]
struct Page {
    bytes: [u8; PAGE],
    hash: OnceLock<u64>,
}

/// Pages that are copied together.
const CHUNK: usize = 64;

type Chunk = [Option<Arc<Page>>; CHUNK];

/// Storage that costs nothing where nothing was written. Copies share pages, and what
/// names them.
#[derive(Clone, Debug, Default)]
struct Pages(BTreeMap<u64, Arc<Chunk>>);

impl Pages {
    fn get(&self, page: u64) -> Option<&Page> {
        let chunk = self.0.get(&(page / CHUNK as u64))?;
        chunk[page as usize % CHUNK].as_deref()
    }

    /// The pages from `from` to before `to` that are there, in order.
    fn range(&self, from: u64, to: u64) -> impl Iterator<Item = (u64, &Page)> {
        let chunks = from / CHUNK as u64..to.div_ceil(CHUNK as u64).max(from / CHUNK as u64);
        let pages = self.0.range(chunks).flat_map(|(&n, chunk)| {
            let first = n * CHUNK as u64;
            let pages = chunk.iter().zip(first..);
            pages.filter_map(|(page, number)| Some((number, &**page.as_ref()?)))
        });
        pages.filter(move |(number, _)| (from..to).contains(number))
    }

    fn read(&self, offset: u64, buf: &mut [u8]) {
        for_pages(offset, buf.len(), |page, from, range| {
            let to = &mut buf[range.clone()];
            match self.get(page) {
                Some(page) => to.copy_from_slice(&page.bytes[from..from + range.len()]),
                None => to.fill(0),
            }
        });
    }

    fn write(&mut self, offset: u64, data: &[u8]) {
        for_pages(offset, data.len(), |page, from, range| {
            let data = &data[range];
            if self.get(page).is_none() && data.iter().all(|&b| b == 0) {
                return;
            }
            let chunk = self.0.entry(page / CHUNK as u64);
            let chunk = chunk.or_insert_with(|| Arc::new([const { None }; CHUNK]));
            let slot = &mut Arc::make_mut(chunk)[page as usize % CHUNK];
            let page = slot.get_or_insert_with(|| {
                Arc::new(Page {
                    bytes: [0; PAGE],
                    hash: OnceLock::new(),
                })
            });
            let page = Arc::make_mut(page);
            page.bytes[from..from + data.len()].copy_from_slice(data);
            page.hash.take();
        });
    }
}

impl Page {
    /// A hash of the bytes; `None` if they are all zero.
    fn hash(&self) -> Option<u64> {
        let hash = *self.hash.get_or_init(|| {
            let mut hash = 0_u64;
            if self.bytes.iter().any(|&b| b != 0) {
                for word in self.bytes.as_chunks::<8>().0 {
                    hash = mixed(hash, u64::from_le_bytes(*word));
                }
                hash |= 1;
            }
            hash
        });
        (hash != 0).then_some(hash)
    }
}

fn mixed(hash: u64, word: u64) -> u64 {
    let hash = (hash ^ word).wrapping_mul(0x0000_0100_0000_01b3);
    hash ^ (hash >> 29)
}

/// Calls `f(page, offset in the page, range of the buffer)`.
fn for_pages(offset: u64, len: usize, mut f: impl FnMut(u64, usize, std::ops::Range<usize>)) {
    let mut done = 0;
    while done < len {
        let at = offset + done as u64;
        let from = (at % PAGE as u64) as usize;
        let n = (PAGE - from).min(len - done);
        f(at / PAGE as u64, from, done..done + n);
        done += n;
    }
}

/// The medium.
#[derive(Clone, Debug)]
pub(crate) struct Media {
    sector: usize,
    stable: Pages,
    /// Per sector, the writes of it since the last flush, oldest first.
    cache: BTreeMap<u64, Vec<Version>>,
    /// Versions in the cache.
    cached: usize,
    /// Completed writes so far.
    seq: u64,
}

impl Media {
    pub(crate) fn new(sector: u32) -> Self {
        Self {
            sector: sector as usize,
            stable: Pages::default(),
            cache: BTreeMap::new(),
            cached: 0,
            seq: 0,
        }
    }

    fn sectors(&self, offset: u64, len: u64) -> std::ops::Range<u64> {
        let sector = self.sector as u64;
        offset / sector..(offset + len).div_ceil(sector)
    }

    /// What a read returns: the newest version of each sector.
    pub(crate) fn read(&self, offset: u64, buf: &mut [u8]) {
        self.stable.read(offset, buf);
        let range = self.sectors(offset, buf.len() as u64);
        for (&sector, versions) in self.cache.range(range) {
            let Some(version) = versions.last() else {
                continue;
            };
            let at = (sector * self.sector as u64 - offset) as usize;
            buf[at..at + self.sector]
                .copy_from_slice(&version.data[version.at..version.at + self.sector]);
        }
    }

    /// What was there at the last flush.
    pub(crate) fn read_stable(&self, offset: u64, buf: &mut [u8]) {
        self.stable.read(offset, buf);
    }

    /// A completed write into the cache.
    pub(crate) fn write(&mut self, write: u64, offset: u64, data: &Arc<[u8]>) {
        self.seq += 1;
        let first = offset / self.sector as u64;
        for (i, at) in (0..data.len()).step_by(self.sector).enumerate() {
            self.push(first + i as u64, write, data.clone(), at);
        }
    }

    fn push(&mut self, sector: u64, write: u64, data: Arc<[u8]>, at: usize) {
        let version = Version {
            seq: self.seq,
            write,
            data,
            at,
        };
        self.cache.entry(sector).or_default().push(version);
        self.cached += 1;
    }

    /// A completed write to stable storage. Older versions of its sectors are
    /// gone: a device does not go back behind forced data.
    pub(crate) fn write_stable(&mut self, offset: u64, data: &[u8]) {
        self.seq += 1;
        for sector in self.sectors(offset, data.len() as u64) {
            if let Some(old) = self.cache.remove(&sector) {
                self.cached -= old.len();
            }
        }
        self.stable.write(offset, data);
    }

    /// Puts `fill` (a sector) where anything was ever written in the range.
    pub(crate) fn discard(&mut self, write: u64, offset: u64, len: u64, fill: &Arc<[u8]>) {
        self.seq += 1;
        for sector in self.used_sectors(offset, len) {
            self.push(sector, write, fill.clone(), 0);
        }
    }

    /// The sectors of a range that are not zero for never having been written.
    fn used_sectors(&self, offset: u64, len: u64) -> Vec<u64> {
        let range = self.sectors(offset, len);
        let per_page = (PAGE / self.sector).max(1) as u64;
        let page_of = |sector: u64| sector * self.sector as u64 / PAGE as u64;
        let pages = page_of(range.start)..page_of(range.end.saturating_sub(1)) + 1;
        let mut used: Vec<u64> = self
            .stable
            .range(pages.start, pages.end)
            .flat_map(|(page, _)| {
                let first = page * PAGE as u64 / self.sector as u64;
                first..first + per_page
            })
            .filter(|s| range.contains(s))
            .collect();
        used.extend(self.cache.range(range.clone()).map(|(&s, _)| s));
        used.sort_unstable();
        used.dedup();
        used
    }

    /// The number of the newest completed write.
    pub(crate) fn seq(&self) -> u64 {
        self.seq
    }

    /// Sector versions in the cache.
    pub(crate) fn cached(&self) -> usize {
        self.cached
    }

    /// Bytes of memory that stable storage takes.
    pub(crate) fn resident(&self) -> u64 {
        (self.stable.range(0, u64::MAX).count() * PAGE) as u64
    }

    /// Moves what was completed up to `seq` to stable storage.
    pub(crate) fn flush(&mut self, seq: u64) {
        let sector_len = self.sector;
        let stable = &mut self.stable;
        let cached = &mut self.cached;
        self.cache.retain(|sector, versions| {
            if let Some(last) = versions.iter().rposition(|v| v.seq <= seq) {
                let version = &versions[last];
                let data = &version.data[version.at..version.at + sector_len];
                stable.write(sector * sector_len as u64, data);
                versions.drain(..=last);
                *cached -= last + 1;
            }
            !versions.is_empty()
        });
    }

    /// A flush up to `seq` failed: what it should have moved may be lost even if
    /// a later flush succeeds, as with an operating system that reports a failed
    /// write back only once.
    pub(crate) fn give_up(&mut self, seq: u64) {
        for version in self.cache.values_mut().flatten() {
            if version.seq <= seq {
                version.seq = u64::MAX;
            }
        }
    }

    /// A copy in which everything is stable.
    pub(crate) fn settled(&self) -> Self {
        let mut copy = self.clone();
        copy.flush(u64::MAX);
        copy
    }

    /// A number that two media with the same contents share.
    pub(crate) fn hash(&self) -> u64 {
        let settled = self.settled();
        let pages = settled.stable.range(0, u64::MAX);
        let hashes = pages.filter_map(|(number, page)| Some((number, page.hash()?)));
        hashes.fold(0xcbf2_9ce4_8422_2325, |hash, (number, page)| {
            mixed(mixed(hash, number), page)
        })
    }

    /// What a power cut leaves: for each sector any one of the versions it had
    /// since the last flush, those of writes in flight included.
    pub(crate) fn after_power_cut(
        &self,
        in_flight: &BTreeMap<u64, InFlight>,
        physical: u32,
        mode: CrashMode,
        rng: &mut Rng,
    ) -> Self {
        let mut choices = self.cache.clone();
        for (&write, op) in in_flight {
            let sectors: Vec<u64> = if op.data.len() as u64 == op.len {
                self.sectors(op.offset, op.len).collect()
            } else {
                self.used_sectors(op.offset, op.len)
            };
            for sector in sectors {
                let position = (sector * self.sector as u64 - op.offset) as usize;
                choices.entry(sector).or_default().push(Version {
                    seq: u64::MAX,
                    write,
                    data: op.data.clone(),
                    at: op.at(position),
                });
            }
        }
        let mut left = Self::new(self.sector as u32);
        left.stable = self.stable.clone();
        let mut torn = Tearing::new(mode);
        for (&sector, versions) in &choices {
            let last_sector = |v: &Version| in_flight.get(&v.write).map(|op| op.offset + op.len);
            if let Some(v) = torn.choose(sector, versions, self.sector, &last_sector, rng) {
                let data = &v.data[v.at..v.at + self.sector];
                left.stable.write(sector * self.sector as u64, data);
            }
        }
        if !matches!(mode, CrashMode::Nothing | CrashMode::Everything) {
            left.spoil_neighbours(&choices, physical, rng);
        }
        left
    }

    /// A power cut may tear a whole physical block: where a block was written
    /// only in part, the rest of it may be spoilt too.
    fn spoil_neighbours(
        &mut self,
        written: &BTreeMap<u64, Vec<Version>>,
        physical: u32,
        rng: &mut Rng,
    ) {
        let per_block = u64::from(physical) / self.sector as u64;
        if per_block <= 1 {
            return;
        }
        let mut blocks: Vec<u64> = written.keys().map(|s| s / per_block).collect();
        blocks.dedup();
        for block in blocks {
            let range = block * per_block..(block + 1) * per_block;
            let partly = written.range(range.clone()).count() < per_block as usize;
            if partly && rng.random_ratio(1, 8) {
                for sector in range.filter(|s| !written.contains_key(s)) {
                    let garbage = garbage(self.sector, rng);
                    self.stable.write(sector * self.sector as u64, &garbage);
                }
            }
        }
    }
}

/// Random bytes.
pub(crate) fn garbage(len: usize, rng: &mut Rng) -> Arc<[u8]> {
    let mut bytes = vec![0; len];
    rng.fill(&mut bytes[..]);
    bytes.into()
}

/// How one write in flight came to pieces.
#[derive(Clone, Copy, Debug)]
enum Shape {
    Whole,
    Nothing,
    /// The sectors before this byte.
    Until(u64),
    /// The sectors from this byte on.
    From(u64),
    Scattered,
}

/// Which version of each sector a power cut leaves.
struct Tearing {
    mode: CrashMode,
    /// Decided once per write, in the modes that keep or lose whole writes.
    shapes: HashMap<u64, Shape>,
}

impl Tearing {
    fn new(mode: CrashMode) -> Self {
        Self {
            mode,
            shapes: HashMap::new(),
        }
    }

    fn choose<'v>(
        &mut self,
        sector: u64,
        versions: &'v [Version],
        sector_len: usize,
        end_in_flight: &dyn Fn(&Version) -> Option<u64>,
        rng: &mut Rng,
    ) -> Option<&'v Version> {
        match self.mode {
            CrashMode::Nothing => None,
            CrashMode::Everything => versions.last(),
            CrashMode::Sectors { keep } => rng
                .random_bool(keep)
                .then(|| &versions[rng.random_range(0..versions.len())]),
            CrashMode::Writes { keep } => {
                let at = sector * sector_len as u64;
                let mut chosen = None;
                for version in versions {
                    let shape = *self.shapes.entry(version.write).or_insert_with(|| {
                        match end_in_flight(version) {
                            // Sectors come in order, so this is its first one.
                            Some(end) => torn_shape(at, end, rng),
                            None if rng.random_bool(keep) => Shape::Whole,
                            None => Shape::Nothing,
                        }
                    });
                    let kept = match shape {
                        Shape::Whole => true,
                        Shape::Nothing => false,
                        Shape::Until(byte) => at < byte,
                        Shape::From(byte) => at >= byte,
                        Shape::Scattered => rng.random_bool(0.5),
                    };
                    if kept {
                        chosen = Some(version);
                    }
                }
                chosen
            }
        }
    }
}

fn torn_shape(start: u64, end: u64, rng: &mut Rng) -> Shape {
    let cut = rng.random_range(start..=end.max(start));
    match rng.random_range(0..5) {
        0 => Shape::Whole,
        1 => Shape::Nothing,
        2 => Shape::Until(cut),
        3 => Shape::From(cut),
        _ => Shape::Scattered,
    }
}
