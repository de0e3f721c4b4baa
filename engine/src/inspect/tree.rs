//! The trees: shape by level, or one node.

use std::collections::{BTreeMap, BTreeSet};

use crate::check::brief;
use crate::error::{Damage, Error, Result};
use crate::format::node::{KIND_CHILD, KIND_EXTENT, NodeHeader};
use crate::format::{BlockNo, CATALOG, ExtentPtr, TreeId};
use crate::node::Page;
use crate::walk::{Visit, Visitor, Walker};

use super::superblock::pointer;
use super::{InspectOptions, Inspection, Section, Subject, bytes, percent};

/// Reads in flight.
const DEPTH: u32 = 64;

/// What is known of one level of one tree.
#[derive(Default)]
struct Level {
    nodes: u64,
    entries: u64,
    free: u64,
    newest: u64,
}

struct Shapes<'a> {
    options: &'a InspectOptions,
    levels: BTreeMap<(TreeId, u8), Level>,
    damage: Vec<Damage>,
    node: Option<Section>,
    entered: BTreeSet<BlockNo>,
}

impl Visitor for Shapes<'_> {
    fn enter(&mut self, visit: &Visit) -> bool {
        self.entered.insert(visit.ptr.addr)
    }

    fn node(&mut self, visit: &Visit, page: Page<'_>) -> Result<()> {
        if self.options.node == Some(visit.ptr.addr) {
            self.node = Some(show(visit, page, self.options.limit));
        }
        let level = self.levels.entry((visit.tree, page.level())).or_default();
        level.nodes += 1;
        level.entries += page.slots() as u64;
        level.free += page.free_words() as u64 * 8;
        level.newest = level.newest.max(page.csn());
        Ok(())
    }

    fn damaged(&mut self, _: &Visit, damage: Damage) {
        self.damage.push(damage);
    }
}

/// One node, slot by slot.
fn show(visit: &Visit, page: Page<'_>, limit: usize) -> Section {
    let upper = page
        .upper()
        .map_or_else(|| "none".to_owned(), |u| brief(&u));
    let mut s = Section::new(
        format!(
            "node at block {}: tree {}, level {}, born {}, commit {}, {} slots, {} bytes free, \
             prefix {} bytes, fences {} to {upper}",
            visit.ptr.addr,
            page.tree(),
            page.level(),
            page.birth(),
            page.csn(),
            page.slots(),
            page.free_words() * 8,
            page.prefix_len(),
            brief(&page.lower()),
        ),
        &["slot", "key", "kind", "value"],
    );
    for i in 0..page.slots() {
        let e = page.entry(i);
        let (kind, value) = match e.kind {
            KIND_CHILD => ("child", pointer(page.child(i).ptr)),
            KIND_EXTENT => {
                let mut stored = Vec::new();
                page.copy_value(i, &mut stored);
                let pieces = stored.chunks(ExtentPtr::SIZE).filter_map(ExtentPtr::decode);
                let all: Vec<String> = pieces
                    .map(|p| format!("{} B at block {}", p.bytes, p.addr))
                    .collect();
                ("large", all.join(", "))
            }
            _ => ("value", format!("{} bytes", e.value_len)),
        };
        s.row(
            limit,
            vec![i.to_string(), brief(&page.key(i)), kind.to_owned(), value],
        );
    }
    s
}

pub(super) fn inspect(s: &Subject, options: &InspectOptions) -> Result<Inspection> {
    let mut shapes = Shapes {
        options,
        levels: BTreeMap::new(),
        damage: Vec::new(),
        node: None,
        entered: BTreeSet::new(),
    };
    let mut walker = Walker::new(s.device.as_ref(), s.geometry, &s.sb, DEPTH)?;
    let mut contents = walker.catalog(&s.sb, &mut shapes)?;
    if let Some(name) = &options.tree {
        contents.trees.retain(|e| e.name == *name);
        contents.doomed.clear();
        if contents.trees.is_empty() {
            return Err(Error::NoSuchTree(name.clone()));
        }
        shapes.levels.clear();
    }
    walker.walk(Walker::roots(&s.sb, &contents), &mut shapes)?;
    let entries = &contents.trees;

    let mut trees = Section::new("trees", &["name", "number", "root"]);
    if options.tree.is_none() {
        let row = vec![
            "(tree of trees)".into(),
            "0".into(),
            pointer(s.sb.catalog()),
        ];
        trees.row(options.limit, row);
    }
    for e in entries {
        let row = vec![e.name.clone(), e.id.to_string(), pointer(e.root)];
        trees.row(options.limit, row);
    }
    for d in &contents.doomed {
        let path: Vec<String> = d.path.iter().map(|(ptr, _)| pointer(*ptr)).collect();
        let row = vec!["(dropped)".into(), d.id.to_string(), path.join(" → ")];
        trees.row(options.limit, row);
    }
    let mut snapshots = Section::new(
        "named snapshots",
        &[
            "name",
            "generation",
            "commit",
            "tree of trees",
            "dead list",
            "blocks on it",
        ],
    );
    for h in &contents.held {
        let deleted = if h.deleted { " (deleted)" } else { "" };
        let row = vec![
            format!("{}{deleted}", h.name),
            h.generation.to_string(),
            h.csn.to_string(),
            pointer(h.catalog),
            pointer(h.dead),
            h.dead_blocks.to_string(),
        ];
        snapshots.row(options.limit, row);
    }
    let mut levels = Section::new(
        "levels, leaves are level 0",
        &[
            "tree",
            "level",
            "nodes",
            "bytes",
            "entries",
            "a node",
            "fill",
            "newest commit",
        ],
    );
    let size = u64::from(s.sb.block_size);
    let room = size - NodeHeader::SIZE as u64;
    for (&(id, level), l) in &shapes.levels {
        let name = match entries.iter().find(|e| e.id == id) {
            Some(e) => e.name.clone(),
            None if id == CATALOG => "(tree of trees)".to_owned(),
            None => id.to_string(),
        };
        let row = vec![
            name,
            level.to_string(),
            l.nodes.to_string(),
            bytes(l.nodes * size),
            l.entries.to_string(),
            format!("{:.1}", l.entries as f64 / l.nodes as f64),
            percent(l.nodes * room - l.free, l.nodes * room),
            // Nodes above the leaves keep none.
            if level == 0 {
                l.newest.to_string()
            } else {
                "-".into()
            },
        ];
        levels.row(options.limit, row);
    }
    let mut sections = vec![trees, levels];
    if !snapshots.rows.is_empty() {
        sections.insert(1, snapshots);
    }
    if !shapes.damage.is_empty() {
        let mut damage = Section::new("damage", &["what", "block", "tree", "detail"]);
        for d in &shapes.damage {
            let tree = d.tree.map_or_else(String::new, |t| t.to_string());
            let row = vec![d.what.into(), d.place.to_string(), tree, d.detail.clone()];
            damage.row(options.limit, row);
        }
        sections.push(damage);
    }
    if let Some(wanted) = options.node {
        let none = || Section::pairs(format!("no tree has a node at block {wanted}"));
        sections = vec![shapes.node.take().unwrap_or_else(none)];
    }
    Ok(Inspection {
        title: format!("trees of store {:032x}", s.sb.store_id),
        sections,
        ..Inspection::default()
    })
}
