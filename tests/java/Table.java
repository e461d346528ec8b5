import java.util.List;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;

/**
 * Drives RabbitMQ's Java client over a table of behaviours, each a row with a name, and tells which
 * of them the broker shows: {@code java Table PORT} prints {@code ok NAME} or
 * {@code FAIL NAME: what was seen} for each row and exits with 1 if one failed.
 *
 * <p>The broker listens on 127.0.0.1 and knows guest with the password guest. Every row opens
 * connections of its own and names its queues and exchanges anew, so rows do not depend on each
 * other, nor on earlier runs. ../go/table has the same table for RabbitMQ's Go client.
 */
final class Table {
    /** Ends a row that hangs, say because the broker never answers. */
    private static final int ROW_LIMIT_SECONDS = 60;

    /** One behaviour. The check throws {@link Seen} for what it saw instead. */
    private record Row(String name, Check check) {}

    private interface Check {
        void run(Rig rig) throws Exception;
    }

    /**
     * Missing here, but not in Go's table, are the rows with properties, header names and routing
     * keys that are not UTF-8: the client makes them of strings, and so always of valid UTF-8.
     */
    private static final List<Row> ROWS = List.of(
            new Row("queue_ttl_may_be_up_to_ten_years", Expiry::queueTtlMayBeUpToTenYears),
            new Row("queue_expires_may_be_up_to_ten_years", Expiry::queueExpiresMayBeUpToTenYears),
            new Row("expiration_may_be_up_to_ten_years", Expiry::expirationMayBeUpToTenYears),
            new Row("ttl_zero_by_expiration_is_never_got", Expiry::ttlZeroByExpirationIsNeverGot),
            new Row("ttl_zero_by_queue_is_never_got", Expiry::ttlZeroByQueueIsNeverGot),
            new Row("ttl_zero_reaches_a_ready_consumer", Expiry::ttlZeroReachesAReadyConsumer),
            new Row("published_x_death_is_ignored", DeadLetters::publishedXDeathIsIgnored),
            new Row("bcc_stays_hidden_in_dead_letters", DeadLetters::bccStaysHiddenInDeadLetters),
            new Row(
                    "header_text_that_is_not_utf8_passes_unchanged",
                    Topology::headerTextThatIsNotUtf8PassesUnchanged),
            new Row(
                    "line_breaks_in_queue_names_are_stripped",
                    Topology::lineBreaksInQueueNamesAreStripped),
            new Row(
                    "line_breaks_in_exchange_names_are_stripped",
                    Topology::lineBreaksInExchangeNamesAreStripped),
            new Row(
                    "unknown_exchange_type_closes_the_channel_only",
                    Topology::unknownExchangeTypeClosesTheChannelOnly),
            new Row(
                    "headers_exchange_tells_integers_from_floats",
                    Topology::headersExchangeTellsIntegersFromFloats),
            new Row(
                    "headers_exchange_ignores_integer_width",
                    Topology::headersExchangeIgnoresIntegerWidth),
            new Row(
                    "another_consumer_timeout_redeclares",
                    Topology::anotherConsumerTimeoutRedeclares),
            new Row(
                    "deleting_the_consumed_queue_answers_and_cancels",
                    Consumers::deletingTheConsumedQueueAnswersAndCancels),
            new Row(
                    "global_prefetch_holds_back_no_ack_consumers",
                    Consumers::globalPrefetchHoldsBackNoAckConsumers),
            new Row(
                    "void_consumer_priority_is_refused", Consumers::voidConsumerPriorityIsRefused),
            new Row(
                    "consumer_timeout_of_the_consumer_gives_back",
                    Consumers::consumerTimeoutOfTheConsumerGivesBack),
            new Row(
                    "idle_connection_lives_by_heartbeats",
                    Connections::idleConnectionLivesByHeartbeats),
            new Row(
                    "channel_numbers_may_exceed_the_channel_maximum",
                    Connections::channelNumbersMayExceedTheChannelMaximum),
            new Row("purged_id_may_be_published_again", Topology::purgedIdMayBePublishedAgain));

    public static void main(String[] arguments) {
        if (arguments.length != 1) {
            System.err.println("usage: java Table PORT");
            System.exit(2);
        }
        int port = Integer.parseInt(arguments[0]);
        boolean failed = false;
        for (Row row : ROWS) {
            String seen = run(row, port);
            if (seen == null) {
                System.out.println("ok " + row.name);
            } else {
                failed = true;
                // A row is one line, whatever the broker's text contains.
                String line = seen.strip().replaceAll("\\s+", " ");
                System.out.println("FAIL " + row.name + ": " + line);
            }
        }
        // Not by returning: a row that hangs has a thread.
        System.exit(failed ? 1 : 0);
    }

    /** Returns what was seen instead of the behaviour, or null. */
    private static String run(Row row, int port) {
        ExecutorService thread = Executors.newSingleThreadExecutor();
        try (Rig rig = new Rig(port)) {
            Future<?> ended = thread.submit(() -> {
                row.check.run(rig);
                return null;
            });
            ended.get(ROW_LIMIT_SECONDS, TimeUnit.SECONDS);
            return null;
        } catch (TimeoutException late) {
            return "it had not ended after " + ROW_LIMIT_SECONDS + " s";
        } catch (ExecutionException failure) {
            return Seen.text(failure.getCause());
        } catch (InterruptedException interrupted) {
            return "interrupted";
        } finally {
            thread.shutdownNow();
        }
    }
}
