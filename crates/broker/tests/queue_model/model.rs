//! A queue written without a thought for speed: one list of messages, each with its stage, searched
//! from the front for every question.

use broker::Position;
use broker::queue::{ConsumerSettings, Published, Settings, Settlement};
use outcome::Reason;

use broker::arguments::Overflow;

/// How many deliveries may wait to be dispatched.
const OUTGOING_MAX: usize = 512;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    Ready,
    /// With the one delivery that may settle it, and when it times out.
    Unsettled {
        delivery: u64,
        consumer: Option<usize>,
        deadline_ms: Option<u64>,
    },
    /// Waits for its next attempt until then.
    Delayed {
        until_ms: u64,
    },
    Removed(Reason),
}

#[derive(Debug, Clone)]
pub(crate) struct Message {
    pub level: u8,
    pub body_bytes: u64,
    /// The memory its body takes, if it is kept there.
    pub memory_bytes: Option<u64>,
    pub position: Option<Position>,
    pub expires_at_ms: Option<u64>,
    pub attempts: u16,
    pub redelivered: bool,
    pub is_tracked: bool,
    pub deadline_at_ms: Option<u64>,
    pub missed_deadline: bool,
    pub stage: Stage,
}

/// A message that left.
#[derive(Debug)]
pub(crate) struct Gone {
    pub message: usize,
    pub reason: Reason,
    pub is_sent_on: bool,
    /// Whether somebody settled it, who is named if it is tracked.
    pub has_settler: bool,
}

#[derive(Debug)]
pub(crate) struct Consumer {
    pub settings: ConsumerSettings,
    pub is_there: bool,
    /// How many more messages its endpoint takes.
    pub room: u32,
}

/// What a delivery looks like from outside.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Delivered {
    pub message: usize,
    pub delivery: u64,
    pub consumer: Option<usize>,
    pub redelivered: bool,
    pub attempts_before: u16,
    pub settle_after: bool,
}

#[derive(Debug)]
pub(crate) struct Model {
    pub settings: Settings,
    pub messages: Vec<Message>,
    pub consumers: Vec<Consumer>,
    pub active: Option<usize>,
    pub outgoing: Vec<Delivered>,
    /// What left, in order.
    pub removed: Vec<Gone>,
    /// Tracked messages that were given back, their attempts, and when the next one can be.
    pub requeued: Vec<(usize, u16, u64)>,
    /// Messages whose deadline passed, and their attempts.
    pub missed: Vec<(usize, u16)>,
    /// Attempts to be logged: position and count.
    pub attempts: Vec<(u64, u16)>,
    /// Consumers that are believed to have room, in the order of their turns.
    line: Vec<usize>,
    last_used_ms: u64,
    next_delivery: u64,
}

impl Model {
    pub(crate) fn new(settings: Settings, now_ms: u64) -> Self {
        Self {
            settings,
            messages: Vec::new(),
            consumers: Vec::new(),
            active: None,
            outgoing: Vec::new(),
            removed: Vec::new(),
            requeued: Vec::new(),
            missed: Vec::new(),
            attempts: Vec::new(),
            line: Vec::new(),
            last_used_ms: now_ms,
            next_delivery: 0,
        }
    }

    /// Ready messages, in the order in which they are delivered.
    pub(crate) fn ready(&self) -> Vec<usize> {
        let is_ready = |&index: &usize| self.messages[index].stage == Stage::Ready;
        let mut ready: Vec<usize> = (0..self.messages.len()).filter(is_ready).collect();
        ready.sort_by_key(|&index| (u8::MAX - self.messages[index].level, index));
        ready
    }

    pub(crate) fn unsettled(&self) -> Vec<usize> {
        let is_unsettled =
            |&index: &usize| matches!(self.messages[index].stage, Stage::Unsettled { .. });
        (0..self.messages.len()).filter(is_unsettled).collect()
    }

    pub(crate) fn delayed(&self) -> Vec<usize> {
        let is_delayed =
            |&index: &usize| matches!(self.messages[index].stage, Stage::Delayed { .. });
        (0..self.messages.len()).filter(is_delayed).collect()
    }

    pub(crate) fn ready_bytes(&self) -> u64 {
        self.ready().iter().map(|&index| self.messages[index].body_bytes).sum()
    }

    pub(crate) fn cached_bytes(&self) -> u64 {
        let live = self.messages.iter().filter(|m| !matches!(m.stage, Stage::Removed(_)));
        live.filter_map(|message| message.memory_bytes).sum()
    }

