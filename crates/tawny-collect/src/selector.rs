//! Label and field selectors in Kubernetes' syntax, evaluated here where no API server does it.
//!
//! Source: kubernetes `apimachinery/pkg/labels/selector.go` and `pkg/fields/selector.go`.

use crate::Error;

/// Requirements that must all hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selector {
    text: String,
    requirements: Vec<Requirement>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Requirement {
    key: String,
    operator: Operator,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Operator {
    In(Vec<String>),
    NotIn(Vec<String>),
    Exists,
    Absent,
    Above(i64),
    Below(i64),
}

impl Selector {
    /// Reads a label selector: `app=web,tier!=db,env in (a, b),zone notin (c),gpu,!old,n>3`.
    ///
    /// # Errors
    /// `Reject` names the byte and what was expected there.
    pub fn labels(text: &str) -> Result<Self, Error> {
        Parser { text, at: 0 }.selector(true)
    }

    /// Reads a field selector: `status.phase=Running,spec.nodeName!=a`.
    ///
    /// # Errors
    /// `Reject` names the byte and what was expected there.
    pub fn fields(text: &str) -> Result<Self, Error> {
        Parser { text, at: 0 }.selector(false)
    }

    pub fn is_empty(&self) -> bool {
        self.requirements.is_empty()
    }

    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether values looked up by key fulfil every requirement. A missing key fulfils `!=` and `notin`.
    pub fn matches<'v>(&self, value: impl Fn(&str) -> Option<&'v str>) -> bool {
        self.requirements.iter().all(|requirement| {
            let value = value(&requirement.key);
            match &requirement.operator {
                Operator::In(values) => {
                    value.is_some_and(|value| values.iter().any(|v| v == value))
                }
                Operator::NotIn(values) => {
                    value.is_none_or(|value| values.iter().all(|v| v != value))
                }
                Operator::Exists => value.is_some(),
                Operator::Absent => value.is_none(),
                Operator::Above(bound) => number(value).is_some_and(|n| n > *bound),
                Operator::Below(bound) => number(value).is_some_and(|n| n < *bound),
            }
        })
    }
}

