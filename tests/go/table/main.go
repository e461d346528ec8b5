// Command table drives RabbitMQ's Go client over a table of behaviours, each a row with a name, and
// tells which of them the broker shows:
//
//	table PORT
//
// prints `ok NAME` or `FAIL NAME: what was seen` for each row and exits with 1 if one failed. The
// broker listens on 127.0.0.1 and knows guest with the password guest. Every row opens connections
// of its own and names its queues and exchanges anew, so rows do not depend on each other, nor on
// earlier runs. ../../java has the same table for RabbitMQ's Java client.
package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// rowLimit ends a row that hangs, say because the broker never answers.
const rowLimit = 60 * time.Second

// row is one behaviour; check panics with what it saw instead, see [rig.fail].
type row struct {
	name  string
	check func(*rig)
}

// One row of Java's table is missing: channel_numbers_may_exceed_the_channel_maximum. This client
// numbers channels itself, never above the negotiated maximum.
var table = []row{
	{"queue_ttl_may_be_up_to_ten_years", queueTTLMayBeUpToTenYears},
	{"queue_expires_may_be_up_to_ten_years", queueExpiresMayBeUpToTenYears},
	{"expiration_may_be_up_to_ten_years", expirationMayBeUpToTenYears},
	{"ttl_zero_by_expiration_is_never_got", ttlZeroByExpirationIsNeverGot},
	{"ttl_zero_by_queue_is_never_got", ttlZeroByQueueIsNeverGot},
	{"ttl_zero_reaches_a_ready_consumer", ttlZeroReachesAReadyConsumer},
	{"published_x_death_is_ignored", publishedXDeathIsIgnored},
	{"bcc_stays_hidden_in_dead_letters", bccStaysHiddenInDeadLetters},
	{"properties_that_are_not_utf8_pass_unchanged", propertiesThatAreNotUTF8PassUnchanged},
	{"header_name_that_is_not_utf8_passes_unchanged", headerNameThatIsNotUTF8PassesUnchanged},
	{"header_text_that_is_not_utf8_passes_unchanged", headerTextThatIsNotUTF8PassesUnchanged},
	{"routing_key_that_is_not_utf8_goes_through_fanout", routingKeyThatIsNotUTF8GoesThroughFanout},
	{"routing_key_that_is_not_utf8_goes_through_topic", routingKeyThatIsNotUTF8GoesThroughTopic},
	{"line_breaks_in_queue_names_are_stripped", lineBreaksInQueueNamesAreStripped},
	{"line_breaks_in_exchange_names_are_stripped", lineBreaksInExchangeNamesAreStripped},
	{"unknown_exchange_type_closes_the_channel_only", unknownExchangeTypeClosesTheChannelOnly},
	{"headers_exchange_tells_integers_from_floats", headersExchangeTellsIntegersFromFloats},
	{"headers_exchange_ignores_integer_width", headersExchangeIgnoresIntegerWidth},
	{"another_consumer_timeout_redeclares", anotherConsumerTimeoutRedeclares},
	{"deleting_the_consumed_queue_answers_and_cancels", deletingTheConsumedQueueAnswersAndCancels},
	{"global_prefetch_holds_back_no_ack_consumers", globalPrefetchHoldsBackNoAckConsumers},
	{"void_consumer_priority_is_refused", voidConsumerPriorityIsRefused},
	{"consumer_timeout_of_the_consumer_gives_back", consumerTimeoutOfTheConsumerGivesBack},
	{"idle_connection_lives_by_heartbeats", idleConnectionLivesByHeartbeats},
	{"purged_id_may_be_published_again", purgedIDMayBePublishedAgain},
}

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: table PORT")
		os.Exit(2)
	}
	port, err := strconv.ParseUint(os.Args[1], 10, 16)
	if err != nil {
		fmt.Fprintf(os.Stderr, "not a port: %s\n", os.Args[1])
		os.Exit(2)
	}
	failed := false
	for _, row := range table {
		if seen := row.run(port); seen != "" {
			failed = true
			// A row is one line, whatever the broker's text contains.
			fmt.Printf("FAIL %s: %s\n", row.name, strings.Join(strings.Fields(seen), " "))
		} else {
			fmt.Println("ok", row.name)
		}
	}
	if failed {
		os.Exit(1)
	}
}

// run returns what was seen instead of the behaviour, or nothing.
func (row row) run(port uint64) string {
	r := &rig{port: port}
	defer r.close()
	ended := make(chan string, 1)
	go func() {
		defer func() {
			switch problem := recover().(type) {
			case nil:
				ended <- ""
			case seen:
				ended <- string(problem)
			default:
				ended <- fmt.Sprintf("the row itself failed: %v", problem)
			}
		}()
		row.check(r)
	}()
	select {
	case seen := <-ended:
		return seen
	case <-time.After(rowLimit):
		return fmt.Sprintf("it had not ended after %v", rowLimit)
	}
}
