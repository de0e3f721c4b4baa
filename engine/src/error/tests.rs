//! Every error has a test that has the engine produce it: an error without one does
//! not compile, and a test that is not there fails.

use std::path::Path;

use super::Error;
use crate::alloc::SpaceError;
use crate::log::Refused;

/// For each variant the file and the test. The match is never run; it makes the list
/// complete.
macro_rules! produced_by {
    ($list:ident, $error:ident: $($variant:ident => $file:literal $test:literal,)*) => {
        const $list: &[(&str, &str, &str)] = &[
            $((stringify!($variant), $file, $test),)*
        ];
        const _: fn(&$error) = |e| match e {
            $($error::$variant { .. } => {})*
        };
    };
}

produced_by! { ERRORS, Error:
    Io => "tests/faults/main.rs" "the_nth_read_fails_once_and_then_succeeds",
    Damaged => "tests/damage.rs" "every_node_is_found_by_check_and_on_read",
    Full => "tests/concurrency/limits.rs" "a_full_store_says_so_and_space_comes_back",
    Stopped => "tests/faults/main.rs" "the_nth_write_fails",
    OutcomeUnknown => "tests/stale.rs" "two_futures_from_one_point_never_mix",
    KeyTooLong => "tests/errors.rs" "a_key_that_is_too_long_is_refused_wherever_it_is_given",
    ValueTooLong => "tests/errors.rs" "a_value_that_is_too_long_is_refused",
    NoMergeOperator => "tests/writing/merge.rs" "what_is_merged_is_read_and_lasts_without_the_operator",
    Merge => "tests/writing/merge.rs" "an_operator_that_refuses_or_panics_changes_nothing",
    OutOfOrder => "tests/writing/bulk.rs" "records_out_of_order_are_refused_and_others_go_on",
    Source => "tests/writing/streamed.rs" "a_source_that_fails_changes_nothing",
    BatchTooLarge => "tests/errors.rs" "a_batch_larger_than_a_record_may_be_is_refused",
    BatchTooWide => "tests/concurrency/limits.rs" "a_batch_larger_than_the_cache_is_refused",
    ReplayMemory => "tests/dirty/mod.rs" "too_little_memory_is_said_at_once_and_how_much_will_do",
    NotAStore => "tests/stale.rs" "a_format_that_was_cut_off_leaves_the_old_store_whole_or_none",
    UnknownFormat => "tests/errors.rs" "what_only_a_newer_gaur_knows_is_refused",
    Foreign => "tests/stale.rs" "what_was_made_over_a_store_is_not_made_a_store_again",
    TooSmall => "tests/errors.rs" "a_device_that_is_too_small_is_not_formatted",
    CannotGrow => "tests/growth/mod.rs" "a_growth_that_fails_stops_nothing",
    Shrunk => "tests/growth/mod.rs" "what_cannot_be_is_refused",
    BadOption => "tests/concurrency/memory.rs" "a_budget_out_of_bounds_is_refused",
    ReadOnly => "tests/dirty/mod.rs" "the_smallest_cache_sees_what_recovery_leaves_and_writes_nothing",
    NoSuchTree => "tests/errors.rs" "trees_have_one_name_each",
    TreeExists => "tests/errors.rs" "trees_have_one_name_each",
    NoSuchSnapshot => "tests/saved.rs" "snapshots_have_one_name_each",
    SnapshotExists => "tests/saved.rs" "snapshots_have_one_name_each",
    SnapshotInUse => "tests/saved.rs" "what_a_clone_came_from_stays",
    FrozenTree => "tests/saved.rs" "a_snapshot_does_not_change",
    TreeDropped => "tests/trees.rs" "a_dropped_tree_is_gone_for_all_who_hold_it",
    ViewTooOld => "tests/concurrency/snapshots.rs" "a_scan_held_open_sees_the_old_state",
    ChangesGone => "tests/feed/slow.rs" "a_feed_may_lag_by_a_lap_of_the_log_and_hears_when_it_lags_more",
    ValueGone => "tests/feed/slow.rs" "no_writer_is_refused_for_a_feed",
    TooManyThreads => "tests/errors.rs" "more_threads_than_there_are_places_for_are_told_so",
    Interrupted => "tests/stale.rs" "a_format_discards_all_but_the_superblocks_and_only_when_nothing_forbids_it",
    Conflict => "tests/transactions/basics.rs" "it_is_run_again_until_it_commits_or_gives_up",
    NoSuchSavepoint => "tests/transactions/basics.rs" "savepoints_go_back_and_are_released",
    OtherStore => "tests/batches.rs" "a_tree_of_another_store_is_refused",
    WrongType => "tests/typed.rs" "a_record_of_other_types_is_told_and_passed_over",
    Closed => "tests/concurrency/stopping.rs" "a_scan_ends_with_its_store",
    Forked => "tests/process/fork.rs" "children_are_refused",
}

produced_by! { SPACE, SpaceError:
    Full => "src/alloc/tests/serving.rs" "an_extent_larger_than_a_group_comes_in_few_pieces",
    AfterGeneration => "src/alloc/tests/serving.rs" "says_full_and_after_which_generation",
    Io => "src/alloc/tests/damage.rs" "unreadable_map_blocks_cost_only_their_groups",
    Damaged => "src/alloc/tests/damage.rs" "a_damaged_map_block_is_told_and_rebuilt",
    Stopped => "src/alloc/tests/serving.rs" "shutdown_answers_who_waits",
}

produced_by! { REFUSED, Refused:
    Full => "src/log/tests/threads.rs" "a_full_log_refuses_and_draws_nothing",
    Stopped => "src/log/tests/threads.rs" "a_failed_write_stops_the_log_and_takes_nothing_back",
    Moved => "src/log/tests/hold.rs" "a_record_follows_the_one_it_is_to_follow_or_is_not_appended",
    Held => "src/log/tests/hold.rs" "with_the_hold_the_last_csn_stands_still",
    TooLarge => "src/log/tests/threads.rs" "a_full_log_refuses_and_draws_nothing",
}

#[test]
fn every_error_has_a_test_that_produces_it() {
    for (variant, file, test) in ERRORS.iter().chain(SPACE).chain(REFUSED) {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
        let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{file}: {e}"));
        assert!(
            text.contains(&format!("fn {test}(")),
            "{file} has no test {test}"
        );
        assert!(text.contains(variant), "{file} does not name {variant}");
    }
}

#[test]
fn errors_say_what_to_do() {
    let none = Error::NotAStore {
        path: "/dev/x".into(),
        detail: "no superblock".into(),
        signatures: Vec::new(),
    };
    assert_eq!(
        none.to_string(),
        "/dev/x: no gaur store here (no superblock); `gaur format` makes one"
    );
    let full = |pinned| Error::Full {
        needed: 8,
        free: 3,
        pinned,
    };
    assert!(!full(0).to_string().contains("open scans"), "{}", full(0));
    let held = full(5).to_string();
    assert!(
        held.contains("5 held by open scans until they end"),
        "{held}"
    );
    let damage = super::Damage::new("node", 9, "checksum differs").in_tree(4);
    assert_eq!(
        Error::from(damage).to_string(),
        "damage in node of tree 4 at block 9: checksum differs; `gaur check` lists all there is"
    );
}
