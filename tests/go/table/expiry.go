package main

import (
	"strconv"

	amqp "github.com/rabbitmq/amqp091-go"
)

// One more than fits into 32 bits, four years and some, and the longest: ten years.
var longTimes = []int64{4294967296, 134217728000, 315360000000}

const tooLong int64 = 315360000001

func queueTTLMayBeUpToTenYears(r *rig) {
	queueArgumentMayBeUpToTenYears(r, "x-message-ttl")
}

func queueExpiresMayBeUpToTenYears(r *rig) {
	queueArgumentMayBeUpToTenYears(r, "x-expires")
}

func queueArgumentMayBeUpToTenYears(r *rig, argument string) {
	c := r.channel()
	for _, time := range longTimes {
		queue := c.queue("long", amqp.Table{argument: time})
		// The first, cut down to 32 bits, would be no time at all.
		c.publish("", queue, amqp.Publishing{Body: []byte("patient")})
		c.get(queue, true)
	}
	_, err := c.QueueDeclare(r.name("too-long"), false, false, true, false, amqp.Table{argument: tooLong})
	c.refused(argument+" of more than ten years", err, 406, "value_too_large")
}

func expirationMayBeUpToTenYears(r *rig) {
	c := r.channel()
	queue := c.queue("long", nil)
	for _, time := range longTimes {
		expiration := strconv.FormatInt(time, 10)
		c.publish("", queue, amqp.Publishing{Expiration: expiration})
		if got := c.get(queue, true).Expiration; got != expiration {
			r.fail("expiration %s came as %q", expiration, got)
		}
	}
	c.send("", queue, amqp.Publishing{Expiration: strconv.FormatInt(tooLong, 10)})
	c.refusedLater("expiration of more than ten years", 406, "value_too_large")
}

// ephemeralCount is how many messages are given no time at all.
const ephemeralCount = 100

func ttlZeroByExpirationIsNeverGot(r *rig) {
	c := r.channel()
	neverGot(c, c.queue("ephemeral", nil), amqp.Publishing{Expiration: "0"})
}

func ttlZeroByQueueIsNeverGot(r *rig) {
	c := r.channel()
	neverGot(c, c.queue("ephemeral", amqp.Table{"x-message-ttl": int32(0)}), amqp.Publishing{})
}

// neverGot gets right behind each message, without waiting for its confirm: what arrives in the
// same millisecond is too late, too.
func neverGot(c *channel, queue string, message amqp.Publishing) {
	got := 0
	for range ephemeralCount {
		c.send("", queue, message)
		_, ok, err := c.Get(queue, true)
		c.rig.must("getting", err)
		if ok {
			got++
		}
	}
	if got > 0 {
		c.rig.fail("%d of %d messages were got", got, ephemeralCount)
	}
}

func ttlZeroReachesAReadyConsumer(r *rig) {
	c := r.channel()
	byExpiration := c.queue("ephemeral", nil)
	byQueue := c.queue("ephemeral", amqp.Table{"x-message-ttl": int32(0)})
	for queue, message := range map[string]amqp.Publishing{
		byExpiration: {Expiration: "0"},
		byQueue:      {},
	} {
		deliveries := c.consume(queue, "", true, nil)
		for range ephemeralCount {
			c.send("", queue, message)
		}
		for n := 1; n <= ephemeralCount; n++ {
			c.next(deliveries, "message "+strconv.Itoa(n)+" with "+message.Expiration+" as expiration")
		}
	}
}
