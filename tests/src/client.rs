//! A blocking client on lapin, so that a test reads as a list of facts.
//!
//! Every call is bounded by [`PATIENCE`] and panics on an error that the test did not ask for; the
//! `try_*` calls return the error, and [`Client::refusal`] gives its code and level.

use crate::PATIENCE;
use futures_core::Stream;
use lapin::{
    BasicProperties, Confirmation, Connection, ConnectionProperties, ErrorKind, ExchangeKind,
    message::{BasicReturnMessage, Delivery},
    options::{
        BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicGetOptions,
        BasicNackOptions, BasicPublishOptions, BasicQosOptions, BasicRecoverOptions,
        BasicRejectOptions, ConfirmSelectOptions, ExchangeDeclareOptions, QueueBindOptions,
        QueueDeclareOptions, QueueDeleteOptions,
    },
    types::FieldTable,
};
use std::{
    future::Future,
    net::{Ipv4Addr, SocketAddr, TcpStream},
    pin::pin,
    sync::{LazyLock, mpsc},
    time::Duration,
};
use tokio::{net::TcpSocket, runtime::Runtime};

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime")
});

/// Waits for a future of lapin, bounded.
#[track_caller]
pub fn block<T>(future: impl Future<Output = T>) -> T {
    RUNTIME
        .block_on(async { tokio::time::timeout(PATIENCE, future).await })
        .expect("the broker answers in time")
}

/// A TCP connection from a chosen address of this machine, which the standard library does not
/// offer.
pub fn connect_from(address: &str, source: Ipv4Addr) -> std::io::Result<TcpStream> {
    let to: SocketAddr = address.parse().expect("an address");
    let stream = block(async {
        let socket = TcpSocket::new_v4()?;
        socket.bind(SocketAddr::new(source.into(), 0))?;
        socket.connect(to).await?.into_std()
    })?;
    stream.set_nonblocking(false)?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Closes a connection with RST, which the standard library does not offer.
pub fn reset(stream: TcpStream) {
    block(async {
        stream.set_nonblocking(true)?;
        tokio::net::TcpStream::from_std(stream)?.set_zero_linger()
    })
    .expect("a socket without linger");
}

/// A connection and its first channel.
pub struct Client {
    connection: Connection,
    channel: Channel,
}

/// A channel of a [`Client`].
pub struct Channel(lapin::Channel);

/// Deliveries of one consumer, in order.
pub struct Consumer {
    tag: String,
    deliveries: mpsc::Receiver<lapin::Result<Delivery>>,
    task: tokio::task::JoinHandle<()>,
}

/// What an error closes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// The channel; the connection lives on.
    Channel,
    /// The connection with all its channels.
    Connection,
}

/// The broker's answer to something it does not accept.
#[derive(Debug)]
pub struct Refusal {
    /// The reply code.
    pub code: u16,
    /// What got closed.
    pub level: Level,
    /// The reply text.
    pub text: String,
}

impl Client {
    /// Connects and opens a channel.
    #[track_caller]
    pub fn connect(uri: &str) -> Client {
        Self::try_connect(uri).expect("a connection")
    }

    /// As [`Client::connect`], for a URI that may be refused.
    pub fn try_connect(uri: &str) -> lapin::Result<Client> {
        Self::connect_with(uri, ConnectionProperties::default())
    }

    /// Connects under a name, which is in the client's properties.
    #[track_caller]
    pub fn named(uri: &str, name: &str) -> Client {
        let properties = ConnectionProperties::default().with_connection_name(name.into());
        Self::connect_with(uri, properties).expect("a connection")
    }

    fn connect_with(uri: &str, properties: ConnectionProperties) -> lapin::Result<Client> {
        block(async {
            let connection = Connection::connect(uri, properties).await?;
            let channel = Channel(connection.create_channel().await?);
            Ok(Client { connection, channel })
        })
    }

    /// Opens another channel.
    #[track_caller]
    pub fn open(&self) -> Channel {
        Channel(block(self.connection.create_channel()).expect("a channel"))
    }

    /// Closes the connection and waits for the broker's answer.
    #[track_caller]
    pub fn close(self) {
        block(self.connection.close(200, "done".into())).expect("a clean close");
    }

    /// The code and level of a refused call on a channel of this connection.
    #[track_caller]
    pub fn refusal<T>(&self, result: lapin::Result<T>) -> Refusal {
        let Err(error) = result else { panic!("accepted, should have been refused") };
        let ErrorKind::ProtocolError(error) = error.kind() else {
            panic!("no answer of the broker but {error}")
        };
        let level = match block(self.connection.create_channel()) {
            Ok(_) => Level::Channel,
            Err(_) => Level::Connection,
        };
        Refusal { code: error.get_id(), level, text: error.get_message().to_string() }
    }

