//! Both superblock copies, field by field.

use crate::error::Result;
use crate::format::superblock::{FLAG_CLEAN, FLAG_SPARSE, Superblock};
use crate::format::{BlockPtr, Generation};
use crate::writeback::superblock::{facts, read_pair};

use super::{InspectOptions, Inspection, Section, Subject, bytes};

pub(super) fn inspect(s: &Subject, _: &InspectOptions) -> Result<Inspection> {
    let pair = read_pair(s.device.as_ref(), "device", false)?;
    let mut sections = Vec::new();
    for f in facts(s.device.as_ref(), &pair) {
        let mut section = Section::pairs(format!("copy {} at block {}", f.copy, f.place));
        section.pair("state", f.behind.as_deref().unwrap_or("verifies"));
        if let Some(sb) = &f.decoded {
            fields(&mut section, sb);
        }
        sections.push(section);
    }
    Ok(Inspection {
        title: format!("superblock of store {:032x}", s.sb.store_id),
        sections,
        ..Inspection::default()
    })
}

/// A pointer in a line.
pub(super) fn pointer(p: BlockPtr) -> String {
    if p.is_null() {
        return "none".to_owned();
    }
    format!(
        "block {}, {} block(s), born {}, checksum {:016x}",
        p.addr, p.len, p.birth, p.checksum
    )
}

fn fields(s: &mut Section, sb: &Superblock) {
    let size = u64::from(sb.block_size);
    let blocks = |n: u64| format!("{n} blocks, {}", bytes(n.saturating_mul(size)));
    s.pair("magic", String::from_utf8_lossy(&sb.magic.to_le_bytes()));
    s.pair("checksum", format!("{:016x}", sb.checksum));
    s.pair("version", sb.version);
    s.pair("block_size", bytes(size));
    s.pair("store_id", format!("{:032x}", sb.store_id));
    s.pair("compat", format!("{:#x}", sb.compat));
    s.pair("ro_compat", format!("{:#x}", sb.ro_compat));
    s.pair("incompat", format!("{:#x}", sb.incompat));
    s.pair("copy", sb.copy);
    s.pair("incarnation", sb.incarnation);
    s.pair("capacity", blocks(sb.capacity));
    s.pair("log_blocks", blocks(sb.log_blocks));
    s.pair("generation", sb.generation());
    s.pair("cut", format!("commit {}", sb.cut));
    s.pair("next_tree", sb.next_tree);
    s.pair("catalog_level", sb.catalog_level);
    s.pair("catalog", pointer(sb.catalog()));
    s.pair("map_slot", sb.map_slot);
    s.pair("map_untouched", yes(sb.map_untouched == 1));
    s.pair("map_generation", Generation(sb.map_generation));
    s.pair("map_checksum", format!("{:016x}", sb.map_checksum));
    s.pair("map_free", blocks(sb.map_free));
    s.pair("log_head", format!("position {}", sb.log_head));
    s.pair("log_chain", format!("{:016x}", sb.log_chain));
    s.pair("log_durable", format!("position {}", sb.log_durable));
    let method = gaur_iodriver::DurableMethod::from_code(sb.durable_method as u8);
    let method = method.map_or_else(|| "unknown".to_owned(), |m| format!("{m:?}"));
    s.pair(
        "durable_method",
        format!("{} ({method})", sb.durable_method),
    );
    let mut flags = Vec::new();
    for (flag, name) in [(FLAG_SPARSE, "sparse"), (FLAG_CLEAN, "closed cleanly")] {
        if sb.flags & flag != 0 {
            flags.push(name);
        }
    }
    s.pair("flags", format!("{:#x} ({})", sb.flags, flags.join(", ")));
    s.pair("created", super::date(sb.created));
}

pub(super) fn yes(is: bool) -> &'static str {
    if is { "yes" } else { "no" }
}
