//! One place messages go, and one try to bring a parcel there.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use http::{HeaderMap, HeaderName, HeaderValue, header::AUTHORIZATION};
use tawny_model::{Remedy, Secret};
use tawny_runtime::SharedClock;
use tokio::{
    fs::{File, OpenOptions},
    io::{AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    sync::Mutex,
    time::timeout,
};
use url::Url;

use super::{
    Dial,
    post::{post, server},
};
use crate::{
    Error, Outgoing,
    desk::Parcel,
    message::{
        alertmanager::{self, MAX_BATCH},
        json, slack, text,
    },
    settings::{Address, Destination, Dialect, Form, Sender, Token, parse_url},
};

/// Where the receivers of kind `stdout` write.
pub type Writer = Box<dyn AsyncWrite + Send + Unpin>;

/// Longest token or URL in a file.
const MAX_SECRET_BYTES: u64 = 16 << 10;

/// A chat, a URL, an instance of Alertmanager, the output, a file.
pub(crate) struct Outlet {
    to: To,
    dial: Arc<dyn Dial>,
    clock: SharedClock,
}

enum To {
    Webhook(Address, Sender),
    Slack(Address, Dialect, Sender),
    Alertmanager {
        address: Address,
        resend_after: Duration,
        sender: Sender,
    },
    Stdout(Arc<Mutex<Writer>>, Form),
    File(PathBuf),
}

impl fmt::Debug for Outlet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outlet").finish_non_exhaustive()
    }
}

/// The places of one receiver: each instance of an Alertmanager is one, anything else is one as a whole.
pub(crate) fn outlets(
    to: &Destination,
    dial: &Arc<dyn Dial>,
    stdout: &Arc<Mutex<Writer>>,
    clock: &SharedClock,
) -> Vec<Outlet> {
    let places = match to {
        Destination::Webhook(webhook) => {
            vec![To::Webhook(webhook.url.clone(), webhook.sender.clone())]
        }
        Destination::Slack(slack) => {
            vec![To::Slack(
                slack.url.clone(),
                slack.dialect,
                slack.sender.clone(),
            )]
        }
        Destination::Alertmanager(alertmanager) => (alertmanager.urls.iter())
            .map(|address| To::Alertmanager {
                address: address.clone(),
                resend_after: alertmanager.resend_after,
                sender: alertmanager.sender.clone(),
            })
            .collect(),
        Destination::Stdout(form) => vec![To::Stdout(Arc::clone(stdout), *form)],
        Destination::File(path) => vec![To::File(path.clone())],
    };
    (places.into_iter())
        .map(|to| Outlet {
            to,
            dial: Arc::clone(dial),
            clock: Arc::clone(clock),
        })
        .collect()
}

impl Outlet {
    /// The rest between two messages. Source: Slack, "Rate limits": one message a second to an incoming webhook.
    pub(super) fn pause(&self) -> Duration {
        match self.to {
            To::Slack(..) => Duration::from_secs(1),
            _ => Duration::ZERO,
        }
    }

    /// Tries once.
    ///
    /// # Errors
    /// `Retry` and `Reject` say what may become of the same parcel.
    pub(crate) async fn send(&self, parcel: &Parcel) -> Result<(), Error> {
        match (&self.to, parcel) {
            (To::Webhook(address, sender), Parcel::Message(notice)) => {
                self.post(
                    &resolve(address).await?,
                    sender,
                    json::object(notice, self.clock.now()),
                )
                .await
            }
            (To::Slack(address, dialect, sender), Parcel::Message(notice)) => {
                let body = slack::body(notice, *dialect);
                self.post(&resolve(address).await?, sender, body).await
            }
            (
                To::Alertmanager {
                    address,
                    resend_after,
                    sender,
                },
                Parcel::Alerts(alerts),
            ) => {
                let url = resolve(address).await?;
                let mut outcome = Ok(());
                // Each request is the whole truth of its alerts, so sending some of them twice does no harm.
                for batch in alerts.chunks(MAX_BATCH) {
                    let body = alertmanager::body(batch, self.clock.now(), *resend_after);
                    let sent = self.post(&url, sender, body).await;
                    if (sent.as_ref()).is_err_and(|error| error.remedy() == Remedy::Retry) {
                        return sent;
                    }
                    // What is refused keeps nothing else back.
                    outcome = outcome.and(sent);
                }
                outcome
            }
            (To::Stdout(writer, form), Parcel::Message(notice)) => {
                let mut writer = writer.lock().await;
                let line = self.line(notice, *form);
                let written = async {
                    writer.write_all(line.as_bytes()).await?;
                    writer.flush().await
                };
                written.await.map_err(|source| Error::Write {
                    to: "stdout".to_owned(),
                    source,
                })
            }
            (To::File(path), Parcel::Message(notice)) => {
                append(path, &self.line(notice, Form::Json)).await
            }
            // The desk makes alerts for Alertmanagers, and messages for everything else.
            (To::Alertmanager { .. }, Parcel::Message(_)) | (_, Parcel::Alerts(_)) => Ok(()),
        }
    }

