import com.rabbitmq.client.AMQP.BasicProperties;
import com.rabbitmq.client.Channel;
import com.rabbitmq.client.GetResponse;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/** Rows about messages that die and go on. */
final class DeadLetters {
    private DeadLetters() {}

    /**
     * A worker that gives its work back with a copy of the headers must not make it look as if it
     * had died more often than it has, or as if it went round in circles.
     */
    static void publishedXDeathIsIgnored(Rig rig) throws Exception {
        Channel channel = rig.channel();
        String last = rig.queue(channel, "c", Map.of());
        String second = rig.queue(channel, "b", expiring(last));
        String first = rig.queue(channel, "a", expiring(second));
        Inbox inbox = Inbox.consume(channel, last, true, Map.of());
        List<String> expected = List.of(second + " expired 1", first + " expired 1");
        Map<String, Object> headers = Map.of();
        for (int round = 1; round <= 3; round++) {
            rig.publish(channel, "", first, headers(headers), "");
            headers = inbox.next("the message in round " + round).getProperties().getHeaders();
            List<String> deaths = deaths(headers);
            if (!deaths.equals(expected)) {
                throw new Seen("in round %d x-death had %s instead of %s", round, deaths, expected);
            }
        }
    }

    /** The arguments of a queue whose messages soon go on to another. */
    private static Map<String, Object> expiring(String next) {
        return Map.of(
                "x-message-ttl", 50, "x-dead-letter-exchange", "", "x-dead-letter-routing-key", next);
    }

    /** Each entry of x-death as its queue, reason and count. */
    private static List<String> deaths(Map<String, Object> headers) {
        return deathEntries(headers).stream()
                .map(entry -> entry.get("queue") + " " + entry.get("reason") + " " + entry.get("count"))
                .toList();
    }

    @SuppressWarnings("unchecked") // The keys of an AMQP table are strings.
    private static List<Map<String, Object>> deathEntries(Map<String, Object> headers) {
        Object list = headers == null ? null : headers.get("x-death");
        if (!(list instanceof List<?> entries)) {
            throw new Seen("x-death was %s", list);
        }
        return entries.stream().map(entry -> (Map<String, Object>) entry).toList();
    }

    /** The dead letter goes wherever the message went, but who was in BCC remains nobody's business. */
    static void bccStaysHiddenInDeadLetters(Rig rig) throws Exception {
        Channel channel = rig.channel();
        String exchange = rig.exchange(channel, "dlx", "direct");
        String queue = rig.queue(channel, "q", Map.of("x-dead-letter-exchange", exchange));
        // Published to the default exchange, where no queue has these names.
        String open = rig.name("open");
        String hidden = rig.name("hidden");
        Map<String, String> receivers = new LinkedHashMap<>();
        for (var key : Map.of("q", queue, "open", open, "hidden", hidden).entrySet()) {
            String receiver = rig.queue(channel, "receiver-of-" + key.getKey(), Map.of());
            channel.queueBind(receiver, exchange, key.getValue());
            receivers.put(key.getKey(), receiver);
        }
        Map<String, Object> copies = Map.of("CC", List.of(open), "BCC", List.of(hidden));
        rig.publish(channel, "", queue, headers(copies), "");
        GetResponse rejected = rig.get(channel, queue, false);
        if (rejected.getProps().getHeaders().containsKey("BCC")) {
            throw new Seen("before it died, the message had headers %s", rejected.getProps().getHeaders());
        }
        channel.basicReject(rejected.getEnvelope().getDeliveryTag(), false);
        for (var receiver : receivers.entrySet()) {
            var headers = rig.get(channel, receiver.getValue(), true).getProps().getHeaders();
            if (headers.containsKey("BCC")) {
                throw new Seen("the receiver bound by %s saw %s", receiver.getKey(), headers);
            }
            for (var entry : deathEntries(headers)) {
                String keys = String.valueOf(entry.get("routing-keys"));
                if (!keys.contains(queue) || keys.contains(hidden)) {
                    throw new Seen(
                            "the receiver bound by %s saw the routing keys %s", receiver.getKey(), keys);
                }
            }
        }
    }

    private static BasicProperties headers(Map<String, Object> headers) {
        return new BasicProperties.Builder().headers(headers).build();
    }
}
