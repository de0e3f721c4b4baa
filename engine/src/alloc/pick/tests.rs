//! Which blocks are chosen, to the block, with groups set up by hand.

use std::collections::BTreeMap;

use super::super::MapRoot;
use super::super::runs::RunList;
use super::super::tests::{config, index};
use super::*;
use crate::format::Generation;

/// Whole groups and a short one, all free, none in memory.
fn space(whole: u64) -> Space {
    let config = config(whole);
    let root = MapRoot::fresh(&config.geometry);
    Space::new(&config, index(&config, root), BTreeMap::new())
}

/// Hands out all of a group but these runs of it, from block and length.
fn leave(s: &mut Space, group: u64, free: &[(u32, u32)]) {
    let all: Vec<_> = {
        let alloc = &s.open(group).alloc;
        alloc.zero_runs(0, alloc.len()).collect()
    };
    for (start, len) in all {
        let l = Local { group, start, len };
        s.hand_out(l);
    }
    for &(start, len) in free {
        let run = s.global(Local { group, start, len });
        s.undo(&[run]);
    }
    // Known by looking, as after a search.
    let longest = s.open(group).alloc.longest().map_or(0, |l| l.1);
    s.groups[group as usize].longest = longest;
}

/// Makes a group one that must be read, with so many free blocks.
fn chill(s: &mut Space, group: u64, avail: u32, longest: u32) {
    s.fresh.remove(&group);
    s.loaded.remove(&group);
    let g = &mut s.groups[group as usize];
    (g.avail, g.longest, g.cold) = (avail, longest, true);
}

fn request(blocks: u32, hint: BlockNo, shape: Shape) -> Request {
    Request {
        blocks,
        shape,
        hint,
        urgency: Urgency::Normal,
    }
}

fn granted(s: &mut Space, r: Request) -> Vec<Run> {
    match s.reserve(&r, &BTreeSet::new()) {
        Answer::Granted(runs) => runs,
        other => panic!("{other:?}"),
    }
}

fn run(start: BlockNo, len: u32) -> Run {
    Run { start, len }
}

const ONE: Shape = Shape::Extent { max_pieces: 1 };

#[test]
fn blocks_near_a_hint_are_from_there_on_or_else_in_its_group() {
    let mut s = space(3);
    let start = s.geometry.group_start(1);
    // From the hint on.
    assert_eq!(
        granted(&mut s, request(4, start + 5000, Shape::Nodes)),
        [run(start + 5000, 4)]
    );
    assert_eq!(
        granted(&mut s, request(9, start + 9000, ONE)),
        [run(start + 9000, 9)]
    );
    // Behind it there is none: before it.
    leave(&mut s, 1, &[(100, 7)]);
    assert_eq!(
        granted(&mut s, request(7, start + 9000, ONE)),
        [run(start + 100, 7)]
    );
    // Not in its group: where the cursor is.
    let elsewhere = granted(&mut s, request(7, start + 9000, ONE));
    assert_ne!(s.geometry.group_of(elsewhere[0].start), 1);
    // No hint, or none that can be.
    for hint in [0, s.geometry.capacity] {
        assert_eq!(granted(&mut s, request(1, hint, Shape::Nodes)).len(), 1);
    }
}

#[test]
fn behind_the_cursor_come_the_next_groups_and_then_the_same_again() {
    for own in [0, 1] {
        let mut s = space(3);
        for group in 0..3 {
            leave(&mut s, group, &[(200, 5)]);
        }
        leave(&mut s, 3, &[]);
        s.cursor = [
            s.geometry.group_start(own) + 1000,
            s.geometry.group_start(3),
        ];
        let taken: Vec<_> = std::iter::from_fn(|| s.take_run(5)).collect();
        let groups: Vec<_> = taken.iter().map(|r| s.geometry.group_of(r.start)).collect();
        assert_eq!(groups, [1, 2, 0].map(|g| (g + own) % 3));
        assert!(taken.iter().all(|r| r.len == 5));
    }
}

#[test]
fn an_extent_in_pieces_takes_the_longest_runs_first() {
    let mut s = space(2);
    leave(&mut s, 0, &[(2000, 10), (2100, 40)]);
    leave(&mut s, 1, &[(300, 30)]);
    leave(&mut s, 2, &[]);
    let pieces = |max_pieces| Shape::Extent { max_pieces };
    let before = s.avail;
    // Two pieces are not enough; nothing is kept of them.
    let refused = s.reserve(&request(75, 0, pieces(2)), &BTreeSet::new());
    assert!(matches!(refused, Answer::Refused(_)), "{refused:?}");
    assert_eq!(s.avail, before);
    let runs = granted(&mut s, request(75, 0, pieces(5)));
    let other = s.geometry.group_start(1);
    assert_eq!(runs, [run(2100, 40), run(other + 300, 30), run(2000, 5)]);
}

