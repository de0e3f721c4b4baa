//! Faults on purpose: bugs that a build can be told to have, so that a campaign can
//! be seen to find them.
//!
//! Only a build with `RUSTFLAGS="--cfg faults"` has any: in every other [`fault!`] is
//! the constant `false`, and this list is not compiled. Such a build behaves as ever
//! until the environment variable `GAUR_FAULT` names a fault when the process starts.
//!
//! A fault is what somebody might really get wrong: a step left out, two steps in the
//! wrong order, a comparison forgotten. It is at the place where the code does it
//! right.
//!
//! [`fault!`]: crate::fault

/// Whether the process has this fault; `false`, a constant, in an ordinary build.
#[cfg(not(faults))]
#[macro_export]
macro_rules! fault {
    ($name:ident) => {
        false
    };
}

/// Whether the process has this fault.
#[cfg(faults)]
#[macro_export]
macro_rules! fault {
    ($name:ident) => {
        $crate::faults::is($crate::faults::Fault::$name)
    };
}

#[cfg(faults)]
pub use registry::*;

#[cfg(faults)]
mod registry {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicBool, Ordering};

    /// Names the fault that the process has.
    pub const VARIABLE: &str = "GAUR_FAULT";
    /// What is written to standard error, before the name, when the faulty code is
    /// first reached.
    pub const AT_WORK: &str = "fault at work: ";

    macro_rules! registry {
        ($($fault:ident, $name:literal, $promises:literal, $what:literal;)*) => {
            /// A deliberate bug.
            #[derive(Clone, Copy, Debug, PartialEq, Eq)]
            pub enum Fault {
                $(#[doc = concat!($what, " Breaks ", $promises, ".")] $fault,)*
            }

            impl Fault {
                /// All there are.
                pub const ALL: &[Self] = &[$(Self::$fault),*];

                /// The name to choose it by.
                pub const fn name(self) -> &'static str {
                    match self { $(Self::$fault => $name,)* }
                }

                /// What is wrong.
                pub const fn what(self) -> &'static str {
                    match self { $(Self::$fault => $what,)* }
                }

                /// The promises of the design that it breaks.
                pub const fn promises(self) -> &'static str {
                    match self { $(Self::$fault => $promises,)* }
                }
            }
        };
    }

    registry! {
        // The order of durable things.
        NoFlushBeforeSuperblock, "no-flush-before-superblock", "P2, P5",
            "A checkpoint writes the superblock without a flush before it.";
        SuperblockBeforeNodes, "superblock-before-nodes", "P2, P5",
            "A checkpoint writes the superblock before the nodes that it leads to.";
        SecondSuperblockNotWritten, "second-superblock-not-written", "P2",
            "A checkpoint writes one superblock copy only.";
        SecondSuperblockNotFlushed, "second-superblock-not-flushed", "P2, P5",
            "The old generation's blocks are released before the second superblock copy is durable.";
        ReleasedBeforeSuperblock, "released-before-superblock", "P2, P5",
            "The old generation's blocks are released before the superblock is written.";
        LogTruncatedBeforeSuperblock, "log-truncated-before-superblock", "P2",
            "The log is truncated before the superblock that makes it superfluous is written.";
        CutOffByOne, "cut-off-by-one", "P2",
            "The superblock names the commit after the generation's last one as its cut.";
        IncarnationNotTaken, "incarnation-not-taken", "P2, P7",
            "Opening for writing takes no new incarnation.";
        AcknowledgedBeforeDurable, "acknowledged-before-durable", "P2",
            "A synchronous commit is acknowledged when it is appended.";
        LogWriteNotDurable, "log-write-not-durable", "P2",
            "Log blocks are written into the device's cache only.";
        AcknowledgedOutOfOrder, "acknowledged-out-of-order", "P2",
            "A log block's completion acknowledges those before it too.";
        BatchInTwoRecords, "batch-in-two-records", "P1",
            "The second half of a batch goes into a record of its own.";
        NoFlushBeforeExtents, "no-flush-before-extents", "P2, P7",
            "A record that names extents is written without a flush after them.";
        FailedNodeWriteIgnored, "failed-node-write-ignored", "P8",
            "A checkpoint goes on after a failed write of a node.";
        FailedLogWriteIgnored, "failed-log-write-ignored", "P8",
            "A failed write of the log counts as done.";
        // Recovery.
        LogChainNotCompared, "log-chain-not-compared", "P2",
            "Replay goes on with a log block that does not name the one before it.";
        ExtentsNotMarked, "extents-not-marked", "P2, P5",
            "Replay does not mark the extents that the log names before it allocates.";
        ReadOnlyWrites, "read-only-writes", "P9",
            "A read-only opening completes the superblock pair.";
        // Space.
        DiscardedBeforeDurable, "discarded-before-durable", "P2, P5",
            "What a generation frees is discarded at its freeze.";
        AllocatableDuringDiscard, "allocatable-during-discard", "P5",
            "Blocks are handed out while their discard is under way.";
        MapSlotNotChanged, "map-slot-not-changed", "P5",
            "Blocks of the space map are written over the slot that the superblock still names.";
        FreeCountStale, "free-count-stale", "P5",
            "The summary keeps a map block's old free count.";
        TreeOfTreesNotFreed, "tree-of-trees-not-freed", "P5",
            "The blocks of the old tree of trees are never freed.";
        MergedNodeNotFreed, "merged-node-not-freed", "P5",
            "The block of a node that was merged away is never freed.";
        NewRootNotNoted, "new-root-not-noted", "P5",
            "A new root's block is not noted as used.";
        ReservationLost, "reservation-lost", "P5",
            "A writer that loses a race for a node loses its reserved block too.";
        GrowthBeforeDurable, "growth-before-durable", "P5",
            "New capacity is handed out before the superblock says that it is there.";
        DeletesRefusedWhenFull, "deletes-refused-when-full", "P6",
            "A delete may not draw on the space that is kept for deletes.";
        ExtentFreedWhileViewed, "extent-freed-while-viewed", "P3",
            "An extent is reused although a scan may still look at it.";
        // Latches, gate, waiting.
        LatchReleasedEarly, "latch-released-early", "P1, P3",
            "A leaf's latch is released before the commit is applied.";
        SplitReleasesParentEarly, "split-releases-parent-early", "P3",
            "A split releases the parent before it has linked the new node.";
        ValidateAlwaysTrue, "validate-always-true", "P3",
            "An optimistic reader does not look at the latch's version again.";
        GateNotDrained, "gate-not-drained", "P1, P2",
            "A freeze does not wait for the writers inside the gate.";
        LostWakeUp, "lost-wake-up", "P4",
            "Releasing a latch does not look whether threads are parked on it.";
        WaitUnderLatch, "wait-under-latch", "P4",
            "A writer without a block waits for the allocator with its latches held.";
        // The tree.
        SplitAtTheWrongSide, "split-at-the-wrong-side", "P7",
            "A split leaves the record that equals the separator on the left.";
        RebalanceLosesRecord, "rebalance-loses-record", "P2",
            "Rebalancing loses the first record right of the new fence.";
        KeyBeyondHead, "key-beyond-head", "P2",
            "Keys with equal heads are compared from their ninth byte on.";
        ScanRepeatsMerged, "scan-repeats-merged", "P3",
            "A scan repeats records of a leaf that was merged with what it has passed.";
        // Versions.
        MergeKeepsLesserCsn, "merge-keeps-lesser-csn", "P3",
            "A merged leaf keeps the older of the two newest changes' numbers.";
        SplitForgetsCsn, "split-forgets-csn", "P3",
            "The right half of a split does not know its newest change.";
        LeafCsnNotNoted, "leaf-csn-not-noted", "P3",
            "A leaf's newest change is not noted in it.";
        BeforeImageNotKept, "before-image-not-kept", "P3",
            "What a change overwrites is not kept for the scans that began before.";
        BeforeImageDroppedEarly, "before-image-dropped-early", "P3",
            "What scans that are still open need is dropped.";
        // What is read is not looked at.
        NodeChecksumNotCompared, "node-checksum-not-compared", "P7",
            "A node's checksum is not compared.";
        ExtentChecksumNotCompared, "extent-checksum-not-compared", "P7",
            "A large value's checksum is not compared.";
        LogChecksumNotCompared, "log-checksum-not-compared", "P2, P7",
            "A log block's checksum is not compared.";
        MapChecksumNotCompared, "map-checksum-not-compared", "P7",
            "Checksums of the space map are not compared.";
    }

    impl Fault {
        /// The fault of this name.
        pub fn named(name: &str) -> Option<Self> {
            Self::ALL.iter().copied().find(|f| f.name() == name)
        }
    }

    /// The fault that the process has; none if the environment names none.
    ///
    /// # Panics
    /// If it names one that there is not.
    pub fn chosen() -> Option<Fault> {
        static CHOSEN: OnceLock<Option<Fault>> = OnceLock::new();
        *CHOSEN.get_or_init(|| {
            let name = std::env::var(VARIABLE).ok().filter(|n| !n.is_empty())?;
            let fault = Fault::named(&name);
            Some(fault.unwrap_or_else(|| panic!("{VARIABLE}={name}: there is no such fault")))
        })
    }

    /// Whether the process has this fault. Says so once.
    pub fn is(fault: Fault) -> bool {
        static SAID: AtomicBool = AtomicBool::new(false);
        let at_work = chosen() == Some(fault);
        if at_work && !SAID.swap(true, Ordering::Relaxed) {
            eprintln!("{AT_WORK}{}", fault.name());
        }
        at_work
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn names_are_unique() {
            for fault in Fault::ALL {
                assert_eq!(Fault::named(fault.name()), Some(*fault));
            }
        }
    }
}
