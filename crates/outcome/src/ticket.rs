//! Identifies a confirm that is held until something has been acked.

use std::num::NonZeroU64;

/// A number that travels with a message or a report. Whoever issued it knows what it stands for; if
/// nobody waits, there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ticket(NonZeroU64);

impl Ticket {
    /// The lowest ticket.
    pub const MIN: Self = Self(NonZeroU64::MIN);

    /// The ticket with this number; `None` for 0.
    pub fn from_number(number: u64) -> Option<Self> {
        NonZeroU64::new(number).map(Self)
    }

    /// The ticket's number; 0 for none.
    pub fn number(ticket: Option<Self>) -> u64 {
        ticket.map_or(0, |ticket| ticket.0.get())
    }
}
