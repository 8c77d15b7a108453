//! Whether the settings make sense as a whole; what does not is named by its place.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use http::{
    HeaderName,
    header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HOST},
};
use url::Url;

use super::{
    Address, Alertmanager, AlertmanagerConfig, Destination, Dialect, FileConfig, Hidden,
    MatchConfig, NotifyConfig, Receiver, ReceiverConfig, Route, RouteConfig, Sender, Settings,
    Slack, SlackConfig, StdoutConfig, Storm, Token, Webhook, WebhookConfig, locate::Step,
};
use crate::glob::Glob;

/// What is wrong, before it is known in which line.
#[derive(Debug)]
pub(super) struct Complaint {
    pub(super) at: Vec<Step>,
    pub(super) problem: String,
    pub(super) advice: String,
}

/// A place in the settings that complaints are made about.
#[derive(Debug, Clone)]
struct Place(Vec<Step>);

impl Place {
    fn key(&self, key: &'static str) -> Self {
        let mut steps = self.0.clone();
        steps.push(Step::Key(key));
        Self(steps)
    }

    fn item(&self, index: usize) -> Self {
        let mut steps = self.0.clone();
        steps.push(Step::Item(index));
        Self(steps)
    }

    fn complain(&self, problem: impl Into<String>, advice: impl Into<String>) -> Complaint {
        Complaint {
            at: self.0.clone(),
            problem: problem.into(),
            advice: advice.into(),
        }
    }
}

pub(super) fn check(config: NotifyConfig) -> Result<Settings, Complaint> {
    let NotifyConfig {
        receivers,
        routes,
        storm,
        give_up_after,
    } = config;
    let root = Place(Vec::new());
    let receivers = check_receivers(receivers, &root.key("receivers"))?;
    let at = root.key("routes");
    if routes.is_empty() && !receivers.is_empty() {
        let advice = "add `routes: [{receiver: NAME}]`";
        return Err(at.complain("no route leads to any receiver", advice));
    }
    let mut checked: Vec<Route> = Vec::new();
    for (index, route) in routes.into_iter().enumerate() {
        let at = at.item(index);
        let before = checked
            .iter()
            .position(|route| route.takes_everything() && !route.continues);
        if let Some(before) = before {
            return Err(at.complain(
                format!("it is never reached, for routes[{before}] takes everything"),
                "move it up, or set `continue: true` there",
            ));
        }
        checked.push(check_route(route, &receivers, &at)?);
    }
    let storm_at = root.key("storm");
    if storm.more_than == 0 {
        let problem = "at least one message must be told by itself";
        return Err(storm_at
            .key("more_than")
            .complain(problem, "write 1 or more"));
    }
    let within = at_least(storm.within, 1, &storm_at.key("within"))?;
    Ok(Settings {
        receivers,
        routes: checked,
        storm: Storm {
            // More would only grow the memory of when messages were told.
            more_than: storm.more_than.min(10_000),
            within,
        },
        give_up_after: at_least(give_up_after, 1, &root.key("give_up_after"))?,
    })
}

/// A duration that makes sense: so many seconds at least, and a year at most.
fn at_least(given: Duration, secs: u64, at: &Place) -> Result<Duration, Complaint> {
    let longest = Duration::from_secs(365 * 86_400);
    if given < Duration::from_secs(secs) || given > longest {
        let advice = format!("write {secs}s or more, at most 365d");
        return Err(at.complain("it is too short or too long", advice));
    }
    Ok(given)
}

