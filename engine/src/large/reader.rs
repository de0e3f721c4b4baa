//! Reading a value in parts.

use std::io::{self, Read, Seek, SeekFrom};
use std::sync::{Arc, Weak};

use gaur_iodriver::{IoBuf, fault};

use super::{CHUNK, Verifier, part_sum};
use crate::commit::extents;
use crate::commit::view::View;
use crate::core::Core;
use crate::error::{Damage, Error, Result};
use crate::format::node::KIND_EXTENT;
use crate::format::pointer::{MOST_WITHOUT_TABLE, SUM_UNIT};
use crate::format::{Csn, ExtentPtr};
use crate::read::Entry;
use crate::tree::TreeState;

/// One value, read in parts: [`Read`] and [`Seek`] over its bytes.
///
/// It takes about 1 MiB of memory, however long the value is, and reads the device in
/// steps of up to 1 MiB while it is read on, of 64 KiB after a seek. Each part is verified before a byte of it is
/// handed out.
///
/// It looks at the commit at which it was made, whatever is written meanwhile, and holds a
/// view open as a [`Snapshot`](crate::Snapshot) does: see there for what that costs.
///
/// The errors of [`Read`] and [`Seek`] carry an [`Error`] of the engine, which
/// [`ValueReader::error`] takes out: [`Error::Io`] and [`Error::Damaged`] for that part alone,
/// [`Error::ViewTooOld`], [`Error::Closed`], [`Error::Forked`]. It can be read on after each.
///
/// ```
/// # let dir = tempfile::tempdir().unwrap();
/// # let path = dir.path().join("reader.store");
/// # let format = gaur::FormatOptions { create_size: Some(64 << 20), ..Default::default() };
/// # gaur::Store::format(&path, &format).unwrap();
/// # let store = gaur::Store::open(&path, &gaur::OpenOptions::default()).unwrap();
/// use std::io::{Read, Seek, SeekFrom};
///
/// let films = store.tree("films")?;
/// let source = std::io::repeat(7).take(10 << 20);
/// films.put_from(b"seven", 10 << 20, source, gaur::Durability::Sync)?;
///
/// let mut film = films.reader(b"seven")?.expect("it was just written");
/// assert_eq!(film.len(), 10 << 20);
/// let mut end = Vec::new();
/// film.seek(SeekFrom::End(-3)).unwrap();
/// film.read_to_end(&mut end).unwrap();
/// assert_eq!(end, [7; 3]);
/// # Ok::<(), gaur::Error>(())
/// ```
#[derive(Debug)]
pub struct ValueReader {
    core: Weak<Core>,
    tree: Arc<TreeState>,
    view: Arc<View>,
    source: Source,
    len: u64,
    /// The next byte to be read.
    pos: u64,
}

#[derive(Debug)]
enum Source {
    Inline(Vec<u8>),
    Pieces(Pieces),
}

/// A value's pieces, and the part of them that was read last.
#[derive(Debug)]
struct Pieces {
    /// Where each piece begins in the value.
    list: Vec<(u64, ExtentPtr)>,
    /// The piece whose table was read last, and the table.
    table: Option<(usize, Vec<u8>)>,
    /// Verified bytes of the value, from `from` on; as many as `have`.
    buf: Option<IoBuf>,
    from: u64,
    have: usize,
    /// Bytes to read at once next time, if it is read on from `from + have`.
    next: usize,
}

impl ValueReader {
    pub(crate) fn new(
        core: &Arc<Core>,
        tree: Arc<TreeState>,
        view: Arc<View>,
        entry: Entry,
    ) -> Self {
        let (kind, stored) = entry;
        let (source, len) = if kind == KIND_EXTENT {
            let mut len = 0u64;
            let mut list = Vec::new();
            for piece in extents(&stored) {
                list.push((len, piece));
                len = len.saturating_add(piece.bytes);
            }
            let pieces = Pieces {
                list,
                table: None,
                buf: None,
                from: 0,
                have: 0,
                next: SUM_UNIT as usize,
            };
            (Source::Pieces(pieces), len)
        } else {
            let len = stored.len() as u64;
            (Source::Inline(stored), len)
        };
        Self {
            core: Arc::downgrade(core),
            tree,
            view,
            source,
            len,
            pos: 0,
        }
    }

    /// The value's length in bytes.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether it has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The commit that it looks at.
    pub fn csn(&self) -> Csn {
        self.view.csn()
    }

    /// The engine's error in one that its [`Read`] or [`Seek`] returned, if there is one.
    ///
    /// ```
    /// let other = std::io::Error::other(gaur::Error::Closed);
    /// assert!(matches!(gaur::ValueReader::error(&other), Some(gaur::Error::Closed)));
    /// ```
    pub fn error(e: &io::Error) -> Option<&Error> {
        e.get_ref()?.downcast_ref()
    }

    /// Reads into `out` and returns how many bytes; 0 only at the end, or if there is no
    /// room.
    fn step(&mut self, out: &mut [u8]) -> Result<usize> {
        let core = self.core.upgrade().ok_or(Error::Closed)?;
        core.check_open()?;
        if self.pos >= self.len || out.is_empty() {
            return Ok(0);
        }
        let ready = match &mut self.source {
            Source::Inline(value) => &value[self.pos as usize..],
            Source::Pieces(pieces) => {
                let ready = pieces.at(&core, &self.tree, self.pos);
                // Once the view was given up its blocks may be used again: no damage.
                core.check_view(&self.view)?;
                ready?
            }
        };
        let n = ready.len().min(out.len());
        out[..n].copy_from_slice(&ready[..n]);
        self.pos += n as u64;
        Ok(n)
    }
}

