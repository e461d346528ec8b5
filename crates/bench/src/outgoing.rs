//! What a worker is about to write, and where each write to the socket ends.
//!
//! Ordinary clients (pika, amqplib, amqp091-go, the Java client) give each publish and each ack to the
//! socket as it comes, so a broker reads them in small pieces, and its cost for a message is above
//! all that of being woken. Gathered writes measure the broker's own code instead.

/// How publishes and acks reach the socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Writes {
    /// One write for each publish and each ack, as ordinary clients do
    Each,
    /// As many as there are, up to 64 KiB, with one write
    Gathered,
}

/// See the module's documentation.
pub(super) struct Outgoing {
    writes: Writes,
    bytes: Vec<u8>,
    /// Where writes end, if each is one of its own.
    ends: Vec<usize>,
}

impl Outgoing {
    pub(super) fn new(writes: Writes) -> Self {
        Self { writes, bytes: Vec::with_capacity(64 << 10), ends: Vec::new() }
    }

    /// Adds what belongs into one write.
    #[inline]
    pub(super) fn add(&mut self, unit: impl FnOnce(&mut Vec<u8>)) {
        unit(&mut self.bytes);
        if self.writes == Writes::Each {
            self.ends.push(self.bytes.len());
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }

    /// What to write, a piece at a time.
    pub(super) fn pieces(&self) -> impl Iterator<Item = &[u8]> {
        let mut start = 0;
        let all =
            (self.writes == Writes::Gathered && !self.bytes.is_empty()).then_some(self.bytes.len());
        self.ends.iter().copied().chain(all).map(move |end| {
            let piece = &self.bytes[start..end];
            start = end;
            piece
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_unit_is_a_write_of_its_own_or_all_are_one() {
        for (writes, expected) in [
            (Writes::Each, vec![&b"publish"[..], b"ack"]),
            (Writes::Gathered, vec![&b"publishack"[..]]),
        ] {
            let mut outgoing = Outgoing::new(writes);
            assert_eq!(outgoing.pieces().count(), 0);
            outgoing.add(|out| out.extend_from_slice(b"publish"));
            outgoing.add(|out| out.extend_from_slice(b"ack"));
            assert_eq!(outgoing.pieces().collect::<Vec<_>>(), expected);
            outgoing.clear();
            assert!(outgoing.is_empty() && outgoing.pieces().count() == 0);
        }
    }
}
