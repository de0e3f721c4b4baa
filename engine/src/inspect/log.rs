//! The log: what recovery would read, and each log block of the region.

use crate::error::Result;
use crate::format::log::FLAG_SKIP;
use crate::log::LogWalk;
use crate::recovery::log_reader;

use super::superblock::yes;
use super::{InspectOptions, Inspection, Section, Subject, bytes};

pub(super) fn inspect(s: &Subject, options: &InspectOptions) -> Result<Inspection> {
    let sb = &s.sb;
    let mut facts = Section::pairs("what the next open reads");
    let size = u64::from(sb.block_size);
    facts.pair("region", bytes(sb.log_blocks.saturating_mul(size)));
    for piece in s.geometry.log_pieces() {
        facts.pair(
            "piece",
            format!("blocks {}–{}", piece.start, piece.end() - 1),
        );
    }
    facts.pair("head", format!("position {}", sb.log_head));
    facts.pair("durable", format!("position {}", sb.log_durable));
    facts.pair("cut", format!("commit {}", sb.cut));
    let mut reader = log_reader(&s.device, sb)?;
    let (mut commits, mut ops) = (0u64, 0u64);
    let end = loop {
        match reader.next_record() {
            Ok(Some(r)) => {
                commits += 1;
                ops += u64::from(r.count);
            }
            Ok(None) => break "whole".to_owned(),
            Err(e) => break e.to_string(),
        }
    };
    let position = reader.position();
    facts.pair("commits to replay", commits);
    facts.pair("operations in them", ops);
    facts.pair("end", format!("position {position}"));
    facts.pair("used", bytes((position - sb.log_head).saturating_mul(size)));
    facts.pair("state", end);

    let mut blocks = Section::new(
        "log blocks in the region, by place",
        &[
            "block",
            "position",
            "blocks",
            "commits",
            "first",
            "incarnation",
            "durable_through",
            "kind",
            "verifies",
            "follows",
            "to replay",
        ],
    );
    for found in LogWalk::new(s.device.clone(), s.geometry, sb.store_id)? {
        let f = found?;
        let h = f.header;
        let live = f.verifies && h.position >= sb.log_head && h.position < position;
        blocks.row(
            options.limit,
            vec![
                f.place.to_string(),
                h.position.to_string(),
                h.blocks.to_string(),
                h.records.to_string(),
                h.first_csn.to_string(),
                h.incarnation.to_string(),
                h.durable_through.to_string(),
                if h.flags & FLAG_SKIP != 0 {
                    "skip"
                } else {
                    "records"
                }
                .to_owned(),
                yes(f.verifies).to_owned(),
                yes(f.follows).to_owned(),
                yes(live).to_owned(),
            ],
        );
    }
    Ok(Inspection {
        title: format!("log of store {:032x}", sb.store_id),
        sections: vec![facts, blocks],
        ..Inspection::default()
    })
}
