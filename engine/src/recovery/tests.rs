//! What a superblock may say, to the number.

use gaur_iodriver::{SimDisk, SimOptions};

use super::*;
use crate::format::Generation;

const BLOCKS: u64 = 1000;

fn device(blocks: u64) -> Arc<dyn Device> {
    SimDisk::new(SimOptions {
        capacity: blocks * 4096,
        ..SimOptions::default()
    })
    .device()
}

fn good() -> Superblock {
    Superblock {
        block_size: 4096,
        capacity: BLOCKS,
        log_blocks: 100,
        incarnation: 3,
        generation: Generation::first(3).0,
        ..Superblock::default()
    }
}

#[test]
fn a_superblock_that_cannot_be_is_damage() {
    let device = device(BLOCKS);
    let damaged = |set: &dyn Fn(&mut Superblock)| {
        let mut sb = good();
        set(&mut sb);
        match geometry_of(&sb, device.as_ref()) {
            Ok(_) => false,
            Err(Error::Damaged(_)) => true,
            Err(e) => panic!("{e}"),
        }
    };
    let far = 1 << 62;
    assert!(!damaged(&|_| ()));
    // The log begins behind the second superblock, block 256.
    assert!(!damaged(&|sb| sb.log_blocks = BLOCKS - 257));
    assert!(damaged(&|sb| sb.log_blocks = BLOCKS - 256));
    assert!(damaged(&|sb| sb.log_blocks = u64::MAX));
    assert!(damaged(&|sb| sb.capacity = 256));
    assert!(damaged(&|sb| (sb.capacity, sb.log_blocks) = (0, 0)));
    assert!(damaged(&|sb| sb.capacity = 1 << ADDR_BITS));
    assert!(!damaged(&|sb| (sb.map_slot, sb.map_untouched) = (1, 1)));
    assert!(damaged(&|sb| sb.map_slot = 2));
    assert!(damaged(&|sb| sb.map_untouched = 2));
    assert!(!damaged(&|sb| sb.catalog_level = 255));
    assert!(damaged(&|sb| sb.catalog_level = 256));
    for set in [
        (|sb, n| sb.cut = n) as fn(&mut Superblock, u64),
        |sb, n| sb.log_head = n,
        |sb, n| sb.log_durable = n,
    ] {
        assert!(!damaged(&|sb| set(sb, far - 1)));
        assert!(damaged(&|sb| set(sb, far)));
        assert!(damaged(&|sb| set(sb, u64::MAX)));
    }
    assert!(!damaged(&|sb| sb.incarnation = u32::MAX - 1));
    assert!(damaged(&|sb| sb.incarnation = u32::MAX));
    // The generation may be of an earlier incarnation, the map of an earlier generation.
    assert!(!damaged(&|sb| sb.generation = Generation::first(2).0));
    assert!(damaged(&|sb| sb.generation = Generation::first(4).0));
    assert!(!damaged(&|sb| sb.map_generation = sb.generation));
    assert!(damaged(&|sb| sb.map_generation = sb.generation + 1));
}

#[test]
fn a_device_may_be_larger_and_not_smaller() {
    let sb = good();
    for blocks in [BLOCKS, BLOCKS + 1] {
        let geometry = geometry_of(&sb, device(blocks).as_ref()).unwrap();
        assert_eq!((geometry.capacity, geometry.log_blocks), (BLOCKS, 100));
    }
    let small = geometry_of(&sb, device(BLOCKS - 1).as_ref());
    let (need, have) = (BLOCKS * 4096, (BLOCKS - 1) * 4096);
    match small {
        Err(Error::Shrunk { need: n, have: h }) => assert_eq!((n, h), (need, have)),
        other => panic!("{other:?}"),
    }
}
