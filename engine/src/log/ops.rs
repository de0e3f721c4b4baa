//! What a record says: its operations, written by [`OpsBuilder`], read by [`Ops`].
//!
//! Reading never panics, whatever the bytes; a length is checked before it is
//! used, and nothing is copied.

use crate::error::{Error, Result};
use crate::format::log::{
    OP_CREATE_TREE, OP_DELETE, OP_DELETE_RANGE, OP_DROP_TREE, OP_LOAD_TREE, OP_PUT, OP_PUT_EXTENT,
    OP_RENAME_TREE, OpHeader,
};
use crate::format::{BlockPtr, ExtentPtr, Run, TreeId, checksum};

/// One operation of a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogOp<'a> {
    /// Sets a key's value.
    Put {
        /// The tree.
        tree: TreeId,
        /// The key.
        key: &'a [u8],
        /// The value.
        value: &'a [u8],
    },
    /// Sets a key's value, which lies in extents.
    PutExtent {
        /// The tree.
        tree: TreeId,
        /// The key.
        key: &'a [u8],
        /// The value's pieces, in order; at least one.
        extents: Extents<'a>,
    },
    /// Removes a key.
    Delete {
        /// The tree.
        tree: TreeId,
        /// The key.
        key: &'a [u8],
    },
    /// Removes all keys of a range.
    DeleteRange {
        /// The tree.
        tree: TreeId,
        /// The least key.
        lower: &'a [u8],
        /// The first key behind it; `None`: it has no end.
        upper: Option<&'a [u8]>,
    },
    /// Creates a tree.
    CreateTree {
        /// Its number.
        tree: TreeId,
        /// Its name.
        name: &'a [u8],
        /// Its options, opaque to the log.
        options: &'a [u8],
    },
    /// Drops a tree.
    DropTree {
        /// Its number.
        tree: TreeId,
        /// Its name.
        name: &'a [u8],
    },
    /// Renames a tree.
    RenameTree {
        /// Its number.
        tree: TreeId,
        /// Its new name.
        name: &'a [u8],
    },
    /// A tree that was built beside the log appears.
    LoadTree {
        /// Its number.
        tree: TreeId,
        /// Its name.
        name: &'a [u8],
        /// Its root; null: it is empty.
        root: BlockPtr,
        /// All that it lies in.
        runs: Runs<'a>,
    },
}

/// The runs that a loaded tree lies in, by their places.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Runs<'a>(&'a [u8]);

/// Bytes of a run in the log.
const RUN: usize = 12;

impl<'a> Runs<'a> {
    /// The runs.
    pub fn iter(&self) -> impl Iterator<Item = Run> + use<'a> {
        self.0.chunks_exact(RUN).map(|run| Run {
            start: u64::from_le_bytes(run[..8].try_into().expect("8 bytes")),
            len: u32::from_le_bytes(run[8..].try_into().expect("4 bytes")),
        })
    }
}

/// The root and the runs of a loaded tree.
fn loaded(value: &[u8]) -> Option<(BlockPtr, Runs<'_>)> {
    let (root, runs) = value.split_at_checked(BlockPtr::SIZE)?;
    let word = |i: usize| u64::from_le_bytes(root[i * 8..i * 8 + 8].try_into().expect("8 bytes"));
    let whole = runs.len().is_multiple_of(RUN);
    whole.then(|| (BlockPtr::from_words([0, 1, 2].map(word)), Runs(runs)))
}

/// The extents of a large value, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extents<'a>(&'a [u8]);

impl<'a> Extents<'a> {
    /// How many.
    pub fn len(&self) -> usize {
        self.0.len() / ExtentPtr::SIZE
    }

    /// Never, in an operation that was read.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The pointers as stored.
    pub fn as_bytes(&self) -> &'a [u8] {
        self.0
    }

    /// The pointers.
    pub fn iter(&self) -> impl Iterator<Item = ExtentPtr> + use<'a> {
        self.0
            .chunks_exact(ExtentPtr::SIZE)
            .filter_map(ExtentPtr::decode)
    }
}

