//! One message that asks for its outcomes, the queues it goes to, and what its producer is told.

use end_to_end::{Broker, Channel, Client, Json, Told, client::block, table, text, unique};
use lapin::{
    BasicProperties, Confirmation, ExchangeKind,
    message::Delivery,
    options::QueueDeclareOptions,
    types::{AMQPValue, FieldTable},
};

/// See the module's documentation.
pub(crate) struct Case<'b> {
    pub(crate) broker: &'b Broker,
    /// Both producer and worker, in confirm mode.
    pub(crate) client: Client,
    /// The queue that the message should leave.
    pub(crate) queue: String,
    /// Further queues that the message goes to.
    pub(crate) others: Vec<String>,
    /// Where to publish to.
    pub(crate) exchange: String,
    /// The queue for outcome messages.
    pub(crate) reply: String,
    /// The message's id.
    pub(crate) id: String,
}

impl<'b> Case<'b> {
    /// With one durable queue.
    pub(crate) fn new(broker: &'b Broker, arguments: FieldTable) -> Case<'b> {
        Self::declared(broker, None, QueueDeclareOptions::durable(), arguments)
    }

    /// With a queue, bound to a fanout exchange; `owner` declares it if that is not the producer.
    pub(crate) fn declared(
        broker: &'b Broker,
        owner: Option<&Client>,
        options: QueueDeclareOptions,
        arguments: FieldTable,
    ) -> Case<'b> {
        let client = broker.client();
        client.confirm_select();
        let reply = client.queue("reply", FieldTable::default());
        let queue = unique("q");
        let owner: &Channel = owner.unwrap_or(&client);
        owner.try_declare(&queue, options, arguments).expect("a queue");
        let exchange = client.exchange(ExchangeKind::Fanout, FieldTable::default());
        owner.bind(&queue, &exchange, "");
        let id = unique("id");
        Case { broker, client, queue, others: Vec::new(), exchange, reply, id }
    }

    /// Makes two more queues get the message.
    pub(crate) fn fan_out(mut self) -> Case<'b> {
        let other = |_| self.client.queue("other", FieldTable::default());
        self.others = (0..2).map(other).collect();
        for other in &self.others {
            self.client.bind(other, &self.exchange, "");
        }
        self
    }

    /// The message's properties, with further headers.
    pub(crate) fn asking<const N: usize>(&self, more: [(&str, AMQPValue); N]) -> BasicProperties {
        let mut headers = table(more);
        headers.insert("x-notify".into(), text("all"));
        BasicProperties::default()
            .with_message_id(self.id.as_str().into())
            .with_reply_to(self.reply.as_str().into())
            .with_delivery_mode(2)
            .with_headers(headers)
    }

    /// Publishes it, and makes the other queues process it.
    #[track_caller]
    pub(crate) fn publish(&self) -> Confirmation {
        self.publish_with(self.asking([]))
    }

    /// The same with these properties.
    #[track_caller]
    pub(crate) fn publish_with(&self, properties: BasicProperties) -> Confirmation {
        let confirm = self.client.send(&self.exchange, "", "work", properties, false);
        let confirm = block(confirm).expect("a confirm");
        self.others_ack();
        confirm
    }

    /// Makes the other queues process it.
    #[track_caller]
    pub(crate) fn others_ack(&self) {
        for other in &self.others {
            let channel = self.client.open();
            channel.ack(&channel.get_soon(other));
            channel.close_channel();
        }
    }

    /// Publishes another message to the queue.
    #[track_caller]
    pub(crate) fn fill(&self) {
        assert!(self.client.confirmed("", &self.queue, "filler").is_ack());
    }

    /// A worker takes the message.
    #[track_caller]
    pub(crate) fn get(&self) -> Delivery {
        self.client.get_soon(&self.queue)
    }

    /// The next outcome message.
    #[track_caller]
    pub(crate) fn told(&self) -> Told {
        Told::read(&self.client.take_soon(&self.reply))
    }

    /// Asserts that nothing more has been reported so far: an outcome of another message comes
    /// next.
    #[track_caller]
    pub(crate) fn nothing_more(&self) {
        let id = unique("sentinel");
        let asking = self.asking([]).with_message_id(id.as_str().into());
        let sent = self.client.send("", &unique("nowhere"), "", asking, false);
        assert!(block(sent).expect("a confirm").is_ack());
        let told = self.told();
        assert_eq!(told.message_id, id, "told too much: {told:?}");
        // By now the ledger has followed the log up to here.
        self.broker.settled(&id);
    }

    /// The ledger's outcomes for the queue, in short form, without those of dead-letter copies.
    #[track_caller]
    pub(crate) fn listed(&self) -> Vec<String> {
        let listed = self.broker.outcomes_of(&self.queue);
        let own = listed.iter().filter(|outcome| !outcome["copy"].is_true());
        own.map(short_of_listed).collect()
    }
}

/// Outcome, reason, attempts and flags in one line.
pub(crate) fn short(told: &Told) -> String {
    let Told { outcome, reason, attempts, .. } = told;
    let flags = [
        (told.is_unverified, " unverified"),
        (told.is_late, " late"),
        (told.is_duplicate, " duplicate"),
        (told.dead_letter_exchange.is_some(), " dead-lettered"),
    ];
    format!("{outcome} {reason} {attempts}{}", flags_text(flags))
}

fn short_of_listed(json: &Json) -> String {
    let (outcome, reason) = (json["outcome"].text(), json["reason"].text());
    let attempts = json["attempts"].number().unwrap_or(-1.0);
    let flags = [
        (json["unverified"].is_true(), " unverified"),
        (json["late"].is_true(), " late"),
        (json["dead_letter_exchange"] != Json::Null, " dead-lettered"),
    ];
    format!("{outcome} {reason} {attempts}{}", flags_text(flags))
}

fn flags_text<const N: usize>(flags: [(bool, &str); N]) -> String {
    flags.into_iter().filter(|(is_set, _)| *is_set).map(|(_, text)| text).collect()
}
