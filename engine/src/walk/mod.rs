//! Walking trees as the device has them, with many reads in flight.
//!
//! For `check`, which tells everything it meets, and for rebuilding the map, which
//! must know every block a tree uses. Nothing is cached, and no node in memory is
//! looked at: this is the checkpointed state.
//!
//! It ends whatever it meets: a child is a level lower than its parent, and the
//! visitor says of each node whether to enter it, so a node that many pointers
//! lead to is walked once.

mod deep;

use std::collections::VecDeque;

use gaur_iodriver::{Device, IoBuf, IoError};

pub(crate) use deep::Deep;

use crate::error::{Damage, Result};
use crate::format::superblock::Superblock;
use crate::format::{BlockPtr, CATALOG, Csn, Generation, Geometry, TreeId};
use crate::node::{NodeBuf, Page, load_image};
use crate::writeback::catalog::{CatalogEntry, Contents};
use crate::writeback::held::Held;

/// Nodes that lie side by side are read with one request, up to this many.
const CLUSTER: usize = 16;

/// A node to visit, and what its parent says of it.
#[derive(Clone, Debug)]
pub(crate) struct Visit {
    pub(crate) tree: TreeId,
    pub(crate) ptr: BlockPtr,
    /// `None`: a root of any level.
    pub(crate) level: Option<u8>,
    pub(crate) lower: Vec<u8>,
    pub(crate) upper: Option<Vec<u8>>,
    /// The parent's birth: it may not be younger.
    newest: Generation,
    /// A node of a dropped tree, of which only the children from this slot on are there
    /// still. Who came by its pointer does not know its fences.
    left_from: Option<usize>,
    /// It is left of a dropped tree, or was deleted as part of a range.
    pub(crate) left: bool,
    /// Up to this birth a node may say another tree's number: it is a snapshot's.
    pub(crate) origin: Generation,
    /// Its read failed together with others: it is read again alone.
    alone: bool,
}

impl Visit {
    /// The root of a tree.
    pub(crate) fn root(tree: TreeId, ptr: BlockPtr, level: Option<u8>, newest: Generation) -> Self {
        Self {
            tree,
            ptr,
            level,
            lower: Vec::new(),
            upper: None,
            newest,
            left_from: None,
            left: false,
            origin: Generation::default(),
            alone: false,
        }
    }
}

/// What a walk tells.
pub(crate) trait Visitor {
    /// A pointer leads to this node, which lies where data may lie. Whether to
    /// read it and to go on below.
    fn enter(&mut self, visit: &Visit) -> bool;

    /// A node that verifies. Its parent may still say other things of it: then
    /// [`Visitor::damaged`] was called before.
    fn node(&mut self, visit: &Visit, page: Page<'_>) -> Result<()>;

    /// Something is wrong with this node, or with the pointer to it.
    fn damaged(&mut self, visit: &Visit, damage: Damage);
}

/// A walk over the trees of one checkpoint.
#[derive(Debug)]
pub(crate) struct Walker {
    deep: Deep,
    geometry: Geometry,
    store: u64,
    cut: Csn,
    stack: Vec<Visit>,
    reading: VecDeque<Vec<Visit>>,
    scratch: NodeBuf,
}

impl Walker {
    /// A walker of the store that this superblock describes.
    pub(crate) fn new(
        device: &dyn Device,
        geometry: Geometry,
        sb: &Superblock,
        depth: u32,
    ) -> Result<Self> {
        Ok(Self {
            deep: Deep::new(device, depth)?,
            geometry,
            store: sb.store_id as u64,
            cut: sb.cut,
            stack: Vec::new(),
            reading: VecDeque::new(),
            scratch: NodeBuf::new(geometry.block_size as usize / 8),
        })
    }

    /// Walks the trees below these roots, in their order.
    ///
    /// # Errors
    /// If the queue is broken, or what the visitor returns. What is damaged or
    /// cannot be read is told to the visitor.
    pub(crate) fn walk(&mut self, mut roots: Vec<Visit>, visitor: &mut dyn Visitor) -> Result<()> {
        roots.retain(|r| !r.ptr.is_null());
        roots.reverse();
        roots.into_iter().for_each(|r| self.push(r, visitor));
        loop {
            if self.deep.wants() {
                while self.deep.room() && !self.stack.is_empty() {
                    self.ask();
                }
            }
            let Some(visits) = self.reading.pop_front() else {
                return Ok(());
            };
            let answer = self.deep.take()?;
            self.visit(visits, answer, visitor)?;
        }
    }