fn check_receivers(configs: Vec<ReceiverConfig>, at: &Place) -> Result<Vec<Receiver>, Complaint> {
    let mut receivers: Vec<Receiver> = Vec::new();
    for (index, config) in configs.into_iter().enumerate() {
        let at = at.item(index);
        let ReceiverConfig {
            name,
            webhook,
            slack,
            alertmanager,
            stdout,
            file,
        } = config;
        let name = name.trim().to_owned();
        if name.is_empty() {
            return Err(at
                .key("name")
                .complain("it is empty", "name the receiver as routes do"));
        }
        if receivers.iter().any(|receiver| receiver.name == name) {
            let problem = format!("there are two receivers `{name}`");
            return Err(at.key("name").complain(problem, "give one another name"));
        }
        let mut kinds = Vec::new();
        if let Some(config) = webhook {
            kinds.push(Destination::Webhook(check_webhook(
                config,
                &at.key("webhook"),
            )?));
        }
        if let Some(config) = slack {
            kinds.push(Destination::Slack(check_slack(config, &at.key("slack"))?));
        }
        if let Some(config) = alertmanager {
            let config = check_alertmanager(config, &at.key("alertmanager"))?;
            kinds.push(Destination::Alertmanager(config));
        }
        if let Some(StdoutConfig { format }) = stdout {
            kinds.push(Destination::Stdout(format));
        }
        if let Some(FileConfig { path }) = file {
            if path.trim().is_empty() {
                let at = at.key("file").key("path");
                return Err(at.complain("it is empty", "name the file to append to"));
            }
            kinds.push(Destination::File(PathBuf::from(path)));
        }
        let (1, Some(to)) = (kinds.len(), kinds.pop()) else {
            let advice =
                "write exactly one of `webhook`, `slack`, `alertmanager`, `stdout: {}` and `file`";
            return Err(at.complain(format!("`{name}` must be one thing"), advice));
        };
        receivers.push(Receiver { name, to });
    }
    Ok(receivers)
}

fn check_webhook(config: WebhookConfig, at: &Place) -> Result<Webhook, Complaint> {
    let WebhookConfig {
        url,
        headers,
        token,
        token_file,
        timeout,
    } = config;
    let url = check_url(&url, &at.key("url"))?;
    Ok(Webhook {
        url: Address::Url(url),
        sender: check_sender(headers, token, token_file, timeout, at)?,
    })
}

fn check_slack(config: SlackConfig, at: &Place) -> Result<Slack, Complaint> {
    let SlackConfig {
        url,
        url_file,
        dialect,
        timeout,
    } = config;
    let (url, host) = match (url, url_file) {
        (Some(url), None) => {
            let url = check_url(&url, &at.key("url"))?;
            let host = url.host_str().unwrap_or_default().to_owned();
            (Address::Url(url), host)
        }
        (None, Some(file)) => (Address::File(PathBuf::from(file)), String::new()),
        _ => return Err(at.complain("where it is posted is unclear", "write `url` or `url_file`")),
    };
    let is_markdown = ["discord.com", "discordapp.com"].contains(&host.as_str());
    let guessed = if is_markdown {
        Dialect::Markdown
    } else {
        Dialect::Slack
    };
    Ok(Slack {
        url,
        dialect: dialect.unwrap_or(guessed),
        sender: check_sender(BTreeMap::new(), None, None, timeout, at)?,
    })
}

fn check_alertmanager(config: AlertmanagerConfig, at: &Place) -> Result<Alertmanager, Complaint> {
    let AlertmanagerConfig {
        urls,
        resend_after,
        headers,
        token,
        token_file,
        timeout,
    } = config;
    if urls.is_empty() {
        let advice = "write the base URL of each instance, such as http://alertmanager:9093";
        return Err(at.key("urls").complain("it is empty", advice));
    }
    let at_urls = at.key("urls");
    let urls = (urls.iter().enumerate())
        .map(|(index, url)| {
            let mut url = check_url(url, &at_urls.item(index))?;
            let base = url.path().trim_end_matches('/').to_owned();
            // Source: Alertmanager's api/v2/openapi.yaml, path `/alerts` below `/api/v2`.
            if !base.ends_with("/api/v2/alerts") {
                url.set_path(&format!("{base}/api/v2/alerts"));
            }
            Ok(Address::Url(url))
        })
        .collect::<Result<_, _>>()?;
    Ok(Alertmanager {
        urls,
        resend_after: at_least(resend_after, 1, &at.key("resend_after"))?,
        sender: check_sender(headers, token, token_file, timeout, at)?,
    })
}

/// A URL that can be posted to. What it is, is not repeated: the paths of chats are secret.
fn check_url(text: &Hidden, at: &Place) -> Result<Url, Complaint> {
    parse_url(text.0.expose()).map_err(|problem| {
        at.complain(
            problem,
            "write it as https://host/path; tokens go into `token` or `headers`",
        )
    })
}

