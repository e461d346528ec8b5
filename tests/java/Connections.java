import com.rabbitmq.client.AMQP;
import com.rabbitmq.client.Channel;
import com.rabbitmq.client.Connection;
import com.rabbitmq.client.ConnectionFactory;
import com.rabbitmq.client.MetricsCollector;
import com.rabbitmq.client.ShutdownSignalException;
import com.rabbitmq.client.impl.AMQConnection;
import com.rabbitmq.client.impl.ChannelManager;
import com.rabbitmq.client.impl.ConnectionParams;
import com.rabbitmq.client.impl.FrameHandler;
import java.io.IOException;
import java.util.Map;
import java.util.concurrent.ThreadFactory;

/** Rows about connections. */
final class Connections {
    private Connections() {}

    static void idleConnectionLivesByHeartbeats(Rig rig) throws Exception {
        ConnectionFactory factory = new ConnectionFactory();
        factory.setRequestedHeartbeat(1);
        Connection connection = rig.connect(factory);
        if (connection.getHeartbeat() != 1) {
            throw new Seen("a heartbeat of %d s was negotiated", connection.getHeartbeat());
        }
        // The client gives up when nothing has come for two intervals; the broker should when
        // nothing comes from the client, which sends one every half interval.
        Thread.sleep(5_000);
        if (!connection.isOpen()) {
            throw new Seen("the idle connection was closed: %s", connection.getCloseReason());
        }
        rig.lives(connection);
    }

    /** How many channels are open is what counts, not how they are numbered. */
    static void channelNumbersMayExceedTheChannelMaximum(Rig rig) throws Exception {
        ConnectionFactory factory = new AnyChannelNumber();
        factory.setRequestedChannelMax(2);
        Connection connection = rig.connect(factory);
        Channel first = connection.createChannel(1000);
        Channel second = connection.createChannel(65535);
        rig.queue(first, "first", Map.of());
        rig.queue(second, "second", Map.of());
        first.close();
        Channel third = connection.createChannel(40000);
        rig.queue(third, "third", Map.of());
        try {
            connection.createChannel(1);
        } catch (IOException refusal) {
            ShutdownSignalException closed = Seen.closed(refusal);
            boolean expected = closed != null
                    && closed.getReason() instanceof AMQP.Connection.Close close
                    && close.getReplyCode() == AMQP.NOT_ALLOWED;
            if (!expected) {
                throw new Seen("one channel too many was refused with: %s", Seen.text(refusal));
            }
            return;
        }
        throw new Seen("there could be more channels than negotiated");
    }

    /** The client itself refuses numbers above the negotiated maximum; here it allows all. */
    private static final class AnyChannelNumber extends ConnectionFactory {
        @Override
        protected AMQConnection createConnection(
                ConnectionParams parameters, FrameHandler frames, MetricsCollector metrics) {
            return new AMQConnection(parameters, frames) {
                @Override
                protected ChannelManager instantiateChannelManager(int max, ThreadFactory threads) {
                    return super.instantiateChannelManager(65535, threads);
                }
            };
        }
    }
}
