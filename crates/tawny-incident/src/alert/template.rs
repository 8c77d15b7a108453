//! Texts with `{namespace}` in them: summaries, labels and annotations of a rule.

use tawny_query::Field;

use super::yaml::nearest;

/// What a placeholder can stand for besides the fields a rule groups by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Word {
    Rule,
    Severity,
    Count,
    Of,
    Window,
    Threshold,
    Query,
    Line,
}

const WORDS: &[(&str, Word)] = &[
    ("rule", Word::Rule),
    ("severity", Word::Severity),
    ("count", Word::Count),
    ("of", Word::Of),
    ("window", Word::Window),
    ("threshold", Word::Threshold),
    ("query", Word::Query),
    ("line", Word::Line),
];

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    /// The value of the group's field of this index.
    Value(usize),
    Word(Word),
}

/// A text whose placeholders are known to have a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Template(Vec<Part>);

impl Template {
    /// Reads a text; `{{` and `}}` are braces. `{name}` and, as other tools write it, `{{ .name }}` are placeholders.
    ///
    /// # Errors
    /// The placeholder that no alert of the rule would have a value for, or the brace that is open.
    pub(super) fn parse(text: &str, group_by: &[Field]) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut plain = String::new();
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}']) {
            let (before, from) = rest.split_at(at);
            plain.push_str(before);
            let (name, after) = if let Some(inner) = from.strip_prefix("{{") {
                let Some((name, after)) = inner
                    .split_once("}}")
                    .and_then(|(name, after)| Some((name.trim().strip_prefix('.')?, after)))
                else {
                    plain.push('{');
                    rest = inner;
                    continue;
                };
                (name, after)
            } else if let Some(inner) = from.strip_prefix('{') {
                inner
                    .split_once('}')
                    .map(|(name, after)| (name.trim(), after))
                    .ok_or("a `{` is never closed; write `{{` for a brace")?
            } else {
                rest = from
                    .strip_prefix("}}")
                    .ok_or("a `}` closes nothing; write `}}` for a brace")?;
                plain.push('}');
                continue;
            };
            if !plain.is_empty() {
                parts.push(Part::Text(std::mem::take(&mut plain)));
            }
            parts.push(part(name, group_by)?);
            rest = after;
        }
        plain.push_str(rest);
        if !plain.is_empty() {
            parts.push(Part::Text(plain));
        }
        Ok(Self(parts))
    }

    /// The text with its values put in.
    pub(super) fn render(
        &self,
        value: impl Fn(usize) -> String,
        word: impl Fn(Word) -> String,
    ) -> String {
        self.0
            .iter()
            .map(|part| match part {
                Part::Text(text) => text.clone(),
                Part::Value(idx) => value(*idx),
                Part::Word(name) => word(*name),
            })
            .collect()
    }
}

fn part(name: &str, group_by: &[Field]) -> Result<Part, String> {
    let field = Field::named(name);
    if let Some(idx) = group_by.iter().position(|known| *known == field) {
        return Ok(Part::Value(idx));
    }
    if let Some((_, word)) = WORDS.iter().find(|(known, _)| *known == name) {
        return Ok(Part::Word(*word));
    }
    let fields: Vec<String> = group_by.iter().map(Field::to_string).collect();
    let known = || {
        let words = WORDS.iter().map(|(known, _)| *known);
        fields.iter().map(String::as_str).chain(words)
    };
    Err(match nearest(name, known()) {
        Some(near) => format!("`{{{name}}}` is unknown; did you mean `{{{near}}}`?"),
        None => format!(
            "`{{{name}}}` is unknown; known are {}; the name of a field has to be in group_by",
            known().collect::<Vec<_>>().join(", ")
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendered(text: &str) -> Result<String, String> {
        let template = Template::parse(text, &[Field::Namespace, Field::Label("app".to_owned())])?;
        Ok(template.render(|idx| format!("<{idx}>"), |word| format!("{word:?}")))
    }

    #[test]
    fn placeholders_are_names_of_the_group_and_a_few_words() {
        for (text, expected) in [
            ("plain", "plain"),
            ("{namespace}: {count} of {of}", "<0>: Count of Of"),
            ("{ns}/{label.app}", "<0>/<1>"),
            ("{{ .namespace }}!", "<0>!"),
            ("{{\"a\": {count}}}", "{\"a\": Count}"),
            ("ünï {line} – ö", "ünï Line – ö"),
        ] {
            assert_eq!(rendered(text).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn a_placeholder_without_a_value_is_refused_with_the_nearest_one() {
        for (text, said) in [
            ("{namespcae}", "did you mean `{namespace}`?"),
            ("{cuont}", "did you mean `{count}`?"),
            ("{pod}", "has to be in group_by"),
            ("{", "never closed"),
            ("a } b", "closes nothing"),
        ] {
            let error = rendered(text).unwrap_err();
            assert!(error.contains(said), "{text}: {error}");
        }
    }
}
