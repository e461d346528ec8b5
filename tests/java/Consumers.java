import com.rabbitmq.client.AMQP.BasicProperties;
import com.rabbitmq.client.Channel;
import com.rabbitmq.client.Delivery;
import java.util.Collections;
import java.util.Map;

/** Rows about consumers. */
final class Consumers {
    private static final BasicProperties NONE = new BasicProperties();

    private Consumers() {}

    /** In which order the two come on the wire, the client does not tell. */
    static void deletingTheConsumedQueueAnswersAndCancels(Rig rig) throws Exception {
        Channel channel = rig.channel();
        String queue = rig.queue(channel, "q", Map.of());
        Inbox inbox = Inbox.consume(channel, queue, false, Map.of());
        channel.queueDelete(queue);
        if (!inbox.isCancelled()) {
            throw new Seen("the consumer was not told");
        }
        // The channel goes on.
        rig.queue(channel, "after", Map.of());
    }

    static void globalPrefetchHoldsBackNoAckConsumers(Rig rig) throws Exception {
        Channel channel = rig.channel();
        String acking = rig.queue(channel, "acking", Map.of());
        String noAck = rig.queue(channel, "no-ack", Map.of());
        channel.basicQos(1, true);
        Inbox ackingInbox = Inbox.consume(channel, acking, false, Map.of());
        rig.publish(channel, "", acking, NONE, "");
        Delivery held = ackingInbox.next("the delivery to be held");
        Inbox noAckInbox = Inbox.consume(channel, noAck, true, Map.of());
        rig.publish(channel, "", noAck, NONE, "");
        if (!noAckInbox.staysEmpty()) {
            throw new Seen("the no-ack consumer got its message while the channel was full");
        }
        channel.basicAck(held.getEnvelope().getDeliveryTag(), false);
        noAckInbox.next("the no-ack consumer's message, once there was room,");
    }

    static void voidConsumerPriorityIsRefused(Rig rig) throws Exception {
        Channel channel = rig.channel();
        String queue = rig.queue(channel, "q", Map.of());
        rig.refused(channel, "a priority of type void", 406, "",
                () -> Inbox.consume(channel, queue, true, Collections.singletonMap("x-priority", null)));
    }

    /**
     * What becomes of the channel that was too slow differs between brokers; only that somebody
     * else gets the message is looked at.
     */
    static void consumerTimeoutOfTheConsumerGivesBack(Rig rig) throws Exception {
        Channel slow = rig.channel();
        Channel other = rig.channel();
        String queue = rig.name("q");
        // Not exclusive, for there are two connections; it ends with its consumers.
        slow.queueDeclare(queue, false, false, true, Map.of());
        Inbox slowInbox = Inbox.consume(slow, queue, false, Map.of("x-consumer-timeout", 1000));
        rig.publish(slow, "", queue, NONE, "");
        slowInbox.next("the delivery to be kept");
        // Its priority makes sure that the message does not come back to the slow one.
        Inbox inbox = Inbox.consume(other, queue, false, Map.of("x-priority", 1));
        Delivery delivery = inbox.next("the delivery that was kept for too long");
        if (!delivery.getEnvelope().isRedeliver()) {
            throw new Seen("it came to the other consumer without the mark that it was redelivered");
        }
        other.basicAck(delivery.getEnvelope().getDeliveryTag(), false);
    }
}
