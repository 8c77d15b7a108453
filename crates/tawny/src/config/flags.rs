//! Command-line flags, made from the table of settings: a command names the sections it takes.

use std::{fmt, marker::PhantomData};

use clap::{
    Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches, builder::PossibleValuesParser,
    error::Error, parser::ValueSource,
};

use super::{
    file,
    keys::{self, KEYS, Key},
    layers::Origin,
    value::{Raw, Setting},
};

/// A setting given on the command line.
#[derive(Debug, Clone)]
pub(crate) struct Given {
    pub(crate) key: &'static Key,
    pub(crate) origin: Origin,
    pub(crate) value: Raw,
}

/// Which settings a command takes as flags.
pub(crate) trait Group {
    /// Section names and single keys.
    const KEYS: &'static [&'static str];
    /// Whether the flags may also stand before the subcommand and hold for all.
    const GLOBAL: bool = false;
    const HEADING: Option<&'static str> = None;
}

/// The flags of a group, for `#[command(flatten)]`.
pub(crate) struct Flags<G> {
    given: Vec<Given>,
    group: PhantomData<G>,
}

impl<G> Flags<G> {
    pub(crate) fn given(self) -> Vec<Given> {
        self.given
    }
}

impl<G> fmt::Debug for Flags<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.given.fmt(f)
    }
}

impl<G> Clone for Flags<G> {
    fn clone(&self) -> Self {
        Self {
            given: self.given.clone(),
            group: PhantomData,
        }
    }
}

fn keys_of<G: Group>() -> impl Iterator<Item = (&'static Key, &'static str)> {
    KEYS.iter()
        .filter(|key| G::KEYS.contains(&key.path) || G::KEYS.contains(&key.section()))
        .filter_map(|key| Some((key, key.flag?)))
}

impl<G: Group> Args for Flags<G> {
    fn augment_args(command: Command) -> Command {
        keys_of::<G>().fold(command, |command, (key, flag)| {
            command.arg(
                argument(key, flag)
                    .global(G::GLOBAL)
                    .help_heading(G::HEADING),
            )
        })
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

fn argument(key: &'static Key, flag: &'static str) -> Arg {
    let default = (key.default)();
    let default = if default.is_empty() { "none" } else { &default };
    let arg = Arg::new(key.path)
        .long(flag)
        .short(key.short)
        .value_name(key.value_name)
        .action(if key.is_list {
            ArgAction::Append
        } else {
            ArgAction::Set
        })
        .help(format!(
            "{} [default: {default}]",
            first_sentence(&key.doc())
        ))
        .long_help(format!(
            "{}\n\n[default: {default}] [env: {}] [key: {}]",
            key.doc(),
            key.env(),
            key.path
        ));
    let arg = if key.value_name == <bool as Setting>::VALUE_NAME {
        arg.num_args(0..=1)
            .require_equals(true)
            .default_missing_value("true")
    } else {
        arg
    };
    let choices = (key.choices)();
    if choices.is_empty() {
        arg.value_parser(move |text: &str| {
            (key.canonical)(&Raw::Text(text.to_owned())).map(|_canonical| text.to_owned())
        })
    } else {
        arg.value_parser(PossibleValuesParser::new(choices))
            .hide_possible_values(true)
    }
}

/// What fits in the table of `-h`; `--help` has the rest.
fn first_sentence(doc: &str) -> &str {
    match doc.split_once(". ") {
        Some((first, _)) => first,
        None => doc.trim_end_matches('.'),
    }
}

impl<G: Group> FromArgMatches for Flags<G> {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        let mut flags = Self {
            given: Vec::new(),
            group: PhantomData,
        };
        flags.update_from_arg_matches(matches)?;
        Ok(flags)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        for (key, flag) in keys_of::<G>() {
            if matches.value_source(key.path) != Some(ValueSource::CommandLine) {
                continue;
            }
            let mut values: Vec<String> = matches
                .get_many(key.path)
                .into_iter()
                .flatten()
                .cloned()
                .collect();
            let value = match values.pop() {
                Some(only) if values.is_empty() => Raw::Text(only),
                Some(last) => {
                    values.push(last);
                    Raw::List(values)
                }
                None => continue,
            };
            self.given.push(Given {
                key,
                origin: Origin::Flag(format!("--{flag}")),
                value,
            });
        }
        Ok(())
    }
}

/// Reads `KEY=VALUE` of `--set`.
pub(crate) fn parse_set(text: &str) -> Result<Given, String> {
    let (path, value) = text
        .split_once('=')
        .ok_or("write KEY=VALUE, such as store.path=/data/tawny")?;
    let key = keys::find(path).ok_or_else(|| {
        let nearest = file::nearest(path, KEYS.iter().map(|key| key.path));
        format!(
            "unknown key `{path}`{}",
            super::did_you_mean(nearest.as_deref(), '`')
        )
    })?;
    let value = Raw::Text(value.to_owned());
    (key.canonical)(&value)?;
    Ok(Given {
        key,
        origin: Origin::Flag(format!("--set {path}")),
        value,
    })
}
