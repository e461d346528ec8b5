//! What the library `wilco` promises on every engine, as tests that anybody can run against theirs.
//!
//! A [`Guarantee`] is a sentence and a test of it. Most hold without exception; some need a
//! [`Capability`] that not every engine has: where it is missing, the test is that the library says so with
//! the right error, instead of promising what it cannot keep. [`COLUMNS`] is what each engine is declared
//! to be able to do, and [`table`] what of it goes into the documentation: printed from here, so that it
//! says what is tested.
//!
//! ```no_run
//! # struct Mine;
//! # #[async_trait::async_trait]
//! # impl contract::Engine for Mine {
//! #     fn url(&self) -> String { String::new() }
//! #     async fn connect(&self) -> wilco::Wilco { unreachable!() }
//! #     fn kill_and_restart(&self) -> bool { false }
//! # }
//! # async fn example(engine: Mine) {
//! let engine: std::sync::Arc<dyn contract::Engine> = std::sync::Arc::new(engine);
//! for guarantee in contract::GUARANTEES {
//!     guarantee.check(&engine).await;     // panics if it does not hold
//! }
//! # }
//! ```

#![allow(clippy::expect_used, clippy::panic, reason = "a test that fails says so by a panic")]

mod engine;
mod guarantees;
mod process;
mod table;
mod work;

pub use engine::{Engine, Failing};
pub use guarantees::{GUARANTEES, Guarantee};
pub use process::Process;
pub use table::{COLUMNS, Column, table};
pub use wilco::Capability;
