//! A JSON reader that can do just enough to look into an answer of the broker.
//!
//! A missing value reads as [`Json::Null`], so that a test can ask directly for the leaf it means.

use std::ops::Index;

/// A value.
#[derive(Clone, Debug, PartialEq)]
pub enum Json {
    /// `null`, and whatever is missing.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// Any number.
    Number(f64),
    /// A string.
    Text(String),
    /// An array.
    Array(Vec<Json>),
    /// An object, in the order it was written.
    Object(Vec<(String, Json)>),
}

impl Json {
    /// Reads one value; `None` for anything else.
    pub fn parse(text: &str) -> Option<Json> {
        let mut reader = Reader { rest: text };
        let value = reader.value()?;
        reader.rest.trim_start().is_empty().then_some(value)
    }

    /// The string, or nothing.
    pub fn text(&self) -> &str {
        match self {
            Json::Text(text) => text,
            _ => "",
        }
    }

    /// The number, if it is one.
    pub fn number(&self) -> Option<f64> {
        match self {
            Json::Number(number) => Some(*number),
            _ => None,
        }
    }

    /// Whether it is `true`.
    pub fn is_true(&self) -> bool {
        *self == Json::Bool(true)
    }

    /// The elements of an array, or none.
    pub fn elements(&self) -> &[Json] {
        match self {
            Json::Array(elements) => elements,
            _ => &[],
        }
    }
}

impl Index<&str> for Json {
    type Output = Json;

    fn index(&self, name: &str) -> &Json {
        let Json::Object(fields) = self else { return &Json::Null };
        fields.iter().find(|(of, _)| of == name).map_or(&Json::Null, |(_, value)| value)
    }
}

impl Index<usize> for Json {
    type Output = Json;

    fn index(&self, index: usize) -> &Json {
        self.elements().get(index).unwrap_or(&Json::Null)
    }
}

struct Reader<'a> {
    rest: &'a str,
}

impl Reader<'_> {
    fn take(&mut self, token: &str) -> Option<()> {
        self.rest = self.rest.trim_start().strip_prefix(token)?;
        Some(())
    }

    fn value(&mut self) -> Option<Json> {
        let words = [("null", Json::Null), ("true", true.into()), ("false", false.into())];
        for (word, value) in words {
            if self.take(word).is_some() {
                return Some(value);
            }
        }
        match self.rest.trim_start().chars().next()? {
            '"' => self.string().map(Json::Text),
            '[' => self.list("[", "]", Self::value).map(Json::Array),
            '{' => self.list("{", "}", Self::field).map(Json::Object),
            _ => self.number(),
        }
    }

    fn list<T>(
        &mut self,
        open: &str,
        close: &str,
        element: fn(&mut Self) -> Option<T>,
    ) -> Option<Vec<T>> {
        self.take(open)?;
        let mut elements = Vec::new();
        while self.take(close).is_none() {
            if !elements.is_empty() {
                self.take(",")?;
            }
            elements.push(element(self)?);
        }
        Some(elements)
    }

    fn field(&mut self) -> Option<(String, Json)> {
        let name = self.string()?;
        self.take(":")?;
        Some((name, self.value()?))
    }

    fn number(&mut self) -> Option<Json> {
        let text = self.rest.trim_start();
        let end = text.find(|c: char| !"+-.eE0123456789".contains(c)).unwrap_or(text.len());
        self.rest = &text[end..];
        text[..end].parse().ok().map(Json::Number)
    }

    fn string(&mut self) -> Option<String> {
        self.take("\"")?;
        let mut text = String::new();
        let mut chars = self.rest.chars();
        loop {
            match chars.next()? {
                '"' => break,
                '\\' => text.push(match chars.next()? {
                    'n' => '\n',
                    't' => '\t',
                    'r' => '\r',
                    'b' => '\u{8}',
                    'f' => '\u{c}',
                    // Characters outside the basic plane need two; no test looks at those.
                    'u' => {
                        let digits: String = chars.by_ref().take(4).collect();
                        char::from_u32(u32::from_str_radix(&digits, 16).ok()?).unwrap_or('?')
                    }
                    other => other,
                }),
                other => text.push(other),
            }
        }
        self.rest = chars.as_str();
        Some(text)
    }
}

impl From<bool> for Json {
    fn from(value: bool) -> Json {
        Json::Bool(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_found_by_name_and_place() {
        let text = r#" {"a": [1, -2.5e1, {"b\"\u00e9\n": "c"}], "d": true, "e": null, "f": {}} "#;
        let json = Json::parse(text).expect("JSON");
        assert_eq!(json["a"][1].number(), Some(-25.0));
        assert_eq!(json["a"][2]["b\"é\n"].text(), "c");
        assert!(json["d"].is_true() && json["x"]["y"][3] == Json::Null);
        assert_eq!(json["f"], Json::Object(Vec::new()));
        for broken in ["{", "[1 2]", "tru", "\"a", "[1],", ""] {
            assert_eq!(Json::parse(broken), None, "{broken}");
        }
    }
}
