//! The reference of all settings as Markdown, from the table itself; `docs/configuration.md` is its output.

use std::fmt::Write as _;

use super::{
    aliases::{ALIASES, Meaning},
    keys::{KEYS, Key, SECTIONS},
};

const INTRODUCTION: &str = "\
# Configuration

Every setting can be given in a YAML file, as an environment variable and mostly as a flag. Flags win over variables,
variables over the file, the file over the default. `tawny config print` shows what is in force and where each value
came from; `tawny config check` only says whether it is right.

The file is the one named by `--config` or `TAWNY_CONFIG`; without either, `/etc/tawny/config.yaml` and on top of it
`~/.config/tawny/config.yaml`, where they exist. Units are part of a value: `250ms`, `30s`, `7d`, `64MiB`. A list is
written as a YAML list, or with commas. An unknown key is an error that names the nearest known one. `--set KEY=VALUE`
sets any key from the command line.

```yaml
cluster: prod
store:
  path: /var/lib/tawny
  retention_age: 7d
collect:
  exclude_namespaces: [kube-system]
```

Variables of strixlog, kubelogs, Vector, kubectl and Docker are understood too; they stand in the column \"Aliases\". An
alias that says something else than another name of the same key is an error, except for the ones marked \"last\", which
other programs set for their own ends: these are taken only when nothing else gives the key.

This page is made by `tawny config reference`.
";

/// The whole page.
pub(crate) fn markdown() -> String {
    let mut page = INTRODUCTION.to_owned();
    for (prefix, docs) in SECTIONS {
        let section = prefix.trim_end_matches('.');
        let title = if section.is_empty() {
            "No section".to_owned()
        } else {
            format!("`{section}`")
        };
        let docs: Vec<&str> = docs.iter().map(|line| line.trim()).collect();
        write!(
            page,
            "\n## {title}\n\n{}\n\n\
             | Key | Flag | Variable | Aliases | Default | Meaning |\n|---|---|---|---|---|---|\n",
            docs.join(" ")
        )
        .expect("a String takes any text");
        for key in KEYS.iter().filter(|key| key.section() == section) {
            page.push_str(&row(key));
        }
    }
    page.push_str("\n## Variables without a key\n\n| Variable | Meaning |\n|---|---|\n");
    for alias in ALIASES {
        let (what, why) = match alias.meaning {
            Meaning::Ignored(why) => ("warned of", why),
            Meaning::Refused(why) => ("refused when on", why),
            Meaning::Of(..) | Meaning::Fallback(..) => continue,
        };
        // Any value but an off one has the reason given.
        let why = why("on").unwrap_or_default();
        writeln!(page, "| `{}` | {what}: {why} |", alias.name).expect("a String takes any text");
    }
    page
}

fn row(key: &Key) -> String {
    let flag = match (key.flag, key.short) {
        (Some(flag), Some(short)) => format!("`--{flag}`, `-{short}`"),
        (Some(flag), None) => format!("`--{flag}`"),
        (None, _) => String::new(),
    };
    let aliases: Vec<String> = ALIASES
        .iter()
        .filter_map(|alias| match alias.meaning {
            Meaning::Of(path, _) if path == key.path => Some(format!("`{}`", alias.name)),
            Meaning::Fallback(path, _) if path == key.path => {
                Some(format!("`{}` (last)", alias.name))
            }
            _ => None,
        })
        .collect();
    let default = match (key.default)() {
        empty if empty.is_empty() => String::new(),
        default => format!("`{default}`"),
    };
    let choices = match (key.choices)() {
        empty if empty.is_empty() => String::new(),
        choices => format!(" One of `{}`.", choices.join("`, `")),
    };
    format!(
        "| `{}` | {flag} | `{}` | {} | {default} | {}{choices} |\n",
        key.path,
        key.env(),
        aliases.join(", "),
        key.doc().replace('|', "\\|"),
    )
}
