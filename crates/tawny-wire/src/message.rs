//! What a line says: severity, message and fields, from whatever format the program chose (KL-61 to KL-67).
//!
//! Nothing is lost: the message is the line as written unless every other field of the line is held by an attribute.

mod access;
mod crash;
mod fields;
mod json;
mod klog;
mod level;
mod logfmt;

use memchr::memchr;
use tawny_model::{Severity, strip_ansi_into};

pub use fields::Attributes;
use fields::{Fields, Text};

/// Longer lines are taken as plain text; nobody writes fields that long, and offsets stay small.
const MAX_PARSED_BYTES: usize = 16 << 20;

/// Longest scratch kept between lines; one giant line must not hold its size for ever.
const MAX_KEPT_BYTES: usize = 1 << 20;

const ESC: u8 = 0x1b;

/// Memory that parsing reuses from line to line.
#[derive(Debug, Default)]
pub struct Scratch {
    /// The line without colours, if it has any.
    plain: String,
    fields: Fields,
}

impl Scratch {
    /// Bytes held between lines; bounded whatever the lines were.
    pub fn memory_bytes(&self) -> usize {
        self.plain.capacity() + self.fields.memory_bytes()
    }
}

/// What one line says, borrowed from the line and the scratch.
#[derive(Debug, Clone)]
pub struct Parsed<'a> {
    pub severity: Severity,
    /// Raw: colour codes and control characters are kept.
    pub message: &'a str,
    attributes: Attributes<'a>,
}

impl<'a> Parsed<'a> {
    /// Fields in the order found, no key twice, at most `MAX_ATTRIBUTES`.
    pub fn attributes(&self) -> Attributes<'a> {
        self.attributes.clone()
    }

    /// The value of an attribute.
    pub fn attribute(&self, key: &str) -> Option<&'a str> {
        self.attributes()
            .find(|(k, _)| *k == key)
            .map(|(_, value)| value)
    }
}

/// Reads a whole line of a program's output. Never fails: a line of no known format is its own message.
pub fn parse_message<'a>(content: &'a str, scratch: &'a mut Scratch) -> Parsed<'a> {
    let Scratch { plain, fields } = scratch;
    fields.clear();
    plain.clear();
    plain.shrink_to(MAX_KEPT_BYTES);
    let mut base = content;
    let mut message = None;
    if content.len() <= MAX_PARSED_BYTES {
        if !starts_object(content) && memchr(ESC, content.as_bytes()).is_some() {
            strip_ansi_into(content, plain);
            base = plain;
        }
        message = scan(base, fields);
    }
    let fields = &*fields;
    Parsed {
        severity: fields.severity.unwrap_or_default(),
        message: message.map_or(content, |text: Text| fields.text(text, base)),
        attributes: fields.attributes(base),
    }
}

fn starts_object(text: &str) -> bool {
    text.trim_ascii_start().starts_with('{')
}

/// Fills `fields` and answers the message, where it is less than the whole line.
fn scan(base: &str, fields: &mut Fields) -> Option<Text> {
    if starts_object(base) && json::lift(base, 0, fields) {
        let message = fields.take_message();
        if fields.severity.is_none() {
            fields.severity =
                message.and_then(|message| text_severity(fields.text(message, base).as_bytes()));
        }
        return message.filter(|_| fields.is_whole);
    }
    fields.clear();
    if klog::lift(base, fields) || access::lift(base, fields) {
        return None;
    }
    let mut message = None;
    if json::lift_behind_prefix(base, fields) {
        fields.take_message();
    } else if logfmt::lift(base, fields) {
        message = fields.take_message().filter(|_| fields.is_whole);
    }
    if fields.severity.is_none() {
        let text = message.map_or(base, |message| fields.text(message, base));
        fields.severity = text_severity(text.as_bytes());
    }
    message
}

fn text_severity(text: &[u8]) -> Option<Severity> {
    crash::severity(text).or_else(|| level::severity(text))
}

#[cfg(test)]
mod tests;
