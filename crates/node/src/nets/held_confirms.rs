//! Held confirms: soon.