#[test]
fn of_cold_groups_those_that_promise_most_are_read() {
    let mut s = space(5);
    for (group, avail, longest) in [(0, 50, 10), (1, 40, 30), (2, 60, 20), (3, 70, 9)] {
        chill(&mut s, group, avail, longest);
    }
    let cold =
        |want, looked: &[u64], most| s.cold_groups(want, &looked.iter().copied().collect(), most);
    // By the longest run; what has exactly so long a run counts.
    assert_eq!(cold(10, &[], 8), [1, 2, 0]);
    assert_eq!(cold(11, &[], 8), [1, 2]);
    assert_eq!(cold(10, &[], 2), [1, 2]);
    assert_eq!(cold(10, &[1], 8), [2, 0]);
    assert_eq!(cold(31, &[], 8), [0; 0]);
    // For a single block, by all that is free.
    assert_eq!(cold(1, &[], 8), [3, 2, 0, 1]);
    assert_eq!(cold(1, &[2], 2), [3, 0]);
}

#[test]
fn who_is_refused_for_the_pieces_is_told_what_to_wait_for() {
    let mut s = space(1);
    s.open(0);
    let r = request(10, 0, ONE);
    let full = |a: Answer| match a {
        Answer::Refused(SpaceError::Full {
            needed: 10,
            free: 3,
        }) => true,
        Answer::Refused(SpaceError::AfterGeneration { .. }) => false,
        other => panic!("{other:?}"),
    };
    assert!(full(s.scattered(&r, 3)));
    // The first generation that frees something.
    let (one, two) = (Generation::first(1), Generation::first(1).next());
    s.pending.insert(one, RunList::default());
    assert!(full(s.scattered(&r, 3)));
    s.pending.insert(two, RunList::new(vec![run(1500, 2)]));
    match s.scattered(&r, 3) {
        Answer::Refused(SpaceError::AfterGeneration {
            generation,
            needed: 10,
            free: 3,
        }) => {
            assert_eq!(generation, two);
        }
        other => panic!("{other:?}"),
    }
    // A discard ends by itself.
    s.lend(run(2000, 2));
    assert!(matches!(s.scattered(&r, 3), Answer::Wait));
}

#[test]
fn a_group_is_read_ahead_when_the_one_in_use_runs_low() {
    const PLENTY: u32 = 32_256 / 8;
    // Groups by what is free, the cold ones marked; the cursor in the third.
    let ahead = |groups: [(u32, bool); 5]| {
        let mut s = space(4);
        for (group, (avail, cold)) in (0..).zip(groups) {
            if cold {
                chill(&mut s, group, avail, avail);
            } else {
                s.groups[group as usize].avail = avail;
            }
        }
        s.cursor[Life::Nodes as usize] = s.geometry.group_start(2) + 17;
        s.load_ahead(Life::Nodes)
    };
    let (ready, cold) = (|n| (n, false), |n| (n, true));
    let none = ready(0);
    // There is enough, just so.
    assert_eq!(
        ahead([cold(9000), none, ready(PLENTY), cold(9000), none]),
        None
    );
    // There is not: the next that has it, round the end.
    let low = ready(PLENTY - 1);
    assert_eq!(ahead([cold(9000), none, low, cold(PLENTY), none]), Some(3));
    assert_eq!(ahead([cold(9000), none, low, none, none]), Some(0));
    assert_eq!(ahead([none, cold(PLENTY), low, none, none]), Some(1));
    // It is in memory already.
    assert_eq!(ahead([cold(9000), none, low, ready(PLENTY), none]), None);
    // The one at the cursor itself, if it must be read.
    assert_eq!(ahead([none, none, cold(PLENTY), cold(9000), none]), Some(2));
    // None has plenty: the one with most, the nearest of two, if that is more than here.
    let here = ready(100);
    assert_eq!(
        ahead([cold(300), cold(200), here, cold(250), cold(300)]),
        Some(4)
    );
    assert_eq!(ahead([cold(300), ready(400), here, none, none]), Some(0));
    assert_eq!(ahead([cold(101), none, here, none, none]), Some(0));
    assert_eq!(ahead([cold(100), none, here, none, none]), None);
    assert_eq!(ahead([none, none, cold(90), cold(80), none]), Some(2));
    assert_eq!(ahead([none, none, none, none, none]), None);
}
