//! The bookkeeping beside a vector of block states, through random operations
//! and crashes.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use gaur_iodriver::sync::rng::{self, Rng};
use rand::RngExt;
use rand::seq::SliceRandom;

use super::{config, index};
use crate::alloc::change::{Change, Sorted};
use crate::alloc::pick::Answer;
use crate::alloc::runs::RunList;
use crate::alloc::space::Space;
use crate::alloc::{AllocConfig, Changes, MapRoot, Request, Shape, SpaceError, Urgency};
use crate::format::geometry::INDEX_LEVELS;
use crate::format::{Generation, Geometry, Run};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Fixed,
    Free,
    Out,
    Used,
    Kept,
    Discarding,
}

struct Model {
    rng: Rng,
    config: AllocConfig,
    space: Space,
    disk: HashMap<u64, Vec<u8>>,
    root: MapRoot,
    generation: Generation,
    states: Vec<State>,
    /// States at the last durable superblock: only `Used` matters.
    durable: Vec<State>,
    out: Vec<Run>,
    /// Handed out and linked: reported at the next freeze.
    linked: Vec<Run>,
    used: Vec<Run>,
    /// Used by the frozen generation, or linked, and freed since.
    freed: Vec<Run>,
    kept: Vec<Run>,
    discarding: Vec<RunList>,
    durable_used: Vec<Run>,
}

impl Model {
    fn new(seed: u64, groups: u64) -> Self {
        let config = config(groups);
        let root = MapRoot::fresh(&config.geometry);
        let g = config.geometry;
        let mut states = vec![State::Free; g.capacity as usize];
        for group in 0..g.groups() {
            for run in g.fixed_ranges(group) {
                states[run.start as usize..run.end() as usize].fill(State::Fixed);
            }
        }
        Self {
            rng: rng::seeded(seed),
            space: Space::new(&config, index(&config, root), BTreeMap::new()),
            config,
            disk: HashMap::new(),
            root,
            generation: Generation::first(1),
            durable: states.clone(),
            states,
            out: vec![],
            linked: vec![],
            used: vec![],
            freed: vec![],
            kept: vec![],
            discarding: vec![],
            durable_used: vec![],
        }
    }

    fn turn(&mut self, run: Run, from: State, to: State) {
        for block in run.start..run.end() {
            let state = &mut self.states[block as usize];
            assert_eq!(*state, from, "block {block} of {run:?}, to become {to:?}");
            *state = to;
        }
    }

    fn load(&mut self, group: u64) {
        if self.space.cold(group) {
            let place = self.space.index.place((0, group));
            self.space.load(group, &self.disk[&place]).unwrap();
        }
    }

    /// A random part of a random run of the list, taken out of it.
    fn some(rng: &mut Rng, list: &mut Vec<Run>) -> Option<Run> {
        if list.is_empty() {
            return None;
        }
        let run = list.swap_remove(rng.random_range(0..list.len()));
        let (a, b) = (rng.random_range(0..run.len), rng.random_range(1..=run.len));
        if a >= b || rng.random() {
            return Some(run);
        }
        let piece = |from, to| Run {
            start: run.start + u64::from(from),
            len: to - from,
        };
        list.extend(
            [piece(0, a), piece(b, run.len)]
                .iter()
                .filter(|r| r.len > 0),
        );
        Some(piece(a, b))
    }

    fn granted(&mut self, runs: Vec<Run>) {
        for run in runs {
            self.turn(run, State::Free, State::Out);
            self.out.push(run);
        }
    }

    fn take(&mut self) {
        let max = self.rng.random_range(1..=16);
        if let Some(run) = self.space.take_run(max) {
            assert!(run.len <= max);
            self.granted(vec![run]);
        } else if let Some(group) = self.space.load_ahead(crate::alloc::pick::Life::Nodes) {
            self.load(group);
        }
    }

