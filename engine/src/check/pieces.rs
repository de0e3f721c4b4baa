//! Reading large values and verifying them, in the order of their places.

use std::collections::VecDeque;

use gaur_iodriver::Device;

use crate::error::{Damage, Result};
use crate::format::{BlockNo, ExtentPtr, Geometry, TreeId};
use crate::large::Verifier;
use crate::walk::Deep;

use super::CheckOptions;
use super::trees::brief;

/// Pieces collected before they are read.
const BATCH: usize = 4096;
/// Bytes read at once.
const CHUNK: u64 = 1 << 20;
/// Reads in flight, of up to [`CHUNK`].
const DEPTH: u32 = 16;

/// A piece of a large value, and who names it.
#[derive(Clone, Debug)]
pub(super) struct Piece {
    pub(super) ptr: ExtentPtr,
    pub(super) tree: TreeId,
    pub(super) leaf: BlockNo,
    pub(super) key: Vec<u8>,
}

impl Piece {
    fn damage(&self, why: &str) -> Damage {
        let who = match self.leaf {
            0 => "named by the log".to_owned(),
            leaf => format!("leaf {leaf}"),
        };
        let detail = format!("{why}; key {}, {who}", brief(&self.key));
        Damage::new("large value", self.ptr.addr, detail).in_tree(self.tree)
    }
}

/// Pieces to verify.
#[derive(Debug)]
pub(super) struct Pieces {
    deep: Deep,
    geometry: Geometry,
    wanted: bool,
    list: Vec<Piece>,
}

/// A chunk that is being read.
struct Chunk {
    piece: usize,
    /// Bytes of the piece in it.
    bytes: usize,
    last: bool,
}

impl Pieces {
    pub(super) fn new(
        device: &dyn Device,
        geometry: Geometry,
        options: &CheckOptions,
    ) -> Result<Self> {
        Ok(Self {
            deep: Deep::new(device, DEPTH.min(options.depth))?,
            geometry,
            wanted: options.values,
            list: Vec::new(),
        })
    }

    /// Adds a piece, which lies where data may lie.
    pub(super) fn add(&mut self, piece: Piece) {
        if self.wanted {
            self.list.push(piece);
        }
    }

    /// Whether it is time to verify them.
    pub(super) fn is_full(&self) -> bool {
        self.list.len() >= BATCH
    }

    /// Verifies and forgets all pieces. Returns what is damaged, and the blocks
    /// that were read.
    pub(super) fn verify(&mut self) -> Result<(Vec<Damage>, u64)> {
        let mut list = std::mem::take(&mut self.list);
        list.sort_by_key(|p| p.ptr.addr);
        let block = u64::from(self.geometry.block_size);
        let mut chunks = list.iter().enumerate().flat_map(|(piece, p)| {
            let bytes = p.ptr.stored_bytes();
            (0..bytes.div_ceil(CHUNK)).map(move |i| Chunk {
                piece,
                bytes: CHUNK.min(bytes - i * CHUNK) as usize,
                last: (i + 1) * CHUNK >= bytes,
            })
        });
        let mut reading: VecDeque<Chunk> = VecDeque::new();
        let mut at = (usize::MAX, 0);
        let mut sum: Option<(Verifier, Option<String>)> = None;
        let (mut damaged, mut blocks) = (Vec::new(), 0);
        loop {
            while self.deep.room() {
                let Some(chunk) = chunks.next() else { break };
                let ptr = list[chunk.piece].ptr;
                if at.0 != chunk.piece {
                    at = (chunk.piece, self.geometry.byte(ptr.addr));
                }
                let len = (chunk.bytes as u64).next_multiple_of(block);
                self.deep.read(at.1, len as usize);
                at.1 += len;
                reading.push_back(chunk);
            }
            let Some(chunk) = reading.pop_front() else {
                return Ok((damaged, blocks));
            };
            let piece = &list[chunk.piece];
            let ptr = piece.ptr;
            let (parts, failed) = sum.get_or_insert_with(|| (Verifier::new(ptr), None));
            match self.deep.take()? {
                Ok(buf) => {
                    blocks += buf.len() as u64 / block;
                    parts.add(&buf[..chunk.bytes]);
                    self.deep.recycle(buf);
                }
                Err(e) => {
                    failed.get_or_insert(e.to_string());
                }
            }
            if chunk.last {
                match sum.take() {
                    Some((_, Some(why))) => damaged.push(piece.damage(&why)),
                    Some((parts, None)) if !parts.is_sound() => {
                        damaged.push(piece.damage("checksum differs"));
                    }
                    _ => {}
                }
            }
        }
    }
}