/// Reads a URL that can be posted to; else what is wrong, without the URL.
pub(crate) fn parse_url(text: &str) -> Result<Url, &'static str> {
    let url = Url::parse(text.trim()).map_err(|_| "it is no URL")?;
    if !["http", "https"].contains(&url.scheme()) {
        return Err("it is not of http or https");
    }
    if url.host_str().is_none_or(str::is_empty) {
        return Err("it names no host");
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("it holds a user or password, which are not sent");
    }
    Ok(url)
}

fn check_sender(
    headers: BTreeMap<String, Hidden>,
    token: Option<Hidden>,
    token_file: Option<String>,
    timeout: Duration,
    at: &Place,
) -> Result<Sender, Complaint> {
    let at_headers = at.key("headers");
    let token = match (token, token_file) {
        (None, None) => None,
        (Some(token), None) => {
            if !is_header_value(token.0.expose()) || token.0.expose().is_empty() {
                let problem = "it cannot stand in a header";
                return Err(at
                    .key("token")
                    .complain(problem, "write it on one line, without control characters"));
            }
            Some(Token::Value(token.0))
        }
        (None, Some(file)) => Some(Token::File(PathBuf::from(file))),
        (Some(_), Some(_)) => {
            let problem = "there is a token already";
            return Err(at
                .key("token_file")
                .complain(problem, "keep `token` or `token_file`"));
        }
    };
    let mut checked = BTreeMap::new();
    for (name, value) in headers {
        let Ok(header) = HeaderName::try_from(name.as_str()) else {
            let problem = format!("`{name}` is no name of a header");
            return Err(at_headers.complain(problem, "names are letters, digits and -"));
        };
        if [HOST, CONTENT_LENGTH, CONTENT_TYPE].contains(&header) {
            let problem = format!("`{header}` is set by the message itself");
            return Err(at_headers.complain(problem, "leave it out"));
        }
        if header == AUTHORIZATION && token.is_some() {
            let problem = "`authorization` is set by the token";
            return Err(at_headers.complain(problem, "keep one of them"));
        }
        if !is_header_value(value.0.expose()) {
            let problem = format!("the value of `{name}` cannot stand in a header");
            return Err(
                at_headers.complain(problem, "write it on one line, without control characters")
            );
        }
        checked.insert(header.as_str().to_owned(), value.0);
    }
    Ok(Sender {
        headers: checked,
        token,
        timeout: at_least(timeout, 1, &at.key("timeout"))?,
    })
}

fn is_header_value(text: &str) -> bool {
    http::HeaderValue::from_str(text).is_ok()
}

fn check_route(
    config: RouteConfig,
    receivers: &[Receiver],
    at: &Place,
) -> Result<Route, Complaint> {
    let RouteConfig {
        matches,
        receiver,
        receivers: several,
        continues,
        group_wait,
        repeat_interval,
        resolved,
    } = config;
    let MatchConfig {
        severity,
        namespaces,
        types,
        labels,
    } = matches;
    let (names, at_names) = match (receiver, several) {
        (Some(name), several) if several.is_empty() => (vec![name], None),
        (None, several) if !several.is_empty() => (several, Some(at.key("receivers"))),
        _ => return Err(at.complain("who is told is unclear", "write `receiver` or `receivers`")),
    };
    let mut indices = Vec::new();
    for (index, name) in names.iter().enumerate() {
        let Some(receiver) = receivers.iter().position(|receiver| receiver.name == *name) else {
            let at = at_names
                .as_ref()
                .map_or_else(|| at.key("receiver"), |at| at.item(index));
            let known: Vec<&str> = receivers.iter().map(|it| it.name.as_str()).collect();
            let problem = format!("there is no receiver `{name}`");
            return Err(at.complain(problem, format!("known are: {}", known.join(", "))));
        };
        if !indices.contains(&receiver) {
            indices.push(receiver);
        }
    }
    let globs = |names: Vec<String>| names.into_iter().map(Glob::new).collect();
    Ok(Route {
        severity,
        namespaces: globs(namespaces),
        types: globs(types),
        labels: (labels.into_iter())
            .map(|(name, glob)| (name, Glob::new(glob)))
            .collect(),
        receivers: indices,
        continues,
        group_wait: at_least(group_wait, 0, &at.key("group_wait"))?,
        repeat_interval: at_least(repeat_interval, 60, &at.key("repeat_interval"))?,
        tells_resolved: resolved,
    })
}
