//! Whether a history is serializable.
//!
//! Keys hold lists, and a write appends a value that nobody else appends (*list-append*,
//! K. Kingsbury and P. Alvaro, "Elle: Inferring Isolation Anomalies from Experimental
//! Observations", 2020). So each read tells which writes came before it and in which
//! order, and the direct dependencies of Adya's theory follow without a look at the
//! engine's own order: *ww* to whoever appends next, *wr* to whoever reads it, *rw*
//! from whoever reads it to whoever appends next. A history is serializable if they
//! form no cycle (A. Adya, "Weak Consistency", 1999).

use std::collections::{BTreeMap, HashMap};

/// A value that was appended; unique.
pub(super) type Id = u64;

/// A transaction that committed.
#[derive(Clone, Debug, Default)]
pub(super) struct Done {
    pub(super) csn: u64,
    /// What it read of others: the whole list of each key.
    pub(super) reads: Vec<(usize, Vec<Id>)>,
    /// What it appended, in order.
    pub(super) appends: Vec<(usize, Id)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Edge {
    Ww,
    Wr,
    Rw,
}

/// The dependencies between the transactions of a history.
#[derive(Debug)]
pub(super) struct Graph {
    edges: Vec<Vec<(usize, Edge)>>,
}

impl Graph {
    /// Infers them. `last` is what each key holds at the end.
    ///
    /// # Errors
    /// What no order of whole transactions can explain: a value of none of them, one that
    /// vanished, half of one.
    pub(super) fn of(all: &[Done], last: &BTreeMap<usize, Vec<Id>>) -> Result<Self, String> {
        let mut by: HashMap<Id, (usize, bool)> = HashMap::new();
        for (t, done) in all.iter().enumerate() {
            for (i, (key, id)) in done.appends.iter().enumerate() {
                let final_one = done.appends[i + 1..].iter().all(|(k, _)| k != key);
                by.insert(*id, (t, final_one));
            }
        }
        let mut edges = vec![Vec::new(); all.len()];
        let mut add = |from: usize, to: usize, edge| {
            if from != to {
                edges[from].push((to, edge));
            }
        };
        for (key, list) in last {
            for id in list {
                if !by.contains_key(id) {
                    return Err(format!("key {key} holds {id}, which nobody committed"));
                }
            }
            for pair in list.windows(2) {
                add(by[&pair[0]].0, by[&pair[1]].0, Edge::Ww);
            }
        }
        let none = Vec::new();
        for (t, done) in all.iter().enumerate() {
            for (key, id) in &done.appends {
                if !last.get(key).unwrap_or(&none).contains(id) {
                    return Err(format!("{id}, committed to key {key}, is lost"));
                }
            }
            for (key, list) in &done.reads {
                let order = last.get(key).unwrap_or(&none);
                if !order.starts_with(list) {
                    return Err(format!("key {key} was read as {list:?}, is {order:?}"));
                }
                if let Some(id) = list.last() {
                    let (writer, final_one) = by[id];
                    if !final_one {
                        return Err(format!("key {key} was read in the midst, at {id}"));
                    }
                    add(writer, t, Edge::Wr);
                }
                if let Some(next) = order.get(list.len()) {
                    add(t, by[next].0, Edge::Rw);
                }
            }
        }
        Ok(Self { edges })
    }

    /// A cycle, if there is one: then no serial order explains the history.
    pub(super) fn cycle(&self) -> Option<Vec<(usize, Edge)>> {
        cycle(&self.edges)
    }