    fn line(&self, notice: &Outgoing, form: Form) -> String {
        let now = self.clock.now();
        let mut line = match form {
            Form::Text => text::line(notice, now),
            Form::Json => json::object(notice, now),
        };
        line.push('\n');
        line
    }

    async fn post(&self, url: &Url, sender: &Sender, body: String) -> Result<(), Error> {
        let exchange = async {
            let headers = headers(sender).await?;
            post(&*self.dial, url, headers, body, self.clock.now()).await
        };
        match timeout(sender.timeout, exchange).await {
            Ok(outcome) => outcome,
            Err(_) => Err(Error::TimedOut {
                server: server(url),
                waited: sender.timeout,
            }),
        }
    }
}

async fn append(path: &Path, line: &str) -> Result<(), Error> {
    let appended = async {
        let mut file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(path)
            .await?;
        file.write_all(line.as_bytes()).await?;
        file.flush().await
    };
    appended.await.map_err(|source| Error::Write {
        to: path.display().to_string(),
        source,
    })
}

async fn headers(sender: &Sender) -> Result<HeaderMap, Error> {
    let mut headers = HeaderMap::new();
    for (name, value) in &sender.headers {
        let malformed = || Error::HeaderMalformed { name: name.clone() };
        let header = HeaderName::try_from(name.as_str()).map_err(|_| malformed())?;
        headers.insert(header, secret_header(value.expose()).ok_or_else(malformed)?);
    }
    let bearer = |token: &Secret| secret_header(&format!("Bearer {}", token.expose()));
    let bearer = match &sender.token {
        None => return Ok(headers),
        Some(Token::Value(token)) => bearer(token).ok_or_else(|| Error::HeaderMalformed {
            name: AUTHORIZATION.to_string(),
        })?,
        Some(Token::File(path)) => bearer(&read_secret(path).await?)
            .ok_or_else(|| Error::SecretFileUnfit { path: path.clone() })?,
    };
    headers.insert(AUTHORIZATION, bearer);
    Ok(headers)
}

fn secret_header(value: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(value).ok()?;
    value.set_sensitive(true);
    Some(value)
}

async fn resolve(address: &Address) -> Result<Url, Error> {
    match address {
        Address::Url(url) => Ok(url.clone()),
        Address::File(path) => {
            let text = read_secret(path).await?;
            parse_url(text.expose()).map_err(|problem| Error::UrlFileMalformed {
                path: path.clone(),
                problem,
            })
        }
    }
}

/// What a file holds, without the space around it.
async fn read_secret(path: &Path) -> Result<Secret, Error> {
    let mut text = String::new();
    let read = async {
        let file = File::open(path).await?;
        (file.take(MAX_SECRET_BYTES + 1))
            .read_to_string(&mut text)
            .await
    };
    let len_bytes = read.await.map_err(|source| Error::SecretFile {
        path: path.to_owned(),
        source,
    })?;
    let text = text.trim();
    if text.is_empty() || len_bytes as u64 > MAX_SECRET_BYTES {
        return Err(Error::SecretFileUnfit {
            path: path.to_owned(),
        });
    }
    Ok(Secret::new(text))
}
