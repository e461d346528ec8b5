//! How outcomes reach the program.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;

use super::super::Told;
use crate::worker::Failure;

/// Tells an outcome.
pub(super) type Tell = Arc<dyn Fn(Told) -> BoxFuture<'static, Result<(), Failure>> + Send + Sync>;

pub(super) fn boxed<F, Fut>(function: F) -> Tell
where
    F: Fn(Told) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<(), Failure>> + Send + 'static,
{
    Arc::new(move |told| function(told).boxed())
}

/// How telling ended.
#[derive(Debug)]
pub(super) enum Ended {
    Told,
    /// It is to be told again.
    Failed(Failure),
}

/// A panic is the user's, and is told by the panic hook.
pub(super) async fn tell(tell: Tell, told: Told) -> Ended {
    let id = told.id.clone();
    let telling = AssertUnwindSafe(async move { tell(told).await }).catch_unwind();
    match telling.await {
        Ok(Ok(())) => Ended::Told,
        Ok(Err(failure)) if failure.is_permanent() => {
            tracing::warn!(id, "the program does not want to be told again: {failure}");
            Ended::Told
        }
        Ok(Err(failure)) => Ended::Failed(failure),
        Err(_) => Ended::Failed(Failure::retry("the function that is told outcomes panicked")),
    }
}
