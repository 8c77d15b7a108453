//! What becomes of a new occurrence: a bundle is written, its last words are looked for, and then it is told, in the order
//! in which things happened to its incident.

use super::*;

/// Changes of one incident that wait to be told.
pub(super) struct Waiting {
    /// Of the occurrence they are about; 0 for none.
    number: u64,
    changes: Vec<Told>,
    /// `None` until they may be told.
    told_with: Option<Option<Arc<Bundle>>>,
}

impl Work<'_> {
    pub(super) fn found(&mut self, found: Findings) {
        let now = self.now();
        let news = self.watch.incidents.observe(found, now);
        for (incident, occurrence, told) in news.occurrences {
            self.watch
                .metrics
                .occurrence(occurrence.cause.class(), occurrence.severity().name());
            if occurrence.run.is_some() {
                self.watch.metrics.pod(PodChange::crash);
            }
            let mut bundle = Bundle::new(incident, occurrence, now);
            let subject = &bundle.occurrence.subject;
            bundle.pod = self.world.pod_state(&subject.pod_uid).cloned();
            bundle.node_conditions = self.world.node_conditions(&subject.node);
            bundle.events = self.world.related(&bundle.occurrence);
            bundle.is_sealed = bundle.occurrence.run.is_none();
            bundle.untold.clone_from(&told);
            let number = self.wait(incident, told);
            self.freeze(bundle, number);
        }
        self.tell(news.changes);
        self.save_soon();
    }

    /// Tells changes that are about no new occurrence, each after what is told of its incident before.
    pub(super) fn tell(&mut self, changes: Vec<Told>) {
        let now = self.now();
        for change in changes {
            let waiting = subject(&change).and_then(|id| self.waiting.get_mut(&id));
            match waiting {
                Some(waiting) => waiting.push_back(Waiting {
                    number: 0,
                    changes: vec![change],
                    told_with: Some(None),
                }),
                None => self.watch.incidents.tell(vec![change], None, now),
            }
        }
    }

    /// Keeps a place for a new occurrence in the order of what is told of its incident.
    pub(super) fn wait(&mut self, incident: IncidentId, changes: Vec<Told>) -> u64 {
        self.n_waiting += 1;
        let number = self.n_waiting;
        self.waiting
            .entry(incident)
            .or_default()
            .push_back(Waiting {
                number,
                changes,
                told_with: None,
            });
        number
    }

    /// Tells what waited for this bundle, and what waited behind that.
    pub(super) fn complete(&mut self, bundle: Arc<Bundle>, number: u64) {
        let now = self.now();
        let id = bundle.incident;
        let Some(waiting) = self.waiting.get_mut(&id) else {
            return;
        };
        if let Some(place) = waiting.iter_mut().find(|place| place.number == number) {
            place.told_with = Some(Some(bundle));
        }
        while waiting
            .front()
            .is_some_and(|place| place.told_with.is_some())
        {
            if let Some(place) = waiting.pop_front() {
                let bundle = place.told_with.flatten();
                self.watch
                    .incidents
                    .tell(place.changes, bundle.as_ref(), now);
            }
        }
        if waiting.is_empty() {
            self.waiting.remove(&id);
        }
    }

    /// Writes what is known now, in case this process ends, with what was measured.
    pub(super) fn freeze(&mut self, mut bundle: Bundle, number: u64) {
        let places = self.places.clone();
        let permits = Arc::clone(&self.freeze_permits);
        let incidents = self.watch.incidents.clone();
        let metrics = self.watch.metrics.clone();
        self.freezes.spawn(async move {
            let _permit = permits
                .acquire()
                .await
                .expect("the semaphore is never closed");
            bundle = places.measure(bundle).await;
            note(&metrics, &bundle, incidents.freeze(&bundle).await);
            (bundle, number)
        });
    }

    pub(super) async fn frozen(&mut self, bundle: Bundle, number: u64) {
        if bundle.is_sealed {
            self.seal(bundle, number).await;
        } else {
            self.capture(bundle, number);
        }
    }

    /// Looks for the last lines: those stored by now are kept at once, and all once they have had time to arrive.
    pub(super) fn capture(&mut self, mut bundle: Bundle, number: u64) {
        let places = self.places.clone();
        let permits = Arc::clone(&self.permits);
        let incidents = self.watch.incidents.clone();
        let metrics = self.watch.metrics.clone();
        self.captures.spawn(async move {
            let settled_at = Instant::now() + SETTLE;
            {
                let _permit = permits
                    .acquire()
                    .await
                    .expect("the semaphore is never closed");
                bundle.last_lines = places.stored(&bundle.occurrence).await;
            }
            if !bundle.last_lines.is_empty() {
                bundle.lines_from = Some(LinesFrom::Store);
                note(&metrics, &bundle, incidents.rewrite(&bundle).await);
            }
            sleep_until(settled_at).await;
            let _permit = permits
                .acquire()
                .await
                .expect("the semaphore is never closed");
            let words = places.settled(&bundle.occurrence).await;
            (bundle, words, number)
        });
    }

    pub(super) async fn captured(&mut self, mut bundle: Bundle, words: LastWords, number: u64) {
        // What was stored at the first look is better than less of it, or than what the kubelet has.
        let is_better =
            words.from == LinesFrom::Store && words.lines.len() >= bundle.last_lines.len();
        if is_better || bundle.last_lines.is_empty() {
            bundle.last_lines = words.lines;
            bundle.lines_from = Some(words.from);
        }
        bundle.previous_lines = words.previous;
        let texts = bundle.last_lines.iter().map(|line| line.message.as_str());
        bundle.occurrence.signatures = detect::log_signatures(texts);
        // Events of a death come after it. A bundle of before a restart has some that are known no more.
        let events = self.world.related(&bundle.occurrence);
        let new = (events.into_iter()).filter(|event| !bundle.events.contains(event));
        let new: Vec<KubeEvent> = new.collect();
        bundle.events.extend(new);
        bundle.events.sort_by_key(|event| event.at);
        let now = self.now();
        self.watch.incidents.refresh(bundle.occurrence.clone(), now);
        self.seal(bundle, number).await;
    }

    /// Tells of a bundle that is complete, and then says in it that this was done: a crash in between tells twice rather
    /// than never.
    pub(super) async fn seal(&mut self, mut bundle: Bundle, number: u64) {
        bundle.is_sealed = true;
        self.complete(Arc::new(bundle.clone()), number);
        if self.watch.incidents.get(bundle.incident).is_none() {
            // Meanwhile it turned out to be planned, or part of another, which has a bundle of its own.
            self.watch.incidents.discard(bundle.name()).await;
            return;
        }
        bundle.untold.clear();
        let written = self.watch.incidents.rewrite(&bundle).await;
        note(&self.watch.metrics, &bundle, written);
        self.save_soon();
    }
}

fn note(metrics: &WatchMetrics, bundle: &Bundle, written: Result<(), Error>) {
    metrics.bundle(written.is_ok());
    if let Err(error) = written {
        tracing::error!(%error, incident = %bundle.incident, "cannot keep what is known of an incident");
    }
}
