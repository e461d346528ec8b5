//! A broker just large enough: one queue `q`, confirms, deliveries, and channels that close on errors.

use std::collections::{BTreeMap, HashMap, VecDeque};

use amqp::{BStr, FieldTable, Frame, FrameKind, Method, Properties, write_method};

#[derive(Default)]
pub(super) struct Peer {
    input: Vec<u8>,
    output: Vec<u8>,
    /// All that was ever said to the link on the first socket.
    pub(super) transcript: Vec<u8>,
    has_greeted: bool,
    channels: BTreeMap<u16, Channel>,
    /// Ready messages: id and body.
    ready: VecDeque<(String, Vec<u8>)>,
    stored: HashMap<String, usize>,
    acked: HashMap<String, usize>,
    order: Vec<String>,
    received_bytes: usize,
    sent_bytes: usize,
    pub(super) confirms: bool,
    /// Whether the queue is gone.
    pub(super) lacks_queue: bool,
    sockets: usize,
}

#[derive(Default)]
struct Channel {
    publishing: Option<(String, Vec<u8>, u64, Vec<u8>)>,
    published: u64,
    prefetch: u16,
    consumes: bool,
    delivered: u64,
    unsettled: BTreeMap<u64, (String, Vec<u8>)>,
}

impl Peer {
    pub(super) fn connected(&mut self) {
        if self.sockets == 0 {
            self.confirms = true;
        }
        self.sockets += 1;
        self.has_greeted = false;
    }

    /// What was not settled is ready again, in its place.
    pub(super) fn disconnected(&mut self) {
        self.input.clear();
        self.output.clear();
        for (_, channel) in std::mem::take(&mut self.channels) {
            channel.unsettled.into_values().rev().for_each(|it| self.ready.push_front(it));
        }
    }

    pub(super) fn unsettled(&self) -> usize {
        let held = self.channels.values().map(|channel| channel.unsettled.len()).sum::<usize>();
        held + self.ready.len()
    }

    pub(super) fn stored(&self, id: &str) -> usize {
        self.stored.get(id).copied().unwrap_or(0)
    }

    pub(super) fn acked(&self, id: &str) -> usize {
        self.acked.get(id).copied().unwrap_or(0)
    }

    pub(super) fn order(&self) -> &[String] {
        &self.order
    }

    pub(super) fn bytes(&self) -> (usize, usize) {
        (self.received_bytes, self.sent_bytes)
    }

    pub(super) fn take_output(&mut self) -> Vec<u8> {
        self.deliver();
        self.sent_bytes += self.output.len();
        if self.sockets == 1 {
            self.transcript.extend_from_slice(&self.output);
        }
        std::mem::take(&mut self.output)
    }

    pub(super) fn received(&mut self, bytes: &[u8]) {
        self.received_bytes += bytes.len();
        self.input.extend_from_slice(bytes);
        if !self.has_greeted {
            if self.input.len() < 8 {
                return;
            }
            assert_eq!(self.input[..8], amqp::PROTOCOL_HEADER);
            self.input.drain(..8);
            self.has_greeted = true;
            let start = amqp::ConnectionStart {
                version_major: 0,
                version_minor: 9,
                server_properties: FieldTable::new(),
                mechanisms: b"PLAIN",
                locales: b"en_US",
            };
            self.say(0, start);
        }
        let input = std::mem::take(&mut self.input);
        let mut taken = 0;
        while let Some((frame, bytes)) =
            amqp::decode_frame(&input[taken..], 0).expect("the link speaks AMQP")
        {
            taken += bytes;
            self.frame(frame);
        }
        self.input = input[taken..].to_vec();
    }

