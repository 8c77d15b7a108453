//! The form of log messages: a fixed lower-case text without a period, and everything that varies in fields.
//!
//! Only so can a message be searched for, counted and translated into an alert.

use super::Problem;

const LEVELS: &[&str] = &["error!(", "warn!(", "info!(", "debug!(", "trace!("];

/// Names that keep their capital at the start of a message.
const NAMES: &[&str] = &["Coder", "Docker", "Kubernetes", "Podman", "Tawny"];

/// Checks every `tracing` macro of a source file's production part.
pub(super) fn check(path: &str, text: &str) -> Vec<Problem> {
    text.match_indices("tracing::")
        .filter_map(|(at, module)| {
            let call = text.get(at + module.len()..)?;
            let arguments = LEVELS.iter().find_map(|level| call.strip_prefix(level))?;
            let rule = broken_rule(message(arguments)?)?;
            let number = text.get(..at)?.matches('\n').count() + 1;
            Some(Problem::new(format!("{path}:{number}"), rule))
        })
        .collect()
}

fn broken_rule(message: &str) -> Option<String> {
    let word = message.split(' ').next()?;
    let capital = word.starts_with(|c: char| c.is_uppercase())
        && word.chars().skip(1).all(|c| c.is_lowercase());
    let rule = if capital && !NAMES.contains(&word) {
        "starts with a capital letter"
    } else if message.ends_with('.') {
        "ends with a period"
    } else if message.replace("{{", "").contains('{') {
        "has a value in its text, which belongs in a field"
    } else {
        return None;
    };
    Some(format!("log message `{message}` {rule}"))
}

/// The message among a macro's arguments: the last string literal that is not a field's value.
fn message(arguments: &str) -> Option<&str> {
    let (mut depth, mut rest, mut message) = (1, arguments, None);
    let mut before = ' ';
    while depth > 0 {
        let next = rest.chars().next()?;
        let mut taken = next.len_utf8();
        match next {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth -= 1,
            '"' => {
                let literal = literal(rest.get(1..)?)?;
                if depth == 1 && before != '=' {
                    message = Some(literal);
                }
                taken = literal.len() + 2;
            }
            _ => {}
        }
        if !next.is_whitespace() {
            before = next;
        }
        rest = rest.get(taken..)?;
    }
    message
}

/// The inside of a string literal whose opening quote has been read.
fn literal(text: &str) -> Option<&str> {
    let mut escaped = false;
    let end = text.find(|c| {
        let ends = c == '"' && !escaped;
        escaped = c == '\\' && !escaped;
        ends
    })?;
    text.get(..end)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(text: &str) -> Vec<String> {
        check("a.rs", text)
            .iter()
            .map(ToString::to_string)
            .collect()
    }

    #[test]
    fn fixed_lower_case_message_with_fields_passes() {
        for fine in [
            r#"tracing::info!(path = %format!("{}", p), "pod found");"#,
            r#"tracing::warn!(kind = "A. {}", "said \"no\"");"#,
            r#"tracing::info!("Docker answers");"#,
            "tracing::warn!(\n  ?delay,\n  \"watch failed; trying again\"\n);",
            r"tracing::Span::current()",
        ] {
            assert_eq!(problems(fine), [""; 0], "{fine}");
        }
    }

    #[test]
    fn capital_period_and_interpolated_value_are_named() {
        assert_eq!(
            problems(
                "\ntracing::info!(n, \"Starting up\");\ntracing::error!(\"gone.\");\ntracing::debug!(\"read {n}\");"
            ),
            [
                "a.rs:2: log message `Starting up` starts with a capital letter",
                "a.rs:3: log message `gone.` ends with a period",
                "a.rs:4: log message `read {n}` has a value in its text, which belongs in a field",
            ]
        );
    }
}
