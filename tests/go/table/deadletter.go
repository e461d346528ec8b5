package main

import (
	"fmt"
	"slices"

	amqp "github.com/rabbitmq/amqp091-go"
)

// A worker that gives its work back with a copy of the headers must not make it look as if it had
// died more often than it has, or as if it went round in circles.
func publishedXDeathIsIgnored(r *rig) {
	c := r.channel()
	last := c.queue("c", nil)
	second := c.queue("b", expiring(last))
	first := c.queue("a", expiring(second))
	deliveries := c.consume(last, "", true, nil)
	expected := []string{second + " expired 1", first + " expired 1"}
	headers := amqp.Table{}
	for round := 1; round <= 3; round++ {
		c.publish("", first, amqp.Publishing{Headers: headers})
		headers = c.next(deliveries, fmt.Sprintf("the message in round %d", round)).Headers
		if got := deaths(r, headers); !slices.Equal(got, expected) {
			r.fail("in round %d x-death had %v instead of %v", round, got, expected)
		}
	}
}

// expiring are the arguments of a queue whose messages soon go on to another.
func expiring(next string) amqp.Table {
	return amqp.Table{
		"x-message-ttl":             int32(50),
		"x-dead-letter-exchange":    "",
		"x-dead-letter-routing-key": next,
	}
}

// deaths returns each entry of x-death as its queue, reason and count.
func deaths(r *rig, headers amqp.Table) []string {
	var deaths []string
	for _, entry := range deathEntries(r, headers) {
		deaths = append(deaths, fmt.Sprintf("%v %v %v", entry["queue"], entry["reason"], entry["count"]))
	}
	return deaths
}

func deathEntries(r *rig, headers amqp.Table) []amqp.Table {
	list, ok := headers["x-death"].([]any)
	if !ok {
		r.fail("x-death was %v", headers["x-death"])
	}
	var entries []amqp.Table
	for _, entry := range list {
		table, ok := entry.(amqp.Table)
		if !ok {
			r.fail("an entry of x-death was %v", entry)
		}
		entries = append(entries, table)
	}
	return entries
}

// The dead letter goes wherever the message went, but who was in BCC remains nobody's business.
func bccStaysHiddenInDeadLetters(r *rig) {
	c := r.channel()
	exchange := c.exchange("dlx", "direct")
	queue := c.queue("q", amqp.Table{"x-dead-letter-exchange": exchange})
	// Published to the default exchange, where no queue has these names.
	open, hidden := r.name("open"), r.name("hidden")
	receivers := make(map[string]string)
	for name, key := range map[string]string{"q": queue, "open": open, "hidden": hidden} {
		receivers[name] = c.queue("receiver-of-"+name, nil)
		c.bind(receivers[name], key, exchange, nil)
	}
	c.publish("", queue, amqp.Publishing{Headers: amqp.Table{"CC": []any{open}, "BCC": []any{hidden}}})
	rejected := c.get(queue, false)
	if bcc, there := rejected.Headers["BCC"]; there {
		r.fail("before it died, the message had BCC %v", bcc)
	}
	r.must("rejecting", rejected.Reject(false))
	for name, receiver := range receivers {
		headers := c.get(receiver, true).Headers
		if bcc, there := headers["BCC"]; there {
			r.fail("the receiver bound by %s saw BCC %v", name, bcc)
		}
		for _, entry := range deathEntries(r, headers) {
			keys, _ := entry["routing-keys"].([]any)
			if !slices.Contains(keys, any(queue)) || slices.Contains(keys, any(hidden)) {
				r.fail("the receiver bound by %s saw the routing keys %v", name, keys)
			}
		}
	}
}