/// The low 32 bits of the checksum of a record's operations.
pub fn record_check(ops: &[u8]) -> u32 {
    checksum::plain(ops) as u32
}

/// Collects the operations of one commit.
#[derive(Clone, Debug, Default)]
pub struct OpsBuilder {
    bytes: Vec<u8>,
    count: u32,
    names_extents: bool,
}

impl OpsBuilder {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets a key's value.
    ///
    /// # Errors
    /// [`Error::KeyTooLong`] above 64 KiB - 1, [`Error::ValueTooLong`] above
    /// 4 GiB - 1, as for all below; then nothing was added.
    pub fn put(&mut self, tree: TreeId, key: &[u8], value: &[u8]) -> Result<()> {
        self.push(OP_PUT, tree, key, value)
    }

    /// Sets a key's value that lies in `extents`, of which there is at least one.
    ///
    /// # Errors
    /// As [`OpsBuilder::put`]; [`Error::BadOption`] without extents.
    pub fn put_extents(&mut self, tree: TreeId, key: &[u8], extents: &[ExtentPtr]) -> Result<()> {
        if extents.is_empty() {
            return Err(Error::BadOption {
                name: "extents",
                detail: "a large value has at least one".into(),
            });
        }
        let value: Vec<u8> = extents.iter().flat_map(|e| e.encode()).collect();
        self.push(OP_PUT_EXTENT, tree, key, &value)?;
        self.names_extents = true;
        Ok(())
    }

    /// Removes a key.
    ///
    /// # Errors
    /// As [`OpsBuilder::put`].
    pub fn delete(&mut self, tree: TreeId, key: &[u8]) -> Result<()> {
        self.push(OP_DELETE, tree, key, &[])
    }

    /// Removes the keys from `lower` on, up to before `upper`, which is greater; `None`:
    /// to the end.
    ///
    /// # Errors
    /// As [`OpsBuilder::put`]; [`Error::BadOption`] if `upper` is not greater.
    pub fn delete_range(&mut self, tree: TreeId, lower: &[u8], upper: Option<&[u8]>) -> Result<()> {
        if upper.is_some_and(|u| u <= lower) {
            return Err(Error::BadOption {
                name: "range",
                detail: "nothing lies in it".into(),
            });
        }
        self.push(OP_DELETE_RANGE, tree, lower, upper.unwrap_or(&[]))
    }

    /// Creates a tree.
    ///
    /// # Errors
    /// As [`OpsBuilder::put`].
    pub fn create_tree(&mut self, tree: TreeId, name: &[u8], options: &[u8]) -> Result<()> {
        self.push(OP_CREATE_TREE, tree, name, options)
    }

    /// Drops a tree.
    ///
    /// # Errors
    /// As [`OpsBuilder::put`].
    pub fn drop_tree(&mut self, tree: TreeId, name: &[u8]) -> Result<()> {
        self.push(OP_DROP_TREE, tree, name, &[])
    }

    /// Gives a tree another name.
    ///
    /// # Errors
    /// As [`OpsBuilder::put`].
    pub fn rename_tree(&mut self, tree: TreeId, name: &[u8]) -> Result<()> {
        self.push(OP_RENAME_TREE, tree, name, &[])
    }

    /// Has a tree appear that was built beside the log.
    ///
    /// # Errors
    /// As [`OpsBuilder::put`].
    pub fn load_tree(
        &mut self,
        tree: TreeId,
        name: &[u8],
        root: BlockPtr,
        runs: &[Run],
    ) -> Result<()> {
        let words = root.to_words().map(u64::to_le_bytes);
        let mut value = words.concat();
        for run in runs {
            value.extend(run.start.to_le_bytes());
            value.extend(run.len.to_le_bytes());
        }
        self.push(OP_LOAD_TREE, tree, name, &value)?;
        self.names_extents = true;
        Ok(())
    }

