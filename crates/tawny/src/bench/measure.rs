//! Times answers: one after the other, by several clients at once, after a cold start, and right after an acknowledgement.

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, bail};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};

use super::{corpus, process::drop_page_cache, queries::Question, system::System};

/// How often each question is asked.
const ROUNDS: usize = 5;

/// The middle of some times, sorted or not; zero of none.
pub(super) fn median(times: &[Duration]) -> Duration {
    percentile(times, 50)
}

pub(super) fn percentile(times: &[Duration], percent: usize) -> Duration {
    let mut times = times.to_vec();
    times.sort_unstable();
    let at = (times.len() * percent / 100).min(times.len().saturating_sub(1));
    times.get(at).copied().unwrap_or_default()
}

/// One question's answers.
#[derive(Debug, Clone)]
pub(super) struct Timed {
    pub(super) median: Duration,
    /// How much was found.
    pub(super) size: u64,
    /// What is wrong with the answer.
    pub(super) wrong: Option<String>,
}

/// Asks each question once to warm up and then as often as counts; every answer is checked.
pub(super) async fn warm(system: &System, questions: &[Question]) -> anyhow::Result<Vec<Timed>> {
    let mut connection = system.connect().await?;
    let mut all = Vec::new();
    for question in questions {
        let target = system.target(question);
        let mut times = Vec::new();
        let (mut size, mut wrong) = (0, None);
        for round in 0..=ROUNDS {
            let started = Instant::now();
            let body = connection.get(&target).await?;
            let elapsed = started.elapsed();
            if round > 0 {
                times.push(elapsed);
            }
            let answer = system.read(question, &body)?;
            size = answer.size();
            if let Err(error) = question.check(&answer) {
                wrong = Some(format!("{}: {error}", system.name()));
            }
        }
        all.push(Timed {
            median: median(&times),
            size,
            wrong,
        });
    }
    Ok(all)
}

/// Restarts the store, empties the page cache and asks, anew for each round.
///
/// # Errors
/// Where the page cache must not be emptied, or the answer is wrong.
pub(super) async fn cold(system: &mut System, question: &Question) -> anyhow::Result<Duration> {
    const ROUNDS: usize = 3;
    let mut times = Vec::new();
    for _ in 0..ROUNDS {
        system.stop().await?;
        drop_page_cache()?;
        system.start_again().await?;
        let mut connection = system.connect().await?;
        let target = system.target(question);
        let started = Instant::now();
        let body = connection.get(&target).await?;
        times.push(started.elapsed());
        question.check(&system.read(question, &body)?)?;
    }
    Ok(median(&times))
}

/// Lets four clients ask all questions in turn for `lasting`; answers how many were answered in a second.
pub(super) async fn mixed(
    system: &System,
    questions: &[Question],
    lasting: Duration,
) -> anyhow::Result<f64> {
    const CLIENTS: usize = 4;
    let targets: Arc<[String]> = questions
        .iter()
        .map(|question| system.target(question))
        .collect();
    let started = Instant::now();
    let mut asking = JoinSet::new();
    for client in 0..CLIENTS {
        let targets = Arc::clone(&targets);
        let mut connection = system.connect().await?;
        // Each begins elsewhere, so that they do not ask the same at the same time.
        let first = client * targets.len() / CLIENTS;
        asking.spawn(async move {
            let mut n_answered = 0u32;
            for target in targets.iter().cycle().skip(first) {
                if started.elapsed() >= lasting {
                    break;
                }
                connection.get(target).await?;
                n_answered += 1;
            }
            anyhow::Ok(n_answered)
        });
    }
    let mut n_answered = 0;
    while let Some(answered) = asking.join_next().await {
        n_answered += answered??;
    }
    Ok(f64::from(n_answered) / started.elapsed().as_secs_f64())
}

/// How long lines take to be acknowledged, and from then to be found.
#[derive(Debug, Clone, Copy)]
pub(super) struct Freshness {
    pub(super) acknowledged: Duration,
    pub(super) searchable: Duration,
}

/// Sends small batches of new lines, and asks for each until it is found. Adds to the store what no question expects.
pub(super) async fn freshness(system: &System) -> anyhow::Result<Freshness> {
    const ROUNDS: u32 = 10;
    const LONGEST: Duration = Duration::from_secs(30);
    const BETWEEN: Duration = Duration::from_millis(1);
    let mut sender = system.sender().await?;
    let mut connection = system.connect().await?;
    let (mut acknowledged, mut searchable) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let (word, request, json) = corpus::fresh_lines(round)?;
        let question = Question::word(word);
        let target = system.target(&question);
        let sent = Instant::now();
        sender.send_extra(request, json).await?;
        let stored = Instant::now();
        acknowledged.push(stored - sent);
        loop {
            let asked = Instant::now();
            let body = connection.get(&target).await?;
            if system.read(&question, &body)?.size() > 0 {
                searchable.push(asked - stored);
                break;
            }
            if stored.elapsed() > LONGEST {
                bail!("lines were not found within {LONGEST:?} after they were acknowledged");
            }
            sleep(BETWEEN).await;
        }
    }
    Ok(Freshness {
        acknowledged: median(&acknowledged),
        searchable: median(&searchable),
    })
}

/// The question of that name.
pub(super) fn named<'q>(questions: &'q [Question], name: &str) -> anyhow::Result<&'q Question> {
    questions
        .iter()
        .find(|question| question.name == name)
        .with_context(|| format!("there is no question {name:?}"))
}
