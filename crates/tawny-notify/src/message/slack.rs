//! The body of a Slack-compatible incoming webhook, as Slack, Mattermost, Rocket.Chat and Discord (`…/slack`) take it.
//!
//! Attachments rather than blocks: they carry the colour, and are what all of them understand. Every text that comes
//! from outside is escaped for the chat's markup, so that a log line can neither format, link nor call anybody.

use serde::Serialize;
use tawny_incident::Severity;

use super::text;
use crate::{
    Kind, Outgoing,
    notice::{Link, label},
    settings::Dialect,
};

/// The shortest limit of the services, for each part. Sources: Slack, chat.postMessage, `text` (4,000 characters advised,
/// cut at 40,000), <https://docs.slack.dev/reference/methods/chat.postMessage>; Discord, message resource
/// (content 2,000) and embed limits (title 256, description 4,096, 25 fields of name 256 and value 1,024, footer 2,048,
/// 6,000 together), <https://discord.com/developers/docs/resources/message>; Mattermost, 16,383 a post,
/// <https://developers.mattermost.com/integrate/webhooks/incoming/>.
pub const MAX_TEXT_CHARS: usize = 2_000;
pub const MAX_TITLE_CHARS: usize = 256;
pub const MAX_ATTACHMENT_CHARS: usize = 2_000;
pub const MAX_FIELDS: usize = 8;
pub const MAX_NAME_CHARS: usize = 80;
pub const MAX_VALUE_CHARS: usize = 280;
/// The hints take one field, which may be longer.
pub const MAX_HINTS_CHARS: usize = 600;
pub const MAX_FOOTER_CHARS: usize = 200;
/// Title, text, fields and footer of the attachment together: Discord's 6,000.
pub const MAX_TOTAL_CHARS: usize = 6_000;

const _: () = assert!(
    MAX_TITLE_CHARS
        + MAX_ATTACHMENT_CHARS
        + MAX_FIELDS * (MAX_NAME_CHARS + MAX_VALUE_CHARS)
        + HINTS.len()
        + MAX_HINTS_CHARS
        + MAX_FOOTER_CHARS
        <= MAX_TOTAL_CHARS
);

const HINTS: &str = "what to look at";

#[derive(Serialize)]
struct Body {
    text: String,
    /// Slack: the text is no markup.
    mrkdwn: bool,
    attachments: [Attachment; 1],
}

#[derive(Serialize)]
struct Attachment {
    color: &'static str,
    /// For clients that show no attachments.
    fallback: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    title: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    title_link: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    text: String,
    fields: Vec<Field>,
    footer: String,
    /// Seconds since the epoch, shown beside the footer.
    ts: i64,
    /// Slack: only the text, which holds the last lines, is markup.
    mrkdwn_in: [&'static str; 1],
}

#[derive(Serialize)]
struct Field {
    title: String,
    value: String,
    short: bool,
}

/// The body, as JSON.
pub fn body(notice: &Outgoing, dialect: Dialect) -> String {
    let is_over = notice.kind == Kind::Resolved;
    let headline = text::sentence(notice);
    let plain = |text: &str, max_chars| escape(text, dialect, max_chars);
    let (title, title_link) = match notice.links.first() {
        Some(Link { title, url }) => (plain(title, MAX_TITLE_CHARS), url.clone()),
        None => (String::new(), String::new()),
    };
    let mut fields: Vec<Field> = (notice.facts.iter())
        .filter(|(_, value)| !value.is_empty())
        .take(MAX_FIELDS)
        .map(|(name, value)| Field {
            title: plain(name, MAX_NAME_CHARS),
            value: plain(value, MAX_VALUE_CHARS),
            short: value.chars().count() <= 40,
        })
        .collect();
    if !notice.hints.is_empty() && !is_over {
        fields.push(Field {
            title: HINTS.to_owned(),
            value: plain(&notice.hints.join("\n"), MAX_HINTS_CHARS),
            short: false,
        });
    }
    let text = if is_over {
        String::new()
    } else {
        code(&notice.last_lines, dialect)
    };
    let body = Body {
        text: plain(&headline, MAX_TEXT_CHARS),
        mrkdwn: false,
        attachments: [Attachment {
            color: colour(notice),
            // Shown as it is, in notifications of the desktop.
            fallback: plain(&headline, MAX_TITLE_CHARS),
            title,
            title_link,
            text,
            fields,
            footer: plain(&footer(notice), MAX_FOOTER_CHARS),
            ts: notice.ended_at.unwrap_or(notice.started_at).as_secs(),
            mrkdwn_in: ["text"],
        }],
    };
    serde_json::to_string(&body).expect("a body has string keys only and serializes")
}

fn colour(notice: &Outgoing) -> &'static str {
    match (notice.kind, notice.severity) {
        (Kind::Resolved, _) => "#2eb67d",
        (_, Severity::Critical) => "#a30200",
        (_, Severity::High) => "#e01e5a",
        (_, Severity::Medium) => "#ecb22e",
        (_, Severity::Low) => "#8a8d91",
    }
}

