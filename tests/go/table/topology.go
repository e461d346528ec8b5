package main

import (
	"context"
	"fmt"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

const lineBreak = "\r\n"

func lineBreaksInQueueNamesAreStripped(r *rig) {
	c := r.channel()
	stem := r.name("a")
	broken, plain := stem+lineBreak+"b", stem+"b"
	declared, err := c.QueueDeclare(broken, false, false, true, false, nil)
	r.must("declaring", err)
	if declared.Name != plain {
		r.fail("the queue was declared as %q", declared.Name)
	}
	for _, name := range []string{plain, broken} {
		_, err = c.QueueDeclarePassive(name, false, false, true, false, nil)
		r.must(fmt.Sprintf("declaring %q passively", name), err)
	}
	c.bind(broken, plain, "amq.direct", nil)
	c.publish("amq.direct", plain, amqp.Publishing{})
	c.get(plain, true)
	_, err = c.QueueDelete(broken, false, false, false)
	r.must("deleting", err)
	// Deleting what is not there is no error, so only this shows what was deleted.
	_, err = c.QueueDeclarePassive(plain, false, false, true, false, nil)
	c.refused("declaring the deleted queue passively", err, 404, plain)
}

func lineBreaksInExchangeNamesAreStripped(r *rig) {
	c := r.channel()
	declare := func(stem string) (broken, plain string) {
		stem = r.name(stem)
		broken, plain = stem+lineBreak+"b", stem+"b"
		r.must("declaring", c.ExchangeDeclare(broken, "fanout", false, true, false, false, nil))
		for _, name := range []string{plain, broken} {
			err := c.ExchangeDeclarePassive(name, "fanout", false, true, false, false, nil)
			r.must(fmt.Sprintf("declaring %q passively", name), err)
		}
		return broken, plain
	}
	brokenSource, plainSource := declare("source")
	brokenTarget, plainTarget := declare("target")
	queue := c.queue("q", nil)
	r.must("binding exchanges", c.ExchangeBind(brokenTarget, "", brokenSource, false, nil))
	c.bind(queue, "", brokenTarget, nil)
	c.publish(plainSource, "", amqp.Publishing{})
	c.get(queue, true)
	for broken, plain := range map[string]string{brokenSource: plainSource, brokenTarget: plainTarget} {
		r.must("deleting", c.ExchangeDelete(broken, false, false))
		other := c.sibling()
		err := other.ExchangeDeclarePassive(plain, "fanout", false, true, false, false, nil)
		other.refused("declaring the deleted exchange passively", err, 404, plain)
	}
}

func unknownExchangeTypeClosesTheChannelOnly(r *rig) {
	c := r.channel()
	err := c.ExchangeDeclare(r.name("x"), "x-unheard-of", false, true, false, false, nil)
	c.refused("an unknown exchange type", err, 406, "")
}

func headersExchangeTellsIntegersFromFloats(r *rig) {
	headersExchangeRoutes(r, []any{float64(1), float32(1)}, []any{int32(1)})
}

func headersExchangeIgnoresIntegerWidth(r *rig) {
	headersExchangeRoutes(r, nil, []any{int8(1), int16(1), int32(1), int64(1)})
}

// headersExchangeRoutes binds by the 32-bit integer 1 and publishes with each of the values.
func headersExchangeRoutes(r *rig, not, yes []any) {
	c := r.channel()
	queue := c.queue("q", nil)
	exchange := c.exchange("headers", "headers")
	c.bind(queue, "", exchange, amqp.Table{"x-match": "all", "n": int32(1)})
	for _, value := range append(not, yes...) {
		body := []byte(fmt.Sprintf("%T", value))
		c.publish(exchange, "", amqp.Publishing{Headers: amqp.Table{"n": value}, Body: body})
	}
	// In the order of publishing: what should not have come would come first.
	for _, value := range yes {
		expected := fmt.Sprintf("%T", value)
		if got := string(c.get(queue, true).Body); got != expected {
			r.fail("the message with a 1 as %s came instead of the one as %s", got, expected)
		}
	}
}

func anotherConsumerTimeoutRedeclares(r *rig) {
	c := r.channel()
	name := r.name("q")
	for _, timeout := range []any{int32(10000), int32(20000), nil} {
		arguments := amqp.Table{}
		if timeout != nil {
			arguments["x-consumer-timeout"] = timeout
		}
		_, err := c.QueueDeclare(name, false, false, true, false, arguments)
		r.must(fmt.Sprintf("declaring it with %v", arguments), err)
	}
}

// The broker remembers ids of messages whose outcome somebody wants, so as not to do work twice.
// What was purged has not been done.
func purgedIDMayBePublishedAgain(r *rig) {
	c := r.channel()
	answers := c.queue("answers", nil)
	queue := r.name("work")
	r.durable = append(r.durable, queue)
	_, err := c.QueueDeclare(queue, true, false, false, false, nil)
	r.must("declaring a durable queue", err)
	message := amqp.Publishing{
		MessageId:    r.name("p1"),
		DeliveryMode: amqp.Persistent,
		ReplyTo:      answers,
		Headers:      amqp.Table{"x-notify": "all"},
	}
	c.publish("", queue, message)
	purged, err := c.QueuePurge(queue, false)
	r.must("purging", err)
	if purged != 1 {
		r.fail("%d messages were purged", purged)
	}
	c.publish("", queue, message)
	again, err := c.QueueDeclarePassive(queue, true, false, false, false, nil)
	r.must("declaring passively", err)
	if again.Messages != 1 {
		r.fail("%d messages are in the queue after publishing it again", again.Messages)
	}
}

func idleConnectionLivesByHeartbeats(r *rig) {
	const interval = time.Second
	connection := r.connect(amqp.Config{Heartbeat: interval})
	if connection.Config.Heartbeat != interval {
		r.fail("a heartbeat of %v was negotiated", connection.Config.Heartbeat)
	}
	// The client gives up when nothing has come for one and a half intervals; the broker should
	// when nothing comes from the client, which sends one every half interval.
	idle, cancel := context.WithTimeout(context.Background(), 5*interval)
	defer cancel()
	select {
	case reason := <-connection.NotifyClose(make(chan *amqp.Error, 1)):
		r.fail("the idle connection was closed: %v", reason)
	case <-idle.Done():
	}
	r.channelOn(connection).lives()
}
