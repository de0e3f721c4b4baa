//! What a store reaches, read straight from the bytes of a sound disk, without the
//! engine's help: which blocks there are, and which a record needs.

use std::collections::BTreeMap;

use gaur::check_device;
use gaur::format::geometry::INDEX_LEVELS;
use gaur::format::log::LogHeader;
use gaur::format::superblock::Superblock;
use gaur::format::{BlockNo, BlockPtr, Csn, ExtentPtr};
use gaur::log::{LogHead, LogOp, LogReader, LogWalk, Ops};
use gaur_iodriver::sim::SimDisk;

use super::forger::{BLOCK, Forger, word};

/// A tree's number, in the log.
type Id = u32;

/// A node.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    /// Its block.
    pub(crate) block: BlockNo,
    /// Its tree; `None`: the tree of trees.
    pub(crate) tree: Option<String>,
    /// 0 for a leaf.
    pub(crate) level: u8,
}

/// A piece of a large value.
#[derive(Clone, Debug)]
pub(crate) struct Piece {
    /// Where it lies.
    pub(crate) ptr: ExtentPtr,
    /// Its tree.
    pub(crate) tree: String,
    /// Whether only the log names it.
    pub(crate) in_log: bool,
}

/// What a record of a tree needs: the blocks of its path, and of its value.
pub(crate) type Needs = BTreeMap<String, BTreeMap<Vec<u8>, Vec<BlockNo>>>;

/// All that is reached.
#[derive(Debug)]
pub(crate) struct Reach {
    /// The newest superblock.
    pub(crate) sb: Superblock,
    /// The current blocks of map and index, group 0: what a problem calls them.
    pub(crate) map: Vec<(&'static str, BlockNo)>,
    /// The other slots of these.
    pub(crate) old_map: Vec<BlockNo>,
    /// All nodes.
    pub(crate) nodes: Vec<Node>,
    /// All large values.
    pub(crate) pieces: Vec<Piece>,
    /// The log blocks that recovery reads, in their order: place and header.
    pub(crate) log: Vec<(BlockNo, LogHeader)>,
    /// What each record needs, those of the log without their log blocks: there a
    /// record needs all blocks before its own, too.
    pub(crate) needs: Needs,
    /// The blocks that name each tree.
    named_by: BTreeMap<String, Vec<BlockNo>>,
}

/// The bytes at a word offset.
fn bytes_at(node: &[u8], at: usize, len: usize) -> Vec<u8> {
    node[at..at + len].to_vec()
}

/// A node's entries: whole key, kind, stored value.
pub(crate) fn entries(node: &[u8]) -> Vec<(Vec<u8>, u8, Vec<u8>)> {
    let half = |at: usize| usize::from(u16::from_le_bytes([node[at], node[at + 1]]));
    let (slots, prefix_len, lower_len) = (half(6), half(40), half(42));
    let prefix = bytes_at(node, node.len() - lower_len.next_multiple_of(8), prefix_len);
    (0..slots)
        .map(|i| {
            let at = (word(node, 64 + i * 8) & 0xFFFF) as usize * 8;
            let head = word(node, at);
            let (key, value) = ((head >> 16) as u16 as usize, (head >> 32) as usize);
            let key_bytes = [&prefix[..], &bytes_at(node, at + 8, key)].concat();
            let from = at + 8 + key.next_multiple_of(8);
            (key_bytes, head as u8, bytes_at(node, from, value))
        })
        .collect()
}

/// The pointer at a byte offset.
fn pointer(bytes: &[u8], at: usize) -> BlockPtr {
    BlockPtr::from_words([0, 8, 16].map(|i| word(bytes, at + i)))
}

fn blocks_of(ptr: &ExtentPtr) -> std::ops::Range<BlockNo> {
    let run = ptr.run(BLOCK as u32);
    run.start..run.end()
}

impl Reach {
    /// What the store on a sound disk reaches.
    pub(crate) fn of(disk: &SimDisk) -> Self {
        let report = check_device(disk.device(), &Default::default()).unwrap();
        assert!(report.clean);
        let forger = Forger::new(report.superblock);
        let sb = report.superblock;
        let mut reach = Self {
            sb,
            map: Vec::new(),
            old_map: Vec::new(),
            nodes: Vec::new(),
            pieces: Vec::new(),
            log: Vec::new(),
            needs: Needs::new(),
            named_by: BTreeMap::new(),
        };
        for level in 0..=INDEX_LEVELS {
            let place = forger.map_place(disk, level);
            let what = if level == 0 { "map block" } else { "map index" };
            reach.map.push((what, place));
            // Two slots, side by side.
            let first = if level == 0 {
                forger.g.map_block(0, 0)
            } else {
                forger.g.index_block(level, 0, 0)
            };
            reach.old_map.push(2 * first + 1 - place);
        }
        let mut names = BTreeMap::new();
        let mut roots = Vec::new();
        reach.walk(disk, sb.catalog().addr, None, &mut Vec::new(), &mut roots);
        for (name, value, path) in roots {
            let root = pointer(&value, 8);
            names.insert(word(&value, 0) as Id, name.clone());
            reach.needs.entry(name.clone()).or_default();
            reach.named_by.insert(name.clone(), path.clone());
            if root.addr != 0 {
                let mut path = path;
                reach.walk(disk, root.addr, Some(&name), &mut path, &mut Vec::new());
            }
        }
        reach.read_log(disk, names);
        assert_eq!(reach.nodes.len() as u64, report.blocks.nodes);
        reach
    }

