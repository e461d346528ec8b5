//! Where a message goes, and by what it is known on its way.

use std::fmt;
use std::sync::Arc;

use ::outcome::IdHash;

/// Where a message goes: into a queue, or to all queues of a topic.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Target {
    Queue(Arc<str>),
    Topic(Arc<str>),
}

/// By what a message is known to who waits for it: the same id in two queues is two messages, but in all
/// queues of a topic it is one.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Key {
    /// Queue and id.
    Queue(Arc<str>, Arc<str>),
    /// The correlation id of a message to a topic.
    Topic(Arc<str>),
}

/// How correlation ids of messages to topics begin.
const TOPIC: &str = "wilco.topic/";
/// What a correlation id may have.
const BYTES_MAX: usize = 255;

impl Target {
    /// The name.
    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Queue(name) | Self::Topic(name) => name,
        }
    }

    /// Exchange and routing key, on AMQP.
    pub(crate) fn route(&self) -> (&str, &str) {
        match self {
            Self::Queue(queue) => ("", queue),
            Self::Topic(topic) => (topic, ""),
        }
    }

    pub(crate) fn key(&self, id: &Arc<str>) -> Key {
        match self {
            Self::Queue(queue) => Key::Queue(Arc::clone(queue), Arc::clone(id)),
            Self::Topic(topic) => Key::Topic(correlation(topic, id).into()),
        }
    }
}

/// The same for the same message in every process: what became of it earlier is told under it, too.
fn correlation(topic: &str, id: &str) -> String {
    let mut text = format!("{TOPIC}{topic}/{id}");
    if text.len() > BYTES_MAX {
        let rest = format!("~{:032x}", IdHash::new(topic, id).0);
        text.truncate(text.floor_char_boundary(BYTES_MAX - rest.len()));
        text.push_str(&rest);
    }
    text
}

impl Key {
    /// That of an outcome: of a message to a topic if its correlation id says so.
    pub(crate) fn of_outcome(queue: &str, id: &str, correlation: Option<&str>) -> Self {
        match correlation.filter(|it| it.starts_with(TOPIC) && *it != id) {
            Some(correlation) => Self::Topic(correlation.into()),
            None => Self::Queue(queue.into(), id.into()),
        }
    }

    /// What to say as correlation id; a message to a queue needs none.
    pub(crate) fn correlation(&self) -> Option<&str> {
        match self {
            Self::Queue(..) => None,
            Self::Topic(correlation) => Some(correlation),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Queue(name) => write!(f, "queue '{name}'"),
            Self::Topic(name) => write!(f, "topic '{name}'"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outcome_is_known_by_the_key_of_its_message() {
        let id: Arc<str> = "order-7".into();
        let topic = Target::Topic("placed".into()).key(&id);
        assert_eq!(Key::of_outcome("placed.mail", &id, topic.correlation()), topic);
        let queue = Target::Queue("mail".into()).key(&id);
        assert_eq!(queue.correlation(), None);
        // Brokers give the id where there was no correlation id.
        assert_eq!(Key::of_outcome("mail", &id, Some(&id)), queue);
        let odd: Arc<str> = "wilco.topic/x".into();
        let queue = Target::Queue("mail".into()).key(&odd);
        assert_eq!(Key::of_outcome("mail", &odd, Some(&odd)), queue);
        let long = |last: char| {
            Target::Topic("t".into()).key(&format!("{}{last}", "ä".repeat(127)).into())
        };
        assert_ne!(long('a'), long('b'));
        assert!(long('a').correlation().is_some_and(|it| it.len() <= BYTES_MAX));
    }
}
