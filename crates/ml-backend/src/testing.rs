//! A scripted model and a vocabulary of letters: the rules of generation, tested without MLX.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use crate::language_model::{LanguageModel, MemoryUse, Reading, Sampled, SequenceId};
use crate::request::{ModelLimits, Request};
use crate::scheduler::Service;
use crate::text::{Decoder, Vocabulary};
use crate::{Error, Options, Result, TokenLogprobs};

/// The end-of-sequence token of [`limits`].
pub(crate) const EOS: u32 = 0;

/// What the scripted model was asked, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    Begin,
    Prefill(usize),
    First(usize),
    /// A part of so many tokens' pass, not the last one.
    Part(usize),
    /// A step was submitted that takes the token of this step.
    Next(usize),
    /// A step of so many sequences was submitted.
    Together(usize),
    /// The token of this step was waited for.
    Read(usize),
    Copy,
    PutAside,
    Replay(usize),
    /// So many texts were read at once.
    Texts(usize),
    Release,
    Rest,
    DropCaches,
}

/// How a step of several sequences fails.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Failing {
    /// With nothing done.
    Refuses,
    Panics,
}

/// A model that says `script`, and then [`EOS`] for ever.
pub(crate) struct Script {
    pub(crate) script: Vec<u32>,
    pub(crate) calls: Vec<Call>,
    /// Which of its sequences are held.
    pub(crate) held_sequences: Vec<bool>,
    /// The last token of each.
    made: Vec<usize>,
    /// The prompt of each, and what its caches hold.
    prompts: Vec<Vec<u32>>,
    caches: Vec<Vec<u32>>,
    /// How the next step of several sequences fails, once.
    pub(crate) fail_together: Option<Failing>,
    /// Tokens of several sequences for which there is memory.
    pub(crate) room: usize,
    /// Layers of a pass over a prompt; behind each but the last one it asks whether to go on.
    pub(crate) layers: usize,
    /// Of each sequence, the tokens of the pass that has paused, and the layers that have run.
    paused: Vec<Option<(Vec<u32>, usize)>>,
    /// Tokens of a prompt that the caches hold, for plans that may reuse them.
    pub(crate) held_prefix: usize,
    /// First tokens of longer prompts that are on disk, and how often it is asked for them before they are there.
    pub(crate) on_disk: usize,
    pub(crate) fetch_asks: usize,
    /// Whether sequences can be copied.
    pub(crate) copies: bool,
    /// The token of this step ends the answer.
    pub(crate) last: Option<usize>,
    /// Reading this step's token fails.
    pub(crate) fail_at: Option<usize>,
    /// Submitting the step after this one fails.
    pub(crate) fail_after: Option<usize>,
    /// Reading this step's token panics, once.
    pub(crate) panic_at: Option<usize>,
    /// A message that lets the model go on, awaited before each token is read.
    pub(crate) gate: Option<Receiver<()>>,
    pub(crate) held: MemoryUse,
    /// Tells when a generation begins.
    pub(crate) begun: Option<Sender<()>>,
    /// Tells when the model is freed.
    pub(crate) freed: Option<Sender<()>>,
}

impl Script {
    pub(crate) fn new(text: &str) -> Self {
        Self::from_ids(text.chars().map(|letter| letter as u32).collect())
    }

    pub(crate) fn from_ids(script: Vec<u32>) -> Self {
        Self {
            script,
            calls: Vec::new(),
            held_sequences: Vec::new(),
            made: Vec::new(),
            prompts: Vec::new(),
            caches: Vec::new(),
            fail_together: None,
            room: usize::MAX,
            layers: 1,
            paused: Vec::new(),
            held_prefix: 0,
            on_disk: 0,
            fetch_asks: 0,
            copies: true,
            last: None,
            fail_at: None,
            fail_after: None,
            panic_at: None,
            gate: None,
            held: MemoryUse {
                active: 10,
                peak: 20,
                accounted: 100,
            },
            begun: None,
            freed: None,
        }
    }

    /// Whether the pass over `ids`, which may have begun, pauses.
    fn pauses(
        &mut self,
        sequence: SequenceId,
        ids: &[u32],
        more: &mut dyn FnMut() -> bool,
    ) -> bool {
        let paused = self.paused[sequence.0].take();
        let done = paused.map_or(0, |(tokens, done)| {
            assert_eq!(tokens, ids, "another pass goes on");
            done
        });
        for layer in done + 1..self.layers {
            if !more() {
                self.calls.push(Call::Part(ids.len()));
                self.paused[sequence.0] = Some((ids.to_vec(), layer));
                return true;
            }
        }
        false
    }

