//! Agents in paused time: what is delivered when, and that every line is delivered or counted.

use tawny_model::Timestamp;

use super::*;
use crate::{
    fake::{Answer, Asked, FakeCoder, secret},
    lines::Level,
    metrics::{Method, Status},
};

struct Setup {
    coder: FakeCoder,
    agents: Agents,
    metrics: CoderMetrics,
}

fn setup(decide: impl Fn(&Asked) -> Answer + Send + Sync + 'static) -> Setup {
    let coder = FakeCoder::start(decide);
    let metrics = CoderMetrics::default();
    let agents = Agents::new(coder.endpoint.clone(), metrics.clone());
    Setup {
        coder,
        agents,
        metrics,
    }
}

fn line(output: impl Into<String>) -> Line {
    Line::new(Timestamp::from_secs(1_700_000_000), Level::Debug, output)
}

impl Setup {
    fn push(&mut self, token: &str, output: impl Into<String>) {
        self.agents
            .push_or_drop_newest(&secret(token), line(output));
    }

    /// Waits on the agents' behalf, as the feature's loop does, until Coder has seen `is_reached`.
    async fn until(&mut self, is_reached: impl Fn(&FakeCoder) -> bool + Sync + Send) {
        tokio::select! {
            () = self.coder.until(is_reached) => {}
            stopped = self.agents.next_stopped() => panic!("{stopped:?}"),
        }
    }

    async fn until_told(&mut self, n_lines: usize) {
        self.until(move |coder| coder.told().len() >= n_lines).await;
    }

    /// Lets the tasks run for a while.
    async fn pass(&mut self, time: Duration) {
        let passed = tokio::time::timeout(time, self.agents.next_stopped()).await;
        assert!(passed.is_err(), "{passed:?}");
    }

    async fn until_lines(&mut self, fate: Fate, n_lines: u64) {
        while self.metrics.n_lines(fate) < n_lines {
            self.pass(Duration::from_millis(100)).await;
        }
    }

    async fn stopped(&mut self) -> Stopped {
        (tokio::time::timeout(Duration::from_secs(86_400), self.agents.next_stopped()).await)
            .expect("an agent stops within a day of paused time")
    }

    fn patches(&self) -> Vec<Asked> {
        let mut asked = self.coder.asked();
        asked.retain(|asked| asked.verb == "PATCH");
        asked
    }
}

fn is_patch(asked: &Asked) -> bool {
    asked.verb == "PATCH"
}

#[tokio::test(start_paused = true)]
async fn lines_that_come_together_are_one_batch_after_250_ms() {
    let mut setup = setup(|_| Answer::Fine);
    let began = Instant::now();
    setup.push("t", "one");
    setup.push("t", "two");
    setup.pass(Duration::from_millis(200)).await;
    setup.push("t", "three");
    setup.until_told(3).await;
    assert_eq!(began.elapsed(), Duration::from_millis(250));
    assert_eq!(setup.patches().len(), 1);
    assert_eq!(setup.coder.outputs("t"), ["one", "two", "three"]);
    setup.until_lines(Fate::sent, 3).await;
}

#[tokio::test(start_paused = true)]
async fn a_burst_goes_in_batches_of_100_lines_at_once() {
    let mut setup = setup(|_| Answer::Fine);
    let began = Instant::now();
    for n in 0..250 {
        setup.push("t", n.to_string());
    }
    setup.until_told(200).await;
    assert!(began.elapsed() < Duration::from_millis(10));
    setup.until_told(250).await;
    let sizes: Vec<_> = (setup.patches().iter())
        .map(|asked| {
            String::from_utf8_lossy(&asked.body)
                .matches("output")
                .count()
        })
        .collect();
    assert_eq!(sizes, [100, 100, 50]);
    let in_order: Vec<_> = (0..250).map(|n| n.to_string()).collect();
    assert_eq!(setup.coder.outputs("t"), in_order);
}

#[tokio::test(start_paused = true)]
async fn a_batch_holds_1_mib_with_21_bytes_a_line_and_a_longer_line_is_dropped() {
    let mut setup = setup(|_| Answer::Fine);
    let most = (1 << 20) - 21;
    for len_bytes in [most, most + 1, most - 1_000, 1_000 - 21, 0] {
        setup.push("t", "x".repeat(len_bytes));
    }
    setup.until_told(4).await;
    let lens: Vec<_> = (setup.coder.outputs("t").iter()).map(String::len).collect();
    assert_eq!(lens, [most, most - 1_000, 979, 0]);
    let batches: Vec<_> = (setup.patches().iter())
        .map(|asked| {
            String::from_utf8_lossy(&asked.body)
                .matches("output")
                .count()
        })
        .collect();
    assert_eq!(batches, [1, 2, 1]);
    setup.until_lines(Fate::too_long, 1).await;
}

