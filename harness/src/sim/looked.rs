//! What the scans and transactions of a world saw: each the state at one commit, in
//! order, with every large value whole.

use gaur::{Csn, Scan};
use gaur_iodriver::sync::{thread, time::Duration};

use super::oracle::Expected;
use super::script::{Value, key};

/// Records between which a scan lets others work.
const STRIDE: usize = 6;
/// For so long.
const PAUSE: Duration = Duration::from_micros(300);

/// What a serializable transaction read before it wrote.
#[derive(Clone, Debug, Default)]
pub(crate) struct ReadSet {
    /// The commit it became.
    pub(crate) csn: Csn,
    pub(crate) reads: Vec<(u8, u32, Option<Vec<u8>>)>,
}

impl ReadSet {
    /// Whether that is what there was just before its commit.
    pub(crate) fn judge(&self, expected: &Expected) -> Result<(), String> {
        let state = expected.state_at(self.csn - 1);
        for (tree, n, found) in &self.reads {
            let right = state.get(tree).and_then(|records| records.get(n));
            if *found != right.map(|value| value.bytes()) {
                let len = |v: Option<usize>| v.map_or("nothing".into(), |n| format!("{n} bytes"));
                return Err(format!(
                    "TRANSACTION: commit {} read {} at key {n} of tree {tree}, {} was there",
                    self.csn,
                    len(found.as_ref().map(Vec::len)),
                    len(right.map(|value| value.len)),
                ));
            }
        }
        Ok(())
    }
}

/// What one scan saw.
#[derive(Clone, Debug)]
pub(crate) struct Looked {
    csn: Csn,
    tree: u8,
    reverse: bool,
    records: Vec<(Vec<u8>, Vec<u8>)>,
    /// It came to its end, and not to that of its patience.
    whole: bool,
}

impl Looked {
    /// Takes so many records, now and then leaving time for changes.
    pub(crate) fn take(
        scan: Scan,
        tree: u8,
        reverse: bool,
        most: usize,
    ) -> Result<Self, gaur::Error> {
        let csn = scan.csn();
        let mut scan = if reverse { scan.rev() } else { scan };
        let mut looked = Self {
            csn,
            tree,
            reverse,
            records: Vec::new(),
            whole: false,
        };
        while looked.records.len() < most {
            let Some(record) = scan.next() else {
                looked.whole = true;
                break;
            };
            looked.records.push(record?);
            if looked.records.len().is_multiple_of(STRIDE) {
                thread::sleep(PAUSE);
            }
        }
        Ok(looked)
    }

    /// Whether that is what there was.
    pub(crate) fn judge(&self, expected: &Expected) -> Result<(), String> {
        let (csn, tree) = (self.csn, self.tree);
        let state = expected.state_at(csn);
        let mut right: Vec<(Vec<u8>, Value)> = state
            .get(&tree)
            .into_iter()
            .flatten()
            .map(|(&n, &value)| (key(n), value))
            .collect();
        right.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        if self.reverse {
            right.reverse();
        }
        let wrong = |what: String| {
            let way = if self.reverse { "backwards " } else { "" };
            Err(format!("SCAN: {way}of tree {tree} at commit {csn}: {what}"))
        };
        for (i, (found, value)) in self.records.iter().enumerate() {
            match right.get(i) {
                None => return wrong(format!("{} records, {} are right", i + 1, right.len())),
                Some((key, _)) if key != found => {
                    let [found, key] = [found, key].map(|k| String::from_utf8_lossy(k));
                    return wrong(format!("record {i} is {found}, {key} is right"));
                }
                Some((key, right)) if right.bytes() != *value => {
                    let key = String::from_utf8_lossy(key);
                    return wrong(format!("{key} has the value of another commit"));
                }
                Some(_) => {}
            }
        }
        if self.whole && self.records.len() < right.len() {
            let n = self.records.len();
            return wrong(format!("{n} records, {} are right", right.len()));
        }
        Ok(())
    }
}