fn number(value: Option<&str>) -> Option<i64> {
    value?.parse().ok()
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Parser<'a> {
    fn selector(mut self, is_labels: bool) -> Result<Selector, Error> {
        let mut requirements = Vec::new();
        self.skip_space();
        while self.at < self.text.len() {
            requirements.push(if is_labels {
                self.label()?
            } else {
                self.field()?
            });
            self.skip_space();
            if self.at < self.text.len() {
                self.expect(",", "`,` or the end")?;
                self.skip_space();
                if self.at == self.text.len() {
                    return Err(self.error("a requirement behind `,`"));
                }
            }
        }
        Ok(Selector {
            text: self.text.to_owned(),
            requirements,
        })
    }

    fn label(&mut self) -> Result<Requirement, Error> {
        if self.take("!") {
            self.skip_space();
            let key = self.key()?;
            return Ok(Requirement {
                key,
                operator: Operator::Absent,
            });
        }
        let key = self.key()?;
        self.skip_space();
        let operator = if self.take("!=") {
            Operator::NotIn(vec![self.value()])
        } else if self.take("==") || self.take("=") {
            Operator::In(vec![self.value()])
        } else if self.take(">") {
            Operator::Above(self.integer()?)
        } else if self.take("<") {
            Operator::Below(self.integer()?)
        } else if self.take_word("in") {
            Operator::In(self.set()?)
        } else if self.take_word("notin") {
            Operator::NotIn(self.set()?)
        } else {
            Operator::Exists
        };
        Ok(Requirement { key, operator })
    }

    fn field(&mut self) -> Result<Requirement, Error> {
        let key = self.key()?;
        self.skip_space();
        let operator = if self.take("!=") {
            Operator::NotIn(vec![self.value()])
        } else {
            if !self.take("==") {
                self.expect("=", "`=`, `==` or `!=`")?;
            }
            Operator::In(vec![self.value()])
        };
        Ok(Requirement { key, operator })
    }

    fn set(&mut self) -> Result<Vec<String>, Error> {
        self.skip_space();
        self.expect("(", "`(`")?;
        let mut values = Vec::new();
        loop {
            values.push(self.value());
            if self.take(")") {
                return Ok(values);
            }
            self.expect(",", "`,` or `)`")?;
        }
    }

    fn integer(&mut self) -> Result<i64, Error> {
        self.skip_space();
        let start = self.at;
        let value = self.value();
        value
            .parse()
            .map_err(|_| self.error_at(start, "a whole number"))
    }

    /// Letters, digits, `-`, `_`, `.`, `/`; never empty.
    fn key(&mut self) -> Result<String, Error> {
        let key = self.name();
        if key.is_empty() {
            return Err(self.error("a key"));
        }
        Ok(key)
    }

    /// Like a key, with blanks around it; may be empty.
    fn value(&mut self) -> String {
        self.skip_space();
        let value = self.name();
        self.skip_space();
        value
    }

    fn name(&mut self) -> String {
        let rest = self.rest();
        let len = rest
            .find(|c: char| !(c.is_alphanumeric() || matches!(c, '-' | '_' | '.' | '/' | ':')))
            .unwrap_or(rest.len());
        self.at += len;
        rest.split_at(len).0.to_owned()
    }

    fn rest(&self) -> &'a str {
        self.text
            .get(self.at..)
            .expect("`at` moves over whole characters")
    }

    fn skip_space(&mut self) {
        let rest = self.rest();
        self.at += rest.len() - rest.trim_start().len();
    }

    fn take(&mut self, token: &str) -> bool {
        let is_next = self.rest().starts_with(token);
        if is_next {
            self.at += token.len();
        }
        is_next
    }

    fn take_word(&mut self, word: &str) -> bool {
        let behind = self.rest().strip_prefix(word);
        let is_next = behind.is_some_and(|rest| rest.starts_with([' ', '(', '\t']));
        is_next && self.take(word)
    }

    fn expect(&mut self, token: &str, expected: &'static str) -> Result<(), Error> {
        if self.take(token) {
            Ok(())
        } else {
            Err(self.error(expected))
        }
    }

    fn error(&self, expected: &'static str) -> Error {
        self.error_at(self.at, expected)
    }

    fn error_at(&self, at_byte: usize, expected: &'static str) -> Error {
        Error::Selector {
            selector: self.text.to_owned(),
            at_byte,
            expected,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn value_of<'a>(key: &str) -> Option<&'a str> {
        [
            ("app", "web"),
            ("tier", ""),
            ("n", "5"),
            ("tawny.dev/x", "a.b_c-d"),
        ]
        .into_iter()
        .find(|(k, _)| *k == key)
        .map(|(_, value)| value)
    }

    #[test]
    fn label_selectors_mean_what_kubernetes_says() {
        for (text, matches) in [
            ("", true),
            ("app=web", true),
            ("app == web", true),
            ("app!=web", false),
            ("missing!=web", true),
            ("app in (api, web)", true),
            ("app in (api)", false),
            ("app notin(api)", true),
            ("missing notin (a)", true),
            ("missing in (a)", false),
            ("app", true),
            ("missing", false),
            ("!missing", true),
            ("! app", false),
            ("tier=", true),
            ("tier", true),
            ("app=", false),
            ("n>4,n<6", true),
            ("n>5", false),
            ("app>1", false),
            ("tawny.dev/x=a.b_c-d,app=web", true),
            ("app=web,app=api", false),
            ("in in (in)", false),
            (" app = web , n ", true),
        ] {
            assert_eq!(
                Selector::labels(text).unwrap().matches(value_of),
                matches,
                "{text}"
            );
        }
    }

    #[test]
    fn field_selectors_compare_only() {
        let field = |key: &str| (key == "status.phase").then_some("Running");
        for (text, matches) in [
            ("status.phase=Running", true),
            ("status.phase!=Running", false),
            ("status.phase==Running,spec.nodeName!=a", true),
            ("spec.nodeName=a", false),
        ] {
            assert_eq!(
                Selector::fields(text).unwrap().matches(field),
                matches,
                "{text}"
            );
        }
        assert!(Selector::fields("status.phase").is_err());
        assert!(Selector::fields("a in (b)").is_err());
    }

    #[test]
    fn a_broken_selector_names_the_place() {
        for (text, at, what) in [
            ("app=web,", 8, "a requirement behind `,`"),
            ("=web", 0, "a key"),
            ("app in web", 7, "`(`"),
            ("app in (web", 11, "`,` or `)`"),
            ("app web", 4, "`,` or the end"),
            ("n>x", 2, "a whole number"),
        ] {
            match Selector::labels(text) {
                Err(Error::Selector {
                    at_byte, expected, ..
                }) => assert_eq!((at_byte, expected), (at, what), "{text}"),
                other => panic!("{text}: {other:?}"),
            }
        }
    }

    proptest! {
        #[test]
        fn any_text_is_survived(text in "[a-z!=<>(), é/]{0,30}") {
            let _labels = Selector::labels(&text).map(|selector| selector.matches(value_of));
            let _fields = Selector::fields(&text).map(|selector| selector.matches(value_of));
        }
    }
}
