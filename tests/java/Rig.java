import com.rabbitmq.client.AMQP.BasicProperties;
import com.rabbitmq.client.AMQP;
import com.rabbitmq.client.Channel;
import com.rabbitmq.client.Connection;
import com.rabbitmq.client.ConnectionFactory;
import com.rabbitmq.client.GetResponse;
import com.rabbitmq.client.Method;
import com.rabbitmq.client.ShutdownSignalException;
import java.io.IOException;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.TimeoutException;
import java.util.concurrent.atomic.AtomicInteger;

/** What one row works with: its connections, closed after it. */
final class Rig implements AutoCloseable {
    /** How long anything that must happen may take, in milliseconds. */
    static final int PATIENCE = 10_000;

    /** How long nothing comes before a row believes that nothing will, in milliseconds. */
    static final int LULL = 500;

    private static final AtomicInteger COUNT = new AtomicInteger();

    private final int port;
    // A row that hangs goes on while it is cleaned up after.
    private final List<Connection> opened = new CopyOnWriteArrayList<>();
    private final List<String> durable = new CopyOnWriteArrayList<>();

    Rig(int port) {
        this.port = port;
    }

    /** Something that the broker may refuse. */
    interface Call {
        void run() throws Exception;
    }

    /** A name that no other row uses, in this or an earlier run. */
    String name(String stem) {
        String run = Long.toHexString(ProcessHandle.current().pid() + System.currentTimeMillis());
        return "table-java-" + run + "-" + COUNT.incrementAndGet() + "-" + stem;
    }

    /** Opens a connection with a factory's settings, besides those that all rows share. */
    Connection connect(ConnectionFactory factory) throws IOException, TimeoutException {
        Connection connection = configure(factory).newConnection();
        opened.add(connection);
        return connection;
    }

    private ConnectionFactory configure(ConnectionFactory factory) {
        factory.setHost("127.0.0.1");
        factory.setPort(port);
        // A row wants to see a connection end, and calls that are not answered.
        factory.setAutomaticRecoveryEnabled(false);
        factory.setChannelRpcTimeout(PATIENCE);
        return factory;
    }

    /** Opens a channel on a connection of its own. */
    Channel channel() throws IOException, TimeoutException {
        return connect(new ConnectionFactory()).createChannel();
    }

    /** Declares an exclusive queue with a new name and returns that. */
    String queue(Channel channel, String stem, Map<String, Object> arguments) throws IOException {
        String name = name(stem);
        channel.queueDeclare(name, false, true, false, arguments);
        return name;
    }

    /** Declares an exchange with a new name, which ends with the last binding from it. */
    String exchange(Channel channel, String stem, String type) throws IOException {
        String name = name(stem);
        channel.exchangeDeclare(name, type, false, true, Map.of());
        return name;
    }

    /** Has a queue deleted in the end that does not end with its connection. */
    void deleteLater(String queue) {
        durable.add(queue);
    }

    /** Publishes and waits for the confirm: the message is where it belongs. */
    void publish(Channel channel, String exchange, String key, BasicProperties properties, String body)
            throws IOException, InterruptedException, TimeoutException {
        channel.confirmSelect();
        channel.basicPublish(exchange, key, properties, body.getBytes("UTF-8"));
        if (!channel.waitForConfirms(PATIENCE)) {
            throw new Seen("the broker nacked the message");
        }
    }

    /** Returns a message that must be in the queue by now or soon. */
    GetResponse get(Channel channel, String queue, boolean noAck)
            throws IOException, InterruptedException {
        long deadline = System.currentTimeMillis() + PATIENCE;
        while (System.currentTimeMillis() < deadline) {
            GetResponse message = channel.basicGet(queue, noAck);
            if (message != null) {
                return message;
            }
            Thread.sleep(10);
        }
        throw new Seen("no message came to the queue %s", queue);
    }

    /** Checks that the connection still does its work. */
    void lives(Connection connection) throws IOException, TimeoutException {
        try (Channel channel = connection.createChannel()) {
            queue(channel, "alive", Map.of());
        }
    }

    /**
     * Checks that a call closes its channel, and no more, with a code and a text that contains
     * {@code part}.
     */
    void refused(Channel channel, String what, int code, String part, Call call) throws Exception {
        ShutdownSignalException closed = null;
        try {
            call.run();
        } catch (IOException | ShutdownSignalException refusal) {
            closed = Seen.closed(refusal);
            if (closed == null) {
                throw refusal;
            }
        }
        if (closed == null) {
            throw new Seen("%s was not refused", what);
        }
        Method reason = closed.getReason();
        boolean expected = reason instanceof AMQP.Channel.Close close
                && close.getReplyCode() == code
                && close.getReplyText().contains(part);
        if (!expected) {
            throw new Seen("%s was refused with: %s", what, closed.getMessage());
        }
        if (channel.isOpen()) {
            throw new Seen("%s left the channel open", what);
        }
        lives(channel.getConnection());
    }

    /** Ends all that the row has opened. */
    @Override
    public void close() {
        for (Connection connection : opened) {
            // Waits for a broker that does not answer, but not for long, and throws nothing.
            connection.abort(2_000);
        }
        if (durable.isEmpty()) {
            return;
        }
        try (Connection connection = configure(new ConnectionFactory()).newConnection();
                Channel channel = connection.createChannel()) {
            for (String queue : durable) {
                channel.queueDelete(queue);
            }
        } catch (IOException | TimeoutException failure) {
            // The row has failed and told why, or the queue's name is not used again anyway.
        }
    }
}
