//! The ledger: what became of each message.
//!
//! It is a view over the message log: a writer that follows that log appends an [`Event`](outcome::Event) for
//! everything that happens to a tracked message and flushes now and then ([`Ledger::flush`]),
//! naming the position of the message log up to which it has seen everything. After a crash the
//! writer goes on from [`Ledger::applied`] and appends the same events again.
//!
//! It answers three queries: all events of one message ([`Ledger::events`]), outcomes in the order
//! of the message log by filter and cursor ([`Ledger::outcomes`]), and whether a queue has seen a
//! message id within its window ([`Ledger::first_seen`]).
//!
//! # How it is kept
//!
//! Events are gathered in **pages** of about 96 KiB. A page is a record in a `segment_log` of the
//! ledger's own. All pages since the last flush, and the position `applied`, form one group in it,
//! so after a crash the ledger is exactly as it was after some flush.
//!
//! Two **lookups** have entries of 16 bytes: the index, from a message's hash to the positions of
//! the pages with its events, and the window, from a queue and a hash to the time of publishing.
//! The latest entries are in memory; when there are 229 376 of them, they are sorted and written to
//! a **run**. Four runs of about the same size are merged into one, and four of those once more,
//! some of the work with each flush; runs of some 3.7 million entries then stay until they are too
//! old. The window has a lifetime of its own: it outlasts the pages.
//!
//! The **directory**, in memory only, has an entry for every 100 KiB of pages: cursors, times,
//! outcomes, queues. With it, outcomes are found without reading pages that cannot hold them.
//!
//! Opening reads the log from end to end, as every opening of a `segment_log` does. The entries of
//! pages that are not in runs yet go into memory. Runs that are missing or damaged are rebuilt from
//! all pages, those of the window as far back as the pages go.
//!
//! # Files
//!
//! | name | content |
//! |---|---|
//! | `<base>.log` | a segment of the log of pages; see `segment_log` |
//! | `index-<number>.run`, `window-<number>.run` | a run; ten decimal digits |
//! | `manifest` | which runs there are |
//! | `manifest.new` | a manifest that a crash interrupted |
//!
//! Integers are little-endian. A varint has seven bits per byte, the lowest first; the upper bit
//! says that more follow. A difference is `to - from` modulo 2^64, zigzag, as a varint. CRCs are
//! CRC32C.
//!
//! # Records
//!
//! Kind 1 is a page. Kind 2, the last of its group, is `applied`: the position of the message log
//! (8) and the cursor of the last event (8 + 4; all ones for none).
//!
//! # Page, version 1
//!
//! | offset | bytes | content |
//! |-------:|------:|---------|
//! | 0 | 1 | version: 1 |
//! | 1 | 1 | outcomes of its settlements: bit *n* for outcome number *n* |
//! | 2 | 2 | 0 |
//! | 4 | 4 | number of events |
//! | 8 | 16 | positions of the first and the last event (8 each) |
//! | 24 | 8 | their numbers within the record (4 each) |
//! | 32 | 16 | least and greatest time, ms (8 each) |
//! | 48 | 8 | queues of its settlements: two bits each |
//! | 56 | 4 | bytes of the strings |
//! | 60 | 4 | bytes of the ids |
//! | 64 | | strings: length as a varint, UTF-8 |
//! | | | ids |
//! | | | events |
//!
//! Outcomes: 1 processed, 2 deadline-missed, 3 expired, 4 dropped, 5 failed, 6 unroutable.
//!
//! A queue's two bits are those whose numbers are the upper 6 and the next 6 bits of the 64-bit
//! FNV-1a of its name times 0x9E3779B97F4A7C15.
//!
//! A *string* elsewhere is a varint: its number, counted from 1, among the strings of the page; or
//! 0 followed by length and bytes, if it is longer than 255 bytes.
//!
//! **Ids.** One byte for the form; except for form 0, the virtual host, a string; then, by form,
//!
//! | form | |
//! |---:|---|
//! | 0 | the hash (16), nothing else is known |
//! | 1 | the id: length as a varint, bytes |
//! | 2 | a UUID (16): 36 lower-case hexadecimal digits and hyphens |
//! | 3 | 32 lower-case hexadecimal digits (16) |
//! | + 4 | the hash (16) follows, since it is not that of virtual host and id |
//!
//! **Events.** Each begins with
//!
//! | | |
//! |---|---|
//! | 1 byte | bits 0 to 2: kind; 3: the time is not that of the event before; 4: the number within the record is not the one to be expected (0 in a new record, else one more); 5 to 7 see below |
//! | varint | position minus that of the event before; 0 in the first, whose cursor is in the header |
//! | varint | with bit 4: number within the record |
//! | difference | with bit 3: time to that of the event before, 0 before the first |
//! | difference | number of the id, to one more than in the last event of this kind, 0 before the first |
//!
//! | kind | | then |
//! |---:|---|---|
//! | 0 | published | exchange, routing key; number of queues, for each its id (varint) and name; bytes of the body (varint). Bit 5: a copy; 6: de-duplicated; 7: then position (difference to the event's) and one byte: 1 if the deadline (difference to the time) follows |
//! | 1 | delivered | queue, worker; attempt (varint) unless bit 5, then 1 |
//! | 2 | requeued | queue, attempt (varint); time of the retry (difference to the time) unless bit 5, then 0 |
//! | 3 | settled | below |
//! | 4 | received | queue |
//! | 5 | moved | position (difference to the event's) |
//!
//! Settled: one byte, the lower three bits of which are the outcome; bit 3 unverified, 4 late, 5 a
//! copy, 6 notified, 7 more follows. Queue, reason, worker; time of publishing (difference to the
//! time); attempts and number of queues (varints) unless bit 5 of the first byte, then both 1. With
//! bit 7, one byte that says what follows, in this order: bit 0 the error, 1 the content type, 3
//! the dead-letter exchange (strings), 2 the result, 4 the message (length and bytes).
//!
//! # Run, version 1
//!
//! Entries are sorted numbers of 128 bits: the upper 80 bits of the key (the message's hash, or
//! [`dedup_key`]), and 48 bits of value: the position of the page's record; or twice the time in ms
//! since the epoch, plus 1 if the id was freed then and not seen. The window has at most one entry per
//! key in a run.
//!
//! | bytes | content |
//! |------:|---------|
//! | 4096 each | blocks: 255 entries (16 each, the last block filled up with zeros), CRC of the block's number (8) and the entries (4), 0 (12) |
//! | 8 each | for each block the upper 64 bits of its first entry |
//! | 64 each | filter |
//! | 64 | `wilcorun`, version 1 (4), 1 for index or 3 for window (4), number of entries, least value, greatest value, number of filter lines (8 each), 0 (8), CRC of the two parts before (4), CRC of these 60 bytes (4) |
//!
//! The filter is a Bloom filter of 12 bits per entry in lines of 512 bits. A key's line is the
//! upper 64 bits of the key, as a fraction of 2^64, times the number of lines; its six bits there
//! are six times nine bits, from the top, of (bits 48 to 111 of the entry) * 0x9E3779B97F4A7C15.
//!
//! # Manifest, version 1
//!
//! `wilcoman`, version 1 (4), 0 (4), the number of the next run (8); then for index and window: the
//! position before which all pages are in runs (8; 0 to have them made anew), the number of runs
//! (8), and for each its number, its entries, the bytes of its file (8 each); CRC of all before
//! (4).
//!
//! # What is written when
//!
//! - *Flush*: one batch of the log, which is one group, and one sync.
//! - *Run*: written and synced in steps of 4 MiB, then the directory is synced, then a manifest
//!   lists it: `manifest.new` is written, synced, renamed, the directory synced. The runs it was
//!   merged from are removed after that. What no manifest lists is removed at the next opening.
//! - *Forgetting*: a segment is deleted when all its events are too old, and the oldest one when
//!   there is too much. Before that, the window's entries in memory are written to a run if any are
//!   from its pages. The active segment is closed when its events differ in age by a sixteenth of
//!   the retention. Entries of deleted pages are dropped when runs are merged, and runs of which
//!   more than half is dead are rewritten.
//! - *Full disk*: a flush fails and everything stays in memory; the same batch is written once
//!   there is room. A run that finds no room is tried again later.

mod dedup;
mod device;
mod directory;
mod error;
mod flush;
mod ledger;
mod lookup;
mod manifest;
mod options;
mod outcomes;
mod page;
mod pages;
mod prefixed;
mod records;
mod recovery;
mod retention;
mod salvage;
mod shared;
mod upkeep;
mod writer;

pub use dedup::dedup_key;
pub use error::LedgerError;
pub use ledger::Ledger;
pub use options::Options;
pub use prefixed::Prefixed;

#[cfg(test)]
mod tests;