    fn push(&mut self, kind: u8, tree: TreeId, key: &[u8], value: &[u8]) -> Result<()> {
        let key_len = u16::try_from(key.len()).map_err(|_| Error::KeyTooLong {
            len: key.len(),
            max: usize::from(u16::MAX),
        })?;
        let value_len = u32::try_from(value.len()).map_err(|_| Error::ValueTooLong {
            len: value.len() as u64,
            max: u64::from(u32::MAX),
        })?;
        let header = OpHeader {
            kind,
            key_len,
            tree,
            value_len,
        };
        let mut head = [0; OpHeader::SIZE];
        header.encode(&mut head);
        self.bytes.extend_from_slice(&head);
        self.bytes.extend_from_slice(key);
        self.bytes.extend_from_slice(value);
        self.count += 1;
        Ok(())
    }

    /// Bytes that an operation with this key and value takes.
    pub fn size_of(key_len: usize, value_len: usize) -> usize {
        OpHeader::SIZE + key_len + value_len
    }

    /// The operations' bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// How many operations there are.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Whether one of them names extents.
    pub fn names_extents(&self) -> bool {
        self.names_extents
    }
}

/// Reads the operations of a record; after the first error there are no more.
#[derive(Clone, Debug)]
pub struct Ops<'a> {
    rest: &'a [u8],
}

impl<'a> Ops<'a> {
    /// The operations in these bytes.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    fn read(&mut self) -> Result<LogOp<'a>, &'static str> {
        let (head, rest) = self
            .rest
            .split_at_checked(OpHeader::SIZE)
            .ok_or("an operation's header is cut off")?;
        let h = OpHeader::decode(head);
        if head[1] != 0 || head[12..] != [0; 4] {
            return Err("an operation's header has bytes where none belong");
        }
        let (key, rest) = rest
            .split_at_checked(usize::from(h.key_len))
            .ok_or("an operation's key is cut off")?;
        let (value, rest) = rest
            .split_at_checked(h.value_len as usize)
            .ok_or("an operation's value is cut off")?;
        let tree = h.tree;
        let op = match h.kind {
            OP_PUT => LogOp::Put { tree, key, value },
            OP_PUT_EXTENT => {
                if value.is_empty() || value.len() % ExtentPtr::SIZE != 0 {
                    return Err("a large value's extents are cut off");
                }
                LogOp::PutExtent {
                    tree,
                    key,
                    extents: Extents(value),
                }
            }
            OP_DELETE if value.is_empty() => LogOp::Delete { tree, key },
            // No range ends before the empty key.
            OP_DELETE_RANGE if value.is_empty() || value > key => LogOp::DeleteRange {
                tree,
                lower: key,
                upper: Some(value).filter(|u| !u.is_empty()),
            },
            OP_DELETE_RANGE => return Err("a range that ends before it begins"),
            OP_CREATE_TREE => LogOp::CreateTree {
                tree,
                name: key,
                options: value,
            },
            OP_DROP_TREE if value.is_empty() => LogOp::DropTree { tree, name: key },
            OP_RENAME_TREE if value.is_empty() => LogOp::RenameTree { tree, name: key },
            OP_DELETE | OP_DROP_TREE | OP_RENAME_TREE => {
                return Err("an operation has a value where none belongs");
            }
            OP_LOAD_TREE => {
                let (root, runs) = loaded(value).ok_or("a loaded tree's runs are cut off")?;
                LogOp::LoadTree {
                    tree,
                    name: key,
                    root,
                    runs,
                }
            }
            _ => return Err("an operation of an unknown kind"),
        };
        self.rest = rest;
        Ok(op)
    }
}

impl<'a> Iterator for Ops<'a> {
    type Item = Result<LogOp<'a>, &'static str>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let op = self.read();
        if op.is_err() {
            self.rest = &[];
        }
        Some(op)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::Generation;
    use gaur_iodriver::sync::rng::seeded;
    use rand::RngExt;