    pub(crate) fn consumer_count(&self) -> usize {
        self.consumers.iter().filter(|consumer| consumer.is_there).count()
    }

    /// Adds a message; `time_to_live_ms` is its own. The caller gives its place in the log.
    pub(crate) fn publish(
        &mut self,
        now_ms: u64,
        mut message: Message,
        time_to_live_ms: Option<u64>,
    ) -> Published {
        message.level = message.level.min(self.settings.priority_max);
        message.expires_at_ms = self.time_to_live(time_to_live_ms).map(|ttl| now_ms + ttl);
        message.stage = Stage::Ready;
        let body_bytes = message.body_bytes;
        let index = self.messages.len();
        if self.settings.overflow != Overflow::DropHead && self.is_over(1, body_bytes) {
            self.assign_up_to(usize::MAX, now_ms);
            if self.is_over(1, body_bytes) {
                message.stage = Stage::Removed(Reason::Refused);
                self.messages.push(message);
                let is_sent_on = self.settings.overflow == Overflow::RejectPublishDlx;
                self.removed.push(Gone {
                    message: index,
                    reason: Reason::Refused,
                    is_sent_on: is_sent_on && self.settings.dead_letter.is_some(),
                    has_settler: false,
                });
                return Published::Refused;
            }
        }
        self.messages.push(message);
        self.drop_head(now_ms);
        self.deliver_or_expire(now_ms);
        Published::Enqueued
    }

    pub(crate) fn restore(&mut self, published_at_ms: u64, message: Message, ttl_ms: Option<u64>) {
        let expires_at_ms = self.time_to_live(ttl_ms).map(|ttl| published_at_ms + ttl);
        let level = message.level.min(self.settings.priority_max);
        self.messages.push(Message { level, expires_at_ms, redelivered: true, ..message });
    }

    /// Settles a delivery; `is_signed` says whether the settler is named.
    pub(crate) fn settle(
        &mut self,
        now_ms: u64,
        of: &Delivered,
        settlement: Settlement,
        is_signed: bool,
    ) -> bool {
        match self.messages[of.message].stage {
            Stage::Unsettled { delivery, .. } if delivery == of.delivery => {}
            _ => return false,
        }
        match settlement {
            Settlement::Ack => self.remove_by(of.message, Reason::Acked, is_signed),
            Settlement::AutoAck => self.remove_by(of.message, Reason::AutoAcked, is_signed),
            Settlement::Reject => self.remove_by(of.message, Reason::Rejected, is_signed),
            Settlement::Requeue | Settlement::Undelivered => {}
        }
        let message = &mut self.messages[of.message];
        if settlement == Settlement::Requeue {
            let limit = self.settings.delivery_limit;
            if limit.is_some_and(|limit| u32::from(message.attempts) > limit) {
                self.remove_by(of.message, Reason::DeliveryLimit, is_signed);
            } else {
                // All waits are predictable here.
                let retry = self.settings.retry;
                let wait_ms = retry.map_or(0, |retry| retry.delay_ms(message.attempts, 0));
                let until_ms = if wait_ms > 0 { now_ms + wait_ms } else { 0 };
                message.stage =
                    if wait_ms > 0 { Stage::Delayed { until_ms } } else { Stage::Ready };
                message.redelivered = true;
                let is_kept = limit.is_some() || self.settings.counts_deliveries || retry.is_some();
                if let Some(position) = message.position.filter(|_| is_kept || message.is_tracked) {
                    self.attempts.push((position.get(), message.attempts));
                }
                if message.is_tracked {
                    self.requeued.push((of.message, message.attempts, until_ms));
                }
            }
        } else if settlement == Settlement::Undelivered {
            message.stage = Stage::Ready;
            message.attempts -= 1;
        }
        // Its consumer may have room again: it joins the line, unless it is already in it.
        self.join(of.consumer);
        if self.messages[of.message].stage == Stage::Ready {
            self.drop_head(now_ms);
            self.deliver_or_expire(now_ms);
        }
        true
    }

    pub(crate) fn assign(&mut self, now_ms: u64) {
        self.assign_up_to(OUTGOING_MAX, now_ms);
    }

