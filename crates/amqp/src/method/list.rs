//! Every method: class and method id, name, and fields in the order of the wire.

use super::*;

methods! {
    /// The server's greeting: version, properties, and the mechanisms and locales it offers.
    ConnectionStart<'a> (10, 10, "connection.start") [] {
        version_major: octet,
        version_minor: octet,
        server_properties: table,
        mechanisms: longstr,
        locales: longstr,
    } [];
    /// The client's choice of mechanism and its first response.
    ConnectionStartOk<'a> (10, 11, "connection.start-ok") [] {
        client_properties: table,
        mechanism: shortstr,
        response: longstr,
        locale: shortstr,
    } [];
    /// A further challenge of the SASL exchange.
    ConnectionSecure<'a> (10, 20, "connection.secure") [] { challenge: longstr } [];
    /// The response to a challenge.
    ConnectionSecureOk<'a> (10, 21, "connection.secure-ok") [] { response: longstr } [];
    /// The limits the server proposes; 0 is no limit.
    ConnectionTune (10, 30, "connection.tune") [] {
        channel_max: short,
        frame_max: long,
        heartbeat: short,
    } [];
    /// The limits the client settles on.
    ConnectionTuneOk (10, 31, "connection.tune-ok") [] {
        channel_max: short,
        frame_max: long,
        heartbeat: short,
    } [];
    /// Enters a virtual host.
    ConnectionOpen<'a> (10, 40, "connection.open") [] { virtual_host: shortstr } [shortstr bit];
    /// The connection is open.
    ConnectionOpenOk (10, 41, "connection.open-ok") [] {} [shortstr];
    /// Closes the connection, with the method that caused it or zeros.
    ConnectionClose<'a> (10, 50, "connection.close") [] {
        reply_code: short,
        reply_text: shortstr,
        class_id: short,
        method_id: short,
    } [];
    /// Confirms the close.
    ConnectionCloseOk (10, 51, "connection.close-ok") [] {} [];
    /// The server holds publishers back (RabbitMQ).
    ConnectionBlocked<'a> (10, 60, "connection.blocked") [] { reason: shortstr } [];
    /// The server takes messages again (RabbitMQ).
    ConnectionUnblocked (10, 61, "connection.unblocked") [] {} [];
    /// Replaces the credentials of an open connection (RabbitMQ).
    ConnectionUpdateSecret<'a> (10, 70, "connection.update-secret") [] {
        new_secret: longstr,
        reason: shortstr,
    } [];
    /// The new credentials are in place (RabbitMQ).
    ConnectionUpdateSecretOk (10, 71, "connection.update-secret-ok") [] {} [];

    /// Opens a channel.
    ChannelOpen (20, 10, "channel.open") [] {} [shortstr];
    /// The channel is open.
    ChannelOpenOk (20, 11, "channel.open-ok") [] {} [longstr];
    /// Stops or resumes the flow of content.
    ChannelFlow (20, 20, "channel.flow") [] { active: bit } [];
    /// Confirms the flow.
    ChannelFlowOk (20, 21, "channel.flow-ok") [] { active: bit } [];
    /// Closes the channel, with the method that caused it or zeros.
    ChannelClose<'a> (20, 40, "channel.close") [] {
        reply_code: short,
        reply_text: shortstr,
        class_id: short,
        method_id: short,
    } [];
    /// Confirms the close.
    ChannelCloseOk (20, 41, "channel.close-ok") [] {} [];

    /// Asks for an access ticket: from AMQP 0-8, still sent by old clients.
    AccessRequest<'a> (30, 10, "access.request") [] {
        realm: shortstr,
        exclusive: bit,
        passive: bit,
        active: bit,
        write: bit,
        read: bit,
    } [];
    /// The ticket, which nobody looks at.
    AccessRequestOk (30, 11, "access.request-ok") [] { ticket: short } [];

    /// Declares an exchange, or asks whether it exists.
    ExchangeDeclare<'a> (40, 10, "exchange.declare") [short] {
        exchange: shortstr,
        kind: shortstr,
        passive: bit,
        durable: bit,
        auto_delete: bit,
        internal: bit,
        no_wait: bit,
        arguments: table,
    } [];
    /// The exchange exists.
    ExchangeDeclareOk (40, 11, "exchange.declare-ok") [] {} [];
    /// Deletes an exchange.
    ExchangeDelete<'a> (40, 20, "exchange.delete") [short] {
        exchange: shortstr,
        if_unused: bit,
        no_wait: bit,
    } [];
    /// The exchange is gone.
    ExchangeDeleteOk (40, 21, "exchange.delete-ok") [] {} [];
    /// Binds an exchange to an exchange (RabbitMQ).
    ExchangeBind<'a> (40, 30, "exchange.bind") [short] {
        destination: shortstr,
        source: shortstr,
        routing_key: shortstr,
        no_wait: bit,
        arguments: table,
    } [];
    /// The exchanges are bound (RabbitMQ).
    ExchangeBindOk (40, 31, "exchange.bind-ok") [] {} [];
    /// Removes a binding between exchanges (RabbitMQ).
    ExchangeUnbind<'a> (40, 40, "exchange.unbind") [short] {
        destination: shortstr,
        source: shortstr,
        routing_key: shortstr,
        no_wait: bit,
        arguments: table,
    } [];
    /// The binding is gone (RabbitMQ). Its id is 51 for historical reasons.
    ExchangeUnbindOk (40, 51, "exchange.unbind-ok") [] {} [];

    /// Declares a queue, or asks whether it exists.
    QueueDeclare<'a> (50, 10, "queue.declare") [short] {
        queue: shortstr,
        passive: bit,
        durable: bit,
        exclusive: bit,
        auto_delete: bit,
        no_wait: bit,
        arguments: table,
    } [];
    /// The queue exists: its name, ready messages and consumers.
    QueueDeclareOk<'a> (50, 11, "queue.declare-ok") [] {
        queue: shortstr,
        message_count: long,
        consumer_count: long,
    } [];
    /// Binds a queue to an exchange.
    QueueBind<'a> (50, 20, "queue.bind") [short] {
        queue: shortstr,
        exchange: shortstr,
        routing_key: shortstr,
        no_wait: bit,
        arguments: table,
    } [];
    /// The queue is bound.
    QueueBindOk (50, 21, "queue.bind-ok") [] {} [];
    /// Drops the ready messages of a queue.
    QueuePurge<'a> (50, 30, "queue.purge") [short] { queue: shortstr, no_wait: bit } [];
    /// How many messages were dropped.
    QueuePurgeOk (50, 31, "queue.purge-ok") [] { message_count: long } [];
    /// Deletes a queue.
    QueueDelete<'a> (50, 40, "queue.delete") [short] {
        queue: shortstr,
        if_unused: bit,
        if_empty: bit,
        no_wait: bit,
    } [];
    /// How many messages were deleted with the queue.
    QueueDeleteOk (50, 41, "queue.delete-ok") [] { message_count: long } [];
    /// Removes a binding of a queue.
    QueueUnbind<'a> (50, 50, "queue.unbind") [short] {
        queue: shortstr,
        exchange: shortstr,
        routing_key: shortstr,
        arguments: table,
    } [];
    /// The binding is gone.
    QueueUnbindOk (50, 51, "queue.unbind-ok") [] {} [];

    /// Limits unacknowledged deliveries.
    BasicQos (60, 10, "basic.qos") [] {
        prefetch_size: long,
        prefetch_count: short,
        global: bit,
    } [];
    /// The limit is set.
    BasicQosOk (60, 11, "basic.qos-ok") [] {} [];
    /// Starts a consumer.
    BasicConsume<'a> (60, 20, "basic.consume") [short] {
        queue: shortstr,
        consumer_tag: shortstr,
        no_local: bit,
        no_ack: bit,
        exclusive: bit,
        no_wait: bit,
        arguments: table,
    } [];
    /// The consumer exists.
    BasicConsumeOk<'a> (60, 21, "basic.consume-ok") [] { consumer_tag: shortstr } [];
    /// Ends a consumer; the server sends it, too, when the queue is deleted (RabbitMQ).
    BasicCancel<'a> (60, 30, "basic.cancel") [] { consumer_tag: shortstr, no_wait: bit } [];
    /// The consumer has ended.
    BasicCancelOk<'a> (60, 31, "basic.cancel-ok") [] { consumer_tag: shortstr } [];
    /// Publishes the message whose content follows.
    BasicPublish<'a> (60, 40, "basic.publish") [short] {
        exchange: shortbytes,
        routing_key: shortbytes,
        mandatory: bit,
        immediate: bit,
    } [];
    /// Returns a message that could not be routed; content follows.
    BasicReturn<'a> (60, 50, "basic.return") [] {
        reply_code: short,
        reply_text: shortstr,
        exchange: shortstr,
        routing_key: shortbytes,
    } [];
    /// Delivers a message to a consumer; content follows.
    BasicDeliver<'a> (60, 60, "basic.deliver") [] {
        consumer_tag: shortstr,
        delivery_tag: longlong,
        redelivered: bit,
        exchange: shortstr,
        routing_key: shortbytes,
    } [];
    /// Asks for one message.
    BasicGet<'a> (60, 70, "basic.get") [short] { queue: shortstr, no_ack: bit } [];
    /// The message asked for; content follows.
    BasicGetOk<'a> (60, 71, "basic.get-ok") [] {
        delivery_tag: longlong,
        redelivered: bit,
        exchange: shortstr,
        routing_key: shortbytes,
        message_count: long,
    } [];
    /// The queue is empty.
    BasicGetEmpty (60, 72, "basic.get-empty") [] {} [shortstr];
    /// Settles deliveries; from the server, confirms publishes (RabbitMQ).
    BasicAck (60, 80, "basic.ack") [] { delivery_tag: longlong, multiple: bit } [];
    /// Refuses one delivery.
    BasicReject (60, 90, "basic.reject") [] { delivery_tag: longlong, requeue: bit } [];
    /// Recovers without an answer (deprecated).
    BasicRecoverAsync (60, 100, "basic.recover-async") [] { requeue: bit } [];
    /// Gives unacknowledged deliveries back to their queues.
    BasicRecover (60, 110, "basic.recover") [] { requeue: bit } [];
    /// They have been given back.
    BasicRecoverOk (60, 111, "basic.recover-ok") [] {} [];
    /// Refuses deliveries; from the server, publishes (RabbitMQ).
    BasicNack (60, 120, "basic.nack") [] { delivery_tag: longlong, multiple: bit, requeue: bit } [];

    /// Turns publisher confirms on (RabbitMQ). Its field is called `nowait` in the definition.
    ConfirmSelect (85, 10, "confirm.select") [] { no_wait: bit } [];
    /// Confirms are on (RabbitMQ).
    ConfirmSelectOk (85, 11, "confirm.select-ok") [] {} [];

    /// Makes the channel transactional.
    TxSelect (90, 10, "tx.select") [] {} [];
    /// The channel is transactional.
    TxSelectOk (90, 11, "tx.select-ok") [] {} [];
    /// Commits.
    TxCommit (90, 20, "tx.commit") [] {} [];
    /// Committed.
    TxCommitOk (90, 21, "tx.commit-ok") [] {} [];
    /// Rolls back.
    TxRollback (90, 30, "tx.rollback") [] {} [];
    /// Rolled back.
    TxRollbackOk (90, 31, "tx.rollback-ok") [] {} [];
}
