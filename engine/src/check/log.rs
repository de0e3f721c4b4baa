//! The log behind the checkpoint: read as recovery would.

use crate::error::{Damage, Error, Result};
use crate::format::Csn;
use crate::format::superblock::FLAG_CLEAN;
use crate::log::{LogOp, Ops};
use crate::overlay::Rules;
use crate::recovery::{head_of, log_reader};
use crate::writeback::catalog::CatalogEntry;

use super::Checker;
use super::ledger::Claim;
use super::pieces::Piece;
use super::report::LogFacts;

impl Checker<'_> {
    pub(super) fn log(&mut self, entries: &[CatalogEntry]) -> Result<()> {
        self.progress("log", 0);
        self.report.log = LogFacts {
            head: head_of(&self.sb),
            region: self.sb.log_blocks,
            last_csn: self.sb.cut,
            durable: self.sb.log_durable,
            ..LogFacts::default()
        };
        let mut reader = log_reader(&self.device, &self.sb)?;
        if self.sb.flags & FLAG_CLEAN != 0 {
            reader = reader.closed_cleanly();
        }
        let trees = entries.iter().map(|e| (e.id, e.name.as_str()));
        let mut rules = Rules::new(self.geometry, trees, self.snapshots.clone());
        loop {
            match reader.next_record() {
                Ok(Some(record)) => {
                    self.report.log.commits_to_replay += 1;
                    self.report.log.ops += u64::from(record.count);
                    self.report.log.last_csn = record.csn;
                    for op in Ops::new(record.ops) {
                        match op {
                            Ok(op) => self.op(record.csn, &op, &mut rules)?,
                            Err(why) => self.bad_op(record.csn, why),
                        }
                    }
                }
                Ok(None) => break,
                Err(Error::Damaged(damage)) => {
                    self.problem(damage);
                    break;
                }
                Err(Error::Io(e)) => {
                    let head = self.geometry.log_pieces().first().map_or(0, |p| p.start);
                    self.problem(Damage::new("log block", head, e.to_string()));
                    break;
                }
                Err(e) => return Err(e),
            }
        }
        self.report.log.tail = reader.tail();
        self.report.log.incarnation = reader.incarnation();
        let (clean, left) = (
            self.sb.flags & FLAG_CLEAN != 0,
            self.report.log.commits_to_replay,
        );
        if clean && left > 0 {
            let detail = format!("closed cleanly, but {left} commits lie in the log behind it");
            self.problem(Damage::new("superblock", 0, detail));
        }
        self.verify_pieces()
    }

    fn bad_op(&mut self, csn: Csn, why: impl std::fmt::Display) {
        let head = self.geometry.log_pieces().first().map_or(0, |p| p.start);
        self.problem(Damage::new(
            "log record",
            head,
            format!("commit {csn}: {why}"),
        ));
    }

    fn op(&mut self, csn: Csn, op: &LogOp<'_>, rules: &mut Rules) -> Result<()> {
        if let Err(why) = rules.check(op) {
            self.bad_op(csn, why);
        }
        let (tree, key, extents) = match *op {
            LogOp::PutExtent { tree, key, extents } => (tree, key, extents),
            LogOp::LoadTree {
                tree, root, runs, ..
            } => return self.loads(csn, tree, root, runs),
            _ => return Ok(()),
        };
        for ptr in extents.iter() {
            let run = ptr.run(self.geometry.block_size);
            if !self.geometry.is_data(run) {
                continue;
            }
            let before = self.ledger.claim(run, Claim::Log);
            if before.taken > 0 {
                self.report.blocks.doubly_used += u64::from(before.taken);
                let detail = format!(
                    "commit {csn} in the log names {} blocks that are in use already",
                    before.taken
                );
                let damage = Damage::new("large value", before.first, detail);
                self.problem(damage.in_tree(tree));
            }
            self.report.log.extents.push(run);
            self.pieces.add(Piece {
                ptr,
                tree,
                leaf: 0,
                key: key.to_vec(),
            });
        }
        Ok(())
    }
}
