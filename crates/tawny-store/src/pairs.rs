//! Attributes as engines keep them where they have no column of their own: a JSON object of texts.

use std::fmt;

use serde::de::{Deserializer as _, MapAccess, Visitor};

/// The pairs of a JSON object of texts, in order, repeated keys included.
pub(crate) fn pairs(json: &str) -> Result<Vec<(String, String)>, serde_json::Error> {
    struct Pairs;

    impl<'de> Visitor<'de> for Pairs {
        type Value = Vec<(String, String)>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object of texts")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut pairs = Vec::new();
            while let Some(pair) = map.next_entry()? {
                pairs.push(pair);
            }
            Ok(pairs)
        }
    }

    let mut json = serde_json::Deserializer::from_str(json);
    let pairs = json.deserialize_map(Pairs)?;
    json.end()?;
    Ok(pairs)
}