#[tokio::test(start_paused = true)]
async fn tries_wait_1_s_doubling_to_30_s_and_end_after_15_cl_25() {
    let mut setup = setup(|asked| match is_patch(asked) {
        true if asked.body.len() < 200 => Answer::Status(500),
        _ => Answer::Fine,
    });
    setup.push("t", "lost");
    setup.until_lines(Fate::retries_exhausted, 1).await;
    let at: Vec<Instant> = setup.patches().iter().map(|asked| asked.at).collect();
    let waits: Vec<_> = (at.windows(2))
        .map(|pair| (pair[1] - pair[0]).as_secs())
        .collect();
    assert_eq!(waits, [1, 2, 4, 8, 16, 30, 30, 30, 30, 30, 30, 30, 30, 30]);
    // The next lines have tries of their own.
    setup.push("t", "kept ".repeat(50));
    setup.until_told(1).await;
    assert_eq!(setup.metrics.n_lines(Fate::retries_exhausted), 1);
}

#[tokio::test(start_paused = true)]
async fn a_coder_away_for_a_while_loses_nothing() {
    let back_at = Instant::now() + Duration::from_secs(100);
    let mut setup = setup(move |_| match Instant::now() < back_at {
        true => Answer::Drop,
        false => Answer::Fine,
    });
    setup.push("t", "one");
    setup.pass(Duration::from_secs(50)).await;
    setup.push("t", "two");
    setup.until_told(2).await;
    assert_eq!(setup.coder.outputs("t"), ["one", "two"]);
}

#[tokio::test(start_paused = true)]
async fn a_refused_token_stops_the_agent_and_gives_back_its_lines() {
    for (code, remedy) in [(401, "401"), (403, "403")] {
        let mut setup = setup(move |asked| match asked.token.as_str() {
            "bad" => Answer::Status(code),
            _ => Answer::Fine,
        });
        setup.push("bad", "one");
        setup.push("bad", "two");
        let stopped = setup.stopped().await;
        assert_eq!(stopped.token, secret("bad"));
        assert!(stopped.error.to_string().contains(remedy));
        assert_eq!(stopped.lines, [line("one"), line("two")]);
        let n_requests = setup.coder.requests().len();
        setup.push("bad", "three");
        setup.push("good", "four");
        setup.until_told(1).await;
        assert_eq!(setup.metrics.n_lines(Fate::agent_stopped), 1);
        assert_eq!(setup.coder.requests().len(), n_requests + 2);
    }
}

#[tokio::test(start_paused = true)]
async fn a_token_that_coder_knows_only_when_the_workspace_is_provisioned_loses_nothing() {
    let provisioned_at = Instant::now() + Duration::from_secs(120);
    let mut setup = setup(move |_| match Instant::now() < provisioned_at {
        true => Answer::Status(401),
        false => Answer::Fine,
    });
    setup.push("t", "one");
    setup.push("t", "two");
    setup.until_told(2).await;
    assert_eq!(setup.coder.outputs("t"), ["one", "two"]);
}