    fn sample() -> OpsBuilder {
        let mut b = OpsBuilder::new();
        let extent = ExtentPtr {
            addr: 7,
            flags: 0,
            birth: Generation(8),
            checksum: 9,
            bytes: 10_000,
        };
        b.put(3, b"key", b"value").unwrap();
        b.put_extents(3, b"big", &[extent, extent]).unwrap();
        b.delete(4, b"gone").unwrap();
        b.create_tree(5, b"name", b"opts").unwrap();
        b.drop_tree(6, b"old").unwrap();
        b.rename_tree(7, b"new").unwrap();
        let root = BlockPtr::unwritten(70, Generation(8));
        let runs = [(70, 3), (90, 1)].map(|(start, len)| Run { start, len });
        b.load_tree(8, b"bulk", root, &runs).unwrap();
        b.delete_range(9, b"from", Some(b"to")).unwrap();
        b.delete_range(9, b"", None).unwrap();
        b
    }

    #[test]
    fn operations_survive_the_round_trip() {
        let b = sample();
        let ops: Vec<LogOp<'_>> = Ops::new(b.as_bytes()).map(Result::unwrap).collect();
        assert_eq!(b.count(), 9);
        assert!(b.names_extents());
        assert!(matches!(
            ops[0],
            LogOp::Put {
                tree: 3,
                key: b"key",
                value: b"value"
            }
        ));
        let LogOp::PutExtent { extents, .. } = ops[1] else {
            panic!("{:?}", ops[1]);
        };
        assert_eq!(extents.len(), 2);
        assert_eq!(extents.iter().map(|e| e.bytes).sum::<u64>(), 20_000);
        assert!(matches!(
            ops[2],
            LogOp::Delete {
                tree: 4,
                key: b"gone"
            }
        ));
        assert!(matches!(
            ops[3],
            LogOp::CreateTree {
                tree: 5,
                name: b"name",
                options: b"opts"
            }
        ));
        assert!(matches!(
            ops[4],
            LogOp::DropTree {
                tree: 6,
                name: b"old"
            }
        ));
        assert!(matches!(
            ops[5],
            LogOp::RenameTree {
                tree: 7,
                name: b"new"
            }
        ));
        let LogOp::LoadTree { root, runs, .. } = ops[6] else {
            panic!("{:?}", ops[6]);
        };
        assert_eq!((root.addr, root.len), (70, 1));
        let runs: Vec<_> = runs.iter().map(|r| (r.start, r.len)).collect();
        assert_eq!(runs, [(70, 3), (90, 1)]);
        let range = |lower, upper| LogOp::DeleteRange {
            tree: 9,
            lower,
            upper,
        };
        assert_eq!(ops[7], range(&b"from"[..], Some(&b"to"[..])));
        assert_eq!(ops[8], range(&[][..], None));
    }

    #[test]
    fn what_does_not_fit_is_refused_and_adds_nothing() {
        let mut b = OpsBuilder::new();
        assert!(b.put(1, &[0; 65_536], b"").is_err());
        assert!(b.put_extents(1, b"k", &[]).is_err());
        assert!(b.delete_range(1, b"k", Some(b"k")).is_err());
        assert!(b.delete_range(1, b"", Some(b"")).is_err());
        assert_eq!((b.count(), b.as_bytes().len()), (0, 0));
        b.put(1, &[0; 65_535], b"").unwrap();
        assert_eq!(b.as_bytes().len(), OpsBuilder::size_of(65_535, 0));
    }