    fn say<'m>(&mut self, channel: u16, method: impl Into<Method<'m>>) {
        write_method(&mut self.output, channel, &method.into());
    }

    fn frame(&mut self, frame: Frame<'_>) {
        let number = frame.channel;
        match frame.kind {
            FrameKind::Heartbeat => {}
            FrameKind::Method => {
                let method = Method::decode(frame.payload).expect("the link speaks AMQP");
                self.method(number, &method);
            }
            FrameKind::Header => {
                let header = amqp::decode_content_header(frame.payload).expect("a header");
                let Some(channel) = self.channels.get_mut(&number) else { return };
                let Some((_, properties, size, _)) = &mut channel.publishing else { return };
                *properties = header.properties.to_vec();
                *size = header.body_size;
                if header.body_size == 0 {
                    self.publish(number);
                }
            }
            FrameKind::Body => {
                let Some(channel) = self.channels.get_mut(&number) else { return };
                let Some((_, _, size, body)) = &mut channel.publishing else { return };
                body.extend_from_slice(frame.payload);
                if body.len() as u64 == *size {
                    self.publish(number);
                }
            }
        }
    }

    fn method(&mut self, number: u16, method: &Method<'_>) {
        match method {
            Method::ConnectionStartOk(_) => {
                self.say(
                    0,
                    amqp::ConnectionTune { channel_max: 100, frame_max: 4096, heartbeat: 1 },
                );
            }
            Method::ConnectionOpen(_) => self.say(0, amqp::ConnectionOpenOk {}),
            Method::ChannelOpen(_) => {
                let before = self.channels.insert(number, Channel::default());
                assert!(before.is_none(), "channel {number} is opened twice");
                self.say(number, amqp::ChannelOpenOk {});
            }
            Method::ConfirmSelect(_) => self.say(number, amqp::ConfirmSelectOk {}),
            Method::BasicQos(qos) => {
                if let Some(channel) = self.channels.get_mut(&number) {
                    channel.prefetch = qos.prefetch_count;
                    self.say(number, amqp::BasicQosOk {});
                }
            }
            Method::BasicConsume(consume) if consume.queue != "q" || self.lacks_queue => {
                self.refuse(number, 404);
            }
            Method::BasicConsume(consume) => {
                if let Some(channel) = self.channels.get_mut(&number) {
                    channel.consumes = true;
                    self.say(number, amqp::BasicConsumeOk { consumer_tag: consume.consumer_tag });
                }
            }
            Method::QueueDeclare(declare) if declare.queue != "q" => self.refuse(number, 404),
            Method::QueueDeclare(_) => {
                self.say(number, amqp::QueueDeclareOk { queue: "q", ..Default::default() });
            }
            Method::BasicPublish(publish) => {
                if let Some(channel) = self.channels.get_mut(&number) {
                    let key = publish.routing_key.to_string();
                    channel.publishing = Some((key, Vec::new(), 0, Vec::new()));
                }
            }
            Method::BasicAck(ack) => {
                let channel = self.channels.get_mut(&number).expect("an open channel");
                let (id, _) = channel.unsettled.remove(&ack.delivery_tag).expect("a known tag");
                *self.acked.entry(id).or_default() += 1;
            }
            Method::ChannelClose(_) => {
                if let Some(channel) = self.channels.remove(&number) {
                    channel.unsettled.into_values().rev().for_each(|it| self.ready.push_front(it));
                }
                self.say(number, amqp::ChannelCloseOk {});
            }
            Method::ConnectionTuneOk(_) | Method::ChannelCloseOk(_) => {}
            other => panic!("the link says {}", other.name()),
        }
    }

    /// Closes a channel because of an error: what comes on it is ignored until it is opened again.
    fn refuse(&mut self, number: u16, reply_code: u16) {
        self.close(number, reply_code, "no");
    }

    fn close(&mut self, number: u16, reply_code: u16, reply_text: &str) {
        if let Some(channel) = self.channels.remove(&number) {
            channel.unsettled.into_values().rev().for_each(|it| self.ready.push_front(it));
            let close = amqp::ChannelClose { reply_code, reply_text, ..Default::default() };
            self.say(number, close);
        }
    }

    /// Closes all channels on which deliveries are unsettled, as RabbitMQ does after half an hour.
    pub(super) fn time_out(&mut self) {
        let holding = self.channels.iter().filter(|(_, channel)| !channel.unsettled.is_empty());
        let numbers: Vec<u16> = holding.map(|(number, _)| *number).collect();
        for number in numbers {
            let text = "PRECONDITION_FAILED - delivery acknowledgement on channel 3 timed out";
            self.close(number, 406, text);
        }
    }

    fn publish(&mut self, number: u16) {
        let Some(channel) = self.channels.get_mut(&number) else { return };
        let Some((key, properties, _, body)) = channel.publishing.take() else { return };
        if key == "forbidden" {
            return self.refuse(number, 403);
        }
        channel.published += 1;
        let delivery_tag = channel.published;
        if key == "q" {
            let decoded = Properties::decode(&properties).expect("properties");
            let id = decoded.message_id.map(BStr::to_string).expect("an id");
            *self.stored.entry(id.clone()).or_default() += 1;
            self.order.push(id.clone());
            self.ready.push_back((id, body));
        } else {
            let returned = amqp::BasicReturn {
                reply_code: 312,
                reply_text: "NO_ROUTE",
                exchange: "",
                routing_key: BStr::new(&key),
            };
            self.say(number, returned);
            amqp::write_content_header(&mut self.output, number, body.len() as u64, &properties);
            amqp::write_body(&mut self.output, number, &body, 4096);
        }
        if self.confirms {
            // Whether one by one or all up to here, in turn.
            let multiple = delivery_tag % 2 == 0;
            self.say(number, amqp::BasicAck { delivery_tag, multiple });
        }
    }

    fn deliver(&mut self) {
        for (number, channel) in &mut self.channels {
            while channel.consumes && channel.unsettled.len() < usize::from(channel.prefetch) {
                let Some((id, body)) = self.ready.pop_front() else { return };
                channel.delivered += 1;
                let mut properties = Vec::new();
                Properties { message_id: Some(id.as_str().into()), ..Properties::default() }
                    .encode(&mut properties);
                let method = amqp::BasicDeliver {
                    consumer_tag: "wilco",
                    delivery_tag: channel.delivered,
                    redelivered: false,
                    exchange: "",
                    routing_key: "q".into(),
                };
                let delivery = amqp::Delivery { method, properties: &properties, body: &body };
                amqp::write_deliver(&mut self.output, *number, &delivery, 4096);
                channel.unsettled.insert(channel.delivered, (id, body));
            }
        }
    }
}