    /// A cycle without two *rw* in a row, which snapshot isolation never has (A. Fekete
    /// et al., "Making Snapshot Isolation Serializable", 2005).
    pub(super) fn cycle_beyond_skew(&self) -> Option<Vec<(usize, Edge)>> {
        let plain = |e: &&(usize, Edge)| e.1 != Edge::Rw;
        let steps = self.edges.iter().map(|from| {
            let after = from.iter().flat_map(|&(to, edge)| match edge {
                Edge::Rw => self.edges[to]
                    .iter()
                    .filter(plain)
                    .map(|&(beyond, _)| (beyond, Edge::Rw))
                    .collect(),
                _ => vec![(to, edge)],
            });
            after.collect()
        });
        cycle(&steps.collect::<Vec<_>>())
    }
}

/// A cycle of a graph, by depth-first search.
fn cycle(edges: &[Vec<(usize, Edge)>]) -> Option<Vec<(usize, Edge)>> {
    // 0: not seen; 1: on the way; 2: leads to none.
    let mut state = vec![0u8; edges.len()];
    for start in 0..edges.len() {
        if state[start] != 0 {
            continue;
        }
        let mut way = vec![(start, 0usize, Edge::Ww)];
        state[start] = 1;
        while let Some((at, next, _)) = way.last_mut() {
            let Some(&(to, edge)) = edges[*at].get(*next) else {
                state[*at] = 2;
                way.pop();
                continue;
            };
            *next += 1;
            match state[to] {
                0 => {
                    state[to] = 1;
                    way.push((to, 0, edge));
                }
                1 => {
                    let from = way.iter().position(|w| w.0 == to).expect("on the way");
                    let behind = way[from + 1..].iter().map(|w| (w.0, w.2));
                    return Some(behind.chain([(to, edge)]).collect());
                }
                _ => {}
            }
        }
    }
    None
}

/// Whether the history is what its transactions do one after another, in the order of
/// their commits: the order that is promised. One that wrote nothing comes behind the
/// commit it looked at.
pub(super) fn in_order_of_commits(all: &[Done]) -> Result<(), String> {
    let mut order: Vec<&Done> = all.iter().collect();
    order.sort_by_key(|done| (done.csn, done.appends.is_empty()));
    let mut now: BTreeMap<usize, Vec<Id>> = BTreeMap::new();
    for done in order {
        for (key, list) in &done.reads {
            let held = now.entry(*key).or_default();
            if held != list {
                return Err(format!(
                    "commit {} read {list:?} of key {key}, which held {held:?} then",
                    done.csn
                ));
            }
        }
        for (key, id) in &done.appends {
            now.entry(*key).or_default().push(*id);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn done(csn: u64, reads: &[(usize, &[Id])], appends: &[(usize, Id)]) -> Done {
        Done {
            csn,
            reads: reads.iter().map(|(k, l)| (*k, l.to_vec())).collect(),
            appends: appends.to_vec(),
        }
    }

    fn last(lists: &[(usize, &[Id])]) -> BTreeMap<usize, Vec<Id>> {
        lists.iter().map(|(k, l)| (*k, l.to_vec())).collect()
    }

    #[test]
    fn write_skew_is_a_cycle_that_snapshot_isolation_allows() {
        let all = [
            done(1, &[(0, &[]), (1, &[])], &[(0, 10)]),
            done(2, &[(0, &[]), (1, &[])], &[(1, 20)]),
        ];
        let graph = Graph::of(&all, &last(&[(0, &[10]), (1, &[20])])).unwrap();
        assert_eq!(graph.cycle().map(|c| c.len()), Some(2));
        assert_eq!(graph.cycle_beyond_skew(), None);
        assert!(in_order_of_commits(&all).is_err());
    }

    #[test]
    fn a_lost_update_read_skew_and_a_serial_history() {
        // Both read key 0 as it was; the order of the appends says the rest.
        let lost = [
            done(1, &[(0, &[])], &[(0, 10)]),
            done(2, &[(0, &[])], &[(0, 20)]),
        ];
        let graph = Graph::of(&lost, &last(&[(0, &[10, 20])])).unwrap();
        assert!(graph.cycle().is_some() && graph.cycle_beyond_skew().is_some());
        // The second sees half of what the first did.
        let skew = [
            done(1, &[], &[(0, 10), (1, 11)]),
            done(2, &[(0, &[10]), (1, &[])], &[]),
        ];
        let graph = Graph::of(&skew, &last(&[(0, &[10]), (1, &[11])])).unwrap();
        assert!(graph.cycle_beyond_skew().is_some());
        let serial = [
            done(1, &[(0, &[])], &[(0, 10)]),
            done(2, &[(0, &[10])], &[(0, 20), (0, 21)]),
            done(2, &[(0, &[10, 20, 21])], &[]),
        ];
        let graph = Graph::of(&serial, &last(&[(0, &[10, 20, 21])])).unwrap();
        assert_eq!(graph.cycle(), None);
        in_order_of_commits(&serial).unwrap();
    }

    #[test]
    fn what_was_aborted_lost_or_halved_is_told() {
        let of = |reads: &[(usize, &[Id])], held: &[Id]| {
            let all = [done(1, &[], &[(0, 1), (0, 2)]), done(2, reads, &[])];
            Graph::of(&all, &last(&[(0, held)])).map(drop)
        };
        of(&[(0, &[1, 2])], &[1, 2]).unwrap();
        assert!(of(&[(0, &[1])], &[1, 2]).unwrap_err().contains("midst"));
        assert!(of(&[], &[1, 2, 3]).unwrap_err().contains("nobody"));
        assert!(of(&[], &[1]).unwrap_err().contains("lost"));
        assert!(
            of(&[(0, &[2])], &[1, 2])
                .unwrap_err()
                .contains("was read as")
        );
    }
}