    fn reserve(&mut self) {
        let shape = match self.rng.random_range(0..3) {
            0 => Shape::Nodes,
            1 => Shape::Extent { max_pieces: 1 },
            _ => Shape::Extent { max_pieces: 5 },
        };
        let most = [10, 300, 9000][self.rng.random_range(0..3)];
        let request = Request {
            blocks: self.rng.random_range(1..=most),
            shape,
            hint: self.rng.random_range(0..self.config.geometry.capacity),
            urgency: Urgency::Normal,
        };
        let mut looked = BTreeSet::new();
        let free = self.states.iter().filter(|s| **s == State::Free).count() as u64;
        loop {
            match self.space.reserve(&request, &looked) {
                Answer::Granted(runs) => {
                    let sum: u32 = runs.iter().map(|r| r.len).sum();
                    assert_eq!(sum, request.blocks);
                    if let Shape::Extent { max_pieces } = shape {
                        assert!(runs.len() <= max_pieces);
                        assert!(
                            runs.is_sorted_by_key(|r| std::cmp::Reverse(r.len)) || runs.len() > 1
                        );
                        assert!(runs.iter().all(|r| self.config.geometry.is_data(*r)));
                    }
                    self.granted(runs);
                    return;
                }
                Answer::Load(groups) => {
                    for group in groups {
                        assert!(looked.insert(group), "looked at group {group} twice");
                        self.load(group);
                    }
                }
                Answer::Wait => {
                    assert!(!self.discarding.is_empty());
                    return;
                }
                Answer::Refused(SpaceError::Full { free: said, .. }) => {
                    assert_eq!(said, free);
                    assert!(free < u64::from(request.blocks) || shape != Shape::Nodes);
                    return;
                }
                Answer::Refused(e) => panic!("{e}"),
            }
        }
    }

    fn unneeded(&mut self, run: Run, from: State) {
        if self.rng.random() {
            self.turn(run, from, State::Discarding);
            self.space.discarding.insert(run);
            self.discarding.push(RunList::new(vec![run]));
        } else {
            self.turn(run, from, State::Free);
            self.space.make_free(run);
        }
    }

    fn give_back(&mut self) {
        if let Some(run) = Self::some(&mut self.rng, &mut self.out) {
            self.space.give_back(run);
            self.unneeded(run, State::Out);
        }
        if let Some(run) = Self::some(&mut self.rng, &mut self.kept) {
            self.space.give_back(run);
            self.unneeded(run, State::Kept);
        }
    }

    fn change(&mut self) {
        for _ in 0..self.rng.random_range(0..4) {
            if let Some(run) = Self::some(&mut self.rng, &mut self.out) {
                self.linked.push(run);
            }
            if let Some(run) = Self::some(&mut self.rng, &mut self.used) {
                self.freed.push(run);
            }
        }
    }

    /// Freezes; with `crash` the superblock is never written.
    fn checkpoint(&mut self, crash: bool) {
        self.generation = self.generation.next();
        let generation = self.generation;
        let used = std::mem::take(&mut self.linked);
        let mut freed = std::mem::take(&mut self.freed);
        let mut live = used.clone();
        if let Some(run) = Self::some(&mut self.rng, &mut live) {
            freed.push(run); // born and freed within the generation
        }
        let changes = Changes {
            used: used.clone(),
            freed: freed.clone(),
        };
        let mut sorted = Sorted::new(&self.config.geometry, changes).unwrap();
        self.space.begin(generation, sorted.freed).unwrap();
        let before = self.config.geometry;
        let grown = self.grow(generation, &mut sorted.groups);
        let longer = grown.and(Some(before.groups() - 1));
        for (group, change) in sorted.groups {
            self.load(group);
            let mut block = vec![0xAA; 4096];
            let place = self
                .space
                .apply(group, &change, generation, &mut block)
                .unwrap();
            self.disk.insert(place, block);
            self.space.written(group);
            if self.rng.random_range(0..4) == 0 {
                // As in a freeze: what must still be written stays.
                self.space.evict(0, |g| Some(g) == longer && g > group);
            }
        }
        let disk = &mut self.disk;
        self.space.index.write(generation, |place, fill| {
            let mut block = vec![0xAA; 4096];
            fill(&mut block);
            disk.insert(place, block);
        });
        if crash {
            return self.crash();
        }
        if let Some(to) = grown {
            self.grown(to);
        }
        self.root = self.space.index.root();
        self.used.extend(live);
        for &run in &used {
            self.turn(run, State::Out, State::Used);
        }
        for &run in &freed {
            self.turn(run, State::Used, State::Kept);
        }
        self.durable.clone_from(&self.states);
        self.durable_used.clone_from(&self.used);
        let mut keep = Vec::new();
        if self.rng.random() {
            keep.extend(Self::some(&mut self.rng, &mut freed));
        }
        for run in self.space.release(generation, keep.clone()).runs() {
            self.unneeded(*run, State::Kept);
        }
        self.kept.extend(keep);
    }

    /// Sometimes the generation takes new capacity in.
    fn grow(
        &mut self,
        generation: Generation,
        changes: &mut BTreeMap<u64, Change>,
    ) -> Option<Geometry> {
        let g = self.config.geometry;
        let more = [1, 70, 20_000, 50_000][self.rng.random_range(0..4)];
        // Of a log that does not fit, growth would find more.
        let log: u64 = g.log_pieces().iter().map(|p| u64::from(p.len)).sum();
        if self.rng.random_range(0..5) > 0 || g.groups() > 6 || log < g.log_blocks {
            return None;
        }
        let to = g.grown(g.byte(g.capacity + more))?;
        if let Some(last) = self.space.lengthened(&to) {
            self.load(last);
        }
        if let Some((group, run)) = self.space.grow(generation, to) {
            changes.entry(group).or_default().freed.push(run);
        }
        Some(to)
    }