impl Pieces {
    /// Verified bytes of the value from `pos` on, which lies in it.
    fn at(&mut self, core: &Core, tree: &TreeState, pos: u64) -> Result<&[u8]> {
        let end = self.from + self.have as u64;
        if self.buf.is_none() || !(self.from..end).contains(&pos) {
            self.next = match pos == end && self.have > 0 {
                true => (2 * self.next).min(CHUNK),
                false => SUM_UNIT as usize,
            };
            self.have = 0;
            self.fetch(core, tree, pos)?;
        }
        let buf = self.buf.as_ref().expect("just read");
        Ok(&buf[(pos - self.from) as usize..self.have])
    }

    /// Reads the part that `pos` lies in, and some behind it.
    fn fetch(&mut self, core: &Core, tree: &TreeState, pos: u64) -> Result<()> {
        let n = self.list.partition_point(|(begin, _)| *begin <= pos) - 1;
        let (begin, ptr) = self.list[n];
        let bad = |what: &str| Damage::new("large value", ptr.addr, what).in_tree(tree.id);
        let geometry = &core.forest.geometry;
        let block_size = geometry.block_size;
        if !geometry.is_data(ptr.run(block_size)) {
            return Err(bad("points outside the data area").into());
        }
        if !ptr.has_table() {
            // Of the lengths that are written this is a MiB at most.
            let buf = self.read(core, ptr, 0, ptr.bytes, ptr.bytes.max(MOST_WITHOUT_TABLE))?;
            let mut verifier = Verifier::new(ptr);
            verifier.add(&buf);
            let sound = verifier.is_sound() || fault!(ExtentChecksumNotCompared);
            self.buf = Some(buf);
            if !sound {
                return Err(bad("checksum differs").into());
            }
            (self.from, self.have) = (begin, ptr.bytes as usize);
            return Ok(());
        }
        if self.table.as_ref().is_none_or(|(of, _)| *of != n) {
            self.table = None;
            let from = ptr.table_at() / u64::from(block_size) * u64::from(block_size);
            let len = (ptr.stored_bytes() - from) as usize;
            let mut buf = IoBuf::zeroed(len.next_multiple_of(block_size as usize));
            let offset = geometry.byte(ptr.addr) + from;
            core.forest.device.read_at(offset, &mut buf)?;
            let table = buf[(ptr.table_at() - from) as usize..len].to_vec();
            if part_sum(&ptr, &table) != ptr.checksum && !fault!(ExtentChecksumNotCompared) {
                return Err(bad("the table's checksum differs").into());
            }
            self.table = Some((n, table));
        }
        let from = (pos - begin) / SUM_UNIT * SUM_UNIT;
        let len = (ptr.bytes - from).min(self.next as u64);
        let buf = self.read(core, ptr, from, len, CHUNK as u64)?;
        let table = self.table.as_ref().map_or(&[][..], |(_, t)| t.as_slice());
        let sums = table[(from / SUM_UNIT * 8) as usize..].chunks_exact(8);
        let parts = buf[..len as usize].chunks(SUM_UNIT as usize);
        let sound = parts
            .zip(sums)
            .all(|(part, sum)| part_sum(&ptr, part).to_le_bytes() == *sum);
        self.buf = Some(buf);
        if !sound && !fault!(ExtentChecksumNotCompared) {
            return Err(bad(&format!("checksum differs from byte {from} on")).into());
        }
        (self.from, self.have) = (begin + from, len as usize);
        Ok(())
    }

    /// Reads bytes `from..from + len` of a piece into a buffer with room for `most`.
    fn read(
        &mut self,
        core: &Core,
        ptr: ExtentPtr,
        from: u64,
        len: u64,
        most: u64,
    ) -> Result<IoBuf> {
        let forest = &core.forest;
        let whole = |n: u64| (n as usize).next_multiple_of(forest.geometry.block_size as usize);
        let fits = |buf: &IoBuf| buf.len() >= whole(len);
        let mut buf = match self.buf.take().filter(fits) {
            Some(buf) => buf,
            None => IoBuf::zeroed(whole(most.min(self.most()).max(len))),
        };
        let offset = forest.geometry.byte(ptr.addr) + from;
        forest.device.read_at(offset, &mut buf[..whole(len)])?;
        Ok(buf)
    }

    /// Bytes of the longest piece.
    fn most(&self) -> u64 {
        self.list.iter().map(|(_, p)| p.bytes).max().unwrap_or(0)
    }
}

impl Read for ValueReader {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        self.step(out).map_err(io::Error::other)
    }
}

impl Seek for ValueReader {
    /// A place behind the end is allowed; there is nothing to read there.
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let to = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => self.len.checked_add_signed(by),
            SeekFrom::Current(by) => self.pos.checked_add_signed(by),
        };
        let before = "a seek to before the beginning";
        self.pos = to.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, before))?;
        Ok(self.pos)
    }
}