    /// Runs `call` on a channel of its own and asserts that it is refused with this code and level.
    #[track_caller]
    pub fn refuses<T>(
        &self,
        code: u16,
        level: Level,
        call: impl FnOnce(&Channel) -> lapin::Result<T>,
    ) {
        let refusal = self.refusal(call(&self.open()));
        assert_eq!((refusal.code, refusal.level), (code, level), "{}", refusal.text);
    }

    /// Asserts that the broker closes the connection by itself.
    #[track_caller]
    pub fn is_closed(&self) {
        crate::eventually("the connection is closed", || !self.connection.status().connected());
    }

    /// As [`Client::refuses`], for a call without an answer of its own: a consumer receives the
    /// error.
    #[track_caller]
    pub fn refuses_unasked(&self, code: u16, level: Level, call: impl FnOnce(&Channel)) {
        let channel = self.open();
        let consumer = channel.consume(&channel.queue("witness", FieldTable::default()));
        call(&channel);
        let heard = consumer.deliveries.recv_timeout(PATIENCE).expect("an error in time");
        let refusal = self.refusal(heard);
        assert_eq!((refusal.code, refusal.level), (code, level), "{}", refusal.text);
    }
}

impl std::ops::Deref for Client {
    type Target = Channel;

    fn deref(&self) -> &Channel {
        &self.channel
    }
}

impl Channel {
    /// lapin's own channel, for whatever has no shorter form here.
    pub fn lapin(&self) -> &lapin::Channel {
        &self.0
    }

    /// Declares a durable queue with a unique name, which is returned.
    #[track_caller]
    pub fn queue(&self, stem: &str, arguments: FieldTable) -> String {
        let name = crate::unique(stem);
        self.declare(&name, arguments);
        name
    }

    /// Declares a durable queue.
    #[track_caller]
    pub fn declare(&self, name: &str, arguments: FieldTable) {
        self.try_declare(name, QueueDeclareOptions::durable(), arguments).expect("a queue");
    }

    /// Declares a queue that may be refused.
    pub fn try_declare(
        &self,
        name: &str,
        options: QueueDeclareOptions,
        arguments: FieldTable,
    ) -> lapin::Result<lapin::Queue> {
        block(self.0.queue_declare(name.into(), options, arguments))
    }

    /// Declares a durable exchange with a unique name, which is returned.
    #[track_caller]
    pub fn exchange(&self, kind: ExchangeKind, arguments: FieldTable) -> String {
        let name = crate::unique("exchange");
        let options = ExchangeDeclareOptions { durable: true, ..Default::default() };
        self.try_exchange(&name, kind, options, arguments).expect("an exchange");
        name
    }

    /// Declares an exchange that may be refused.
    pub fn try_exchange(
        &self,
        name: &str,
        kind: ExchangeKind,
        options: ExchangeDeclareOptions,
        arguments: FieldTable,
    ) -> lapin::Result<()> {
        block(self.0.exchange_declare(name.into(), kind, options, arguments))
    }

    /// Binds a queue.
    #[track_caller]
    pub fn bind(&self, queue: &str, exchange: &str, key: &str) {
        self.bind_with(queue, exchange, key, FieldTable::default());
    }

    /// Binds a queue with arguments.
    #[track_caller]
    pub fn bind_with(&self, queue: &str, exchange: &str, key: &str, arguments: FieldTable) {
        self.try_bind(queue, exchange, key, arguments).expect("a binding");
    }

    /// Binds a queue when that may be refused.
    pub fn try_bind(
        &self,
        queue: &str,
        exchange: &str,
        key: &str,
        arguments: FieldTable,
    ) -> lapin::Result<()> {
        let options = QueueBindOptions::default();
        block(self.0.queue_bind(queue.into(), exchange.into(), key.into(), options, arguments))
    }

    /// The number of ready messages in a queue, from a passive declaration.
    #[track_caller]
    pub fn ready_count(&self, queue: &str) -> u32 {
        self.passive(queue).message_count()
    }

    /// The answer to a passive declaration.
    #[track_caller]
    pub fn passive(&self, queue: &str) -> lapin::Queue {
        let options = QueueDeclareOptions::default().passive();
        self.try_declare(queue, options, FieldTable::default()).expect("the queue is there")
    }

    /// Waits until this many messages are ready.
    #[track_caller]
    pub fn await_ready(&self, queue: &str, count: u32) {
        crate::eventually(&format!("{count} messages ready in {queue}"), || {
            self.ready_count(queue) == count
        });
    }

