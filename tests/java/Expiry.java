import com.rabbitmq.client.AMQP.BasicProperties;
import com.rabbitmq.client.Channel;
import java.util.List;
import java.util.Map;

/** Rows about time to live. */
final class Expiry {
    /** One more than fits into 32 bits, four years and some, and the longest: ten years. */
    private static final List<Long> LONG_TIMES = List.of(4294967296L, 134217728000L, 315360000000L);

    private static final long TOO_LONG = 315360000001L;

    /** How many messages are given no time at all. */
    private static final int EPHEMERAL = 100;

    private static final BasicProperties NONE = new BasicProperties();

    private Expiry() {}

    static void queueTtlMayBeUpToTenYears(Rig rig) throws Exception {
        queueArgumentMayBeUpToTenYears(rig, "x-message-ttl");
    }

    static void queueExpiresMayBeUpToTenYears(Rig rig) throws Exception {
        queueArgumentMayBeUpToTenYears(rig, "x-expires");
    }

    private static void queueArgumentMayBeUpToTenYears(Rig rig, String argument) throws Exception {
        Channel channel = rig.channel();
        for (long time : LONG_TIMES) {
            String queue = rig.queue(channel, "long", Map.of(argument, time));
            // The first, cut down to 32 bits, would be no time at all.
            rig.publish(channel, "", queue, NONE, "patient");
            rig.get(channel, queue, true);
        }
        rig.refused(channel, argument + " of more than ten years", 406, "value_too_large",
                () -> rig.queue(channel, "too-long", Map.of(argument, TOO_LONG)));
    }

    static void expirationMayBeUpToTenYears(Rig rig) throws Exception {
        Channel channel = rig.channel();
        String queue = rig.queue(channel, "long", Map.of());
        for (long time : LONG_TIMES) {
            rig.publish(channel, "", queue, expiration(time), "patient");
            String came = rig.get(channel, queue, true).getProps().getExpiration();
            if (!Long.toString(time).equals(came)) {
                throw new Seen("expiration %d came as %s", time, came);
            }
        }
        rig.refused(channel, "expiration of more than ten years", 406, "value_too_large",
                () -> rig.publish(channel, "", queue, expiration(TOO_LONG), ""));
    }

    static void ttlZeroByExpirationIsNeverGot(Rig rig) throws Exception {
        Channel channel = rig.channel();
        neverGot(channel, rig.queue(channel, "ephemeral", Map.of()), expiration(0));
    }

    static void ttlZeroByQueueIsNeverGot(Rig rig) throws Exception {
        Channel channel = rig.channel();
        neverGot(channel, rig.queue(channel, "ephemeral", Map.of("x-message-ttl", 0)), NONE);
    }

    /**
     * Gets right behind each message, without waiting for a confirm: what arrives in the same
     * millisecond is too late, too.
     */
    private static void neverGot(Channel channel, String queue, BasicProperties properties)
            throws Exception {
        int got = 0;
        for (int n = 0; n < EPHEMERAL; n++) {
            channel.basicPublish("", queue, properties, new byte[0]);
            if (channel.basicGet(queue, true) != null) {
                got++;
            }
        }
        if (got > 0) {
            throw new Seen("%d of %d messages were got", got, EPHEMERAL);
        }
    }

    static void ttlZeroReachesAReadyConsumer(Rig rig) throws Exception {
        Channel channel = rig.channel();
        String byExpiration = rig.queue(channel, "ephemeral", Map.of());
        reachesAReadyConsumer(channel, byExpiration, expiration(0), "expiration");
        String byQueue = rig.queue(channel, "ephemeral", Map.of("x-message-ttl", 0));
        reachesAReadyConsumer(channel, byQueue, NONE, "x-message-ttl");
    }

    private static void reachesAReadyConsumer(
            Channel channel, String queue, BasicProperties properties, String way) throws Exception {
        Inbox inbox = Inbox.consume(channel, queue, true, Map.of());
        for (int n = 0; n < EPHEMERAL; n++) {
            channel.basicPublish("", queue, properties, new byte[0]);
        }
        for (int n = 1; n <= EPHEMERAL; n++) {
            inbox.next("message " + n + " with 0 as " + way);
        }
    }

    private static BasicProperties expiration(long time) {
        return new BasicProperties.Builder().expiration(Long.toString(time)).build();
    }
}