    /// Makes reading a token wait for a message.
    pub(crate) fn gated(mut self) -> (Self, Sender<()>) {
        let (open, gate) = channel();
        self.gate = Some(gate);
        (self, open)
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        if let Some(freed) = &self.freed {
            let _ = freed.send(());
        }
    }
}

fn out_of_memory() -> Error {
    mlx_core::Error::Native("out of memory".to_owned()).into()
}

impl LanguageModel for Script {
    /// The step that makes the token.
    type Token = usize;

    fn begin(&mut self, request: &Request) -> Result<(SequenceId, usize)> {
        self.calls.push(Call::Begin);
        if let Some(begun) = &self.begun {
            let _ = begun.send(());
        }
        let free = self.held_sequences.iter().position(|held| !held);
        let number = free.unwrap_or(self.held_sequences.len());
        if free.is_none() {
            self.held_sequences.push(true);
            self.made.push(0);
            self.prompts.push(Vec::new());
            self.caches.push(Vec::new());
            self.paused.push(None);
        }
        let reused = match request.reuse_prefix {
            true => self.held_prefix,
            false => 0,
        };
        (self.held_sequences[number], self.made[number]) = (true, 0);
        self.paused[number] = None;
        self.prompts[number].clone_from(&request.prompt);
        self.caches[number] = request.prompt[..reused].to_vec();
        Ok((SequenceId(number), reused))
    }

    fn fetched(&mut self, sequence: SequenceId) -> Result<Option<usize>> {
        assert!(self.held_sequences[sequence.0], "it has ended");
        let prompt = &self.prompts[sequence.0];
        let cache = &mut self.caches[sequence.0];
        if (cache.len() + 1..prompt.len()).contains(&self.on_disk) {
            if self.fetch_asks > 0 {
                self.fetch_asks -= 1;
                return Ok(None);
            }
            *cache = prompt[..self.on_disk].to_vec();
        }
        Ok(Some(cache.len()))
    }

    fn background(&mut self) -> bool {
        false
    }

    fn has_room(&mut self, requests: &[(&Request, usize)]) -> bool {
        let tokens = |(request, generated): &(&Request, usize)| {
            request.prompt.len() + (*generated).min(request.max_tokens)
        };
        requests.iter().map(tokens).sum::<usize>() <= self.room
    }

    fn put_aside(&mut self, sequence: SequenceId) {
        assert!(self.held_sequences[sequence.0], "it has ended");
        self.calls.push(Call::PutAside);
        self.caches[sequence.0].clear();
        self.paused[sequence.0] = None;
    }

    fn resume(&mut self, sequence: SequenceId) {
        assert!(self.caches[sequence.0].is_empty(), "its caches are new");
    }

    fn replay(&mut self, sequence: SequenceId, ids: &[u32]) -> Result<()> {
        self.calls.push(Call::Replay(ids.len()));
        self.caches[sequence.0].extend(ids);
        Ok(())
    }

    fn prefill(
        &mut self,
        sequence: SequenceId,
        ids: &[u32],
        more: &mut dyn FnMut() -> bool,
    ) -> Result<bool> {
        if self.pauses(sequence, ids, more) {
            return Ok(false);
        }
        self.calls.push(Call::Prefill(ids.len()));
        self.caches[sequence.0].extend(ids);
        Ok(true)
    }

    fn first(
        &mut self,
        sequence: SequenceId,
        ids: &[u32],
        more: &mut dyn FnMut() -> bool,
    ) -> Result<Option<usize>> {
        if self.pauses(sequence, ids, more) {
            return Ok(None);
        }
        self.calls.push(Call::First(ids.len()));
        self.caches[sequence.0].extend(ids);
        Ok(Some(0))
    }

    fn can_copy(&self) -> bool {
        self.copies
    }

    fn copy(&mut self, of: SequenceId, request: &Request) -> Result<(SequenceId, usize)> {
        assert_eq!(self.made[of.0], 0, "it has gone on");
        assert_eq!(self.caches[of.0], request.prompt, "another prompt");
        let (sequence, _) = self.begin(request)?;
        self.caches[sequence.0].clone_from(&request.prompt);
        self.calls.push(Call::Copy);
        Ok((sequence, 0))
    }