    /// Deletes a queue in any state and returns how many messages it had.
    #[track_caller]
    pub fn delete(&self, queue: &str) -> u32 {
        block(self.0.queue_delete(queue.into(), QueueDeleteOptions::default())).expect("a deletion")
    }

    /// Publishes a body; without confirms this only writes.
    #[track_caller]
    pub fn publish(&self, exchange: &str, key: &str, body: impl AsRef<[u8]>) {
        self.publish_with(exchange, key, body, BasicProperties::default());
    }

    /// Publishes with properties.
    #[track_caller]
    pub fn publish_with(
        &self,
        exchange: &str,
        key: &str,
        body: impl AsRef<[u8]>,
        properties: BasicProperties,
    ) {
        drop(self.send(exchange, key, body, properties, false));
    }

    /// Publishes and returns the confirm that is to come.
    #[track_caller]
    pub fn send(
        &self,
        exchange: &str,
        key: &str,
        body: impl AsRef<[u8]>,
        properties: BasicProperties,
        mandatory: bool,
    ) -> lapin::PublisherConfirm {
        let options = BasicPublishOptions { mandatory, ..Default::default() };
        let body = body.as_ref();
        block(self.0.basic_publish(exchange.into(), key.into(), options, body, properties))
            .expect("a publish")
    }

    /// Publishes and waits for the confirm.
    #[track_caller]
    pub fn confirmed(&self, exchange: &str, key: &str, body: impl AsRef<[u8]>) -> Confirmation {
        block(self.send(exchange, key, body, BasicProperties::default(), false)).expect("a confirm")
    }

    /// Turns on confirms.
    #[track_caller]
    pub fn confirm_select(&self) {
        block(self.0.confirm_select(ConfirmSelectOptions::default())).expect("confirms");
    }

    /// Waits for the confirms of everything published and returns the messages that were returned.
    #[track_caller]
    pub fn await_confirms(&self) -> Vec<BasicReturnMessage> {
        block(self.0.wait_for_confirms()).expect("confirms")
    }

    /// Gets a message that is to be settled later.
    #[track_caller]
    pub fn get(&self, queue: &str) -> Option<Delivery> {
        self.try_get(queue, false).expect("an answer to get")
    }

    /// Gets a message that is settled at once.
    #[track_caller]
    pub fn take(&self, queue: &str) -> Option<Delivery> {
        self.try_get(queue, true).expect("an answer to get")
    }

    /// Gets a message when that may be refused.
    pub fn try_get(&self, queue: &str, no_ack: bool) -> lapin::Result<Option<Delivery>> {
        let options = BasicGetOptions { no_ack };
        Ok(block(self.0.basic_get(queue.into(), options))?.map(|message| message.delivery))
    }

    /// Takes the next message, waiting for it.
    #[track_caller]
    pub fn take_soon(&self, queue: &str) -> Delivery {
        let mut taken = None;
        crate::eventually(&format!("a message in {queue}"), || {
            taken = self.take(queue);
            taken.is_some()
        });
        taken.expect("a message")
    }

    /// Gets the next message, to be settled later, waiting for it.
    #[track_caller]
    pub fn get_soon(&self, queue: &str) -> Delivery {
        let mut got = None;
        crate::eventually(&format!("a message in {queue}"), || {
            got = self.get(queue);
            got.is_some()
        });
        got.expect("a message")
    }

    /// Takes everything that is ready, as text.
    #[track_caller]
    pub fn drain(&self, queue: &str) -> Vec<String> {
        std::iter::from_fn(|| self.take(queue)).map(|message| body(&message)).collect()
    }

    /// Consumes with manual acknowledgement.
    #[track_caller]
    pub fn consume(&self, queue: &str) -> Consumer {
        self.consume_with(queue, BasicConsumeOptions::default(), FieldTable::default())
    }

    /// Consumes with options and arguments.
    #[track_caller]
    pub fn consume_with(
        &self,
        queue: &str,
        options: BasicConsumeOptions,
        arguments: FieldTable,
    ) -> Consumer {
        self.try_consume(queue, options, arguments).expect("a consumer")
    }

    /// Consumes when that may be refused.
    pub fn try_consume(
        &self,
        queue: &str,
        options: BasicConsumeOptions,
        arguments: FieldTable,
    ) -> lapin::Result<Consumer> {
        let consumer = block(self.0.basic_consume(queue.into(), "".into(), options, arguments))?;
        let tag = consumer.tag().to_string();
        let (sender, deliveries) = mpsc::channel();
        let task = RUNTIME.spawn(async move {
            let mut consumer = pin!(consumer);
            while let Some(delivery) =
                std::future::poll_fn(|context| consumer.as_mut().poll_next(context)).await
            {
                if sender.send(delivery).is_err() {
                    break;
                }
            }
        });
        Ok(Consumer { tag, deliveries, task })
    }

