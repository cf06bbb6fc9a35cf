//! The stories of the whole system on real containerd, one after the other on one cluster of three nodes.
//!
//! `cargo test -p tests-system --test system -- NAME` tells only those with `NAME` in their name.
#![expect(clippy::print_stdout, reason = "each story says how it ended, as the usual test runner does")]

#[path = "stories/addresses.rs"]
mod addresses;
#[path = "stories/attached.rs"]
mod attached;
#[path = "stories/autoscaling.rs"]
mod autoscaling;
#[path = "stories/companions.rs"]
mod companions;
#[path = "stories/content.rs"]
mod content;
#[path = "stories/control_plane.rs"]
mod control_plane;
#[path = "stories/datagrams.rs"]
mod datagrams;
#[path = "stories/dependencies.rs"]
mod dependencies;
#[path = "stories/docker.rs"]
mod docker;
#[path = "stories/faults.rs"]
mod faults;
#[path = "stories/http_ports.rs"]
mod http_ports;
#[path = "stories/intruders.rs"]
mod intruders;
#[path = "stories/ipv6.rs"]
mod ipv6;
#[path = "stories/jobs.rs"]
mod jobs;
#[path = "stories/keys.rs"]
mod keys;
#[path = "stories/mounts.rs"]
mod mounts;
#[path = "stories/moves.rs"]
mod moves;
#[path = "stories/names.rs"]
mod names;
#[path = "stories/network.rs"]
mod network;
#[path = "stories/nodes.rs"]
mod nodes;
#[path = "stories/operation.rs"]
mod operation;
#[path = "stories/partitions.rs"]
mod partitions;
#[path = "stories/placement.rs"]
mod placement;
#[path = "stories/probes.rs"]
mod probes;
#[path = "stories/published.rs"]
mod published;
#[path = "stories/reach.rs"]
mod reach;
#[path = "stories/relays.rs"]
mod relays;
#[path = "stories/releases.rs"]
mod releases;
#[path = "stories/requests.rs"]
mod requests;
#[path = "stories/stage.rs"]
mod stage;
#[path = "stories/tables.rs"]
mod tables;
#[path = "stories/tunnels.rs"]
mod tunnels;

use std::{
    env,
    panic::{AssertUnwindSafe, catch_unwind},
    process::ExitCode,
    time::Instant,
};

use stage::{Outcome, Stage};
use tests_system::cluster::state;

