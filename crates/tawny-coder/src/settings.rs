//! What the log stream to Coder is told: where Coder is, what to watch, and how much to say.

use std::path::PathBuf;

use serde::Deserialize;

use crate::{Error, client::Roots, registry::Look};

/// The `coder:` section as the user wrote it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CoderConfig {
    /// URL of the Coder deployment, with `http://` or `https://` (`CODER_URL`). Required.
    pub url: String,
    /// Namespaces to watch, three watches each (`CODER_NAMESPACES`). Empty watches all at once, which takes cluster-wide
    /// rights.
    pub namespaces: Vec<String>,
    /// Only pods and ReplicaSets with these fields (`CODER_FIELD_SELECTOR`). Events are matched by the objects they are
    /// about.
    pub field_selector: String,
    /// Only pods and ReplicaSets with these labels (`CODER_LABEL_SELECTOR`).
    pub label_selector: String,
    /// PEM file of the certificates that Coder's is signed by, in place of the system's (`SSL_CERT_FILE`).
    pub ca_file: String,
    /// Directories of such files, separated by colons, in place of the system's (`SSL_CERT_DIR`).
    pub ca_dirs: String,
    /// Look for tokens in `envFrom` too. Costs one request for each secret and config map that any watched pod takes all
    /// variables from, so watch few namespaces, or select by label. What may not be read is passed over.
    pub env_from: bool,
    /// Say in words why a container died, cannot start or cannot pull its image. Off by default: coder-logstream-kube tells
    /// events only.
    pub reasons: bool,
    /// Lines of a dead container's log to add, at most 100. Needs `reasons`, and the right to get `pods/log`; one request
    /// for each death.
    pub last_lines: u32,
    /// File that remembers what has been told, so that a restart repeats nothing and misses nothing. Written at most once a
    /// second, before the lines are sent. Empty remembers nothing: then only what happens after the start is told.
    pub state_file: String,
}

impl Default for CoderConfig {
    fn default() -> Self {
        Self {
            url: String::new(),
            namespaces: Vec::new(),
            field_selector: String::new(),
            label_selector: String::new(),
            ca_file: String::new(),
            ca_dirs: String::new(),
            env_from: true,
            reasons: false,
            last_lines: 0,
            state_file: String::new(),
        }
    }
}

/// A [`CoderConfig`] that passed every check.
#[derive(Debug, Clone)]
pub struct Settings {
    pub url: url::Url,
    /// Sorted, each once; empty means all.
    pub namespaces: Vec<String>,
    pub field_selector: Option<String>,
    pub label_selector: Option<String>,
    pub roots: Roots,
    pub look: Look,
    pub n_last_lines: u32,
    pub state_file: Option<PathBuf>,
}

/// Most lines of a dead container's log; Coder keeps 1 MiB for an agent in all.
pub const MAX_LAST_LINES: u32 = 100;

impl TryFrom<CoderConfig> for Settings {
    type Error = Error;

    fn try_from(config: CoderConfig) -> Result<Self, Error> {
        let CoderConfig {
            url,
            namespaces,
            field_selector,
            label_selector,
            ca_file,
            ca_dirs,
            env_from,
            reasons,
            last_lines,
            state_file,
        } = config;
        let refuse = |key, got: String, rule| Err(Error::Setting { key, got, rule });
        let mut namespaces: Vec<String> = (namespaces.iter())
            .map(|namespace| namespace.trim().to_owned())
            .filter(|namespace| !namespace.is_empty())
            .collect();
        namespaces.sort_unstable();
        namespaces.dedup();
        if let Some(wrong) = namespaces.iter().find(|namespace| !is_label(namespace)) {
            let rule = "a namespace is 1 to 63 of a-z, 0-9 and -, with no - at its ends";
            return refuse("namespaces", wrong.clone(), rule);
        }
        if last_lines > MAX_LAST_LINES {
            return refuse("last_lines", last_lines.to_string(), "at most 100");
        }
        if last_lines > 0 && !reasons {
            let rule = "needs `reasons: true`: the lines follow the line that tells of a death";
            return refuse("last_lines", last_lines.to_string(), rule);
        }
        let given = |text: String| Some(text.trim().to_owned()).filter(|text| !text.is_empty());
        Ok(Self {
            url: parse_url(&url)?,
            namespaces,
            field_selector: given(field_selector),
            label_selector: given(label_selector),
            roots: Roots {
                file: given(ca_file).map(PathBuf::from),
                dirs: given(ca_dirs).map(|dirs| {
                    (dirs.split(':').filter(|dir| !dir.is_empty()))
                        .map(PathBuf::from)
                        .collect()
                }),
            },
            look: Look {
                is_explained: reasons,
                follows_env_from: env_from,
            },
            n_last_lines: last_lines,
            state_file: given(state_file).map(PathBuf::from),
        })
    }
}