    #[test]
    fn any_bytes_are_read_without_a_panic() {
        let good = sample().as_bytes().to_vec();
        let mut rng = seeded(1);
        for _ in 0..20_000 {
            let mut bytes = good.clone();
            for _ in 0..rng.random_range(1..4) {
                let i = rng.random_range(0..bytes.len());
                bytes[i] = rng.random();
            }
            bytes.truncate(rng.random_range(0..=good.len()));
            assert!(Ops::new(&bytes).count() <= good.len() / OpHeader::SIZE);
        }
        for cut in 1..good.len() {
            let all_read = Ops::new(&good[..cut]).all(|op| op.is_ok());
            let whole = Ops::new(&good)
                .scan(0, |n, op| {
                    *n += match op.unwrap() {
                        LogOp::Put { key, value, .. } => {
                            OpsBuilder::size_of(key.len(), value.len())
                        }
                        LogOp::PutExtent { key, extents, .. } => {
                            OpsBuilder::size_of(key.len(), extents.as_bytes().len())
                        }
                        LogOp::Delete { key, .. } => OpsBuilder::size_of(key.len(), 0),
                        LogOp::DeleteRange { lower, upper, .. } => {
                            OpsBuilder::size_of(lower.len(), upper.map_or(0, <[u8]>::len))
                        }
                        LogOp::CreateTree { name, options, .. } => {
                            OpsBuilder::size_of(name.len(), options.len())
                        }
                        LogOp::DropTree { name, .. } | LogOp::RenameTree { name, .. } => {
                            OpsBuilder::size_of(name.len(), 0)
                        }
                        LogOp::LoadTree { name, runs, .. } => {
                            OpsBuilder::size_of(name.len(), BlockPtr::SIZE + runs.0.len())
                        }
                    };
                    Some(*n)
                })
                .any(|end| end == cut);
            assert_eq!(all_read, whole, "cut at {cut}");
        }
    }

    #[test]
    fn an_operation_with_bytes_where_none_belong_is_refused() {
        let reads = |bytes: &[u8]| Ops::new(bytes).all(|op| op.is_ok());
        let op = |kind, key: &[u8], value: &[u8]| {
            let mut b = OpsBuilder::new();
            b.push(kind, 1, key, value).unwrap();
            b.bytes
        };
        for kind in [OP_DELETE, OP_DROP_TREE, OP_RENAME_TREE] {
            assert!(reads(&op(kind, b"k", b"")) && !reads(&op(kind, b"k", b"v")));
        }
        let size = ExtentPtr::SIZE;
        for (len, whole) in [
            (0, false),
            (size - 1, false),
            (size, true),
            (size + 1, false),
        ] {
            assert_eq!(
                reads(&op(OP_PUT_EXTENT, b"k", &vec![0; len])),
                whole,
                "{len}"
            );
        }
        for (len, whole) in [(0, false), (23, false), (24, true), (35, false), (36, true)] {
            assert_eq!(
                reads(&op(OP_LOAD_TREE, b"k", &vec![0; len])),
                whole,
                "{len}"
            );
        }
        assert!(!reads(&op(99, b"k", b"")));
        let good = op(OP_PUT, b"k", b"v");
        assert!(reads(&good));
        for i in [1, 12, 13, 14, 15] {
            let mut stray = good.clone();
            stray[i] = 1;
            assert!(!reads(&stray), "byte {i}");
        }
    }

    #[test]
    fn extents_are_counted_and_listed() {
        let mut b = OpsBuilder::new();
        let e = ExtentPtr {
            addr: 7,
            flags: 0,
            birth: Generation(8),
            checksum: 9,
            bytes: 1,
        };
        b.put_extents(3, b"big", &[e, e, e]).unwrap();
        let Some(Ok(LogOp::PutExtent { extents, .. })) = Ops::new(b.as_bytes()).next() else {
            panic!("{b:?}");
        };
        assert_eq!(extents.iter().collect::<Vec<_>>(), [e, e, e]);
        assert_eq!((extents.len(), extents.is_empty()), (3, false));
        assert!(Extents(&[]).is_empty());
    }

    #[test]
    fn a_records_check_depends_on_every_byte() {
        let ops = sample().as_bytes().to_vec();
        let check = record_check(&ops);
        assert_eq!(u64::from(check), checksum::plain(&ops) & 0xffff_ffff);
        for i in 0..ops.len() {
            let mut other = ops.clone();
            other[i] ^= 1;
            assert_ne!(record_check(&other), check, "byte {i}");
        }
    }
}
