import com.rabbitmq.client.AMQP.BasicProperties;
import com.rabbitmq.client.Channel;
import com.rabbitmq.client.DefaultConsumer;
import com.rabbitmq.client.Delivery;
import com.rabbitmq.client.Envelope;
import java.io.IOException;
import java.util.Map;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;

/** A consumer that keeps what comes until a row asks for it. */
final class Inbox extends DefaultConsumer {
    private final BlockingQueue<Delivery> deliveries = new LinkedBlockingQueue<>();
    private final CountDownLatch cancelled = new CountDownLatch(1);

    private Inbox(Channel channel) {
        super(channel);
    }

    /** Starts to consume. */
    static Inbox consume(Channel channel, String queue, boolean noAck, Map<String, Object> arguments)
            throws IOException {
        Inbox inbox = new Inbox(channel);
        channel.basicConsume(queue, noAck, arguments, inbox);
        return inbox;
    }

    /** Returns a delivery that must come. */
    Delivery next(String what) throws InterruptedException {
        Delivery delivery = deliveries.poll(Rig.PATIENCE, TimeUnit.MILLISECONDS);
        if (delivery == null) {
            throw new Seen("%s did not come", what);
        }
        return delivery;
    }

    /** Whether nothing comes for a while. */
    boolean staysEmpty() throws InterruptedException {
        return deliveries.poll(Rig.LULL, TimeUnit.MILLISECONDS) == null;
    }

    /** Whether the broker cancels it, now or soon. */
    boolean isCancelled() throws InterruptedException {
        return cancelled.await(Rig.PATIENCE, TimeUnit.MILLISECONDS);
    }

    @Override
    public void handleDelivery(String tag, Envelope envelope, BasicProperties properties, byte[] body) {
        deliveries.add(new Delivery(envelope, properties, body));
    }

    @Override
    public void handleCancel(String tag) {
        cancelled.countDown();
    }
}