/// Checks Coder's URL with the messages of CL-1.
fn parse_url(text: &str) -> Result<url::Url, Error> {
    if text.is_empty() {
        return Err(Error::UrlMissing);
    }
    let scheme = text.split(':').next().unwrap_or_default();
    let is_http = ["http", "https"].map(|known| scheme.eq_ignore_ascii_case(known));
    if !is_http.contains(&true) || scheme.len() == text.len() {
        return Err(Error::UrlScheme {
            got: text.to_owned(),
        });
    }
    url::Url::parse(text).map_err(|error| Error::UrlBroken {
        got: text.to_owned(),
        reason: error.to_string(),
    })
}

/// A DNS label. Source: RFC 1123, which Kubernetes names namespaces by.
fn is_label(text: &str) -> bool {
    (1..=63).contains(&text.len())
        && !text.starts_with('-')
        && !text.ends_with('-')
        && text
            .bytes()
            .all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> CoderConfig {
        CoderConfig {
            url: "https://coder.example".to_owned(),
            ..CoderConfig::default()
        }
    }

    fn refusal(config: CoderConfig) -> String {
        Settings::try_from(config).unwrap_err().to_string()
    }

    #[test]
    fn a_url_is_required_with_its_scheme_cl_1() {
        let with = |url: &str| CoderConfig {
            url: url.to_owned(),
            ..config()
        };
        assert_eq!(refusal(with("")), "--coder-url is required");
        for url in ["coder.example", "localhost:3000", "ftp://x", "//x", "http"] {
            assert_eq!(
                refusal(with(url)),
                format!("CODER_URL must include http:// or https:// scheme, got: \"{url}\"")
            );
        }
        assert!(refusal(with("https://")).starts_with("parse coder URL: "));
        for url in ["http://localhost:3000", "HTTPS://coder.example/base/"] {
            assert!(Settings::try_from(with(url)).is_ok(), "{url}");
        }
    }

    #[test]
    fn namespaces_are_trimmed_and_taken_once_cl_3() {
        let with = |names: &[&str]| CoderConfig {
            namespaces: names.iter().map(|&name| name.to_owned()).collect(),
            ..config()
        };
        let settings = Settings::try_from(with(&[" b", "a ", "", "b"])).unwrap();
        assert_eq!(settings.namespaces, ["a", "b"]);
        assert!(Settings::try_from(config()).unwrap().namespaces.is_empty());
        for wrong in ["A", "a_b", "-a", "a/b", &"x".repeat(64)] {
            let refusal = refusal(with(&[wrong]));
            assert!(
                refusal.starts_with(&format!("`namespaces` is {wrong}: ")),
                "{refusal}"
            );
        }
    }

    #[test]
    fn empty_texts_mean_the_default_and_lists_are_split() {
        let settings = Settings::try_from(config()).unwrap();
        assert_eq!(settings.field_selector, None);
        assert_eq!(settings.roots, Roots::default());
        assert!(!settings.look.is_explained && settings.look.follows_env_from);
        assert_eq!(settings.n_last_lines, 0);
        let given = CoderConfig {
            label_selector: " app=ws ".to_owned(),
            ca_file: "/ca.pem".to_owned(),
            ca_dirs: "/a::/b".to_owned(),
            ..config()
        };
        let settings = Settings::try_from(given).unwrap();
        assert_eq!(settings.label_selector.as_deref(), Some("app=ws"));
        let dirs = Some(vec![PathBuf::from("/a"), PathBuf::from("/b")]);
        let file = Some(PathBuf::from("/ca.pem"));
        assert_eq!(settings.roots, Roots { file, dirs });
    }

    #[test]
    fn last_lines_are_few_and_follow_a_reason() {
        let with = |last_lines, reasons| CoderConfig {
            last_lines,
            reasons,
            ..config()
        };
        assert!(refusal(with(5, false)).contains("needs `reasons: true`"));
        assert!(refusal(with(101, true)).contains("at most 100"));
        assert!(Settings::try_from(with(100, true)).is_ok());
    }

    #[test]
    fn an_unknown_key_is_refused_by_name() {
        let error = serde_json::from_str::<CoderConfig>(r#"{"uri": ""}"#).unwrap_err();
        assert!(error.to_string().contains("uri"), "{error}");
    }
}
