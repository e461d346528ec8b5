//! Handlers: plain async functions.

use std::any::TypeId;
use std::future::Future;

use super::context::{Context, Extract};
use super::failure::Failure;

/// An async function that takes a message, and up to eight [extractors](Extract), and returns
/// `Result<Out, E>`, where `E` is any error or a [`Failure`]:
///
/// ```
/// use wilco::{Context, Failure, State};
/// # #[derive(serde::Deserialize)] struct Order { item: String }
/// # #[derive(Clone)] struct Db;
/// # impl Db { async fn take(&self, item: &str) -> std::io::Result<Option<u32>> { Ok(None) } }
///
/// async fn reserve(order: Order, State(db): State<Db>, context: Context) -> Result<u32, Failure> {
///     context.check_deadline()?;                  // nobody waits for it any more
///     let left = db.take(&order.item).await?;     // any error: tried again
///     left.ok_or_else(|| Failure::permanent("sold out"))
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot handle messages of this queue",
    label = "not a handler for it",
    note = "a handler is `async fn(In, extractors…) -> Result<Out, E>`: `In` and `Out` are those of the queue, `E` is any error or `wilco::Failure`, and there are at most eight extractors"
)]
pub trait Handler<In, Out, Arguments>: Clone + Send + Sync + 'static {
    /// Works on a message.
    fn call(
        &self,
        message: In,
        context: Context,
    ) -> impl Future<Output = Result<Out, Failure>> + Send;

    /// The states that its extractors need.
    #[doc(hidden)]
    fn needs() -> Vec<(TypeId, &'static str)>;
}

macro_rules! handlers {
    ($($argument:ident),*) => {
        impl<F, Fut, In, Out, E, $($argument,)*> Handler<In, Out, (E, $($argument,)*)> for F
        where
            F: Fn(In, $($argument,)*) -> Fut + Clone + Send + Sync + 'static,
            Fut: Future<Output = Result<Out, E>> + Send,
            In: Send,
            Out: Send,
            E: Into<Failure>,
            $($argument: Extract,)*
        {
            #[allow(unused_variables, non_snake_case, reason = "there may be no extractors")]
            async fn call(&self, message: In, context: Context) -> Result<Out, Failure> {
                $(let $argument = $argument::extract(&context)?;)*
                self(message, $($argument,)*).await.map_err(Into::into)
            }

            fn needs() -> Vec<(TypeId, &'static str)> {
                let needs: Vec<Option<(TypeId, &'static str)>> = vec![$($argument::needs(),)*];
                needs.into_iter().flatten().collect()
            }
        }
    };
}

handlers!();
handlers!(A);
handlers!(A, B);
handlers!(A, B, D);
handlers!(A, B, D, G);
handlers!(A, B, D, G, H);
handlers!(A, B, D, G, H, I);
handlers!(A, B, D, G, H, I, J);
handlers!(A, B, D, G, H, I, J, K);
