//! The space map: its index, and each group.

use crate::alloc::MapView;
use crate::error::{Damage, Result};
use crate::format::Generation;
use crate::format::geometry::INDEX_LEVELS;
use crate::format::space::IndexEntry;
use crate::walk::Deep;

use super::{InspectOptions, Inspection, Section, Subject, bytes, percent};

fn state(entry: &IndexEntry) -> &'static str {
    if entry.untouched == 1 {
        "untouched"
    } else if MapView::is_lost(entry) {
        "lost"
    } else {
        "written"
    }
}

fn cells(level: u32, number: u64, place: u64, entry: &IndexEntry, state: &str) -> Vec<String> {
    vec![
        level.to_string(),
        number.to_string(),
        place.to_string(),
        entry.slot.to_string(),
        Generation(entry.generation).to_string(),
        format!("{:016x}", entry.checksum),
        entry.free.to_string(),
        state.to_owned(),
    ]
}

pub(super) fn inspect(s: &Subject, options: &InspectOptions) -> Result<Inspection> {
    let g = &s.geometry;
    let map = MapView::read(s.device.as_ref(), *g, &s.sb)?;
    let mut facts = Section::pairs("map");
    facts.pair("groups", g.groups());
    facts.pair("blocks in a group", g.group_blocks());
    facts.pair("blocks", g.capacity);
    let free = s.sb.map_free;
    let size = u64::from(s.sb.block_size);
    facts.pair(
        "free",
        format!("{free} blocks, {}", bytes(free.saturating_mul(size))),
    );
    facts.pair("free of all", percent(free, g.capacity));
    facts.pair("damaged groups", map.damaged().len());

    let columns = [
        "level",
        "number",
        "block",
        "slot",
        "generation",
        "checksum",
        "free",
        "state",
    ];
    let mut index = Section::new("index blocks, the root first", &columns);
    for level in (1..=INDEX_LEVELS).rev() {
        for number in 0..g.index_count(level) {
            let entry = map.entry(level, number);
            let row = cells(
                level,
                number,
                map.place(level, number),
                &entry,
                state(&entry),
            );
            index.row(options.limit, row);
        }
    }

    let mut groups = Section::new("groups", &columns);
    let shown: Vec<u64> = (0..g.groups())
        .filter(|n| options.all || map.entry(0, *n).untouched == 0)
        .collect();
    let mut deep = Deep::new(s.device.as_ref(), 32)?;
    for batch in shown.chunks(16) {
        let read = |n: &u64| map.entry(0, *n).untouched == 0 && !map.damaged().contains_key(n);
        for n in batch.iter().filter(|n| read(n)) {
            deep.read(g.byte(map.place(0, *n)), g.block_size as usize);
        }
        for n in batch {
            let entry = map.entry(0, *n);
            let said = if read(n) {
                let place = map.place(0, *n);
                let io = |e: gaur_iodriver::IoError| Damage::new("map block", place, e.to_string());
                let checked = deep.take()?.map_err(io).and_then(|b| map.bits(*n, &b));
                checked.map_or_else(|d| d.detail, |_| "verifies".to_owned())
            } else if let Some(damage) = map.damaged().get(n) {
                damage.detail.clone()
            } else {
                state(&entry).to_owned()
            };
            groups.row(options.limit, cells(0, *n, map.place(0, *n), &entry, &said));
        }
    }
    Ok(Inspection {
        title: format!("space map of store {:032x}", s.sb.store_id),
        sections: vec![facts, index, groups],
        ..Inspection::default()
    })
}