    fn next(&mut self, steps: &[(SequenceId, &usize)]) -> Result<Vec<Result<usize>>> {
        for (sequence, _) in steps {
            assert!(self.held_sequences[sequence.0], "it has ended");
        }
        if let [(_, token)] = steps {
            self.calls.push(Call::Next(**token));
        } else {
            self.calls.push(Call::Together(steps.len()));
        }
        if steps.len() > 1 {
            match self.fail_together.take() {
                Some(Failing::Refuses) => return Err(out_of_memory()),
                Some(Failing::Panics) => panic!("scripted panic"),
                None => {}
            }
        }
        let next = |(sequence, token): &(SequenceId, &usize)| {
            // A step goes on from the one before it, and from no other.
            let made = &mut self.made[sequence.0];
            assert_eq!(*made, **token, "a token that is not the last one");
            if self.fail_after == Some(**token) {
                return Err(out_of_memory());
            }
            *made += 1;
            // It was drawn from a prompt and all tokens behind it.
            let said = |token: usize| self.script.get(token).copied().unwrap_or(EOS);
            let cache = &mut self.caches[sequence.0];
            let answer = (0..**token).map(said);
            let wanted = self.prompts[sequence.0].iter().copied().chain(answer);
            assert!(
                wanted.eq(cache.iter().copied()),
                "the caches hold something else"
            );
            cache.push(said(**token));
            Ok(*made)
        };
        Ok(steps.iter().map(next).collect())
    }

    fn read(&mut self, sequence: SequenceId, token: usize) -> Result<Sampled> {
        assert!(self.held_sequences[sequence.0], "it has ended");
        self.calls.push(Call::Read(token));
        if let Some(gate) = &self.gate {
            gate.recv_timeout(Duration::from_secs(20))
                .expect("the test forgot to open the gate");
        }
        if self.fail_at == Some(token) {
            return Err(out_of_memory());
        }
        if self.panic_at == Some(token) {
            self.panic_at = None;
            panic!("scripted panic");
        }
        let id = self.script.get(token).copied().unwrap_or(EOS);
        let ends = self.last == Some(token);
        Ok(Sampled { ends, ..id.into() })
    }

    fn prompt_logprobs(&mut self, _: SequenceId) -> Vec<TokenLogprobs> {
        Vec::new()
    }

    fn end(&mut self, sequence: SequenceId) {
        self.held_sequences[sequence.0] = false;
    }

    fn logits(&mut self, ids: &[u32]) -> Result<Vec<f32>> {
        Ok(ids.iter().map(|&id| id as f32).collect())
    }

    fn texts_together(&self, lengths: &[usize], _: &Reading) -> usize {
        // Two of one length.
        let same = lengths.iter().take(2).filter(|n| **n == lengths[0]);
        same.count()
    }

    fn has_room_for_texts(&mut self, lengths: &[usize]) -> bool {
        lengths.iter().sum::<usize>() <= self.room
    }

    fn read_texts(&mut self, texts: &[&[u32]], _: &Reading) -> Result<Vec<Vec<f32>>> {
        self.calls.push(Call::Texts(texts.len()));
        texts.iter().map(|ids| self.logits(ids)).collect()
    }

    fn memory(&mut self) -> Result<MemoryUse> {
        Ok(self.held)
    }

    fn release_buffers(&mut self) -> Result<()> {
        self.calls.push(Call::Release);
        Ok(())
    }

    fn rest(&mut self) {
        self.calls.push(Call::Rest);
    }

    fn released() {}

    fn drop_caches(&mut self, sequence: Option<SequenceId>) -> Result<()> {
        self.calls.push(Call::DropCaches);
        if let Some(sequence) = sequence {
            self.held_sequences[sequence.0] = false;
        }
        Ok(())
    }
}

/// Each id is a character.
pub(crate) struct Letters;

struct LetterDecoder;

impl Vocabulary for Letters {
    fn decoder(&self) -> Box<dyn Decoder> {
        Box::new(LetterDecoder)
    }
}

impl Decoder for LetterDecoder {
    fn push(&mut self, id: u32) -> Result<String> {
        Ok(char::from_u32(id).map(String::from).unwrap_or_default())
    }

    fn finish(self: Box<Self>) -> Result<String> {
        Ok(String::new())
    }
}

/// A model that ends at [`EOS`] and holds 100,000 tokens.
pub(crate) fn limits() -> ModelLimits {
    ModelLimits {
        vocab_size: 0x11_0000,
        context: Some(100_000),
        eos: vec![EOS],
        advice: models::GenerationDefaults::default(),
        prefill_chunk: crate::DEFAULT_PREFILL_CHUNK,
    }
}

/// Serves so many requests at a time, and pauses in prompts wherever the model can.
pub(crate) fn service(at_once: usize) -> Service {
    Service {
        at_once,
        turn: Duration::ZERO,
    }
}

/// A request for a prompt of `prompt` tokens.
pub(crate) fn request(prompt: usize, options: &Options) -> Request {
    Request::new(vec![7; prompt], options, &limits()).unwrap()
}
