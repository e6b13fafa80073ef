//! Where a parser puts what it found.
//!
//! White space beside a call or a thought belongs to the markers and is left out; everywhere else it stays. So it is
//! kept back until what follows it is known.

use super::AnswerEvent;
use super::tools::Tools;

/// Events, and what they depend on.
#[derive(Debug)]
pub(super) struct Out {
    events: Vec<AnswerEvent>,
    pub(super) tools: Tools,
    seed: u64,
    /// The index of the next call.
    next: usize,
    call: Option<Call>,
    /// What the model wrote since the last whole thing: given back where it comes to nothing.
    pub(super) raw: String,
    /// White space whose fate is open.
    space: String,
    thought_space: String,
    text_begun: bool,
    thought_begun: bool,
    /// A thought or a call came before any text.
    other_first: bool,
    after_call: bool,
}

/// A call that was begun.
#[derive(Debug)]
struct Call {
    index: usize,
    arguments: String,
}

impl Out {
    pub(super) fn new(tools: Tools, seed: u64) -> Self {
        Self {
            events: Vec::new(),
            tools,
            seed,
            next: 0,
            call: None,
            raw: String::new(),
            space: String::new(),
            thought_space: String::new(),
            text_begun: false,
            thought_begun: false,
            other_first: false,
            after_call: false,
        }
    }

    pub(super) fn take(&mut self) -> Vec<AnswerEvent> {
        std::mem::take(&mut self.events)
    }

    /// Whether there was text that is not white space.
    pub(super) fn text_begun(&self) -> bool {
        self.text_begun
    }

    pub(super) fn text(&mut self, c: char) {
        if c.is_whitespace() {
            self.space.push(c);
            return;
        }
        self.put_space();
        self.text_begun = true;
        self.after_call = false;
        self.put_text(c.encode_utf8(&mut [0; 4]));
    }

    /// Text that goes on after something between is another line.
    pub(super) fn new_line(&mut self) {
        if self.text_begun {
            self.space.push('\n');
        }
    }

    fn put_space(&mut self) {
        let space = std::mem::take(&mut self.space);
        if !space.is_empty() && (self.text_begun || !self.other_first) {
            self.put_text(&space);
        }
    }

    fn put_text(&mut self, text: &str) {
        match self.events.last_mut() {
            Some(AnswerEvent::Text(last)) => last.push_str(text),
            _ => self.events.push(AnswerEvent::Text(text.to_owned())),
        }
    }

    /// A thought begins.
    pub(super) fn thought(&mut self) {
        self.other_first |= !self.text_begun;
        if self.thought_begun {
            self.thought_space.push('\n');
        }
    }

    pub(super) fn reasoning(&mut self, c: char) {
        if c.is_whitespace() {
            self.thought_space.push(c);
            return;
        }
        let space = std::mem::take(&mut self.thought_space);
        let text = if self.thought_begun {
            space
        } else {
            String::new()
        } + c.encode_utf8(&mut [0; 4]);
        self.thought_begun = true;
        match self.events.last_mut() {
            Some(AnswerEvent::Reasoning(last)) => last.push_str(&text),
            _ => self.events.push(AnswerEvent::Reasoning(text)),
        }
    }

    /// A thought ends; what stood between it and its marker is left out.
    pub(super) fn thought_over(&mut self) {
        self.thought_space.clear();
    }

    /// Begins a call. False where that is no name.
    pub(super) fn begin(&mut self, name: &str, id: Option<&str>) -> bool {
        let good = !name.is_empty()
            && name.len() <= 256
            && !name.contains(|c: char| c.is_whitespace() || c.is_control());
        if !good || self.call.is_some() {
            return false;
        }
        let index = self.next;
        self.next += 1;
        let id = id.filter(|id| !id.is_empty()).map(str::to_owned);
        self.events.push(AnswerEvent::ToolCallStart {
            index,
            id: id.unwrap_or_else(|| call_id(self.seed, index)),
            name: name.to_owned(),
        });
        let arguments = String::new();
        self.call = Some(Call { index, arguments });
        true
    }

    /// More of the arguments of the call that was begun.
    pub(super) fn arguments(&mut self, json: &str) {
        let Some(call) = self.call.as_mut().filter(|_| !json.is_empty()) else {
            return;
        };
        call.arguments.push_str(json);
        match self.events.last_mut() {
            Some(AnswerEvent::ToolCallArguments { index, json: last }) if *index == call.index => {
                last.push_str(json);
            }
            _ => self.events.push(AnswerEvent::ToolCallArguments {
                index: call.index,
                json: json.to_owned(),
            }),
        }
    }

    /// Ends the call. False where its arguments are no object after all; it is still there then.
    pub(super) fn end(&mut self) -> bool {
        let Some(call) = &self.call else { return false };
        let arguments = serde_json::from_str(&call.arguments);
        if !matches!(arguments, Ok(serde_json::Value::Object(_))) {
            return false;
        }
        let index = call.index;
        self.events.push(AnswerEvent::ToolCallEnd { index });
        self.call = None;
        self.raw.clear();
        self.other_first |= !self.text_begun;
        self.after_call = true;
        true
    }

    /// What was written is text after all.
    pub(super) fn give_back(&mut self) {
        let raw = std::mem::take(&mut self.raw);
        let Some(call) = self.call.take() else {
            return raw.chars().for_each(|c| self.text(c));
        };
        self.put_space();
        self.text_begun = true;
        self.after_call = false;
        self.events.push(AnswerEvent::ToolCallUndone {
            index: call.index,
            text: raw,
        });
    }

    /// No more comes.
    pub(super) fn finish(&mut self) {
        if !self.after_call {
            self.put_space();
        }
    }
}

/// Nine letters and digits, the form that all templates take: Mistral's refuse others.
fn call_id(seed: u64, index: usize) -> String {
    const LETTERS: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    // SplitMix64, <https://doi.org/10.1145/2714064.2660195>.
    let mut state = seed.wrapping_add((index as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    state = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    state = (state ^ (state >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    state ^= state >> 31;
    let mut id = String::with_capacity(9);
    for _ in 0..9 {
        id.push(char::from(LETTERS[(state % 62) as usize]));
        state /= 62;
    }
    id
}
