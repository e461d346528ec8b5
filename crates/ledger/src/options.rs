//! How much is kept, and the sizes that follow from it.

/// How much is kept, and how.
#[derive(Debug, Clone)]
pub struct Options {
    /// Events older than this are forgotten, ms. Default: 7 days.
    pub retention_ms: u64,
    /// Bytes on disk beyond which the oldest events are forgotten. Default: 1 GiB.
    pub bytes_max: u64,
    /// How long an id is remembered for de-duplication, ms. Default: 7 days.
    pub window_ms: u64,
}

impl Default for Options {
    fn default() -> Self {
        const WEEK_MS: u64 = 7 * 24 * 60 * 60 * 1000;
        Self { retention_ms: WEEK_MS, bytes_max: 1 << 30, window_ms: WEEK_MS }
    }
}

/// Sizes that tests make small.
#[derive(Debug, Clone)]
pub(crate) struct Sizes {
    /// Bytes at which a page is full.
    pub(crate) page_bytes: usize,
    /// Bytes of pages that share an entry of the directory.
    pub(crate) stretch_bytes: u64,
    /// Bytes of a segment of the log.
    pub(crate) segment_bytes: u64,
    /// Bytes of pages that one query for outcomes reads.
    pub(crate) query_bytes: u64,
    /// Bytes of pages that one query for a message reads.
    pub(crate) events_bytes: u64,
    /// Events beyond which that query reads no further page.
    pub(crate) events_max: usize,
    /// Entries in memory at which a lookup writes a run.
    pub(crate) memory_entries: usize,
    /// Runs of about the same size that are merged into one.
    pub(crate) fan_in: usize,
    /// Entries that each flush merges, at least.
    pub(crate) step_entries: u64,
}

impl Sizes {
    pub(crate) fn of(options: &Options) -> Self {
        Self {
            page_bytes: 96 << 10,
            stretch_bytes: 100 << 10,
            segment_bytes: (options.bytes_max / 32).clamp(1 << 20, 64 << 20),
            query_bytes: 8 << 20,
            events_bytes: 8 << 20,
            events_max: 10_000,
            // Seven eighths of a power of two: as full as a hash table gets.
            memory_entries: 7 << 15,
            fan_in: 4,
            step_entries: 32 << 10,
        }
    }
}
