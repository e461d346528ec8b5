import com.rabbitmq.client.AMQP.BasicProperties;
import com.rabbitmq.client.Channel;
import com.rabbitmq.client.LongString;
import com.rabbitmq.client.impl.LongStringHelper;
import java.util.Arrays;
import java.util.List;
import java.util.Map;

/** Rows about queues, exchanges and what goes through them. */
final class Topology {
    private static final BasicProperties NONE = new BasicProperties();

    private Topology() {}

    static void headerTextThatIsNotUtf8PassesUnchanged(Rig rig) throws Exception {
        byte[] bytes = {(byte) 0xf0, (byte) 0xff, 1, 2};
        Channel channel = rig.channel();
        String queue = rig.queue(channel, "bytes", Map.of());
        rig.publish(channel, "", queue, header("name", LongStringHelper.asLongString(bytes)), "");
        Object came = rig.get(channel, queue, true).getProps().getHeaders().get("name");
        if (!(came instanceof LongString text && Arrays.equals(text.getBytes(), bytes))) {
            throw new Seen("the header came as %s", came);
        }
    }

    static void lineBreaksInQueueNamesAreStripped(Rig rig) throws Exception {
        Channel channel = rig.channel();
        String stem = rig.name("a");
        String broken = stem + "\r\nb";
        String plain = stem + "b";
        String declared = channel.queueDeclare(broken, false, true, false, Map.of()).getQueue();
        if (!declared.equals(plain)) {
            throw new Seen("the queue was declared as %s", declared);
        }
        channel.queueDeclarePassive(plain);
        channel.queueDeclarePassive(broken);
        channel.queueBind(broken, "amq.direct", plain);
        rig.publish(channel, "amq.direct", plain, NONE, "");
        rig.get(channel, plain, true);
        channel.queueDelete(broken);
        // Deleting what is not there is no error, so only this shows what was deleted.
        rig.refused(channel, "declaring the deleted queue passively", 404, plain,
                () -> channel.queueDeclarePassive(plain));
    }

    static void lineBreaksInExchangeNamesAreStripped(Rig rig) throws Exception {
        Channel channel = rig.channel();
        String source = rig.name("source");
        String target = rig.name("target");
        for (String stem : List.of(source, target)) {
            channel.exchangeDeclare(stem + "\r\nb", "fanout", false, true, Map.of());
            channel.exchangeDeclarePassive(stem + "b");
            channel.exchangeDeclarePassive(stem + "\r\nb");
        }
        String queue = rig.queue(channel, "q", Map.of());
        channel.exchangeBind(target + "\r\nb", source + "\r\nb", "");
        channel.queueBind(queue, target + "\r\nb", "");
        rig.publish(channel, source + "b", "", NONE, "");
        rig.get(channel, queue, true);
        for (String stem : List.of(source, target)) {
            channel.exchangeDelete(stem + "\r\nb");
            Channel other = channel.getConnection().createChannel();
            rig.refused(other, "declaring the deleted exchange passively", 404, stem + "b",
                    () -> other.exchangeDeclarePassive(stem + "b"));
        }
    }

    static void unknownExchangeTypeClosesTheChannelOnly(Rig rig) throws Exception {
        Channel channel = rig.channel();
        rig.refused(channel, "an unknown exchange type", 406, "",
                () -> rig.exchange(channel, "x", "x-unheard-of"));
    }

    static void headersExchangeTellsIntegersFromFloats(Rig rig) throws Exception {
        headersExchangeRoutes(rig, List.of(1.0, 1.0f), List.of(1));
    }

    static void headersExchangeIgnoresIntegerWidth(Rig rig) throws Exception {
        headersExchangeRoutes(rig, List.of(), List.of((byte) 1, (short) 1, 1, 1L));
    }

    /** Binds by the 32-bit integer 1 and publishes with each of the values. */
    private static void headersExchangeRoutes(Rig rig, List<Object> not, List<Object> yes)
            throws Exception {
        Channel channel = rig.channel();
        String queue = rig.queue(channel, "q", Map.of());
        String exchange = rig.exchange(channel, "headers", "headers");
        channel.queueBind(queue, exchange, "", Map.of("x-match", "all", "n", 1));
        for (List<Object> values : List.of(not, yes)) {
            for (Object value : values) {
                rig.publish(channel, exchange, "", header("n", value), type(value));
            }
        }
        // In the order of publishing: what should not have come would come first.
        for (Object value : yes) {
            String came = new String(rig.get(channel, queue, true).getBody(), "UTF-8");
            if (!came.equals(type(value))) {
                throw new Seen(
                        "the message with a 1 as %s came instead of the one as %s", came, type(value));
            }
        }
    }

    private static String type(Object value) {
        return value.getClass().getSimpleName();
    }

    static void anotherConsumerTimeoutRedeclares(Rig rig) throws Exception {
        Channel channel = rig.channel();
        String name = rig.name("q");
        channel.queueDeclare(name, false, true, false, Map.of("x-consumer-timeout", 10_000));
        channel.queueDeclare(name, false, true, false, Map.of("x-consumer-timeout", 20_000));
        channel.queueDeclare(name, false, true, false, Map.of());
    }

    /**
     * The broker remembers ids of messages whose outcome somebody wants, so as not to do work
     * twice. What was purged has not been done.
     */
    static void purgedIdMayBePublishedAgain(Rig rig) throws Exception {
        Channel channel = rig.channel();
        String answers = rig.queue(channel, "answers", Map.of());
        String queue = rig.name("work");
        rig.deleteLater(queue);
        channel.queueDeclare(queue, true, false, false, Map.of());
        BasicProperties properties = new BasicProperties.Builder()
                .messageId(rig.name("p1"))
                .deliveryMode(2)
                .replyTo(answers)
                .headers(Map.of("x-notify", "all"))
                .build();
        rig.publish(channel, "", queue, properties, "");
        int purged = channel.queuePurge(queue).getMessageCount();
        if (purged != 1) {
            throw new Seen("%d messages were purged", purged);
        }
        rig.publish(channel, "", queue, properties, "");
        int again = channel.queueDeclarePassive(queue).getMessageCount();
        if (again != 1) {
            throw new Seen("%d messages are in the queue after publishing it again", again);
        }
    }

    private static BasicProperties header(String name, Object value) {
        return new BasicProperties.Builder().headers(Map.of(name, value)).build();
    }
}