    /// Cancels a consumer and waits for the answer; earlier deliveries can still be read.
    #[track_caller]
    pub fn cancel(&self, consumer: &Consumer) {
        let tag = consumer.tag.as_str();
        block(self.0.basic_cancel(tag.into(), BasicCancelOptions::default())).expect("a cancel");
    }

    /// Sets the prefetch of new consumers, or of the whole channel.
    #[track_caller]
    pub fn prefetch(&self, count: u16, global: bool) {
        block(self.0.basic_qos(count, BasicQosOptions { global })).expect("a prefetch");
    }

    /// Acknowledges one delivery.
    #[track_caller]
    pub fn ack(&self, delivery: &Delivery) {
        self.ack_tag(delivery.delivery_tag, false).expect("an ack");
    }

    /// Acknowledges up to and including a delivery.
    #[track_caller]
    pub fn ack_up_to(&self, delivery: &Delivery) {
        self.ack_tag(delivery.delivery_tag, true).expect("an ack");
    }

    /// Acknowledges by tag.
    pub fn ack_tag(&self, tag: u64, multiple: bool) -> lapin::Result<()> {
        block(self.0.basic_ack(tag, BasicAckOptions { multiple }))
    }

    /// Negative acknowledgement of one delivery.
    #[track_caller]
    pub fn nack(&self, delivery: &Delivery, requeue: bool) {
        let options = BasicNackOptions { multiple: false, requeue };
        block(self.0.basic_nack(delivery.delivery_tag, options)).expect("a nack");
    }

    /// Negative acknowledgement up to and including a delivery.
    #[track_caller]
    pub fn nack_up_to(&self, delivery: &Delivery, requeue: bool) {
        let options = BasicNackOptions { multiple: true, requeue };
        block(self.0.basic_nack(delivery.delivery_tag, options)).expect("a nack");
    }

    /// Rejects one delivery.
    #[track_caller]
    pub fn reject(&self, delivery: &Delivery, requeue: bool) {
        let options = BasicRejectOptions { requeue };
        block(self.0.basic_reject(delivery.delivery_tag, options)).expect("a reject");
    }

    /// Asks for all unsettled deliveries again.
    #[track_caller]
    pub fn recover(&self) {
        block(self.0.basic_recover(BasicRecoverOptions { requeue: true })).expect("a recover");
    }

    /// Closes the channel.
    #[track_caller]
    pub fn close_channel(&self) {
        block(self.0.close(200, "done".into())).expect("a clean close");
    }

    /// A round trip: the channel has handled everything written before.
    #[track_caller]
    pub fn round_trip(&self) {
        let options = ExchangeDeclareOptions { passive: true, ..Default::default() };
        self.try_exchange("amq.direct", ExchangeKind::Direct, options, FieldTable::default())
            .expect("a round trip");
    }
}

impl Consumer {
    /// The consumer tag.
    pub fn tag(&self) -> &str {
        &self.tag
    }

    /// The next delivery, waiting for it.
    #[track_caller]
    pub fn next(&self) -> Delivery {
        self.deliveries
            .recv_timeout(PATIENCE)
            .expect("a delivery in time")
            .expect("a delivery, no error")
    }

    /// The bodies of the next deliveries.
    #[track_caller]
    pub fn bodies(&self, count: usize) -> Vec<String> {
        (0..count).map(|_| body(&self.next())).collect()
    }

    /// Asserts that nothing comes for a moment.
    #[track_caller]
    pub fn quiet(&self) {
        match self.deliveries.recv_timeout(Duration::from_millis(150)) {
            Err(mpsc::RecvTimeoutError::Timeout) => {}
            Ok(Ok(delivery)) => panic!("delivered {:?}", body(&delivery)),
            Ok(Err(error)) => panic!("failed: {error}"),
            Err(mpsc::RecvTimeoutError::Disconnected) => panic!("cancelled"),
        }
    }

    /// Asserts that the broker cancels the consumer, after any deliveries.
    #[track_caller]
    pub fn is_cancelled(&self) {
        loop {
            match self.deliveries.recv_timeout(PATIENCE) {
                Ok(Ok(_)) => {}
                Ok(Err(error)) => panic!("failed instead: {error}"),
                Err(mpsc::RecvTimeoutError::Disconnected) => return,
                Err(mpsc::RecvTimeoutError::Timeout) => panic!("never cancelled"),
            }
        }
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A delivery's body as text.
pub fn body(delivery: &Delivery) -> String {
    String::from_utf8_lossy(&delivery.data).into_owned()
}
