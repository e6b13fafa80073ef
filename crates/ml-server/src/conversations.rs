//! Conversations that requests can go on with by the id of a response: in memory, and the oldest ones go first.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use ml_backend::Message;

/// Conversations that are kept, and the bytes of their texts.
const MOST: usize = 1024;
const MOST_BYTES: usize = 64 << 20;

#[derive(Default)]
pub(crate) struct Conversations(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    by_id: HashMap<String, (Arc<[Message]>, usize)>,
    /// The oldest first.
    order: VecDeque<String>,
    bytes: usize,
}

impl Conversations {
    pub(crate) fn get(&self, id: &str) -> Option<Arc<[Message]>> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.by_id.get(id).map(|(messages, _)| Arc::clone(messages))
    }

    /// Keeps what was said up to the response `id`.
    pub(crate) fn keep(&self, id: String, messages: Vec<Message>) {
        let bytes = messages.iter().map(weight).sum();
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.bytes += bytes;
        kept.order.push_back(id.clone());
        kept.by_id.insert(id, (messages.into(), bytes));
        while kept.order.len() > MOST || kept.bytes > MOST_BYTES {
            let Some(oldest) = kept.order.pop_front() else {
                break;
            };
            if let Some((_, bytes)) = kept.by_id.remove(&oldest) {
                kept.bytes -= bytes;
            }
        }
    }
}

/// Bytes, about.
fn weight(message: &Message) -> usize {
    let reasoning = message.reasoning.as_ref().map_or(0, String::len);
    let calls = message.tool_calls.iter();
    let calls = calls.map(|call| call.name.len() + call.arguments.to_string().len());
    256 + message.content.len() + reasoning + calls.sum::<usize>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_go_when_there_are_too_many_or_they_are_too_long() {
        let conversations = Conversations::default();
        for number in 0..=MOST {
            conversations.keep(number.to_string(), vec![Message::user("x")]);
        }
        assert!(conversations.get("0").is_none());
        assert_eq!(conversations.get("1").unwrap()[0].content, "x");
        conversations.keep(
            "long".into(),
            vec![Message::user("x".repeat(MOST_BYTES / 2))],
        );
        assert!(conversations.get("1").is_none() && conversations.get("2").is_some());
        conversations.keep(
            "longer".into(),
            vec![Message::user("x".repeat(MOST_BYTES - 10_000))],
        );
        assert!(conversations.get("2").is_none() && conversations.get("long").is_none());
        assert!(conversations.get("longer").is_some());
    }
}
