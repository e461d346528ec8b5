//! Names whoever's confirm is held until something was acked.

use std::num::NonZeroU64;

/// A number that travels with a message or a report. Who drew it knows what it stands for; where
/// nobody waits there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ticket(NonZeroU64);

impl Ticket {
    /// The lowest.
    pub const MIN: Self = Self(NonZeroU64::MIN);

    /// The ticket of a number; 0 is nobody's.
    pub fn from_number(number: u64) -> Option<Self> {
        NonZeroU64::new(number).map(Self)
    }

    /// Its number, 0 for none.
    pub fn number(ticket: Option<Self>) -> u64 {
        ticket.map_or(0, |ticket| ticket.0.get())
    }
}
