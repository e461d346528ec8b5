//! Opening links: each with a session of its own, within a bounded time.

use std::future::Future;
use std::time::Duration;

use fe2o3_amqp::link::CreditMode;
use fe2o3_amqp::session::SessionHandle;
use fe2o3_amqp::types::definitions::SenderSettleMode;
use fe2o3_amqp::types::messaging::{Source, Target};
use fe2o3_amqp::types::primitives::{Array, Symbol};
use fe2o3_amqp::{Receiver, Sender};
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::address;
use super::connection::{ATTACH_TIMEOUT, Driver};
use super::down::{Lost, Refusal};
use crate::error::ErrorKind;

/// How long closing may take.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// All that can become of a delivery; brokers say with these what they have against a message.
const OUTCOMES: [&str; 4] =
    ["amqp:accepted:list", "amqp:rejected:list", "amqp:released:list", "amqp:modified:list"];

/// A link, and the session in which it is alone.
pub(super) struct Opened<L> {
    pub(super) link: L,
    pub(super) session: SessionHandle<()>,
}

/// A link of either kind.
pub(super) trait Link: Send + 'static {
    fn close(self) -> impl Future<Output = ()> + Send;
}

impl Link for Sender {
    async fn close(self) {
        let _ = timeout(CLOSE_TIMEOUT, Self::close(self)).await;
    }
}

impl Link for Receiver {
    async fn close(self) {
        let _ = timeout(CLOSE_TIMEOUT, Self::close(self)).await;
    }
}

impl<L: Link> Opened<L> {
    pub(super) async fn close(self) {
        let Self { link, session } = self;
        Link::close(link).await;
        end(session).await;
    }
}

/// Attaches a link in a task of its own: whoever does not wait for it any more leaves no half of one behind, which
/// would cost the connection with all that goes over it.
async fn whole<L: Link>(
    attaching: impl Future<Output = (Result<L, Lost>, SessionHandle<()>)> + Send + 'static,
) -> Result<Opened<L>, Lost> {
    let (done, opened) = oneshot::channel();
    tokio::spawn(async move {
        let opened = match attaching.await {
            (Ok(link), session) => Ok(Opened { link, session }),
            (Err(lost), session) => {
                end(session).await;
                Err(lost)
            }
        };
        if let Err(Ok(unwanted)) = done.send(opened) {
            unwanted.close().await;
        }
    });
    opened.await.unwrap_or(Err(Lost::Closed))
}

/// Within a bounded time.
async fn bounded<L, E: Into<Lost>>(
    attaching: impl Future<Output = Result<L, E>>,
) -> Result<L, Lost> {
    let attached = timeout(ATTACH_TIMEOUT, attaching).await;
    attached.map_or_else(|_| Err(silent()), |attached| attached.map_err(Into::into))
}

async fn end(mut session: SessionHandle<()>) {
    let _ = timeout(CLOSE_TIMEOUT, session.end()).await;
}

fn symbols(names: &[&str]) -> Array<Symbol> {
    Array(names.iter().map(|name| Symbol::from(*name)).collect())
}

/// What kind of node an address is: one that is made now is a queue, and no topic.
fn capabilities(address: &str) -> Option<Array<Symbol>> {
    let kind = if address::is_temporary(address) { "temporary-queue" } else { "queue" };
    Some(symbols(&[kind]))
}

fn name() -> String {
    format!("wilco-{}", uuid::Uuid::now_v7())
}

/// A link to send to a queue; waits for a connection.
pub(super) async fn sender(driver: &Driver, address: &str) -> Result<Opened<Sender>, Lost> {
    let mut session = driver.session().await.map_err(|_| Lost::Closed)?;
    let target = Target {
        address: Some(address.to_owned()),
        capabilities: capabilities(address),
        ..Target::default()
    };
    let source = Source { outcomes: Some(symbols(&OUTCOMES)), ..Source::default() };
    let builder = Sender::builder()
        .name(name())
        .source(source)
        .target(target)
        .sender_settle_mode(SenderSettleMode::Unsettled);
    whole(Box::pin(async move { (bounded(builder.attach(&mut session)).await, session) })).await
}

/// A link to receive from a queue, without credit; waits for a connection.
pub(super) async fn receiver(driver: &Driver, address: &str) -> Result<Opened<Receiver>, Lost> {
    let source = Source {
        address: Some(address.to_owned()),
        capabilities: capabilities(address),
        outcomes: Some(symbols(&OUTCOMES)),
        ..Source::default()
    };
    receiver_from(driver, source).await
}

/// A link to receive from a queue that the broker makes for it, and that is gone with it.
pub(super) async fn temporary(driver: &Driver) -> Result<Opened<Receiver>, Lost> {
    let source = Source {
        dynamic: true,
        capabilities: Some(symbols(&["temporary-queue"])),
        ..Source::default()
    };
    receiver_from(driver, source).await
}

async fn receiver_from(driver: &Driver, source: Source) -> Result<Opened<Receiver>, Lost> {
    let mut session = driver.session().await.map_err(|_| Lost::Closed)?;
    let builder = Receiver::builder().name(name()).source(source).credit_mode(CreditMode::Manual);
    whole(Box::pin(async move { (bounded(builder.attach(&mut session)).await, session) })).await
}

fn silent() -> Lost {
    let text = format!("no answer within {ATTACH_TIMEOUT:?}");
    Lost::Refused(Refusal { kind: ErrorKind::Unreachable, text })
}