/// `high out_of_memory · prod · shop`.
fn footer(notice: &Outgoing) -> String {
    let place = [
        label::CLUSTER,
        label::NAMESPACE,
        label::WORKLOAD,
        label::NODE,
    ]
    .map(|name| notice.label(name).to_owned());
    let what = format!("{} {}", notice.severity, notice.class);
    let parts: Vec<String> = (std::iter::once(what).chain(place))
        .filter(|part| !part.is_empty())
        .collect();
    parts.join(" · ")
}

/// The last lines as a code block, the latest of those that fit.
fn code(lines: &[String], dialect: Dialect) -> String {
    let mut n_left = MAX_ATTACHMENT_CHARS - 2 * "```\n".len();
    let mut kept: Vec<String> = Vec::new();
    for line in lines.iter().rev() {
        let escaped = escape_code(line, dialect);
        let n_chars = escaped.chars().count() + 1;
        if n_chars > n_left {
            break;
        }
        n_left -= n_chars;
        kept.push(escaped);
    }
    if kept.is_empty() {
        return String::new();
    }
    kept.reverse();
    format!("```\n{}\n```", kept.join("\n"))
}

/// Breaks a name that would call somebody (`@here`) without a mark that anybody sees.
const ZERO_WIDTH_SPACE: char = '\u{200B}';

/// The text as itself in the chat's markup, of at most `max_chars` with all that escaping adds.
pub fn escape(text: &str, dialect: Dialect, max_chars: usize) -> String {
    let mut escaped = String::with_capacity(text.len());
    let mut n_chars = 0;
    for c in text.chars() {
        let before = escaped.len();
        push_escaped(c, dialect, &mut escaped);
        let n_added = escaped.get(before..).unwrap_or_default().chars().count();
        // Room for `…`.
        if n_chars + n_added > max_chars.saturating_sub(1) {
            escaped.truncate(before);
            escaped.push('…');
            return escaped;
        }
        n_chars += n_added;
    }
    escaped
}

fn push_escaped(c: char, dialect: Dialect, escaped: &mut String) {
    match (c, dialect) {
        // Source: Slack, "Formatting text for app surfaces": these three and no others.
        ('&', Dialect::Slack) => escaped.push_str("&amp;"),
        ('<', Dialect::Slack) => escaped.push_str("&lt;"),
        ('>', Dialect::Slack) => escaped.push_str("&gt;"),
        ('@', _) => escaped.extend(['@', ZERO_WIDTH_SPACE]),
        // Source: CommonMark section 2.4, backslash escapes.
        ('\\' | '`' | '*' | '_' | '~' | '[' | ']' | '<' | '>' | '#' | '|', Dialect::Markdown) => {
            escaped.extend(['\\', c]);
        }
        ('\n', _) => escaped.push('\n'),
        (control, _) if control.is_control() => escaped.push(' '),
        (plain, _) => escaped.push(plain),
    }
}

/// A line within a code block, where only the end of the block and, in Slack, its entities mean something.
fn escape_code(line: &str, dialect: Dialect) -> String {
    let mut escaped = String::with_capacity(line.len());
    for c in line.chars() {
        match (c, dialect) {
            ('`', _) => escaped.extend(['`', ZERO_WIDTH_SPACE]),
            ('&' | '<' | '>', Dialect::Slack) => push_escaped(c, dialect, &mut escaped),
            // Mattermost reads `<!here>` of a Slack message everywhere.
            ('<', Dialect::Markdown) => escaped.extend(['<', ZERO_WIDTH_SPACE]),
            ('\t', _) => escaped.push_str("    "),
            (control, _) if control.is_control() => escaped.push(' '),
            (plain, _) => escaped.push(plain),
        }
    }
    escaped
}
