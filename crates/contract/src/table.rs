//! The table of guarantees, as it stands in the documentation.

use std::fmt::Write;

use wilco::Capability;

use crate::engine::Failing;
use crate::guarantees::GUARANTEES;

/// An engine, and what it is declared to be able to do.
#[derive(Debug)]
pub struct Column {
    /// As the table calls it.
    pub name: &'static str,
    /// What it can do.
    pub can: &'static [Capability],
}

const SERVER: &[Capability] = &[
    Capability::Durable,
    Capability::Dropped,
    Capability::Retry,
    Capability::Cancel,
    Capability::Attach,
    Capability::Watch,
    Capability::Topics,
    Capability::SharedIds,
];

/// Engines whose outcomes the library makes, with a ledger for all who name it.
const WITH_LEDGER: &[Capability] = &[
    Capability::Durable,
    Capability::Attach,
    Capability::Topics,
    Capability::SharedIds,
    Capability::Delay,
];

/// The engines.
pub const COLUMNS: &[Column] = &[
    // The same, but for what comes first.
    Column { name: "memory:", can: SERVER.split_at(1).1 },
    Column { name: "embedded:", can: SERVER },
    Column { name: "wilco server", can: SERVER },
    Column { name: "RabbitMQ", can: &[Capability::Durable, Capability::Delay] },
    Column { name: "RabbitMQ with a ledger", can: WITH_LEDGER },
    Column { name: "ActiveMQ", can: &[Capability::Durable, Capability::Delay] },
    Column { name: "ActiveMQ with a ledger", can: WITH_LEDGER },
    Column { name: "Kafka", can: &[Capability::Durable, Capability::Attach, Capability::Delay] },
    Column { name: "Kafka with a ledger", can: WITH_LEDGER },
];

/// Who fails, in words.
fn heading(failing: Failing) -> &'static str {
    match failing {
        Failing::Nobody => "nobody fails",
        Failing::Worker => "a worker's process ends at once",
        Failing::Producer => "a producer's process ends at once",
        Failing::Engine => "the engine is killed and started again",
    }
}

/// The table, in Markdown: for each engine what it keeps when who fails.
pub fn table() -> String {
    let mut text = String::from("| when | what is promised |");
    for column in COLUMNS {
        let _ = write!(text, " {} |", column.name);
    }
    text.push_str("\n|---|---|");
    text.push_str(&"---|".repeat(COLUMNS.len()));
    text.push('\n');
    for guarantee in GUARANTEES {
        let _ = write!(text, "| {} | {} |", heading(guarantee.failing), guarantee.promise);
        for column in COLUMNS {
            let cell = if guarantee.holds_with(column.can) { "yes" } else { "no" };
            let _ = write!(text, " {cell} |");
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documentation_has_this_table() {
        let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/guarantees.md");
        let page = std::fs::read_to_string(page).expect("the page");
        let table = table();
        assert!(page.contains(&table), "docs/guarantees.md should have this table:\n{table}");
    }
}
