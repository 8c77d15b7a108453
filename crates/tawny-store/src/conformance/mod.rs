//! What every engine must do, as tests: run them with [`conformance_suite!`](crate::conformance_suite).
//!
//! A case gets a [`Place`] of its own, opens the store there, and may close and open it again.

pub mod announcing;
pub mod counting;
pub mod deleting;
mod feed;
pub mod random;
pub mod reading;
pub mod scanning;
pub mod writing;

use std::sync::Arc;

use async_trait::async_trait;

pub use self::feed::{Feed, Line, T0, filter, newest, oldest, search_all, stream, times};
use crate::LogStore;

/// Where a store lives, for one test: an empty directory, a bucket prefix.
#[async_trait]
pub trait Place: Send + Sync {
    /// Opens the store of this place; what an earlier one stored here is still there.
    ///
    /// At most one is open at a time, as far as the suite goes: it drops a store before it opens the next.
    async fn open(&self) -> Arc<dyn LogStore>;
}

/// Makes one test of each case; `$place` is an expression for a fresh [`Place`].
#[macro_export]
macro_rules! conformance_suite {
    ($place:expr) => {
        $crate::conformance_suite!(@cases $place;
            writing {
                what_was_written_is_found_at_once
                entry_comes_back_exactly_as_it_was_written
                repeated_batch_is_stored_once
                overlapping_batch_is_trimmed
                batch_behind_a_hole_is_refused_and_names_the_end
                replaced_writer_is_fenced_and_may_resume
                resume_answers_end_and_mark_of_each_stream
                several_batches_of_a_call_are_answered_in_order
                batch_without_entries_moves_the_end
                stream_end_and_entries_outlive_a_restart
                metadata_that_comes_late_is_seen_on_earlier_entries
                metadata_once_known_is_not_wiped_out_by_a_reader_that_knows_less
                appended_repeats_are_dropped
                appended_entries_have_no_stream_end
                strange_text_comes_back_byte_for_byte
                huge_message_is_stored_and_found
                too_large_entry_is_refused_and_nothing_of_the_call_is_stored
                twenty_attributes_keep_their_order
                times_far_from_now_are_kept_to_the_nanosecond
                many_writers_at_once_lose_nothing
            }
            announcing {
                subscriber_sees_each_entry_once_and_as_search_shows_it
                subscriber_gets_no_duplicates_of_a_replay
            }
            reading {
                newest_come_first_and_oldest_when_asked
                lines_of_one_instant_keep_their_order
                range_takes_its_start_and_leaves_its_end_to_the_nanosecond
                long_entries_make_short_pages
                pages_neither_skip_nor_repeat
                pages_hold_while_lines_are_written
                limit_out_of_range_is_refused
                get_finds_by_id_and_nothing_else
                words_phrases_prefixes_and_parts_are_found
                colour_codes_are_ignored
                fields_of_streams_are_found
                attributes_are_found_by_text_and_number
                attribute_values_that_are_not_in_the_message_are_found
                nothing_in_a_query_is_syntax
                many_streams_are_told_apart
            }
            scanning {
                scan_gives_what_search_lists
                scan_without_columns_counts_rows
                scan_sees_what_was_just_written
            }
            counting {
                histogram_counts_by_bucket_and_severity
                histogram_of_odd_buckets_and_cut_minutes_is_exact
                histogram_with_too_many_buckets_is_refused
                facets_are_ordered_by_count_then_value
                counts_agree_with_what_is_listed
                stats_say_how_much_and_from_when_to_when
            }
            deleting {
                older_entries_go_and_the_rest_stays
                deleted_lines_are_not_admitted_again
                deleted_words_are_no_longer_counted
                age_limit_deletes_what_is_older
                size_limit_deletes_the_oldest_and_shrinks_the_store
                namespaces_have_ages_of_their_own
                retention_without_limits_deletes_nothing
                writers_and_readers_go_on_during_retention
            }
            random {
                engine_answers_as_the_matcher_does
                any_sequence_of_calls_agrees_with_a_plain_model
            }
        );
    };
    (@cases $place:expr; $($group:ident { $($case:ident)+ })+) => {
        $(mod $group {
            use super::*;

            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                $crate::conformance::$group::$case(&$place).await;
            })+
        })+
    };
}
