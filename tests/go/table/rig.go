package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

// patience is how long anything that must happen may take.
const patience = 10 * time.Second

// lull is how long nothing comes before a row believes that nothing will.
const lull = 500 * time.Millisecond

// rig is what one row works with: its connections, closed after it.
type rig struct {
	port    uint64
	mutex   sync.Mutex // a row that hangs goes on while it is cleaned up after
	opened  []*amqp.Connection
	durable []string // queues that do not end with their connections
}

// seen is what a row saw instead of what it was looking for.
type seen string

// channel is an open channel that knows why the broker closed it.
type channel struct {
	*amqp.Channel
	rig        *rig
	connection *amqp.Connection
	closes     chan *amqp.Error
	confirming bool
}

// fail ends the row.
func (r *rig) fail(format string, arguments ...any) {
	panic(seen(fmt.Sprintf(format, arguments...)))
}

// must ends the row if what it was doing failed.
func (r *rig) must(doing string, err error) {
	if err != nil {
		r.fail("%s: %v", doing, err)
	}
}

var count atomic.Uint64

// name returns a name that no other row uses, in this or an earlier run.
func (r *rig) name(stem string) string {
	return fmt.Sprintf("table-go-%x-%d-%s", time.Now().UnixMicro(), count.Add(1), stem)
}

// connect opens a connection with the client's defaults except for what config says.
func (r *rig) connect(config amqp.Config) *amqp.Connection {
	config.Locale = "en_US"
	url := fmt.Sprintf("amqp://guest:guest@127.0.0.1:%d", r.port)
	connection, err := amqp.DialConfig(url, config)
	r.must("connecting", err)
	r.mutex.Lock()
	defer r.mutex.Unlock()
	r.opened = append(r.opened, connection)
	return connection
}

// channel opens a channel on a connection of its own.
func (r *rig) channel() *channel {
	return r.channelOn(r.connect(amqp.Config{}))
}

func (r *rig) channelOn(connection *amqp.Connection) *channel {
	opened, err := connection.Channel()
	r.must("opening a channel", err)
	// Room for one, so that the client need not wait until somebody asks.
	closes := opened.NotifyClose(make(chan *amqp.Error, 1))
	return &channel{Channel: opened, rig: r, connection: connection, closes: closes}
}

// close ends all that the row has opened.
func (r *rig) close() {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	for _, connection := range r.opened {
		// One that the broker has closed cannot be closed again.
		_ = connection.CloseDeadline(time.Now().Add(2 * time.Second))
	}
	if len(r.durable) == 0 {
		return
	}
	connection, err := amqp.Dial(fmt.Sprintf("amqp://guest:guest@127.0.0.1:%d", r.port))
	if err != nil {
		return
	}
	defer connection.Close()
	if opened, err := connection.Channel(); err == nil {
		for _, queue := range r.durable {
			_, _ = opened.QueueDelete(queue, false, false, false)
		}
	}
}

// sibling opens another channel on the same connection.
func (c *channel) sibling() *channel {
	return c.rig.channelOn(c.connection)
}

// queue declares an exclusive queue with a new name and returns that.
func (c *channel) queue(stem string, arguments amqp.Table) string {
	name := c.rig.name(stem)
	_, err := c.QueueDeclare(name, false, false, true, false, arguments)
	c.rig.must(fmt.Sprintf("declaring a queue with %v", arguments), err)
	return name
}

// exchange declares an exchange with a new name, which ends with the last binding from it.
func (c *channel) exchange(stem, kind string) string {
	name := c.rig.name(stem)
	c.rig.must("declaring a "+kind+" exchange", c.ExchangeDeclare(name, kind, false, true, false, false, nil))
	return name
}

func (c *channel) bind(queue, key, exchange string, arguments amqp.Table) {
	c.rig.must("binding", c.QueueBind(queue, key, exchange, false, arguments))
}

// send publishes and does not wait for anything.
func (c *channel) send(exchange, key string, message amqp.Publishing) {
	err := c.PublishWithContext(context.Background(), exchange, key, false, false, message)
	c.rig.must("publishing", err)
}

// publish waits for the confirm: the message is where it belongs.
func (c *channel) publish(exchange, key string, message amqp.Publishing) {
	if !c.confirming {
		c.rig.must("selecting confirms", c.Confirm(false))
		c.confirming = true
	}
	limit, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	confirm, err := c.PublishWithDeferredConfirmWithContext(limit, exchange, key, false, false, message)
	c.rig.must("publishing", err)
	acked, err := confirm.WaitContext(limit)
	c.rig.must("waiting for the confirm", err)
	if acked {
		return
	}
	// The client takes a closed channel for a nack.
	select {
	case reason := <-c.closes:
		c.rig.fail("publishing closed the channel: %v", reason)
	case <-time.After(lull):
		c.rig.fail("the broker nacked the message")
	}
}

// get returns a message that must be in the queue by now or soon.
func (c *channel) get(queue string, noAck bool) amqp.Delivery {
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		message, ok, err := c.Get(queue, noAck)
		c.rig.must("getting", err)
		if ok {
			return message
		}
	}
	c.rig.fail("no message came to the queue %s", queue)
	panic("unreachable")
}

// consume returns the deliveries of a new consumer with the given tag.
func (c *channel) consume(queue, tag string, noAck bool, arguments amqp.Table) <-chan amqp.Delivery {
	deliveries, err := c.Consume(queue, tag, noAck, false, false, false, arguments)
	c.rig.must("consuming", err)
	return deliveries
}

// next returns a delivery that must come.
func (c *channel) next(deliveries <-chan amqp.Delivery, what string) amqp.Delivery {
	select {
	case delivery, ok := <-deliveries:
		if !ok {
			c.rig.fail("the consumer ended before %s came", what)
		}
		return delivery
	case <-time.After(patience):
		c.rig.fail("%s did not come", what)
		panic("unreachable")
	}
}

// lives checks that the connection still does its work.
func (c *channel) lives() {
	other := c.sibling()
	other.queue("alive", nil)
	c.rig.must("closing a channel", other.Close())
}

// refused checks that a call has closed its channel, and no more, with code and a text that
// contains part.
func (c *channel) refused(what string, err error, code int, part string) {
	var refusal *amqp.Error
	if !errors.As(err, &refusal) {
		c.rig.fail("%s was not refused but answered with: %v", what, err)
	}
	if refusal.Code != code || !strings.Contains(refusal.Reason, part) {
		c.rig.fail("%s was refused with: %v", what, refusal)
	}
	if !c.IsClosed() {
		c.rig.fail("%s left the channel open", what)
	}
	c.lives()
}

// refusedLater does the same after something that has no answer, such as publishing.
func (c *channel) refusedLater(what string, code int, part string) {
	select {
	case reason := <-c.closes:
		c.refused(what, reason, code, part)
	case <-time.After(patience):
		c.rig.fail("%s was not refused", what)
	}
}
