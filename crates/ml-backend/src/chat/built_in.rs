//! The formats that serve where a checkpoint brings no template.

use std::fmt::Write;

use super::{Message, Role};

pub(super) const IM_END: &str = "<|im_end|>";
pub(super) const END_OF_TURN: &str = "<end_of_turn>";
pub(super) const TURN_END: &str = "<turn|>";

/// Qwen's ChatML.
pub(super) fn chat_ml(messages: &[Message], add_generation_prompt: bool) -> String {
    let mut text = String::new();
    for Message { role, content, .. } in messages {
        push(
            &mut text,
            format_args!("<|im_start|>{}\n{content}{IM_END}\n", named(*role)),
        );
    }
    if add_generation_prompt {
        text.push_str("<|im_start|>assistant\n");
    }
    text
}

/// Gemma's turns, without the `<bos>` that the tokenizer puts before them.
pub(super) fn gemma(messages: &[Message], add_generation_prompt: bool) -> String {
    let mut text = String::new();
    for Message { role, content, .. } in messages {
        match role {
            Role::System | Role::Developer => push(
                &mut text,
                format_args!("<start_of_turn>user\n[System: {content}]{END_OF_TURN}\n"),
            ),
            Role::User | Role::Tool => {
                push(
                    &mut text,
                    format_args!("<start_of_turn>user\n{content}{END_OF_TURN}\n"),
                );
            }
            Role::Assistant => {
                push(
                    &mut text,
                    format_args!("<start_of_turn>model\n{content}{END_OF_TURN}\n"),
                );
            }
        }
    }
    if add_generation_prompt {
        text.push_str("<start_of_turn>model\n");
    }
    text
}

/// Gemma 4's turns, without the `<bos>` that the tokenizer puts before them.
pub(super) fn gemma4(messages: &[Message], add_generation_prompt: bool) -> String {
    let mut text = String::new();
    for Message { role, content, .. } in messages {
        let role = match role {
            Role::Assistant => "model",
            role => named(*role),
        };
        push(
            &mut text,
            format_args!("<|turn>{role}\n{content}{TURN_END}\n"),
        );
    }
    if add_generation_prompt {
        text.push_str("<|turn>model\n");
    }
    text
}

/// No built-in format has a developer, nor, since they have no tools, what tools say.
fn named(role: Role) -> &'static str {
    match role {
        Role::Developer => Role::System.as_str(),
        role => role.as_str(),
    }
}

/// Appends to a `String`, which cannot fail.
fn push(text: &mut String, turn: std::fmt::Arguments<'_>) {
    let _ = text.write_fmt(turn);
}