    /// A pointer was met.
    fn push(&mut self, visit: Visit, visitor: &mut dyn Visitor) {
        let ptr = visit.ptr;
        let bad =
            |why: &str| Damage::new("node pointer", ptr.addr, why.to_owned()).in_tree(visit.tree);
        if ptr.len != 1 || ptr.flags != 0 {
            visitor.damaged(&visit, bad("has a length or flags that cannot be"));
        } else if !self.geometry.is_data(ptr.run()) {
            visitor.damaged(&visit, bad("points outside the data area"));
        } else if visitor.enter(&visit) {
            self.stack.push(visit);
        }
    }

    /// Asks for the top of the stack, and for what lies right behind it.
    fn ask(&mut self) {
        let Some(first) = self.stack.pop() else {
            return;
        };
        let start = first.ptr.addr;
        let mut visits = vec![first];
        while !visits[0].alone
            && visits.len() < CLUSTER
            && let Some(next) = self.stack.last()
            && !next.alone
            && next.ptr.addr == start + visits.len() as u64
        {
            visits.extend(self.stack.pop());
        }
        let len = visits.len() * self.geometry.block_size as usize;
        self.deep.read(self.geometry.byte(start), len);
        self.reading.push_back(visits);
    }

    fn visit(
        &mut self,
        visits: Vec<Visit>,
        answer: Result<IoBuf, IoError>,
        visitor: &mut dyn Visitor,
    ) -> Result<()> {
        let buf = match answer {
            Ok(buf) => buf,
            Err(_) if visits.len() > 1 => {
                let again = visits.into_iter().rev();
                self.stack.extend(again.map(|v| Visit { alone: true, ..v }));
                return Ok(());
            }
            Err(e) => {
                let v = &visits[0];
                let damage = Damage::new("node", v.ptr.addr, e.to_string());
                visitor.damaged(v, damage.in_tree(v.tree));
                return Ok(());
            }
        };
        let size = self.geometry.block_size as usize;
        for (visit, bytes) in visits.iter().zip(buf.chunks_exact(size)) {
            let scratch = std::mem::replace(&mut self.scratch, NodeBuf::new(0));
            let result = self.node(visit, bytes, scratch.page(), visitor);
            self.scratch = scratch;
            result?;
        }
        self.deep.recycle(buf);
        Ok(())
    }

    fn node(
        &mut self,
        visit: &Visit,
        bytes: &[u8],
        page: Page<'_>,
        visitor: &mut dyn Visitor,
    ) -> Result<()> {
        let (ptr, tree) = (visit.ptr, visit.tree);
        let expected = (ptr.birth > visit.origin).then_some(tree);
        if let Err(damage) = load_image(bytes, ptr, self.store, expected, visit.level, page) {
            visitor.damaged(visit, damage);
            return Ok(());
        }
        let (lower, upper) = (page.lower(), page.upper());
        let mut wrong = Vec::new();
        let known = visit.left_from.is_none();
        if known && (lower != visit.lower || upper != visit.upper) {
            wrong.push("its fences are not what its parent says".to_owned());
        }
        if ptr.birth > visit.newest {
            wrong.push(format!(
                "born in {}, its parent in {}",
                ptr.birth, visit.newest
            ));
        }
        if page.csn() > self.cut {
            let csn = page.csn();
            wrong.push(format!(
                "has commit {csn}, the checkpoint ends at {}",
                self.cut
            ));
        }
        for why in wrong {
            visitor.damaged(visit, Damage::new("node", ptr.addr, why).in_tree(tree));
        }
        visitor.node(visit, page)?;
        if page.level() > 0 {
            self.push_children(visit, page, lower, upper, visitor);
        }
        Ok(())
    }

