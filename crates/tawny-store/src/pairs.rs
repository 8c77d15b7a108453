//! Attributes as engines keep them where they have no column of their own: a JSON object of texts.

/// The pairs of a JSON object of texts, in order, repeated keys included.
pub(crate) fn pairs(json: &str) -> Result<Vec<(String, String)>, serde_json::Error> {
    let mut json = serde_json::Deserializer::from_str(json);
    let pairs = tawny_model::pairs::deserialize(&mut json)?;
    json.end()?;
    Ok(pairs)
}
