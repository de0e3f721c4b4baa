//! The contract suite: the same cases on every driver.
//!
//! Drivers on a temporary file always run. Those on loop devices need root and
//! `losetup`; where that is missing they print why and pass.

#[path = "../common/loopdev.rs"]
mod loopdev;
mod subject;
mod suite;

use subject::Subject;

/// One module of tests per subject, one test per case.
macro_rules! contract {
    ($($name:ident => $make:expr;)*) => {
        $(contract!(@module $name, $make,
            batch_completes_and_returns_buffers
            written_is_read_back
            lone_reads_and_writes
            out_of_range_is_refused
            misaligned_is_refused
            unaligned_memory_is_refused
            flush_and_durable_writes_complete
            discard_as_the_geometry_says
            discards_give_space_back_where_they_may
            more_requests_than_the_depth
            drop_with_requests_in_flight
            drop_waits_for_what_it_started
            drop_on_another_thread
            moves_to_its_owner_before_use
            held_back_requests_go_on_by_themselves
            durable_writes_reach_the_medium
            wake_before_wait
            wake_during_wait
            wakes_are_merged
            a_look_leaves_the_wake
            a_wake_comes_with_completions_in_flight
            waker_outlives_its_queue
            timeouts
            an_idle_wait_takes_no_processor_time
            returns_at_once_if_too_few_in_flight
            queues_side_by_side
            large_transfers
            reads_under_writes_are_whole_sectors
            counts
            methods_can_be_chosen
            durability_is_measured
        );)*
    };
    (@module $name:ident, $make:expr, $($case:ident)*) => {
        mod $name {
            use super::*;
            $(#[test]
            fn $case() {
                if let Some(subject) = $make {
                    suite::$case(&subject);
                }
            })*
        }
    };
}

contract! {
    sim_512 => Subject::sim(512);
    sim_4096 => Subject::sim(4096);
    sim_slow => Subject::slow_sim();
    sim_delayed => Subject::sim(4096).map(Subject::delayed);
    uring_delayed => Subject::file("uring", true).map(Subject::delayed);
    uring_file => Subject::file("uring", false);
    uring_sparse_file => Subject::file("uring", true);
    psync_file => Subject::file("psync", false);
    psync_sparse_file => Subject::file("psync", true);
    uring_loop_512 => Subject::loop_device("uring", 512);
    uring_loop_4096 => Subject::loop_device("uring", 4096);
    psync_loop_512 => Subject::loop_device("psync", 512);
    psync_loop_4096 => Subject::loop_device("psync", 4096);
}
