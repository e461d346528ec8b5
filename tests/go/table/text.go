package main

import (
	"bytes"

	amqp "github.com/rabbitmq/amqp091-go"
)

// The protocol's short strings are bytes to a broker, and Go's strings hold any.
const notUTF8 = "\xf0\xff\x01\x02"

func propertiesThatAreNotUTF8PassUnchanged(r *rig) {
	c := r.channel()
	queue := c.queue("bytes", nil)
	c.publish("", queue, amqp.Publishing{
		ContentType:   notUTF8,
		CorrelationId: notUTF8,
		MessageId:     notUTF8,
		Type:          notUTF8,
		AppId:         notUTF8,
	})
	got := c.get(queue, true)
	for name, value := range map[string]string{
		"content type":   got.ContentType,
		"correlation id": got.CorrelationId,
		"message id":     got.MessageId,
		"type":           got.Type,
		"app id":         got.AppId,
	} {
		if value != notUTF8 {
			r.fail("the %s came as %q", name, value)
		}
	}
}

func headerNameThatIsNotUTF8PassesUnchanged(r *rig) {
	headerPassesUnchanged(r, notUTF8, "value")
}

func headerTextThatIsNotUTF8PassesUnchanged(r *rig) {
	headerPassesUnchanged(r, "name", notUTF8)
}

func headerPassesUnchanged(r *rig, name, value string) {
	c := r.channel()
	queue := c.queue("bytes", nil)
	c.publish("", queue, amqp.Publishing{Headers: amqp.Table{name: value}})
	headers := c.get(queue, true).Headers
	if headers[name] != value || len(headers) != 1 {
		r.fail("the headers came as %q", headers)
	}
}

func routingKeyThatIsNotUTF8GoesThroughFanout(r *rig) {
	routingKeyGoesThrough(r, "fanout", "")
}

func routingKeyThatIsNotUTF8GoesThroughTopic(r *rig) {
	routingKeyGoesThrough(r, "topic", "#")
}

func routingKeyGoesThrough(r *rig, kind, pattern string) {
	c := r.channel()
	queue := c.queue("bytes", nil)
	exchange := c.exchange("bytes", kind)
	c.bind(queue, pattern, exchange, nil)
	// The dot makes it two words for a topic exchange.
	key := notUTF8 + "." + notUTF8
	c.publish(exchange, key, amqp.Publishing{Body: []byte(notUTF8)})
	got := c.get(queue, true)
	if got.RoutingKey != key || !bytes.Equal(got.Body, []byte(notUTF8)) {
		r.fail("routing key %q and body %q came", got.RoutingKey, got.Body)
	}
}
