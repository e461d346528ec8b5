"""Another program at the same broker: a producer or a worker, with python-qpid-proton or stomp.py.

    peer.py proton|stomp produce|work HOST PORT QUEUE

It says a line of JSON for each thing that it gets, and "ready" when it can get something.
"""

import json
import sys
import threading
import time

PATIENCE = 30


def say(**what):
    print(json.dumps(what, default=str), flush=True)


def proton(role, host, port, queue):
    from proton import Message, symbol
    from proton.reactor import LinkOption
    from proton.utils import BlockingConnection

    class Queue(LinkOption):
        """Has Artemis make a queue, and no topic."""

        def apply(self, link):
            node = link.source if link.is_receiver else link.target
            node.capabilities.put_object(symbol("queue"))

    connection = BlockingConnection(f"amqp://admin:admin@{host}:{port}", timeout=PATIENCE)
    if role == "work":
        receiver = connection.create_receiver(queue, credit=1, options=Queue())
        print("ready", flush=True)
        message = receiver.receive()
        receiver.accept()
        say(
            id=message.id, body=bytes(message.body).decode(), content_type=str(message.content_type),
            reply_to=message.reply_to, durable=message.durable, headers=message.properties,
        )
    else:
        # A queue that the broker makes for it, and that is gone with the connection.
        receiver = connection.create_receiver(None, credit=10, dynamic=True)
        answers = receiver.link.remote_source.address
        sender = connection.create_sender(queue, options=Queue())
        sender.send(Message(
            id="job-1", correlation_id="mine", reply_to=answers, body='"seven cups"', durable=True,
            content_type="application/json", properties={
                "x-notify": "all", "colour": "red", "count": 3, "x-published-at": int(time.time() * 1000),
                "x-deadline": 60000,
            },
        ))
        while True:
            message = receiver.receive()
            receiver.accept()
            say(
                subject=message.subject, correlation_id=message.correlation_id,
                body=bytes(message.body).decode(), content_type=str(message.content_type),
                headers=message.properties,
            )
            if message.subject == "outcome":
                break
    connection.close()


def stomp_(role, host, port, queue):
    import stomp

    # Artemis has names as they are, and Classic has this before those of queues.
    is_classic = host != "127.0.0.1"
    address = f"/queue/{queue}" if is_classic else queue
    got = threading.Event()

    class Listener(stomp.ConnectionListener):
        def on_message(self, frame):
            if role == "work" and not is_classic:
                connection.ack(frame.headers["ack"])
            say(body=frame.body, headers=frame.headers)
            if role == "work" or frame.headers.get("x-outcome"):
                got.set()

        def on_error(self, frame):
            say(error=frame.body, headers=frame.headers)
            got.set()

    connection = stomp.Connection12([(host, int(port))])
    connection.set_listener("", Listener())
    connection.connect("admin", "admin", wait=True)
    anycast = {} if is_classic else {"subscription-type": "ANYCAST"}
    if role == "work":
        # To Classic, an ack is of no message if AMQP's client has given that its id.
        ack = "auto" if is_classic else "client-individual"
        connection.subscribe(address, id="1", ack=ack, headers=anycast)
        print("ready", flush=True)
    else:
        answers = f"{address}.answers"
        connection.subscribe(answers, id="1", ack="auto", headers=anycast)
        connection.send(address, '"seven cups"', content_type="application/json", headers={
            "persistent": "true", "reply-to": answers, "correlation-id": "mine", "x-message-id": "job-1",
            "x-notify": "all", "colour": "red", "x-published-at": str(int(time.time() * 1000)),
            "x-deadline": "60000", **({} if is_classic else {"destination-type": "ANYCAST"}),
        })
    if not got.wait(PATIENCE):
        say(error="nothing has come")
    connection.disconnect()


{"proton": proton, "stomp": stomp_}[sys.argv[1]](*sys.argv[2:])