    /// Walks below a node; entries of the tree of trees are given back with the path
    /// to them.
    fn walk(
        &mut self,
        disk: &SimDisk,
        block: BlockNo,
        tree: Option<&str>,
        path: &mut Vec<BlockNo>,
        roots: &mut Vec<(String, Vec<u8>, Vec<BlockNo>)>,
    ) {
        let node = disk.peek(block * BLOCK, BLOCK as usize);
        let level = node[4];
        self.nodes.push(Node {
            block,
            tree: tree.map(str::to_owned),
            level,
        });
        path.push(block);
        for (key, kind, value) in entries(&node) {
            match tree {
                _ if level > 0 => self.walk(disk, pointer(&value, 0).addr, tree, path, roots),
                None => roots.push((String::from_utf8(key).unwrap(), value, path.clone())),
                Some(name) => {
                    let mut needs = path.clone();
                    if kind == 2 {
                        for ptr in value.chunks(ExtentPtr::SIZE).filter_map(ExtentPtr::decode) {
                            needs.extend(blocks_of(&ptr));
                            self.pieces.push(Piece {
                                ptr,
                                tree: name.to_owned(),
                                in_log: false,
                            });
                        }
                    }
                    self.needs.get_mut(name).unwrap().insert(key, needs);
                }
            }
        }
        path.pop();
    }

    /// The log: its records need neither leaf nor inner node.
    fn read_log(&mut self, disk: &SimDisk, mut names: BTreeMap<Id, String>) {
        let (sb, g) = (self.sb, Forger::new(self.sb).g);
        let head = LogHead {
            position: sb.log_head,
            chain: sb.log_chain,
        };
        let device = disk.device();
        let mut reader =
            LogReader::new(device, g, sb.store_id, head, sb.cut, sb.log_durable).unwrap();
        while let Some(record) = reader.next_record().unwrap() {
            for op in Ops::new(record.ops) {
                match op.unwrap() {
                    LogOp::CreateTree { tree, name, .. } => {
                        let name = String::from_utf8(name.to_vec()).unwrap();
                        self.needs.entry(name.clone()).or_default();
                        names.insert(tree, name);
                    }
                    LogOp::Put { tree, key, .. } => self.change(&names[&tree], key, Some(vec![])),
                    LogOp::PutExtent { tree, key, extents } => {
                        let name = names[&tree].clone();
                        self.change(
                            &name,
                            key,
                            Some(extents.iter().flat_map(|e| blocks_of(&e)).collect()),
                        );
                        self.pieces.extend(extents.iter().map(|ptr| Piece {
                            ptr,
                            tree: name.clone(),
                            in_log: true,
                        }));
                    }
                    LogOp::Delete { tree, key } => self.change(&names[&tree], key, None),
                    LogOp::DropTree { .. }
                    | LogOp::RenameTree { .. }
                    | LogOp::LoadTree { .. }
                    | LogOp::DeleteRange { .. } => {
                        unreachable!(
                            "nothing drops, renames or loads trees here, or deletes ranges"
                        )
                    }
                }
            }
        }
        let tail = reader.tail().unwrap();
        let walk = LogWalk::new(disk.device(), g, sb.store_id).unwrap();
        self.log = walk
            .map(Result::unwrap)
            .filter(|f| f.verifies && (sb.log_head..tail.position).contains(&f.header.position))
            .map(|f| (f.place, f.header))
            .collect();
        self.log.sort_by_key(|f| f.1.position);
    }

    /// The log changes a record: it does not need the node any more that had it.
    fn change(&mut self, tree: &str, key: &[u8], value: Option<Vec<BlockNo>>) {
        let named_by = self.named_by.get(tree).cloned().unwrap_or_default();
        let tree = self.needs.get_mut(tree).unwrap();
        tree.remove(key);
        if let Some(value) = value {
            tree.insert(key.to_vec(), [named_by, value].concat());
        }
    }

    /// Whether something says that the log block at this index was durable: the
    /// superblock, or a log block behind it.
    pub(crate) fn declared(&self, index: usize) -> bool {
        let behind = self.log[index + 1..].iter().map(|b| b.1.durable_through);
        let through = behind.max().unwrap_or(0).max(self.sb.log_durable);
        through > self.log[index].1.position
    }

    /// The last commit before the log block at this index.
    pub(crate) fn csn_before(&self, index: usize) -> Csn {
        self.log[index].1.first_csn - 1
    }
}
