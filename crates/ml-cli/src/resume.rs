//! What a person sees of a conversation that goes on.

use std::path::Path;

use ml_backend::{Message, Role, Session};

use crate::output::note;

/// Characters of a message that are shown again: enough to know it by.
const SHOWN: usize = 400;

/// Says that a conversation goes on, and with which words it ended; on a terminal with what was said last.
pub(crate) fn tell(session: &Session, path: &Path, interactive: bool) {
    let file = path.display();
    if let Some(before) = session.other_model() {
        note(&format!(
            "{file} was written with another model, {before}; this one goes on with it"
        ));
    }
    let messages = session.messages();
    let asked = messages.iter().filter(|it| it.role == Role::User).count();
    match asked {
        0 => note(&format!("the conversation is kept in {file}")),
        1 => note(&format!(
            "the conversation in {file} goes on after 1 question"
        )),
        _ => note(&format!(
            "the conversation in {file} goes on after {asked} questions"
        )),
    }
    let last = messages.iter().rposition(|it| it.role == Role::User);
    if let (true, Some(last)) = (interactive, last) {
        messages[last..].iter().for_each(show);
    }
}

fn show(message: &Message) {
    let text = shortened(&message.content);
    match message.role {
        Role::User => note(&format!("> {text}")),
        Role::Assistant if !text.is_empty() => note(&text),
        _ => {}
    }
}

/// The text, or its beginning; nothing in it moves the cursor.
fn shortened(text: &str) -> String {
    let plain = |c: char| if c.is_control() && c != '\n' { ' ' } else { c };
    let mut chars = text.trim().chars().map(plain);
    let mut shown: String = chars.by_ref().take(SHOWN).collect();
    if chars.next().is_some() {
        shown.push_str(" ...");
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_message_is_shown_by_its_beginning() {
        assert_eq!(shortened(" two\nlines\u{1b}[2J "), "two\nlines [2J");
        let long = shortened(&"é".repeat(1000));
        assert_eq!(long.chars().count(), SHOWN + 4);
        assert!(long.ends_with("é ..."));
    }
}