    pub(crate) fn get(&mut self, now_ms: u64, no_ack: bool) -> Option<Delivered> {
        self.last_used_ms = now_ms;
        self.expire(now_ms + 1);
        let head = *self.ready().first()?;
        let delivered = self.deliver(now_ms, head, None, no_ack);
        if no_ack {
            self.remove(head, Reason::AutoAcked);
        }
        Some(delivered)
    }

    pub(crate) fn add_consumer(
        &mut self,
        now_ms: u64,
        settings: ConsumerSettings,
        room: u32,
    ) -> bool {
        let others: Vec<&Consumer> = self.consumers.iter().filter(|c| c.is_there).collect();
        let has_exclusive = others.iter().any(|consumer| consumer.settings.exclusive);
        let alone = others.is_empty() && !self.settings.single_active_consumer;
        if has_exclusive || (settings.exclusive && !alone) {
            return false;
        }
        self.last_used_ms = now_ms;
        self.consumers.push(Consumer { settings, is_there: true, room });
        let consumer = self.consumers.len() - 1;
        if self.settings.single_active_consumer && self.active.is_none() {
            self.active = Some(consumer);
        }
        self.join(Some(consumer));
        true
    }

    pub(crate) fn remove_consumer(&mut self, now_ms: u64, consumer: usize) -> bool {
        if !std::mem::replace(&mut self.consumers[consumer].is_there, false) {
            return false;
        }
        self.last_used_ms = now_ms;
        self.line.retain(|&other| other != consumer);
        if self.active == Some(consumer) {
            let there = (0..self.consumers.len()).filter(|&other| self.consumers[other].is_there);
            // The first of those with the highest priority.
            self.active = there.rev().max_by_key(|&other| self.consumers[other].settings.priority);
            self.join(self.active);
        }
        if !self.consumers[consumer].settings.no_ack {
            let is_mine = |delivered: &Delivered| delivered.consumer == Some(consumer);
            let outgoing = std::mem::take(&mut self.outgoing);
            let (mine, others) = outgoing.into_iter().partition(is_mine);
            self.outgoing = others;
            let mine: Vec<Delivered> = mine;
            for delivered in mine {
                self.consumers[consumer].room += 1;
                self.undeliver(&delivered);
            }
            self.drop_head(now_ms);
            self.deliver_or_expire(now_ms);
        }
        true
    }

    /// A consumer's endpoint reports that it has room.
    pub(crate) fn resume(&mut self, consumer: usize) {
        self.join(Some(consumer));
    }

    /// `None`: it is gone; `Some(false)`: somebody has it.
    pub(crate) fn cancel(&mut self, index: usize) -> Option<bool> {
        match self.messages[index].stage {
            Stage::Removed(_) => None,
            Stage::Unsettled { .. } => Some(false),
            Stage::Ready | Stage::Delayed { .. } => {
                self.remove(index, Reason::Cancelled);
                Some(true)
            }
        }
    }

    pub(crate) fn purge(&mut self) -> u64 {
        for index in self.delayed() {
            self.messages[index].stage = Stage::Ready;
        }
        let ready = self.ready();
        ready.iter().for_each(|&index| self.remove(index, Reason::Purged));
        ready.len() as u64
    }

    pub(crate) fn clear(&mut self) -> u64 {
        let ready_count = (self.ready().len() + self.delayed().len()) as u64;
        for delivered in std::mem::take(&mut self.outgoing) {
            self.consumers[delivered.consumer.expect("a consumer's")].room += 1;
        }
        let mut live = self.live();
        live.sort_by_key(|&index| (self.messages[index].level, index));
        live.iter().for_each(|&index| self.remove(index, Reason::QueueDeleted));
        ready_count
    }

    /// Everything that is not gone, as published.
    pub(crate) fn live(&self) -> Vec<usize> {
        let is_live = |&index: &usize| !matches!(self.messages[index].stage, Stage::Removed(_));
        (0..self.messages.len()).filter(is_live).collect()
    }

