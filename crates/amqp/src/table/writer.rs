//! Writes a field table straight into a buffer, for callers that build many and keep none.

use crate::wire::Writer;

/// Appends a table's entries to a buffer, without the length in front;
/// [`TableRef`](crate::TableRef) reads them.
///
/// ```
/// let mut content = Vec::new();
/// let mut table = amqp::TableWriter::new(&mut content);
/// table.text("x-outcome", "processed");
/// table.integer("x-attempts", 1);
/// let table = amqp::TableRef::new(&content).to_table()?;
/// assert_eq!(table.get("x-outcome").and_then(|value| value.as_str()), Some("processed"));
/// assert_eq!(table.get("x-attempts").and_then(|value| value.as_i64()), Some(1));
/// # Ok::<(), amqp::DecodeError>(())
/// ```
pub struct TableWriter<'o>(&'o mut Vec<u8>);

impl<'o> TableWriter<'o> {
    /// Entries go to the end of `out`.
    pub fn new(out: &'o mut Vec<u8>) -> Self {
        Self(out)
    }

    /// A long string (`S`).
    pub fn text(&mut self, name: &str, value: &str) {
        self.bytes(name, value.as_bytes());
    }

    /// A long string that need not be UTF-8.
    pub fn bytes(&mut self, name: &str, value: &[u8]) {
        self.entry(name, b'S').longstr(value);
    }

    /// A signed 64-bit integer (`l`).
    pub fn integer(&mut self, name: &str, value: i64) {
        self.entry(name, b'l').longlong(value as u64);
    }

    /// A boolean (`t`).
    pub fn boolean(&mut self, name: &str, value: bool) {
        self.entry(name, b't').octet(u8::from(value));
    }

    fn entry(&mut self, name: &str, kind: u8) -> Writer<'_> {
        let mut writer = Writer::new(self.0);
        writer.shortstr(name);
        writer.octet(kind);
        writer
    }
}