#[tokio::test(start_paused = true)]
async fn a_full_log_stops_the_agent() {
    for (verb, is_rpc) in [("RPC", true), ("PATCH", false)] {
        let mut setup = setup(move |asked| match asked.verb == verb {
            true => Answer::Full,
            false => Answer::Fine,
        });
        setup.coder.endpoint.prefer_rpc(is_rpc);
        setup.push("t", "one");
        let stopped = setup.stopped().await;
        assert!(matches!(stopped.error, Error::LogFull), "{verb}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_batch_too_large_for_coder_is_discarded_and_the_agent_goes_on() {
    let mut setup = setup(
        |asked| match asked.body.windows(4).any(|part| part == b"huge") {
            true => Answer::Status(413),
            false => Answer::Fine,
        },
    );
    setup.push("t", "huge");
    setup.until_lines(Fate::refused, 1).await;
    setup.push("t", "small");
    setup.until_told(1).await;
    assert_eq!(setup.coder.outputs("t"), ["small"]);
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_hangs_keeps_no_other_waiting() {
    let mut setup = setup(|asked| match asked.token.as_str() {
        "hangs" => Answer::Never,
        "slow" => Answer::Slow(Duration::from_secs(15)),
        _ => Answer::Fine,
    });
    for token in ["hangs", "slow", "quick"] {
        setup.push(token, "one");
    }
    let began = Instant::now();
    setup.until_told(1).await;
    assert_eq!(setup.coder.told()[0].token, "quick");
    assert!(began.elapsed() < Duration::from_millis(300));
    setup.until_told(2).await;
    assert_eq!(setup.coder.told()[1].token, "slow");
}

#[tokio::test(start_paused = true)]
async fn a_queue_holds_512_lines_and_counts_the_rest_cl_22() {
    let mut setup = setup(|_| Answer::Never);
    setup.push("t", "in hand");
    setup.pass(Duration::from_secs(1)).await;
    for n in 0..600 {
        setup.push("t", n.to_string());
    }
    assert_eq!(setup.metrics.n_lines(Fate::queue_full), 600 - 512);
}

#[tokio::test(start_paused = true)]
async fn half_a_minute_without_a_line_closes_the_connection_cl_23() {
    for is_rpc in [false, true] {
        let mut setup = setup(|_| Answer::Fine);
        setup.coder.endpoint.prefer_rpc(is_rpc);
        setup.push("t", "one");
        setup.until_told(1).await;
        setup.pass(Duration::from_secs(29)).await;
        setup.push("t", "two");
        setup.until_told(2).await;
        setup.pass(Duration::from_secs(29)).await;
        assert_eq!(setup.agents.n_running(), 1);
        setup.pass(Duration::from_secs(2)).await;
        assert_eq!(setup.agents.n_running(), 0);
        setup.push("t", "three");
        setup.until_told(3).await;
        let n_registered = (setup.coder.requests().iter())
            .filter(|request| *request == "POST log-source")
            .count();
        assert_eq!(n_registered, 2);
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_coder_ends_between_batches_costs_no_try() {
    for is_rpc in [false, true] {
        let mut setup = setup(|_| Answer::FineAtLast);
        setup.coder.endpoint.prefer_rpc(is_rpc);
        for n_told in 1..=3 {
            setup.push("t", "line");
            setup.until_told(n_told).await;
            setup.pass(Duration::from_secs(5)).await;
        }
        let n_failed = |method| setup.metrics.n_requests(method, Status::failure);
        assert_eq!(
            (n_failed(Method::ConnectRPC), n_failed(Method::SendLog)),
            (0, 0)
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_line_finds_an_agent_that_has_just_gone() {
    let mut setup = setup(|_| Answer::Fine);
    setup.push("t", "one");
    setup.coder.until(|coder| coder.told().len() == 1).await;
    // Nobody has noticed its end yet.
    sleep(IDLE_CLOSE + Duration::from_secs(1)).await;
    setup.push("t", "two");
    setup.coder.until(|coder| coder.told().len() == 2).await;
}

#[tokio::test(start_paused = true)]
async fn closing_delivers_what_is_left_at_once_cl_24() {
    let mut setup = setup(|_| Answer::Fine);
    setup.push("t", "one");
    setup.agents.close(&secret("t"));
    let began = Instant::now();
    setup.until_told(1).await;
    assert!(began.elapsed() < Duration::from_millis(100));
    setup.push("t", "two");
    setup.until_told(2).await;
}

#[tokio::test(start_paused = true)]
async fn closing_gives_up_after_5_s_and_clears_what_was_tried_cl_24() {
    let back_at = Instant::now() + Duration::from_secs(8);
    let mut setup = setup(move |_| match Instant::now() < back_at {
        true => Answer::Status(503),
        false => Answer::Fine,
    });
    for n in 0..150 {
        setup.push("t", n.to_string());
    }
    setup.pass(Duration::from_secs(1)).await;
    setup.agents.close(&secret("t"));
    setup.until_lines(Fate::cut_off, 150).await;
    assert!(Instant::now() < back_at);
    setup.pass(Duration::from_secs(3)).await;
    setup.push("t", "anew");
    setup.until_told(1).await;
    assert_eq!(setup.coder.outputs("t"), ["anew"]);
}

#[tokio::test(start_paused = true)]
async fn a_stopped_agent_that_is_closed_may_begin_anew() {
    let good_at = Instant::now() + Duration::from_secs(5);
    let mut setup = setup(move |_| match Instant::now() < good_at {
        true => Answer::Status(403),
        false => Answer::Fine,
    });
    setup.push("t", "one");
    setup.stopped().await;
    setup.agents.close(&secret("t"));
    setup.pass(Duration::from_secs(6)).await;
    setup.push("t", "two");
    setup.until_told(1).await;
}

#[tokio::test(start_paused = true)]
async fn stopping_the_process_delivers_what_is_left_within_4_s() {
    let mut setup = setup(|asked| match asked.token.as_str() {
        "hangs" => Answer::Never,
        _ => Answer::Fine,
    });
    setup.push("t", "one");
    setup.push("hangs", "two");
    let began = Instant::now();
    setup.agents.finish().await;
    assert_eq!(setup.coder.outputs("t"), ["one"]);
    assert_eq!(began.elapsed(), STOP_FLUSH);
}
