//! Marks the parts of a message that the user looks for.

use regex::Regex;

/// Wraps every match of any of its patterns in bold red.
#[derive(Debug, Clone, Default)]
pub(crate) struct Highlight {
    pattern: Option<Regex>,
}

impl Highlight {
    /// Marks what any of the patterns matches; each must be a valid regular expression of its own.
    pub(crate) fn new(patterns: &[Regex]) -> Result<Self, regex::Error> {
        if patterns.is_empty() {
            return Ok(Self::default());
        }
        let joined = patterns
            .iter()
            .map(|pattern| format!("(?:{pattern})"))
            .collect::<Vec<_>>()
            .join("|");
        Ok(Self {
            pattern: Some(Regex::new(&joined)?),
        })
    }

    /// Appends `text` with matches marked.
    pub(crate) fn apply(&self, text: &str, out: &mut String) {
        let Some(pattern) = &self.pattern else {
            return out.push_str(text);
        };
        let mut rest_start = 0;
        for found in pattern.find_iter(text).filter(|found| !found.is_empty()) {
            out.extend(text.get(rest_start..found.start()));
            out.push_str("\x1b[1;31m");
            out.push_str(found.as_str());
            out.push_str("\x1b[0m");
            rest_start = found.end();
        }
        out.extend(text.get(rest_start..));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_match_of_every_pattern_is_marked() {
        let highlight =
            Highlight::new(&[Regex::new("err").unwrap(), Regex::new("(?i)B+|").unwrap()]).unwrap();
        let mut out = String::new();
        highlight.apply("an err at bb end", &mut out);
        assert_eq!(out, "an \x1b[1;31merr\x1b[0m at \x1b[1;31mbb\x1b[0m end");
    }
}