    /// `true`: the queue has expired.
    pub(crate) fn tick(&mut self, now_ms: u64) -> bool {
        if let Some(expires_ms) = self.settings.expires_ms
            && self.consumer_count() == 0
            && now_ms >= self.last_used_ms + expires_ms
        {
            return true;
        }
        self.miss_deadlines(now_ms);
        let mut due: Vec<(u64, Delivered)> = Vec::new();
        for index in self.unsettled() {
            let Stage::Unsettled { delivery, consumer, deadline_ms } = self.messages[index].stage
            else {
                continue;
            };
            if let Some(deadline_ms) = deadline_ms.filter(|deadline_ms| *deadline_ms <= now_ms) {
                due.push((
                    deadline_ms,
                    Delivered {
                        message: index,
                        delivery,
                        consumer,
                        redelivered: false,
                        attempts_before: 0,
                        settle_after: false,
                    },
                ));
            }
        }
        due.sort_by_key(|(deadline_ms, delivered)| (*deadline_ms, delivered.delivery));
        for (_, delivered) in due {
            self.settle(now_ms, &delivered, Settlement::Requeue, false);
        }
        self.end_delays(now_ms);
        self.expire(now_ms + 1);
        false
    }

    fn miss_deadlines(&mut self, now_ms: u64) {
        let is_due = |&index: &usize| {
            let message = &self.messages[index];
            !message.missed_deadline && message.deadline_at_ms.is_some_and(|at_ms| at_ms <= now_ms)
        };
        let mut due: Vec<usize> = self.live().into_iter().filter(is_due).collect();
        due.sort_by_key(|&index| {
            let message = &self.messages[index];
            (message.deadline_at_ms, message.level, index)
        });
        for index in due {
            self.messages[index].missed_deadline = true;
            self.missed.push((index, self.messages[index].attempts));
        }
    }

    /// When the wait of a message ends, either for its next attempt or because it expires.
    fn waits_until(&self, index: usize) -> Option<u64> {
        let message = &self.messages[index];
        let Stage::Delayed { until_ms } = message.stage else { return None };
        Some(message.expires_at_ms.map_or(until_ms, |at_ms| at_ms.min(until_ms)))
    }

    fn end_delays(&mut self, now_ms: u64) {
        let mut due = self.delayed();
        due.retain(|&index| self.waits_until(index).is_some_and(|at_ms| at_ms <= now_ms));
        due.sort_by_key(|&index| (self.waits_until(index), self.messages[index].level, index));
        let ready_count = self.ready().len();
        for index in due {
            match self.messages[index].expires_at_ms {
                Some(at_ms) if at_ms <= now_ms => self.remove(index, Reason::Expired),
                _ => self.messages[index].stage = Stage::Ready,
            }
        }
        if self.ready().len() > ready_count {
            self.drop_head(now_ms);
        }
    }

    pub(crate) fn touch(&mut self, now_ms: u64) {
        self.last_used_ms = now_ms;
    }

    /// When something is due that is known now.
    pub(crate) fn deadline_ms(&self) -> Option<u64> {
        let head = self.ready().first().and_then(|&head| self.messages[head].expires_at_ms);
        let queue = self.settings.expires_ms.filter(|_| self.consumer_count() == 0);
        let queue = queue.map(|expires_ms| self.last_used_ms + expires_ms);
        let deliveries = self.messages.iter().filter_map(|message| match message.stage {
            Stage::Unsettled { deadline_ms, .. } => deadline_ms,
            _ => None,
        });
        let waits = (0..self.messages.len()).filter_map(|index| self.waits_until(index));
        let missed = self.live().into_iter().filter(|&index| !self.messages[index].missed_deadline);
        let missed = missed.filter_map(|index| self.messages[index].deadline_at_ms);
        deliveries.chain(head).chain(queue).chain(waits).chain(missed).min()
    }

    fn time_to_live(&self, of_message: Option<u64>) -> Option<u64> {
        of_message.into_iter().chain(self.settings.message_ttl_ms).min()
    }

    fn assign_up_to(&mut self, outgoing_max: usize, now_ms: u64) {
        while self.outgoing.len() < outgoing_max {
            self.expire(now_ms);
            let Some(&head) = self.ready().first() else { return };
            let Some(consumer) = self.taker() else { return };
            let no_ack = self.consumers[consumer].settings.no_ack;
            let mut delivered = self.deliver(now_ms, head, Some(consumer), no_ack);
            if no_ack && self.messages[head].memory_bytes.is_some() {
                self.remove_by(head, Reason::AutoAcked, true);
            } else {
                delivered.settle_after = no_ack;
            }
            self.outgoing.push(delivered);
        }
    }

