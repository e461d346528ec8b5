import com.rabbitmq.client.AMQP;
import com.rabbitmq.client.CancelCallback;
import com.rabbitmq.client.Channel;
import com.rabbitmq.client.ConnectionFactory;
import com.rabbitmq.client.DeliverCallback;
import com.rabbitmq.client.MessageProperties;
import java.util.Map;
import java.util.concurrent.Semaphore;
import java.util.concurrent.atomic.AtomicLong;

/**
 * Puts the load of a point of {@code cargo xtask bench} on a broker, through RabbitMQ's Java client with
 * its defaults: {@code Load PORT POINT SECONDS}. Prints {@code {"published": N, "consumed": N,
 * "seconds": S}}. The points are a, b, c and d; d drains what c has left behind, and lasts as long as that
 * takes.
 */
public final class Load {
    private static final int WINDOW = 1000;

    /** What is published and how it is consumed; safe: persistent, durable, confirms, an ack for each. */
    private record Point(String queue, int bytes, boolean publishes, boolean consumes, boolean safe) {}

    private static final Map<String, Point> POINTS =
            Map.of(
                    "a", new Point("load.a", 16, true, true, false),
                    "b", new Point("load.b", 1024, true, true, true),
                    "c", new Point("load.c", 1024, true, false, true),
                    "d", new Point("load.c", 1024, false, true, true));

    private final int port;
    private final Point point;
    private final AtomicLong published = new AtomicLong();
    private final AtomicLong consumed = new AtomicLong();

    private Load(int port, Point point) {
        this.port = port;
        this.point = point;
    }

    private Channel open() throws Exception {
        ConnectionFactory factory = new ConnectionFactory();
        factory.setHost("127.0.0.1");
        factory.setPort(port);
        return factory.newConnection().createChannel();
    }

    private void publish(long endNs) throws Exception {
        Channel channel = open();
        Semaphore window = new Semaphore(WINDOW);
        AtomicLong confirmed = new AtomicLong();
        AMQP.BasicProperties properties = null;
        if (point.safe()) {
            properties = MessageProperties.PERSISTENT_BASIC;
            channel.confirmSelect();
            channel.addConfirmListener(
                    (tag, multiple) -> {
                        long count = multiple ? tag - confirmed.getAndSet(tag) : 1;
                        if (!multiple) {
                            confirmed.set(tag);
                        }
                        window.release((int) count);
                    },
                    (tag, multiple) -> {
                        throw new IllegalStateException("refused");
                    });
        }
        byte[] body = new byte[point.bytes()];
        while (System.nanoTime() < endNs) {
            if (point.safe()) {
                window.acquire();
            }
            channel.basicPublish("", point.queue(), properties, body);
            published.incrementAndGet();
        }
        if (point.safe()) {
            window.acquire(WINDOW);
        }
    }

    private void consume() throws Exception {
        Channel channel = open();
        if (point.safe()) {
            channel.basicQos(200);
        }
        DeliverCallback deliver =
                (tag, delivery) -> {
                    if (point.safe()) {
                        channel.basicAck(delivery.getEnvelope().getDeliveryTag(), false);
                    }
                    consumed.incrementAndGet();
                };
        CancelCallback cancelled = tag -> {};
        channel.basicConsume(point.queue(), !point.safe(), deliver, cancelled);
    }

    private void run(int seconds) throws Exception {
        Channel control = open();
        long left =
                control.queueDeclare(point.queue(), point.safe(), false, false, null)
                        .getMessageCount();
        long beginNs = System.nanoTime();
        if (point.consumes()) {
            consume();
        }
        if (point.publishes()) {
            publish(beginNs + seconds * 1_000_000_000L);
        } else {
            while (consumed.get() < left) {
                Thread.sleep(1);
            }
        }
        double elapsed = (System.nanoTime() - beginNs) / 1e9;
        System.out.printf(
                java.util.Locale.ROOT,
                "{\"published\": %d, \"consumed\": %d, \"seconds\": %.3f}%n",
                published.get(),
                consumed.get(),
                elapsed);
        if (point.consumes()) {
            control.queueDelete(point.queue());
        }
        System.exit(0);
    }

    public static void main(String[] arguments) throws Exception {
        int port = Integer.parseInt(arguments[0]);
        new Load(port, POINTS.get(arguments[1])).run(Integer.parseInt(arguments[2]));
    }
}
