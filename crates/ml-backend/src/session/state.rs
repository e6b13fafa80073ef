//! Where a conversation is, as its messages tell.

use crate::chat::{Message, Role, ToolCall};

/// Calls of the last answer that have no result yet.
pub(super) fn waiting(messages: &[Message]) -> Vec<&ToolCall> {
    let (before, results) = messages.split_at(answered(messages));
    let calls = match before.last() {
        Some(answer) if answer.role == Role::Assistant => &answer.tool_calls[..],
        _ => return Vec::new(),
    };
    if results.iter().any(|result| result.role != Role::Tool) {
        return Vec::new();
    }
    let mut waiting: Vec<&ToolCall> = calls.iter().collect();
    for result in results {
        // Who wrote no ids has the order.
        let named = |call: &&ToolCall| call.id.is_some() && call.id == result.tool_call_id;
        let at = waiting.iter().position(named).unwrap_or(0);
        if at < waiting.len() {
            waiting.remove(at);
        }
    }
    waiting
}

/// Whether the model is to speak.
pub(super) fn awaits_answer(messages: &[Message]) -> bool {
    match messages.last().map(|last| last.role) {
        Some(Role::User) => true,
        Some(Role::Tool) => waiting(messages).is_empty(),
        _ => false,
    }
}

/// Messages up to the last answer; without one, the instructions.
pub(super) fn answered(messages: &[Message]) -> usize {
    let last = messages
        .iter()
        .rposition(|message| message.role == Role::Assistant);
    last.map_or_else(|| instructions(messages), |last| last + 1)
}

/// Messages before the last turn: before what the user said last.
pub(super) fn last_turn(messages: &[Message]) -> usize {
    let last = messages
        .iter()
        .rposition(|message| message.role == Role::User);
    last.unwrap_or(messages.len())
}

/// Instructions at the beginning.
pub(super) fn instructions(messages: &[Message]) -> usize {
    let is_instruction =
        |message: &&Message| matches!(message.role, Role::System | Role::Developer);
    messages.iter().take_while(is_instruction).count()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn call(id: &str) -> ToolCall {
        ToolCall::new("weather", json!({"town": id})).id(id)
    }

    #[test]
    fn a_conversation_waits_for_what_its_last_message_leaves_open() {
        let mut messages = vec![Message::system("Be brief.")];
        assert!(!awaits_answer(&messages) && waiting(&messages).is_empty());
        messages.push(Message::user("Weather?"));
        assert!(awaits_answer(&messages));
        let (bern, basel) = (call("bern"), call("basel"));
        let asks = Message::assistant("")
            .tool_call(bern.clone())
            .tool_call(basel.clone());
        messages.push(asks);
        assert!(!awaits_answer(&messages));
        assert_eq!(waiting(&messages), [&bern, &basel]);
        // In whichever order they come.
        messages.push(Message::tool(&basel, "sun"));
        assert!(!awaits_answer(&messages));
        assert_eq!(waiting(&messages), [&bern]);
        messages.push(Message::tool(&bern, "rain"));
        assert!(awaits_answer(&messages) && waiting(&messages).is_empty());
        // What fails now leaves the calls waiting again, and the turn is all of it.
        assert_eq!((answered(&messages), last_turn(&messages)), (3, 1));
        assert_eq!(waiting(&messages[..3]), [&bern, &basel]);
        messages.push(Message::assistant("Rain and sun."));
        assert!(!awaits_answer(&messages) && waiting(&messages).is_empty());
    }

    #[test]
    fn calls_without_ids_are_answered_in_their_order() {
        let [one, two] = ["one", "two"].map(|name| ToolCall::new(name, json!({})));
        let mut messages = vec![
            Message::user("?"),
            Message::assistant("")
                .tool_call(one.clone())
                .tool_call(two.clone()),
            Message::tool(&one, "1"),
        ];
        assert_eq!(waiting(&messages), [&two]);
        // Who went on without them waits for nothing.
        messages.push(Message::user("Never mind."));
        assert!(waiting(&messages).is_empty() && awaits_answer(&messages));
    }
}