/// One story: what it shows, and how.
type Story = (&'static str, fn(&mut Stage) -> Outcome);

const STORIES: &[Story] = &[
    ("replicas_are_placed_on_distinct_nodes_and_balanced", operation::replicas_are_placed_and_balanced),
    ("a_killed_process_is_started_again_in_place", operation::a_killed_process_is_started_again),
    ("scaling_up_and_down_moves_nothing_else", operation::scaling_moves_nothing_else),
    ("a_service_grows_under_load_and_goes_back", autoscaling::a_service_grows_under_load_and_goes_back),
    ("a_service_grows_by_the_connections_that_are_opened_to_it", autoscaling::a_service_grows_by_its_connections),
    ("a_daemon_runs_once_on_each_matching_node", operation::a_daemon_runs_once_on_each_node),
    ("names_are_found_from_inside_with_and_without_a_scheduler", names::names_are_found_from_inside),
    ("names_are_found_by_programs_of_glibc_and_musl", names::names_are_found_by_both_c_libraries),
    ("a_name_server_of_the_node_keeps_its_port", names::a_name_server_of_the_node_keeps_its_port),
    ("a_service_that_asks_for_it_is_reached_by_ipv6", ipv6::a_service_is_reached_by_ipv6),
    ("ports_of_the_nodes_answer_by_ipv6_where_and_whom_they_shall", ipv6::ports_answer_where_and_whom_they_shall),
    ("a_published_http_port_outlives_its_processes", http_ports::a_published_http_port_outlives_its_processes),
    ("only_ports_of_the_nodes_lead_to_a_workload_that_wants_it", published::only_ports_lead_to_a_workload),
    ("who_has_a_port_that_is_published_is_named", published::who_has_a_port_is_named),
    ("a_workload_admits_only_whom_it_names", network::a_workload_admits_whom_it_names),
    ("the_network_is_verified_and_what_is_broken_is_named", network::the_network_is_verified),
    ("services_by_datagrams_are_verified_as_far_as_can_be_known", network::services_by_datagrams_are_verified),
    ("a_drained_node_gives_everything_away", operation::a_drained_node_gives_everything_away),
    ("a_cordoned_node_takes_nothing_and_keeps_what_it_has", operation::a_cordoned_node_takes_nothing),
    ("every_look_is_answered_and_changes_nothing", operation::every_look_is_answered),
    ("an_image_from_a_file_runs_without_a_registry", operation::an_image_from_a_file_runs),
    ("output_is_read_through_the_agents_connection", operation::output_is_read),
    ("commands_run_in_an_instance_and_say_how_they_ended", relays::commands_run_in_an_instance),
    ("who_does_not_read_stalls_the_command_and_nothing_grows", relays::who_does_not_read_stalls_the_command),
    ("what_runs_for_a_person_ends_with_that_person", relays::what_runs_for_a_person_ends_with_that_person),
    ("a_process_is_spoken_with_and_outlives_who_speaks", attached::a_process_is_spoken_with),
    ("a_terminal_is_left_and_found_again", attached::a_terminal_is_left_and_found_again),
    (
        "a_command_is_run_with_an_input_and_with_a_terminal",
        attached::a_command_is_run_with_an_input_and_with_a_terminal,
    ),
    ("connections_and_files_reach_an_instance", relays::connections_and_files_reach_an_instance),
    ("a_power_cut_is_survived_and_the_return_disturbs_nobody", nodes::a_power_cut_is_survived),
    ("addresses_never_collide_or_leak_whatever_is_killed", addresses::addresses_never_collide_or_leak),
    (
        "a_removed_node_takes_a_key_with_it_that_is_not_used_any_more",
        keys::a_removed_node_takes_a_key_with_it_that_is_not_used_any_more,
    ),
    ("an_agent_killed_and_started_again_restarts_nothing", nodes::an_agent_restarts_nothing),
    ("containerd_killed_and_started_again_restarts_nothing", nodes::containerd_restarts_nothing),
    ("a_container_removed_behind_the_agents_back_comes_again", nodes::a_removed_container_comes_again),
    ("a_scheduler_killed_during_applies_loses_nothing_it_acknowledged", control_plane::nothing_acknowledged_is_lost),
    ("a_process_dies_while_the_scheduler_is_away", control_plane::a_process_dies_without_a_scheduler),
    (
        "what_runs_once_ends_itself_on_a_node_that_is_cut_off_before_its_successor_starts",
        partitions::what_runs_once_ends_itself_before_its_successor_starts,
    ),
    ("a_node_reboots_while_the_scheduler_is_away", control_plane::a_node_reboots_without_a_scheduler),
    ("a_secret_is_shown_where_it_is_used_and_nowhere_else", content::a_secret_is_shown_where_it_is_used),
    ("what_instances_are_shown_changes_by_replacement_or_signal", content::what_is_shown_is_replaced_or_signalled),
    (
        "init_steps_come_first_and_sidecars_live_beside_their_main_process",
        companions::steps_come_first_and_sidecars_live_beside,
    ),
    (
        "a_start_waits_for_others_on_this_node_and_another",
        dependencies::a_start_waits_for_others_on_this_node_and_another,
    ),
    ("a_job_runs_until_it_is_done_and_fails_when_its_tries_are_used_up", jobs::a_job_runs_until_it_is_done),
    ("a_job_is_done_once_while_the_scheduler_is_away", jobs::a_job_is_done_once_without_a_scheduler),
    ("a_pinned_job_is_begun_by_its_nodes_clock_while_the_scheduler_is_away", jobs::a_pinned_job_is_begun_by_its_node),
    ("a_command_is_run_and_its_end_is_that_of_the_program", jobs::a_command_is_run_and_its_end_is_ours),
    ("a_job_waits_for_its_schedule_or_for_a_person", jobs::a_job_waits_for_its_schedule_or_for_a_person),
    ("an_image_that_does_not_exist_is_named_until_it_does", faults::a_missing_image),
    ("a_command_that_does_not_exist_is_named_until_it_is_mended", faults::a_missing_command),
    ("a_memory_limit_that_is_hit_is_named_until_it_is_raised", faults::a_memory_limit),
    ("a_process_that_hangs_is_started_again", probes::a_hung_process_is_started_again),
    ("a_process_that_is_not_ready_is_left_running_without_traffic", probes::what_is_not_ready_is_left_running),
    ("a_slow_start_is_waited_for_and_nothing_else_is_asked", probes::a_slow_start_is_waited_for),
    ("grpc_health_decides_about_traffic_and_about_life", probes::grpc_health_is_asked),
    ("a_crash_loop_is_named_and_another_node_gets_its_turn", probes::a_crash_loop_is_named_and_moves_on),
    ("a_workload_that_fits_nowhere_says_why_until_it_fits", faults::no_node_fits),
    ("a_port_that_is_taken_is_named_until_it_is_free", faults::a_port_is_taken),
    ("a_node_behind_a_router_is_reached_when_its_site_wraps", reach::a_node_behind_a_router),
    ("a_workload_in_its_nodes_own_network_is_balanced_like_any", reach::a_workload_in_its_nodes_own_network),
    ("docker_and_wherry_on_one_node_leave_each_other_alone", docker::docker_and_wherry_leave_each_other_alone),
    ("a_service_that_asks_for_it_crosses_sites_by_a_tunnel", tunnels::a_service_crosses_sites),
    ("workloads_that_shun_each_other_never_share_a_node", placement::workloads_that_shun_each_other),
    ("a_volume_keeps_its_data_and_its_replica_through_updates_and_reboots", placement::a_volume_stays),
    ("a_volume_is_backed_up_and_put_back_while_nobody_uses_it", placement::a_volume_is_put_back),
    ("the_files_of_an_image_are_pulled_and_shown", mounts::the_files_of_an_image_are_pulled_and_shown),
    ("a_volume_that_holds_more_than_it_shall_is_told_of", mounts::a_volume_that_holds_more_is_told_of),
    ("what_is_urgent_displaces_what_is_less_and_gives_the_room_back", moves::what_is_urgent_displaces),
    ("a_rebalancing_evens_out_what_a_node_that_returned_lacks", moves::a_rebalancing_evens_out),
    ("an_update_under_load_loses_no_request", requests::an_update_loses_no_request),
    ("drains_and_scaling_under_load_lose_no_request", requests::drains_and_scaling_lose_no_request),
    ("a_bad_release_is_taken_back_and_loses_no_request", releases::a_bad_release_is_taken_back_and_loses_no_request),
    (
        "a_canary_waits_for_a_person_and_its_history_is_kept",
        releases::a_canary_waits_for_a_person_and_its_history_is_kept,
    ),
    ("a_machine_that_is_shut_down_loses_no_request", requests::a_machine_that_is_shut_down_loses_no_request),
    ("a_silent_agent_holds_no_update_up", requests::a_silent_agent_holds_no_update_up),
    ("a_careless_end_loses_requests", requests::a_careless_end_loses_requests),
    ("a_dead_node_is_left_out_without_a_scheduler", requests::a_dead_node_is_left_out_without_a_scheduler),
    ("who_keeps_sending_datagrams_is_answered_by_another", datagrams::who_keeps_sending_is_answered_by_another),
    ("a_flush_under_load_is_not_noticed_and_one_without_an_agent_is_mended", tables::a_flush_under_load_is_not_noticed),
    ("a_table_that_others_may_edit_is_restored_by_a_running_agent", tables::a_table_that_others_edit_is_restored),
    ("an_agent_that_is_started_again_under_load_is_not_noticed", tables::a_restart_under_load_is_not_noticed),
    ("an_update_outlives_the_scheduler_and_the_agent_that_lead_it", tables::an_update_outlives_those_who_lead_it),
    ("a_cut_one_way_is_seen_by_both_ends_and_silence_is_not_believed", tables::a_cut_one_way_is_seen_by_both_ends),
    ("a_wrong_or_expired_join_token_lets_nobody_in", intruders::join_tokens),
    ("calls_without_a_token_and_bodies_over_the_limit_are_refused", intruders::calls),
    ("agents_and_schedulers_of_different_clusters_refuse_each_other", intruders::another_cluster),
];

fn main() -> ExitCode {
    let wanted: Vec<String> = env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let told = |name: &str| wanted.is_empty() || wanted.iter().any(|part| name.contains(part.as_str()));
    let stories: Vec<&Story> = STORIES.iter().filter(|(name, _)| told(name)).collect();
    println!("\nrunning {} stories", stories.len());
    let begin = Instant::now();
    let mut stage = None;
    let mut failed = Vec::new();
    for (name, story) in &stories {
        let begin = Instant::now();
        let result = catch_unwind(AssertUnwindSafe(|| tell(*story, &mut stage)));
        let seen = |stage: &Option<Stage>| stage.as_ref().map(|stage| state(&stage.bed)).unwrap_or_default();
        let result = result.unwrap_or_else(|_| Err(format!("it panicked\n{}", seen(&stage)).into()));
        let word = if result.is_ok() { "ok" } else { "FAILED" };
        println!("story {name} ... {word} ({:.1} s)", begin.elapsed().as_secs_f64());
        if let Err(error) = result {
            println!("{error}\n");
            failed.push((*name, error.to_string()));
            // What a failed story leaves behind is no ground for the next one.
            stage = None;
        }
    }
    let ground = stage.as_ref().map(|stage: &Stage| stage.bed.ground().clone());
    drop(stage);
    let left = ground.map(|ground| ground.leftovers()).unwrap_or_default();
    println!("\n{} told, {} failed, in {:.0} s", stories.len(), failed.len(), begin.elapsed().as_secs_f64());
    if failed.is_empty() && left.is_empty() {
        return ExitCode::SUCCESS;
    }
    // Once more: all of it, and then in few lines, where whoever sees the end of a long output finds it.
    for (name, error) in &failed {
        println!("failed: {name}\n{error}");
    }
    println!("left behind: {left:?}");
    for (name, error) in &failed {
        println!("failed: {name}: {}", error.lines().next().unwrap_or_default());
    }
    ExitCode::FAILURE
}

/// Tells one story on a cluster that is whole and empty.
fn tell(story: fn(&mut Stage) -> Outcome, stage: &mut Option<Stage>) -> Outcome {
    let stage = match stage {
        Some(stage) => stage,
        None => stage.insert(Stage::new()?),
    };
    stage.calm()?;
    story(stage)
}
