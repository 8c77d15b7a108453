//! Colours: one stable pair per pod name, chosen by hash, so that a pod keeps its colour from run to run.

use std::{fmt, io::IsTerminal as _, str::FromStr};

/// When output is coloured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub(crate) enum ColorChoice {
    /// On a terminal, unless `NO_COLOR` is set; also elsewhere when `CLICOLOR_FORCE` is.
    #[default]
    Auto,
    Always,
    Never,
}

impl ColorChoice {
    /// Decides for standard output. `no_color` and `force_color` tell whether those variables are set and not empty.
    pub(crate) fn resolve(self, no_color: bool, force_color: bool) -> bool {
        match self {
            Self::Always => true,
            Self::Never => false,
            Self::Auto if no_color => false,
            Self::Auto => force_color || std::io::stdout().is_terminal(),
        }
    }
}

/// Parameters of an SGR escape sequence: `92`, `1;31`. Source: ECMA-48, 8.3.117.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sgr(String);

impl Sgr {
    pub(crate) fn new(parameters: &str) -> Self {
        Self(parameters.to_owned())
    }

    /// The text in this colour, then back to normal.
    pub(crate) fn paint<'a>(&'a self, text: &'a str) -> impl fmt::Display + 'a {
        Painted { sgr: &self.0, text }
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

struct Painted<'a> {
    sgr: &'a str,
    text: &'a str,
}

impl fmt::Display for Painted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\x1b[{}m{}\x1b[0m", self.sgr, self.text)
    }
}

/// The colours of a line's prefixes.
#[derive(Debug, Clone)]
pub(crate) struct Palette {
    pairs: Vec<(Sgr, Sgr)>,
    by_container: bool,
}

/// A colour list that cannot be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PaletteError {
    #[error("`{0}` is no colour: write SGR numbers such as 91 or 1;31, separated by commas")]
    Sgr(String),
    #[error(
        "--pod-colors has {pods} colours and --container-colors {containers}: give both the same number"
    )]
    Lengths { pods: usize, containers: usize },
}

/// Bright for the pod, plain for its container: cyan, green, magenta, yellow, blue, red.
const DEFAULT_PAIRS: [(&str, &str); 6] = [
    ("96", "36"),
    ("92", "32"),
    ("95", "35"),
    ("93", "33"),
    ("94", "34"),
    ("91", "31"),
];

impl Palette {
    /// The default colours; with `by_container` each container of a pod has a colour of its own.
    pub(crate) fn new(by_container: bool) -> Self {
        let pairs = DEFAULT_PAIRS
            .iter()
            .map(|(pod, container)| (Sgr((*pod).into()), Sgr((*container).into())))
            .collect();
        Self {
            pairs,
            by_container,
        }
    }

    /// Colours of the user's; containers take the pods' where none are given.
    pub(crate) fn custom(
        pods: &str,
        containers: Option<&str>,
        by_container: bool,
    ) -> Result<Self, PaletteError> {
        let pods = parse_list(pods)?;
        let containers = containers.map_or_else(|| Ok(pods.clone()), parse_list)?;
        if pods.len() != containers.len() {
            return Err(PaletteError::Lengths {
                pods: pods.len(),
                containers: containers.len(),
            });
        }
        Ok(Self {
            pairs: pods.into_iter().zip(containers).collect(),
            by_container,
        })
    }

    /// The colours of a pod's and a container's name.
    pub(crate) fn pick(&self, pod: &str, container: &str) -> (&Sgr, &Sgr) {
        let of = |name: &str| &self.pairs[fnv32(name) as usize % self.pairs.len()];
        let (pod_color, container_color) = of(pod);
        (
            pod_color,
            if self.by_container {
                &of(container).1
            } else {
                container_color
            },
        )
    }
}

fn parse_list(list: &str) -> Result<Vec<Sgr>, PaletteError> {
    list.split(',').map(str::parse).collect()
}

impl FromStr for Sgr {
    type Err = PaletteError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        let is_valid = text.split(';').all(|part| part.parse::<u8>().is_ok());
        if is_valid {
            Ok(Self(text.to_owned()))
        } else {
            Err(PaletteError::Sgr(text.to_owned()))
        }
    }
}

/// FNV-1, 32 bit: the hash stern chooses colours by, so that a pod looks the same in both.
fn fnv32(text: &str) -> u32 {
    text.bytes().fold(0x811c_9dc5, |hash: u32, byte| {
        hash.wrapping_mul(0x0100_0193) ^ u32::from(byte)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_keeps_its_colour_and_containers_differ_on_request() {
        let palette = Palette::new(false);
        assert_eq!(palette.pick("web-1", "a"), palette.pick("web-1", "b"));
        let by_container = Palette::new(true);
        let colors: std::collections::BTreeSet<_> = ["a", "b", "c", "d"]
            .map(|name| by_container.pick("web-1", name).1.as_str().to_owned())
            .into();
        assert!(colors.len() > 1, "{colors:?}");
    }

    #[test]
    fn custom_colours_are_checked() {
        assert_eq!(
            Palette::custom("91,x", None, false).unwrap_err(),
            PaletteError::Sgr("x".into())
        );
        assert_eq!(
            Palette::custom("91,92", Some("31"), false).unwrap_err(),
            PaletteError::Lengths {
                pods: 2,
                containers: 1
            }
        );
        let palette = Palette::custom("1;31", None, false).unwrap();
        assert_eq!(
            palette.pick("p", "c").0.paint("x").to_string(),
            "\x1b[1;31mx\x1b[0m"
        );
    }

    #[test]
    fn variables_decide_only_where_the_flag_does_not() {
        assert!(ColorChoice::Always.resolve(true, false));
        assert!(!ColorChoice::Never.resolve(false, true));
        assert!(!ColorChoice::Auto.resolve(true, true));
        assert!(ColorChoice::Auto.resolve(false, true));
    }
}
