//! Nothing is lost and nothing repeated, whatever dies and whenever: real processes, real files, real signals.
//!
//! `DELIVERY_SEED` and `DELIVERY_ROUNDS` make a run longer, or one like a run that failed.

#![expect(
    clippy::unwrap_used,
    reason = "a helper of a test that cannot go on has failed it"
)]

mod node;
#[path = "../cli/program.rs"]
#[expect(dead_code, reason = "shared with the tests of the command line")]
mod program;
mod system;

use std::{
    hash::{BuildHasher as _, RandomState},
    time::{Duration, SystemTime},
};

use crate::{
    node::{Node, Random},
    system::{Store, System, pause},
};

#[expect(
    clippy::disallowed_methods,
    reason = "an option of this test, not of the program"
)]
fn option(name: &str, default: impl FnOnce() -> u64) -> u64 {
    std::env::var(name).map_or_else(|_| default(), |value| value.parse().unwrap())
}

/// The seed, and a source of numbers made from it. Processes are not repeatable, what is done to them is.
fn seeded() -> (u64, Random) {
    let seed = option("DELIVERY_SEED", || RandomState::new().hash_one(0) % 100_000);
    (seed, Random::new(seed))
}

/// Containers write for a while, at the pace of busy ones.
fn write_on(node: &mut Node, n_ticks: u64, random: &mut Random) {
    for _ in 0..n_ticks {
        node.tick(random);
        pause();
    }
}

#[test]
fn every_line_is_stored_once_whoever_is_killed_kl_2() {
    let (mut system, seed) = kill_in_rounds(Store::Sqlite, 9);
    system.assert_verifies(seed);
}

#[test]
fn every_line_is_in_the_lake_once_whoever_is_killed_kl_2() {
    let (mut system, seed) = kill_in_rounds(Store::Lake, 6);
    let n_commits = system.n_commits();
    assert!(
        n_commits > 20,
        "seed {seed}: flushed and merged only {n_commits} times"
    );
    system.assert_verifies(seed);
}

/// Kills agent, server and both in turn while containers write, and checks in the end that every line is stored once.
fn kill_in_rounds(store: Store, n_rounds: u64) -> (System, u64) {
    let (seed, mut random) = seeded();
    let n_rounds = option("DELIVERY_ROUNDS", || n_rounds);
    let mut system = System::new(store);
    let mut node = Node::new(&system.home.dir.path().join("pods"));
    system.start_agent();
    for round in 0..n_rounds {
        let n_ticks = random.below(60);
        write_on(&mut node, n_ticks, &mut random);
        let (is_agent, is_server) =
            [(true, false), (false, true), (true, true)][usize::try_from(round % 3).unwrap()];
        let is_agent_first = random.is_one_in(2);
        if is_agent && is_agent_first {
            system.kill_agent();
        }
        if is_server {
            system.kill_server();
        }
        if is_agent && !is_agent_first {
            system.kill_agent();
        }
        let n_ticks = random.below(20);
        write_on(&mut node, n_ticks, &mut random);
        if is_server {
            system.start_server();
        }
        if is_agent {
            system.start_agent();
        }
        if round % 5 == 4 {
            node.end_lines();
            system.wait_for_all(&node);
            node.delete_old_files();
        }
    }
    node.end_lines();
    system.wait_for_all(&node);
    system.assert_holds(&node, seed);
    (system, seed)
}

#[test]
fn agent_that_is_told_to_stop_under_load_stops_in_time_and_loses_nothing_kl_28() {
    let (seed, mut random) = seeded();
    let mut system = System::new(Store::Sqlite);
    let mut node = Node::new(&system.home.dir.path().join("pods"));
    for _ in 0..80 {
        node.tick(&mut random);
    }
    for _ in 0..3 {
        let n_stored = system.n_stored();
        system.start_agent();
        system.wait_for(n_stored + 1);
        let agent = system.take_agent();
        let asked_at = SystemTime::UNIX_EPOCH.elapsed().unwrap();
        agent.signal("TERM");
        write_on(&mut node, 20, &mut random);
        let (status, said) = agent.wait();
        let took = SystemTime::UNIX_EPOCH.elapsed().unwrap() - asked_at;
        assert_eq!(status.code(), Some(0), "seed {seed}: {said}");
        assert!(took < Duration::from_secs(6), "{took:?}: {said}");
    }
    node.end_lines();
    system.start_agent();
    system.wait_for_all(&node);
    system.assert_holds(&node, seed);
}
