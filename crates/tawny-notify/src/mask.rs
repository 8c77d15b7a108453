//! Secrets that programs write into their logs, replaced before a message leaves (section 8 row 15).
//!
//! What is masked is the value only: the name before it still tells a person what stood there.

use std::{borrow::Cow, ops::Range, sync::LazyLock};

use regex::Regex;

/// Stands where a secret was.
pub const MASK: &str = "***";

/// A text without its secrets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Masked<'a> {
    pub text: Cow<'a, str>,
    pub n_secrets: u64,
}

/// Names whose value is a secret however it is assigned.
const STRONG: &str = "passw(?:or)?d|passphrase|pwd|api[_-]?key|(?:access|private|signing|encryption)[_-]?key(?:[_-]?id)?|\
                      client[_-]?secret|[a-z0-9][_-]secret|[a-z0-9][_-]token|x-amz-signature|[?&]sig";

/// Names that also stand in plain sentences, as in `secret: not found`.
const WEAK: &str = "secret|token|credentials?|signature";

/// A value, in quotes, in quotes within a quoted text, or bare.
const VALUE: &str = r#"(?:\\"([^"\\\n]+)|"((?:[^"\\\n]|\\.)+)|'([^'\n]+)|([^\s"'\\,;&)}\]]+))"#;

/// Each rule's groups hold what is secret; what is around them stays.
static RULES: LazyLock<Vec<Regex>> = LazyLock::new(|| {
    [
        // PKCS #1, PKCS #8, OpenSSH and PGP keys; to the end where the block has none.
        r"(?s)(-----BEGIN [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----.*?(?:-----END [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----|\z))".to_owned(),
        // The rest of a block whose beginning is not among the lines.
        r"((?:[A-Za-z0-9+/=]{16,}\s+)*-----END [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----)".to_owned(),
        // RFC 7519 and RFC 7516: three or five parts, the first of which is `{"…` in base64url.
        r"\b(eyJ[A-Za-z0-9_-]{5,}(?:\.[A-Za-z0-9_-]*){2,4})".to_owned(),
        r#"(?i)authorization\\?["']?\s*[:=]\s*\\?["']?(?:(?:basic|bearer|token|digest|negotiate|apikey)\s+)?([^\s"'\\,]+)"#.to_owned(),
        r#"(?i)cookie\\?["']?\s*:\s*\\?["']?([^\n"'\\]+)"#.to_owned(),
        // RFC 6750; a word of small letters only is taken for a part of a sentence.
        r"(?i:bearer)\s+([a-z]*[A-Z0-9._~+/=-][A-Za-z0-9._~+/=-]{5,})".to_owned(),
        // Source: AWS, "IAM identifiers", unique ids of keys.
        r"\b((?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{16})\b".to_owned(),
        // Tokens that GitHub, GitLab, Slack, Google, Stripe and npm give a prefix so that they can be found.
        r"\b(gh[pousr]_[A-Za-z0-9]{20,}|github_pat_[A-Za-z0-9_]{20,}|glpat-[A-Za-z0-9_-]{16,}|xox[abeoprs]-[A-Za-z0-9-]{10,}|AIza[A-Za-z0-9_-]{35}|[sr]k_(?:live|test)_[A-Za-z0-9]{10,}|npm_[A-Za-z0-9]{30,})".to_owned(),
        r"hooks\.slack(?:-gov)?\.com/services/([A-Za-z0-9/_-]+)".to_owned(),
        r"(?i)\bdiscord(?:app)?\.com/api/webhooks/([A-Za-z0-9/_-]+)".to_owned(),
        // RFC 3986 section 3.2.1: user:password@.
        r"[A-Za-z][A-Za-z0-9+.-]*://[^\s/:@]*:([^\s/]+)@".to_owned(),
        // A token in place of the user, as git hosts take it.
        r"(?i)\bhttps?://([^\s/:@]{8,})@".to_owned(),
        format!(r#"(?i)(?:{STRONG}|{WEAK})(?:\\?["'])?\s{{0,3}}(?:=>?|:=)\s{{0,3}}{VALUE}"#),
        format!(r#"(?i)(?:{STRONG}|{WEAK})\\?["']\s{{0,3}}:\s{{0,3}}{VALUE}"#),
        format!(r"(?i)(?:{STRONG})\s{{0,3}}:\s{{0,3}}{VALUE}"),
        format!(r"(?i)\b(?:{WEAK}):{VALUE}"),
    ]
    .iter()
    .map(|rule| Regex::new(rule).expect("the rules are constants that the tests compile"))
    .collect()
});

/// Replaces what looks like a credential by [`MASK`]: private keys, JWTs, bearer tokens, cloud keys, passwords by the
/// name before them, credentials in URLs.
///
/// Linear in the text for each round; a second round is needed only where masking uncovered something. Masking what
/// is masked changes nothing.
pub fn mask(text: &str) -> Masked<'_> {
    let mut masked = Masked {
        text: Cow::Borrowed(text),
        n_secrets: 0,
    };
    // Each replacement takes at least one character that is no asterisk out of the text, so this ends.
    loop {
        let before = masked.n_secrets;
        for rule in RULES.iter() {
            let secrets = find(rule, &masked.text);
            if !secrets.is_empty() {
                masked.n_secrets += secrets.len() as u64;
                masked.text = Cow::Owned(replace(&masked.text, &secrets));
            }
        }
        if masked.n_secrets == before {
            return masked;
        }
    }
}

/// Where a rule finds secrets that are not masked yet, in order.
fn find(rule: &Regex, text: &str) -> Vec<Range<usize>> {
    rule.captures_iter(text)
        .filter_map(|found| found.iter().skip(1).flatten().next())
        .filter(|secret| secret.as_str().bytes().any(|byte| byte != b'*'))
        .map(|secret| secret.range())
        .collect()
}

fn replace(text: &str, secrets: &[Range<usize>]) -> String {
    let mut masked = String::with_capacity(text.len());
    let mut from = 0;
    for secret in secrets {
        masked.push_str(text.get(from..secret.start).unwrap_or_default());
        masked.push_str(MASK);
        from = secret.end;
    }
    masked.push_str(text.get(from..).unwrap_or_default());
    masked
}

#[cfg(test)]
mod tests;
