//! The YAML file: sections of keys, nothing deeper.

use std::path::{Path, PathBuf};

use serde_yaml_ng::{Mapping, Value};

use super::{
    Error,
    keys::{self, KEYS, Key},
    layers::{Layers, Origin},
    value::Raw,
};

/// Where a configuration is looked for when none is named, later ones on top.
pub(crate) fn default_paths(config_home: Option<&Path>) -> Vec<PathBuf> {
    [Path::new("/etc")]
        .into_iter()
        .chain(config_home)
        .map(|dir| dir.join("tawny").join("config.yaml"))
        .collect()
}

/// Reads one file on top of `layers`; `text` is its content.
pub(crate) fn read(path: &Path, text: &str, layers: &mut Layers) -> Result<(), Vec<Error>> {
    let mapping = match serde_yaml_ng::from_str(text) {
        Ok(Value::Null) => return Ok(()),
        Ok(Value::Mapping(mapping)) => mapping,
        Ok(_) => {
            return Err(vec![Error::Yaml {
                path: path.to_owned(),
                reason: "must be a mapping of sections".to_owned(),
            }]);
        }
        Err(error) => {
            return Err(vec![Error::Yaml {
                path: path.to_owned(),
                reason: error.to_string(),
            }]);
        }
    };
    let mut reader = Reader {
        path,
        text,
        layers,
        errors: Vec::new(),
    };
    reader.section("", &mapping);
    if reader.errors.is_empty() {
        Ok(())
    } else {
        Err(reader.errors)
    }
}

struct Reader<'a> {
    path: &'a Path,
    text: &'a str,
    layers: &'a mut Layers,
    errors: Vec<Error>,
}

impl Reader<'_> {
    fn section(&mut self, section: &str, mapping: &Mapping) {
        for (name, value) in mapping {
            let name = scalar(name).unwrap_or_default();
            let path = if section.is_empty() {
                name.clone()
            } else {
                format!("{section}.{name}")
            };
            let origin = Origin::File {
                path: self.path.to_owned(),
                line: line_of(self.text, section, &name),
            };
            if let Some(key) = keys::find(&path) {
                self.value(key, origin, value);
            } else if section.is_empty() && KEYS.iter().any(|key| key.section() == name) {
                match value {
                    Value::Mapping(inner) => self.section(&name, inner),
                    // A section with all its keys commented out.
                    Value::Null => {}
                    _ => self.errors.push(Error::Invalid {
                        name: path,
                        value: scalar(value).unwrap_or_default(),
                        rule: "is a section: write its keys below it".to_owned(),
                        origin,
                    }),
                }
            } else {
                let known = KEYS.iter().flat_map(|key| [key.path, key.section()]);
                self.errors.push(Error::UnknownKey {
                    nearest: nearest(&path, known),
                    name: path,
                    origin,
                });
            }
        }
    }

    fn value(&mut self, key: &'static Key, origin: Origin, value: &Value) {
        let raw = match value {
            Value::Null => return,
            Value::Sequence(items) => items
                .iter()
                .map(scalar)
                .collect::<Option<_>>()
                .map(Raw::List),
            value => scalar(value).map(Raw::Text),
        };
        match raw {
            Some(raw) => self.layers.put(key.path, origin, raw),
            None => self.errors.push(Error::Invalid {
                name: key.path.to_owned(),
                value: "a mapping".to_owned(),
                rule: "takes a value or a list of values".to_owned(),
                origin,
            }),
        }
    }
}

fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Bool(yes) => Some(yes.to_string()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// The known name most like `name`, if any is like it at all.
pub(crate) fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<String> {
    /// Likeness below which a guess would mislead; a slip or two in a word of six lies above.
    const ALIKE: f64 = 0.7;
    known
        .map(|known| {
            // A key is often right but for its section.
            let last = |name: &'a str| name.rsplit('.').next().unwrap_or(name);
            let whole = strsim::jaro_winkler(name, known);
            let part = strsim::jaro_winkler(name.rsplit('.').next().unwrap_or(name), last(known));
            (whole.max(part * 0.95), known)
        })
        .filter(|(likeness, known)| *likeness >= ALIKE && !known.is_empty())
        // Of those that are as near, the first of the reference.
        .reduce(|best, next| if next.0 > best.0 { next } else { best })
        .map(|(_, known)| known.to_owned())
}

/// Line of a key in block style, from 1; the parser does not keep it, and flow style is left without.
fn line_of(text: &str, section: &str, name: &str) -> Option<usize> {
    let mut current = "";
    for (number, line) in (1..).zip(text.lines()) {
        let trimmed = line.trim_start();
        let Some((key, _)) = trimmed.split_once(':') else {
            continue;
        };
        let is_top = trimmed.len() == line.len();
        if is_top {
            current = key;
        }
        if key == name && is_top == section.is_empty() && (is_top || current == section) {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(text: &str) -> Result<Layers, Vec<String>> {
        let mut layers = Layers::default();
        read(Path::new("c.yaml"), text, &mut layers)
            .map(|()| layers)
            .map_err(|errors| errors.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn sections_lists_and_scalars_are_read_with_their_line() {
        let text = "cluster: a\n# note\nstore:\n  path: /x.db\n  retention_size: 1024\ncollect:\n  namespaces: [a, b]\nhttp:\n";
        let layers = read_text(text).unwrap();
        let value = |key: &str| {
            let (origin, raw) = layers.get(key).unwrap();
            (origin.to_string(), raw.text())
        };
        assert_eq!(value("cluster"), ("file c.yaml:1".into(), "a".into()));
        assert_eq!(
            value("store.path"),
            ("file c.yaml:4".into(), "/x.db".into())
        );
        assert_eq!(value("store.retention_size").1, "1024");
        assert_eq!(value("collect.namespaces").1, "a,b");
        assert!(read_text("").is_ok());
    }

    #[test]
    fn unknown_keys_are_refused_with_the_nearest_known_one() {
        for (text, message) in [
            (
                "store:\n  pth: x",
                "c.yaml:2: unknown key `store.pth`; did you mean `store.path`?",
            ),
            (
                "stroe:\n  path: x",
                "c.yaml:1: unknown key `stroe`; did you mean `store`?",
            ),
            (
                "namespaces: [a]",
                "c.yaml:1: unknown key `namespaces`; did you mean `collect.namespaces`?",
            ),
            ("zzz: 1", "c.yaml:1: unknown key `zzz`"),
        ] {
            assert_eq!(read_text(text).unwrap_err(), [message], "{text}");
        }
    }

    #[test]
    fn files_of_another_shape_are_refused() {
        for (text, part) in [
            ("- a", "must be a mapping"),
            ("store: x", "is a section"),
            ("cluster: {a: b}", "takes a value"),
            ("a: [", "c.yaml: "),
            ("cluster: a\ncluster: b", "duplicate"),
        ] {
            let errors = read_text(text).unwrap_err();
            assert!(errors[0].contains(part), "{errors:?}");
        }
    }
}