    /// The first in line with room, of the highest priority. A consumer without room leaves the
    /// line.
    fn taker(&mut self) -> Option<usize> {
        let mut priorities: Vec<i32> =
            self.line.iter().map(|&c| self.consumers[c].settings.priority).collect();
        priorities.sort_unstable_by(|a, b| b.cmp(a));
        for priority in priorities {
            let of_priority = |&&c: &&usize| self.consumers[c].settings.priority == priority;
            let Some(&first) = self.line.iter().find(of_priority) else { continue };
            self.line.retain(|&other| other != first);
            let may = !self.settings.single_active_consumer || self.active == Some(first);
            if may && self.is_below_prefetch(first) && self.consumers[first].room > 0 {
                self.consumers[first].room -= 1;
                self.line.push(first);
                return Some(first);
            }
        }
        None
    }

    fn join(&mut self, consumer: Option<usize>) {
        let Some(consumer) = consumer else { return };
        let is_in_line = self.line.contains(&consumer);
        if self.consumers[consumer].is_there && !is_in_line && self.is_below_prefetch(consumer) {
            self.line.push(consumer);
        }
    }

    fn is_below_prefetch(&self, consumer: usize) -> bool {
        let ConsumerSettings { prefetch, no_ack, .. } = self.consumers[consumer].settings;
        let mine = self.messages.iter().filter(
            |message| matches!(message.stage, Stage::Unsettled { consumer: Some(c), .. } if c == consumer),
        );
        prefetch == 0 || no_ack || mine.count() < prefetch as usize
    }

    fn deliver(
        &mut self,
        now_ms: u64,
        index: usize,
        consumer: Option<usize>,
        no_ack: bool,
    ) -> Delivered {
        let delivery = self.next_delivery;
        self.next_delivery += 1;
        let of_consumer =
            consumer.and_then(|consumer| self.consumers[consumer].settings.timeout_ms);
        let of_queue = self.settings.consumer_timeout_ms;
        let deadline_ms = of_queue.into_iter().chain(of_consumer).min().filter(|_| !no_ack);
        let deadline_ms = deadline_ms.map(|timeout_ms| now_ms + timeout_ms);
        let message = &mut self.messages[index];
        message.stage = Stage::Unsettled { delivery, consumer, deadline_ms };
        message.attempts += 1;
        Delivered {
            message: index,
            delivery,
            consumer,
            redelivered: message.redelivered,
            attempts_before: message.attempts - 1,
            settle_after: false,
        }
    }

    fn undeliver(&mut self, of: &Delivered) {
        let message = &mut self.messages[of.message];
        if matches!(message.stage, Stage::Unsettled { delivery, .. } if delivery == of.delivery) {
            message.stage = Stage::Ready;
            message.attempts -= 1;
        }
    }

    /// What is due at the head goes to a consumer that is ready, or to nobody.
    fn deliver_or_expire(&mut self, now_ms: u64) {
        let head = self.ready().first().and_then(|&head| self.messages[head].expires_at_ms);
        if head.is_some_and(|at_ms| at_ms <= now_ms) {
            self.assign_up_to(usize::MAX, now_ms);
            self.expire(now_ms + 1);
        }
    }

    /// Removes from the head what expired before `now_ms`.
    fn expire(&mut self, now_ms: u64) {
        for index in self.ready() {
            match self.messages[index].expires_at_ms {
                Some(at_ms) if at_ms < now_ms => self.remove(index, Reason::Expired),
                _ => return,
            }
        }
    }

    fn drop_head(&mut self, now_ms: u64) {
        if self.settings.overflow != Overflow::DropHead || !self.is_over(0, 0) {
            return;
        }
        self.assign_up_to(usize::MAX, now_ms);
        while self.is_over(0, 0) && !self.ready().is_empty() {
            self.remove(self.ready()[0], Reason::MaxLength);
        }
    }

    fn is_over(&self, count: u64, bytes: u64) -> bool {
        self.settings.length_max.is_some_and(|max| self.ready().len() as u64 + count > max)
            || self.settings.bytes_max.is_some_and(|max| self.ready_bytes() + bytes > max)
    }

    /// The only way out, and no message takes it twice.
    fn remove_by(&mut self, index: usize, reason: Reason, has_settler: bool) {
        let stage = std::mem::replace(&mut self.messages[index].stage, Stage::Removed(reason));
        assert!(!matches!(stage, Stage::Removed(_)), "message {index} was gone already");
        let is_sent_on = self.settings.dead_letter.is_some() && reason.dead_letter_name().is_some();
        self.removed.push(Gone { message: index, reason, is_sent_on, has_settler });
    }

    fn remove(&mut self, index: usize, reason: Reason) {
        self.remove_by(index, reason, false);
    }
}
