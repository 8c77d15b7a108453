//! JSON objects as lines, alone or behind a text prefix (KL-61, KL-64, KL-67).

use memchr::memmem;

use super::fields::{Fields, MAX_KEY_BYTES, Text};
use crate::json::{Cursor, RawString};

/// Objects nested deeper are kept as their JSON text.
const MAX_FLATTENED: usize = 8;

/// Lifts the fields of the object that starts at `at` and fills the rest of the line; `false` leaves rubbish in `fields`.
pub(super) fn lift(base: &str, at: usize, fields: &mut Fields) -> bool {
    let mut lifter = Lifter {
        base,
        cursor: Cursor::new(base.as_bytes(), at),
        fields,
    };
    lifter.line().is_some()
}

/// Lifts the fields of an object behind a text prefix, such as zap's console format writes.
pub(super) fn lift_behind_prefix(base: &str, fields: &mut Fields) -> bool {
    if !base.trim_ascii_end().ends_with('}') {
        return false;
    }
    let Some(at) = memmem::find(base.as_bytes(), b"{\"") else {
        return false;
    };
    let is_lifted = lift(base, at, fields);
    if !is_lifted {
        fields.clear();
    }
    is_lifted
}

struct Lifter<'a, 'f> {
    base: &'a str,
    cursor: Cursor<'a>,
    fields: &'f mut Fields,
}

/// Every method answers `None` where the text is no JSON.
impl Lifter<'_, '_> {
    fn line(&mut self) -> Option<()> {
        self.cursor.take(b'{')?;
        self.members(None, 1)?;
        self.cursor.skip_space();
        (self.cursor.at == self.base.len()).then_some(())
    }

    /// Takes the members of an object whose opening brace is taken.
    fn members(&mut self, prefix: Option<Text>, depth: usize) -> Option<()> {
        if self.cursor.take(b'}').is_some() {
            return Some(());
        }
        loop {
            self.cursor.skip_space();
            let key = self.cursor.string()?;
            self.cursor.take(b':')?;
            self.cursor.skip_space();
            self.member(prefix, key, depth)?;
            if !self.cursor.comma_or_brace()? {
                return Some(());
            }
        }
    }

    fn member(&mut self, prefix: Option<Text>, key: RawString, depth: usize) -> Option<()> {
        // A key that is put together for nothing would only cost memory.
        let is_lifted = key.end - key.start <= MAX_KEY_BYTES && !self.fields.is_full();
        if !is_lifted && (prefix.is_some() || self.cursor.peek() == Some(b'{')) {
            self.fields.is_whole = false;
            return self.cursor.value();
        }
        let arena_len = self.fields.arena_len();
        let n_fields = self.fields.len();
        let key = self.string_text(key);
        let key = match prefix {
            Some(prefix) => self.fields.join(prefix, key, self.base),
            None => key,
        };
        let start = self.cursor.at;
        match self.cursor.peek()? {
            b'"' => {
                let value = self.cursor.string()?;
                let value = self.string_text(value);
                self.fields.add(self.base, key, value, true);
            }
            b'{' if depth < MAX_FLATTENED => {
                self.cursor.at += 1;
                self.cursor.skip_space();
                if self.cursor.peek() == Some(b'}') {
                    self.cursor.at += 1;
                    self.add_as_written(key, start);
                } else {
                    self.members(Some(key), depth + 1)?;
                }
            }
            b'n' => self.cursor.literal(b"null")?,
            _ => {
                self.cursor.value()?;
                self.add_as_written(key, start);
            }
        }
        if self.fields.len() == n_fields {
            self.fields.release(arena_len);
        }
        Some(())
    }

    fn add_as_written(&mut self, key: Text, start: usize) {
        let value = Text::base(start, self.cursor.at);
        self.fields.add(self.base, key, value, false);
    }

    fn string_text(&mut self, raw: RawString) -> Text {
        if !raw.has_escapes {
            return Text::base(raw.start, raw.end);
        }
        let raw = self
            .base
            .get(raw.start..raw.end)
            .expect("quotes are ASCII bytes");
        self.fields.unescape(raw)
    }
}
