//! A living queue's settings: resolved when the queue is declared, and changed while it lives.

use std::sync::Arc;

use broker::queue::Settings;

use super::Engine;
use crate::registry::LiveQueue;

impl Engine {
    /// Makes a queue and everybody who asks for its settings use other settings from now on.
    #[cfg_attr(not(test), expect(dead_code, reason = "for policies, which are to come"))]
    pub(crate) fn change_settings(&self, queue: &Arc<LiveQueue>, settings: &Settings) {
        let now_ms = self.now_ms();
        self.with_queue(queue, now_ms, |core, effects| {
            core.change_settings(now_ms, settings, effects);
            // Under the lock, so that after two changes the last one holds for both.
            queue.publish_settings(Arc::clone(core.settings()));
        });
        if let Some(vhost) = queue.vhost.upgrade() {
            // Routes cache what their queues ask for.
            vhost.changed();
        }
    }
}

#[cfg(test)]
mod tests {
    use broker::queue::DeadLetterAddress;
    use outcome::{Notify, OutcomeRequest};
    use segment_log::FaultyDisk;

    use super::*;
    use crate::embedded::{Event, Link};
    use crate::{Consume, DeclareQueue, Node, Options, Properties};

    #[test]
    fn everybody_acts_upon_other_settings_at_once() {
        let node = Node::open_on(FaultyDisk::new(7), Options::default()).expect("a good disk");
        let mut link = Link::open(&node, "/", "guest").expect("guest may");
        let channel = link.open_channel().expect("new");
        for queue in ["tasks", "dead", "replies"] {
            link.declare_queue(queue, &DeclareQueue::default()).expect("a good declaration");
        }
        let properties = Properties {
            message_id: Some("1".into()),
            reply_to: Some("replies".into()),
            ..Properties::default()
        };
        let publish = |link: &mut Link| {
            link.publish(channel, "", "tasks", &properties, b"x").expect("accepted");
        };
        publish(&mut link);
        let target =
            DeadLetterAddress { exchange: String::new(), routing_key: Some("dead".into()) };
        let notify = Some(Notify::All);
        let settings = Settings {
            length_max: Some(0),
            dead_letter: Some(target),
            request: OutcomeRequest { notify, ..OutcomeRequest::default() },
            ..Settings::default()
        };
        let tasks = node
            .engine
            .registry
            .vhost("/")
            .and_then(|vhost| vhost.queue_named("tasks"))
            .expect("declared");
        node.engine.change_settings(&tasks, &settings);
        // The messages that were there are over the limit now, and so are new ones.
        publish(&mut link);
        node.commit().expect("a good disk");
        let options = Consume { no_ack: true, ..Consume::default() };
        let mut count = |queue: &str| {
            link.consume(channel, queue, &options).expect("it is there");
            let next = |link: &mut Link| link.next_event(Some(std::time::Duration::ZERO));
            std::iter::from_fn(|| next(&mut link)).filter(is_delivery).count()
        };
        assert_eq!((count("dead"), count("replies"), count("tasks")), (2, 2, 0));
    }

    fn is_delivery(event: &Event) -> bool {
        matches!(event, Event::Delivered(_))
    }
}