    /// A growth is durable: what is won waits for the release.
    fn grown(&mut self, to: Geometry) {
        let old = self.config.geometry.groups();
        self.states.resize(to.capacity as usize, State::Kept);
        for run in (old..to.groups()).flat_map(|group| to.fixed_ranges(group)) {
            self.states[run.start as usize..run.end() as usize].fill(State::Fixed);
        }
        self.config.geometry = to;
    }

    /// Forgets all that is in memory, and loads what the root says.
    fn crash(&mut self) {
        let mut index = index(&self.config, self.root);
        for level in (1..=INDEX_LEVELS).rev() {
            let count = self.config.geometry.index_count(level);
            for at in (0..count).map(|n| (level, n)) {
                if index.entry(at).untouched == 0 {
                    let place = index.place(at);
                    index.read(at, &self.disk[&place]).unwrap();
                }
            }
        }
        self.space = Space::new(&self.config, index, BTreeMap::new());
        for (state, durable) in self.states.iter_mut().zip(&self.durable) {
            *state = match durable {
                State::Used | State::Fixed => *durable,
                _ => State::Free,
            };
        }
        self.used.clone_from(&self.durable_used);
        for list in [
            &mut self.out,
            &mut self.linked,
            &mut self.freed,
            &mut self.kept,
        ] {
            list.clear();
        }
        self.discarding.clear();
        if self.rng.random() {
            let extent = self.space.take_run(16);
            if let Some(run) = extent {
                self.space.undo(&[run]);
                self.space.mark(run);
                self.space.mark(run);
                self.granted(vec![run]);
            }
        }
    }

    /// Free blocks are lent to a discard, as by a trim.
    fn lend(&mut self) {
        if let Some(run) = self.space.take_run(40) {
            self.space.undo(&[run]);
            self.turn(run, State::Free, State::Discarding);
            self.space.lend(run);
            self.discarding.push(RunList::new(vec![run]));
        }
    }

    fn discarded(&mut self) {
        self.discarding.shuffle(&mut self.rng);
        while let Some(list) = self.discarding.pop() {
            for &run in list.runs() {
                self.turn(run, State::Discarding, State::Free);
            }
            self.space.discarded(&list);
            if self.rng.random() {
                break;
            }
        }
    }

    fn check(&mut self) {
        let g = self.config.geometry;
        let mut free = 0;
        for group in 0..g.groups() {
            let start = g.group_start(group) as usize;
            let states = &self.states[start..start + g.group_len(group) as usize];
            let avail = states.iter().filter(|s| **s == State::Free).count();
            assert_eq!(self.space.groups[group as usize].avail as usize, avail);
            free += avail as u64;
            let Some(loaded) = self.space.loaded.get(&group) else {
                continue;
            };
            for (i, state) in (0u32..).zip(states) {
                let expect = match state {
                    State::Fixed | State::Used => (true, true),
                    State::Free => (false, false),
                    _ => (false, true),
                };
                let is = (loaded.map.all_set(i, 1), loaded.alloc.all_set(i, 1));
                // What is freed and not frozen is still in the map.
                assert_eq!(is, expect, "block {i} of group {group}: {state:?}");
            }
            let out = states.iter().filter(|s| **s == State::Out).count();
            assert_eq!(loaded.out as usize, out);
        }
        assert_eq!(self.space.avail, free);
    }
}

fn run(seed: u64, groups: u64, steps: u32) {
    println!("seed {seed}");
    let mut m = Model::new(seed, groups);
    for step in 0..steps {
        match m.rng.random_range(0..100) {
            0..30 => m.take(),
            30..50 => m.reserve(),
            50..65 => m.give_back(),
            65..82 => m.change(),
            82..85 => m.lend(),
            85..90 => m.discarded(),
            90..93 => drop(m.space.evict(0, |_| false)),
            93..98 => m.checkpoint(false),
            98 => m.checkpoint(true),
            _ => m.crash(),
        }
        if step % 20 == 0 {
            m.check();
        }
    }
    m.checkpoint(false);
    m.crash();
    m.check();
}

#[test]
fn agrees_with_the_model() {
    for groups in [0, 1, 3] {
        let seed = rng::fresh_seed();
        run(seed, groups, 3000);
    }
}

#[test]
fn agrees_with_the_model_from_known_seeds() {
    for seed in 0..4 {
        run(seed, 2, 1500);
    }
}
