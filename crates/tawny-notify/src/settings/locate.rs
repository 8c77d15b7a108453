//! The line in which a setting stands, for complaints made after the text was read.
//!
//! The parser knows lines only while it reads; so the text is read again with an error planted at the place.

use std::fmt;

use serde::{
    Deserializer,
    de::{self, DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor},
};

/// One step on the way from the top to a setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    Key(&'static str),
    Item(usize),
}

impl Step {
    /// `routes[1].receiver`.
    pub(super) fn path(steps: &[Self]) -> String {
        let mut path = String::new();
        for step in steps {
            match step {
                Self::Key(key) if path.is_empty() => path.push_str(key),
                Self::Key(key) => path.push_str(&format!(".{key}")),
                Self::Item(index) => path.push_str(&format!("[{index}]")),
            }
        }
        path
    }
}

/// The line, from 1, where the setting begins; of what it should be in, where it is missing itself.
pub(super) fn locate(yaml: &str, steps: &[Step]) -> usize {
    (0..=steps.len())
        .rev()
        .find_map(|n_steps| {
            let planted =
                At(steps.get(..n_steps)?).deserialize(serde_yaml_ng::Deserializer::from_str(yaml));
            Some(planted.err()?.location()?.line())
        })
        .unwrap_or(1)
}

/// Fails where the steps lead, and nowhere else.
struct At<'a>(&'a [Step]);

impl<'de> DeserializeSeed<'de> for At<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl At<'_> {
    fn arrive<E: de::Error>(&self) -> Result<(), E> {
        if self.0.is_empty() {
            return Err(E::custom("here"));
        }
        Ok(())
    }
}

impl<'de> Visitor<'de> for At<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("settings")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        self.arrive()?;
        while let Some(key) = map.next_key::<String>()? {
            match self.0.split_first() {
                Some((Step::Key(wanted), rest)) if key == *wanted => {
                    map.next_value_seed(At(rest))?
                }
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        self.arrive()?;
        let mut index = 0;
        loop {
            let is_over = match self.0.split_first() {
                Some((Step::Item(wanted), rest)) if index == *wanted => {
                    seq.next_element_seed(At(rest))?.is_none()
                }
                _ => seq.next_element::<IgnoredAny>()?.is_none(),
            };
            if is_over {
                return Ok(());
            }
            index += 1;
        }
    }

    fn visit_bool<E: de::Error>(self, _: bool) -> Result<(), E> {
        self.arrive()
    }

    fn visit_i64<E: de::Error>(self, _: i64) -> Result<(), E> {
        self.arrive()
    }

    fn visit_u64<E: de::Error>(self, _: u64) -> Result<(), E> {
        self.arrive()
    }

    fn visit_f64<E: de::Error>(self, _: f64) -> Result<(), E> {
        self.arrive()
    }

    fn visit_str<E: de::Error>(self, _: &str) -> Result<(), E> {
        self.arrive()
    }

    fn visit_unit<E: de::Error>(self) -> Result<(), E> {
        self.arrive()
    }
}
