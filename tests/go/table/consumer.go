package main

import (
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

// In which order the two come on the wire, the client does not tell.
func deletingTheConsumedQueueAnswersAndCancels(r *rig) {
	c := r.channel()
	queue := c.queue("q", nil)
	cancels := c.NotifyCancel(make(chan string, 1))
	deliveries := c.consume(queue, "tag", false, nil)
	_, err := c.QueueDelete(queue, false, false, false)
	r.must("deleting", err)
	select {
	case tag := <-cancels:
		if tag != "tag" {
			r.fail("consumer %q was cancelled", tag)
		}
	case <-time.After(patience):
		r.fail("the consumer was not told")
	}
	if delivery, ok := <-deliveries; ok {
		r.fail("the cancelled consumer got %q", delivery.Body)
	}
	// The channel goes on.
	c.queue("after", nil)
}

func globalPrefetchHoldsBackNoAckConsumers(r *rig) {
	c := r.channel()
	acking, noAck := c.queue("acking", nil), c.queue("no-ack", nil)
	r.must("setting the prefetch", c.Qos(1, 0, true))
	ackingDeliveries := c.consume(acking, "acking", false, nil)
	c.publish("", acking, amqp.Publishing{})
	held := c.next(ackingDeliveries, "the delivery to be held")
	noAckDeliveries := c.consume(noAck, "no-ack", true, nil)
	c.publish("", noAck, amqp.Publishing{})
	select {
	case <-noAckDeliveries:
		r.fail("the no-ack consumer got its message while the channel was full")
	case <-time.After(lull):
	}
	r.must("acking", held.Ack(false))
	c.next(noAckDeliveries, "the no-ack consumer's message, once there was room,")
}

func voidConsumerPriorityIsRefused(r *rig) {
	c := r.channel()
	queue := c.queue("q", nil)
	_, err := c.Consume(queue, "", true, false, false, false, amqp.Table{"x-priority": nil})
	c.refused("a priority of type void", err, 406, "")
}

// What becomes of the channel that was too slow differs between brokers; only that somebody else
// gets the message is looked at.
func consumerTimeoutOfTheConsumerGivesBack(r *rig) {
	slow, other := r.channel(), r.channel()
	queue := r.name("q")
	// Not exclusive, for there are two connections; it ends with its consumers.
	_, err := slow.QueueDeclare(queue, false, true, false, false, nil)
	r.must("declaring", err)
	slowDeliveries := slow.consume(queue, "slow", false, amqp.Table{"x-consumer-timeout": int32(1000)})
	slow.publish("", queue, amqp.Publishing{})
	slow.next(slowDeliveries, "the delivery to be kept")
	// Its priority makes sure that the message does not come back to the slow one.
	deliveries := other.consume(queue, "other", false, amqp.Table{"x-priority": int32(1)})
	delivery := other.next(deliveries, "the delivery that was kept for too long")
	if !delivery.Redelivered {
		r.fail("it came to the other consumer without the mark that it was redelivered")
	}
	r.must("acking", delivery.Ack(false))
}
