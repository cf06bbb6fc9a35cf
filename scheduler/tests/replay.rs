//! `replay` as people use it: lists of a few lines whose outcome is plain by hand, and lists that are wrong.

use clap::Parser;
use scheduler::{
    args::{Arguments, Command},
    replay::{ReplayError, replay},
};
use serde_json::Value;
use tests_support::golden::assert_golden;

const OTHERS: &str = "best-fit,kubernetes,nomad,first-fit,random";

fn list(name: &str) -> String {
    format!("{}/tests/replay/{name}", env!("CARGO_MANIFEST_DIR"))
}

fn run(words: &[&str]) -> Result<String, ReplayError> {
    let words = ["wherry-scheduler", "replay"].iter().chain(words);
    match Arguments::parse_from(words).command {
        Some(Command::Replay(arguments)) => replay(&arguments),
        other => panic!("{other:?} is not a replay"),
    }
}

/// Replays the lists of that name, each policy by itself, and gives what came of each.
fn told(name: &str, policies: &str) -> Vec<Value> {
    let (nodes, requests) = (list(&format!("{name}.nodes.csv")), list(&format!("{name}.requests.csv")));
    let text = run(&[
        "--nodes",
        &nodes,
        "--requests",
        &requests,
        "--policy",
        policies,
        "--ignore-column",
        "qos",
        "--output",
        "json",
    ]);
    let text = text.expect("the lists are right and the policies too");
    let report: Value = serde_json::from_str(&text).expect("the report is JSON");
    report["policies"].as_array().expect("a list of policies").clone()
}

fn faults(name: &str) -> String {
    let (nodes, requests) = (list(&format!("{name}.nodes.csv")), list(&format!("{name}.requests.csv")));
    let answer = run(&["--nodes", &nodes, "--requests", &requests]);
    let Err(ReplayError::Lists(text)) = answer else { panic!("{answer:?}") };
    text.replace(&list(""), "") + "\n"
}

#[test]
fn what_goes_to_the_large_node_first_leaves_no_room_for_the_large_request() {
    let placed: Vec<(String, u64)> = told("sizes", "wherry,best-fit,kubernetes,nomad,first-fit")
        .iter()
        .map(|line| (line["policy"].as_str().unwrap().to_owned(), line["placed"].as_u64().unwrap()))
        .collect();

    let count = |policy: &str| placed.iter().find(|(name, _)| name == policy).map(|(_, count)| *count);
    assert_eq!(count("best-fit"), Some(3), "it fills the small node first");
    assert_eq!(count("nomad"), Some(3), "so does bin-packing");
    assert_eq!(count("first-fit"), Some(2), "the large node is first in the list");
    assert_eq!(count("kubernetes"), Some(2), "the large node is emptier, also after the first");
    assert!(count("wherry").is_some_and(|count| count >= 2), "two fit whatever it does");
}

#[test]
fn gpus_are_counted_by_model_and_shared_in_parts() {
    for line in told("gpus", OTHERS).iter().chain(&told("gpus", "wherry")) {
        assert_eq!(line["placed"], 5, "{line}");
        // 600 + 600 + 400 + 1,000 of 3,700.
        assert_eq!(line["placed_pct"]["gpu"], 70.27, "{line}");
        assert_eq!(line["in_use_pct"]["gpu"], 86.67, "{line}");
    }
}

#[test]
fn what_departs_makes_room_for_those_that_wait() {
    for line in told("departures", OTHERS).iter().chain(&told("departures", "wherry")) {
        // first, waits-until-10, and both of last; one gave up, one never fits.
        assert_eq!(line["placed"], 4, "{line}");
        assert_eq!(line["placed_late"], 1, "{line}");
        assert_eq!(line["in_use_pct"]["cpu"], 100.0, "{line}");
    }
}

#[test]
fn every_fault_says_where_it_is_and_what_to_write() {
    assert_golden(list("bad.expected"), &faults("bad"));
    assert_golden(list("header.expected"), &faults("header"));
}

#[test]
fn a_list_that_is_not_there_is_named() {
    let text = faults("absent");

    assert!(text.contains("absent.nodes.csv: ") && text.contains("absent.requests.csv: "), "{text}");
}

#[test]
fn the_report_for_people_has_a_line_for_each_policy() {
    let text = run(&["--synthetic", "20", "--load", "50", "--policy", "best-fit,first-fit"]).unwrap();

    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(
        lines[0],
        "20 nodes, 200 requests for 200 replicas; asked for of what there is: CPU 49.9 %, memory 50.0 %"
    );
    assert!(lines[2].starts_with("policy") && lines[2].ends_with("p99 us"), "{text}");
    assert!(lines[4].starts_with("best-fit ") && lines[5].starts_with("first-fit "), "{text}");
    assert_eq!(lines.len(), 6);
}

#[test]
fn a_made_up_fleet_needs_a_node() {
    assert_eq!(run(&["--synthetic", "0"]), Err(ReplayError::Synthetic));
}
