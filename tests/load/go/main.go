// Command load puts the load of a point of `cargo xtask bench` on a broker, through RabbitMQ's Go
// client with its defaults:
//
//	load PORT POINT SECONDS
//
// prints `{"published": N, "consumed": N, "seconds": S}`. The points are a, b, c and d; d drains what c
// has left behind, and lasts as long as that takes.
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"strconv"
	"sync/atomic"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

const window = 1000

// point is what is published and how it is consumed.
type point struct {
	queue              string
	bytes              int
	publishes, consume bool
	// persistent messages in a durable queue, with confirms and an ack for each
	isSafe bool
}

var points = map[string]point{
	"a": {queue: "load.a", bytes: 16, publishes: true, consume: true},
	"b": {queue: "load.b", bytes: 1024, publishes: true, consume: true, isSafe: true},
	"c": {queue: "load.c", bytes: 1024, publishes: true, isSafe: true},
	"d": {queue: "load.c", bytes: 1024, consume: true, isSafe: true},
}

func must[T any](value T, err error) T {
	check(err)
	return value
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

func open(port string) *amqp.Channel {
	connection := must(amqp.Dial("amqp://guest:guest@127.0.0.1:" + port + "/"))
	return must(connection.Channel())
}

func publish(port string, point point, isOver *atomic.Bool, published *atomic.Int64) {
	channel := open(port)
	mode := amqp.Transient
	var confirms chan amqp.Confirmation
	if point.isSafe {
		mode = amqp.Persistent
		check(channel.Confirm(false))
		confirms = channel.NotifyPublish(make(chan amqp.Confirmation, window))
	}
	body := make([]byte, point.bytes)
	unconfirmed := 0
	for !isOver.Load() {
		for unconfirmed == window {
			<-confirms
			unconfirmed--
		}
		message := amqp.Publishing{DeliveryMode: mode, Body: body}
		check(channel.PublishWithContext(context.Background(), "", point.queue, false, false, message))
		published.Add(1)
		if point.isSafe {
			unconfirmed++
		}
		for len(confirms) > 0 {
			<-confirms
			unconfirmed--
		}
	}
	for ; unconfirmed > 0; unconfirmed-- {
		<-confirms
	}
}

func consume(port string, point point, consumed *atomic.Int64) {
	channel := open(port)
	if point.isSafe {
		check(channel.Qos(200, 0, false))
	}
	deliveries := must(channel.Consume(point.queue, "", !point.isSafe, false, false, false, nil))
	for delivery := range deliveries {
		if point.isSafe {
			check(delivery.Ack(false))
		}
		consumed.Add(1)
	}
}

func main() {
	if len(os.Args) != 4 {
		log.Fatal("load PORT POINT SECONDS")
	}
	port, point := os.Args[1], points[os.Args[2]]
	seconds := must(strconv.Atoi(os.Args[3]))
	control := open(port)
	queue := must(control.QueueDeclare(point.queue, point.isSafe, false, false, false, nil))
	var published, consumed atomic.Int64
	var isOver atomic.Bool
	begin := time.Now()
	if point.consume {
		go consume(port, point, &consumed)
	}
	if point.publishes {
		time.AfterFunc(time.Duration(seconds)*time.Second, func() { isOver.Store(true) })
		publish(port, point, &isOver, &published)
	} else {
		for consumed.Load() < int64(queue.Messages) {
			time.Sleep(time.Millisecond)
		}
	}
	elapsed := time.Since(begin).Seconds()
	fmt.Printf("{\"published\": %d, \"consumed\": %d, \"seconds\": %.3f}\n", published.Load(), consumed.Load(), elapsed)
	if point.consume {
		must(control.QueueDelete(point.queue, false, false, false))
	}
}