    /// Puts the children on the stack, so that they come off by address.
    fn push_children(
        &mut self,
        visit: &Visit,
        page: Page<'_>,
        lower: Vec<u8>,
        upper: Option<Vec<u8>>,
        visitor: &mut dyn Visitor,
    ) {
        let n = page.slots();
        let mut fences: Vec<Option<Vec<u8>>> = vec![Some(lower)];
        fences.extend((1..n).map(|i| Some(page.key(i))));
        fences.push(upper);
        let mut children: Vec<Visit> = (0..n)
            .map(|i| Visit {
                tree: visit.tree,
                ptr: page.child(i).ptr,
                level: Some(page.level() - 1),
                lower: fences[i].clone().unwrap_or_default(),
                upper: fences[i + 1].clone(),
                newest: page.birth(),
                left_from: None,
                left: visit.left,
                origin: visit.origin,
                alone: false,
            })
            .skip(visit.left_from.unwrap_or(0))
            .collect();
        children.sort_by_key(|c| std::cmp::Reverse(c.ptr.addr));
        children.into_iter().for_each(|c| self.push(c, visitor));
    }
}

/// Reads the tree of trees through another visitor, and keeps what it says.
pub(crate) struct CatalogVisitor<'a> {
    pub(crate) inner: &'a mut dyn Visitor,
    pub(crate) contents: Contents,
}

impl Visitor for CatalogVisitor<'_> {
    fn enter(&mut self, visit: &Visit) -> bool {
        self.inner.enter(visit)
    }

    fn node(&mut self, visit: &Visit, page: Page<'_>) -> Result<()> {
        self.inner.node(visit, page)?;
        if page.level() > 0 {
            return Ok(());
        }
        for slot in 0..page.slots() {
            let mut value = Vec::new();
            page.copy_value(slot, &mut value);
            let added = self.contents.add(&page.key(slot), &value, visit.ptr.addr);
            added.unwrap_or_else(|damage| self.inner.damaged(visit, damage));
        }
        Ok(())
    }

    fn damaged(&mut self, visit: &Visit, damage: Damage) {
        self.inner.damaged(visit, damage);
    }
}

impl Walker {
    /// Walks the tree of trees and returns what it says, trees by name.
    ///
    /// # Errors
    /// As [`Walker::walk`].
    pub(crate) fn catalog(
        &mut self,
        sb: &Superblock,
        visitor: &mut dyn Visitor,
    ) -> Result<Contents> {
        self.catalog_at(sb.catalog(), sb.catalog_level, sb.generation(), visitor)
    }

    /// The same of the tree of trees that a generation had.
    pub(crate) fn catalog_at(
        &mut self,
        root: BlockPtr,
        level: u32,
        generation: Generation,
        visitor: &mut dyn Visitor,
    ) -> Result<Contents> {
        let level = u8::try_from(level).ok();
        let root = Visit::root(CATALOG, root, level, generation);
        let mut catalog = CatalogVisitor {
            inner: visitor,
            contents: Contents::default(),
        };
        self.walk(vec![root], &mut catalog)?;
        let mut contents = catalog.contents;
        contents.trees.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(contents)
    }

    /// The roots of these trees, and what is left of dropped ones.
    pub(crate) fn roots(sb: &Superblock, contents: &Contents) -> Vec<Visit> {
        let root = |id, ptr, origin| Visit {
            origin,
            ..Visit::root(id, ptr, None, sb.generation())
        };
        let trees = contents.trees.iter();
        let trees = trees.map(|e| root(e.id, e.root, e.origin));
        let doomed = contents.doomed.iter().flat_map(|d| {
            d.path.iter().map(move |(ptr, next)| Visit {
                left_from: Some(*next as usize),
                left: true,
                ..root(d.id, *ptr, d.origin)
            })
        });
        trees.chain(doomed).collect()
    }

    /// The roots of the trees of a snapshot, whose tree of trees says this.
    pub(crate) fn roots_held(held: &Held, contents: &Contents) -> Vec<Visit> {
        let root = |e: &CatalogEntry| Visit {
            origin: held.generation,
            ..Visit::root(e.id, e.root, None, held.generation)
        };
        contents.trees.iter().map(root).collect()
    }
}
