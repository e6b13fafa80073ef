//! The loop's rules, on a scripted model.

use std::cell::{Cell, RefCell};
use std::sync::Arc;

use super::*;
use crate::Options;
use crate::scheduler::{Client, Scheduler};
use crate::testing::{Call, EOS, Letters, Script, request, service};

/// Runs a request to its end; the pieces and the outcome.
fn run(model: &mut Script, request: &Request) -> (Vec<String>, Result<Generation>) {
    run_until(model, request, &|_| false)
}

/// Cancels as soon as `cancelled` says so of the number of times it was asked.
fn run_until(
    model: &mut Script,
    request: &Request,
    cancelled: &dyn Fn(usize) -> bool,
) -> (Vec<String>, Result<Generation>) {
    let (pieces, outcome) = run_with(model, request, Some(Arc::new(Letters)), cancelled);
    let texts = pieces.into_iter().map(|piece| piece.text);
    (texts.collect(), outcome)
}

/// The one who asked.
struct Alone<'a> {
    asked: Cell<usize>,
    cancelled: &'a dyn Fn(usize) -> bool,
    got: &'a RefCell<(Vec<Piece>, Option<Result<Generation>>)>,
}

impl Client for Alone<'_> {
    fn is_cancelled(&self) -> bool {
        self.asked.set(self.asked.get() + 1);
        // The first time, it has not been taken up.
        (self.cancelled)(self.asked.get() - 1)
    }

    fn emit(&mut self, piece: Piece) {
        self.got.borrow_mut().0.push(piece);
    }

    fn taken(&mut self) {}

    fn done(&mut self, outcome: Result<Generation>) {
        self.got.borrow_mut().1 = Some(outcome);
    }
}

fn run_with(
    model: &mut Script,
    request: &Request,
    vocabulary: Option<Arc<dyn Vocabulary>>,
    cancelled: &dyn Fn(usize) -> bool,
) -> (Vec<Piece>, Result<Generation>) {
    let got = RefCell::default();
    let mut scheduler = Scheduler::new(service(1));
    let client = Alone {
        asked: Cell::new(0),
        cancelled,
        got: &got,
    };
    scheduler.add(request.clone(), vocabulary, client, Instant::now());
    while !scheduler.is_idle() {
        scheduler.step(model);
    }
    drop(scheduler);
    let (pieces, outcome) = got.into_inner();
    (pieces, outcome.unwrap())
}

fn options() -> Options {
    Options::new()
}

#[test]
fn the_answer_ends_before_the_end_of_sequence_token() {
    let mut model = Script::new("42");
    let (pieces, outcome) = run(&mut model, &request(3, &options()));
    let generation = outcome.unwrap();
    assert_eq!(generation.text, "42");
    assert_eq!(pieces, ["4", "2"]);
    assert_eq!(generation.token_ids, [52, 50]);
    assert_eq!(generation.finish_reason, FinishReason::Stop);
    assert_eq!(generation.metrics.prompt_tokens, 3);
    assert_eq!(generation.metrics.generated_tokens, 2);
    assert_eq!(generation.metrics.peak_memory_bytes, 20);
}

#[test]
fn ignore_eos_goes_on_to_the_last_token() {
    let mut model = Script::from_ids(vec![97, EOS, 98]);
    let options = options().ignore_eos(true).max_tokens(3);
    let generation = run(&mut model, &request(1, &options)).1.unwrap();
    assert_eq!(generation.token_ids, [97, EOS, 98]);
    assert_eq!(generation.finish_reason, FinishReason::Length);
}

#[test]
fn a_step_is_submitted_before_the_token_before_it_is_read() {
    let mut model = Script::new("abc");
    run(&mut model, &request(1, &options())).1.unwrap();
    let position = |call: Call| model.calls.iter().position(|c| *c == call).unwrap();
    for step in 0..3 {
        assert!(
            position(Call::Next(step)) < position(Call::Read(step)),
            "{:?}",
            model.calls
        );
    }
}

#[test]
fn no_step_is_submitted_that_max_tokens_makes_useless() {
    let mut model = Script::new("abcdef");
    let options = options().max_tokens(3);
    let (pieces, outcome) = run(&mut model, &request(1, &options));
    assert_eq!(pieces.concat(), "abc");
    assert_eq!(outcome.unwrap().finish_reason, FinishReason::Length);
    assert!(!model.calls.contains(&Call::Next(2)), "{:?}", model.calls);
}

#[test]
fn no_tokens_asked_for_is_no_work() {
    let mut model = Script::new("abc");
    let generation = run(&mut model, &request(1, &options().max_tokens(0)))
        .1
        .unwrap();
    assert_eq!(
        (generation.text.as_str(), generation.finish_reason),
        ("", FinishReason::Length)
    );
    assert!(!model.calls.contains(&Call::Begin));
}

#[test]
fn a_full_context_is_the_reason_given() {
    let mut model = Script::from_ids(vec![97; 100]);
    let generation = run(&mut model, &request(99_998, &options())).1.unwrap();
    assert_eq!(
        (generation.text.as_str(), generation.finish_reason),
        ("aa", FinishReason::Context)
    );
}

#[test]
fn the_prompt_goes_in_by_chunks_and_only_its_last_asks_for_logits() {
    for (prompt, chunk, prefills, last) in [
        (7, 3, vec![3, 3], 1),
        (6, 3, vec![3], 3),
        (2, 3, vec![], 2),
        (3, 1, vec![1, 1], 1),
    ] {
        let mut model = Script::new("a");
        run(
            &mut model,
            &request(prompt, &options().prefill_chunk(chunk)),
        )
        .1
        .unwrap();
        let sizes: Vec<usize> = model
            .calls
            .iter()
            .filter_map(|call| {
                if let Call::Prefill(n) = call {
                    Some(*n)
                } else {
                    None
                }
            })
            .collect();
        assert_eq!(sizes, prefills, "prompt {prompt}, chunk {chunk}");
        assert!(model.calls.contains(&Call::First(last)));
        assert_eq!(
            model.calls[0],
            Call::Begin,
            "the caches are reset before anything else"
        );
    }
}

#[test]
fn what_the_caches_hold_of_a_prompt_is_not_run_again() {
    let mut model = Script::new("a");
    model.held_prefix = 4;
    let options = options().prefill_chunk(3).reuse_prefix(true);
    let metrics = run(&mut model, &request(9, &options)).1.unwrap().metrics;
    assert_eq!((metrics.prompt_tokens, metrics.reused_tokens), (9, 4));
    // Chunks end at multiples of three.
    assert!(model.calls.contains(&Call::Prefill(2)), "{:?}", model.calls);
    assert!(model.calls.contains(&Call::First(3)), "{:?}", model.calls);
    let seconds = metrics.time_to_first_token.unwrap().as_secs_f64();
    let rate = metrics.prefill_tokens_per_second.unwrap();
    assert!(
        (rate * seconds - 5.0).abs() < 1e-6,
        "only what was run counts"
    );
}

#[test]
fn the_buffer_cache_is_given_back_between_chunks_during_and_after() {
    let mut model = Script::from_ids(vec![97; 600]);
    run(&mut model, &request(5, &options().prefill_chunk(2)))
        .1
        .unwrap();
    let releases = |calls: &[Call]| calls.iter().filter(|c| **c == Call::Release).count();
    let first = model
        .calls
        .iter()
        .position(|c| matches!(c, Call::First(_)))
        .unwrap();
    assert_eq!(releases(&model.calls[..first]), 2);
    assert_eq!(
        releases(&model.calls[first..]),
        2 + 1,
        "each 256 tokens and at the end"
    );
    assert_eq!(
        model.calls[model.calls.len() - 2..],
        [Call::Release, Call::Rest]
    );
}

#[test]
fn cancelling_returns_what_was_there() {
    let mut model = Script::new("abcdef");
    // Asked once before the prompt, then before each token.
    let (pieces, outcome) = run_until(&mut model, &request(1, &options()), &|asked| asked > 4);
    let Err(Error::Cancelled { partial }) = outcome else {
        panic!("{outcome:?}")
    };
    assert_eq!(partial.text, "abc");
    assert_eq!(partial.token_ids.len(), 3);
    assert_eq!(partial.finish_reason, FinishReason::Cancelled);
    assert_eq!(pieces.concat(), "abc");
}

#[test]
fn cancelling_is_noticed_between_the_chunks_of_a_prompt() {
    let mut model = Script::new("abc");
    let request = request(10, &options().prefill_chunk(2));
    let outcome = run_until(&mut model, &request, &|asked| asked > 2).1;
    assert!(matches!(outcome, Err(Error::Cancelled { partial }) if partial.text.is_empty()));
    let prefills = model
        .calls
        .iter()
        .filter(|call| matches!(call, Call::Prefill(_)))
        .count();
    assert_eq!(prefills, 2);
    assert_eq!(
        model.calls[model.calls.len() - 2..],
        [Call::Release, Call::Rest],
        "memory is tidied up all the same"
    );
}

#[test]
fn a_failure_on_the_way_keeps_what_was_there() {
    let mut model = Script::new("abcdef");
    model.fail_at = Some(2);
    let (pieces, outcome) = run(&mut model, &request(1, &options()));
    let Err(Error::Interrupted { partial, source }) = outcome else {
        panic!("{outcome:?}")
    };
    assert_eq!(partial.text, "ab");
    assert_eq!(partial.finish_reason, FinishReason::Failed);
    assert!(source.to_string().contains("out of memory"), "{source}");
    assert_eq!(pieces.concat(), "ab");
}

#[test]
fn a_step_that_cannot_be_submitted_costs_no_token_before_it() {
    let mut model = Script::new("abcdef");
    model.fail_after = Some(2);
    let (pieces, outcome) = run(&mut model, &request(1, &options()));
    let partial = outcome.unwrap_err().into_partial().unwrap();
    assert_eq!(partial.text, "abc");
    assert_eq!(pieces.concat(), "abc");
    // A device that ran out of memory has to have it back.
    let last = [Call::DropCaches, Call::Release, Call::Rest];
    assert_eq!(model.calls[model.calls.len() - 3..], last);
}

#[test]
fn a_stop_text_across_tokens_ends_the_answer_and_is_not_in_it() {
    let mut model = Script::new("one\nQ: two");
    let options = options().stop("\nQ:");
    let (pieces, outcome) = run(&mut model, &request(1, &options));
    let generation = outcome.unwrap();
    assert_eq!(generation.text, "one");
    assert_eq!(generation.finish_reason, FinishReason::StopText);
    assert_eq!(pieces.concat(), "one");
}

#[test]
fn what_a_stop_text_held_back_comes_out_when_the_answer_ends() {
    for options in [options(), options().max_tokens(5)] {
        let mut model = Script::new("one\nQ");
        let (pieces, outcome) = run(&mut model, &request(1, &options.stop("\nQ:")));
        assert_eq!(outcome.unwrap().text, "one\nQ");
        assert_eq!(pieces.concat(), "one\nQ");
    }
}

#[test]
fn without_a_tokenizer_there_are_ids_and_no_text() {
    let mut model = Script::from_ids(vec![5, 6]);
    let (pieces, outcome) = run_with(&mut model, &request(1, &options()), None, &|_| false);
    let generation = outcome.unwrap();
    assert_eq!(
        (generation.text.as_str(), &generation.token_ids[..]),
        ("", &[5, 6][..])
    );
    let ids: Vec<u32> = pieces
        .into_iter()
        .flat_map(|piece| piece.token_ids)
        .collect();
    assert_eq!(ids, [5, 6]);
}

/// Keeps all back to the end, as a decoder does with bytes that are no character yet.
struct AllAtTheEnd;

impl Vocabulary for AllAtTheEnd {
    fn decoder(&self) -> Box<dyn crate::text::Decoder> {
        Box::new(Kept(String::new()))
    }
}

struct Kept(String);

impl crate::text::Decoder for Kept {
    fn push(&mut self, id: u32) -> Result<String> {
        self.0.extend(char::from_u32(id));
        Ok(String::new())
    }

    fn finish(self: Box<Self>) -> Result<String> {
        Ok(self.0)
    }
}

#[test]
fn a_stop_text_that_the_last_of_the_text_completes_is_the_reason() {
    let run = |text: &str, options: &Options| {
        let vocabulary: Option<Arc<dyn Vocabulary>> = Some(Arc::new(AllAtTheEnd));
        let request = request(1, options);
        let outcome = run_with(&mut Script::new(text), &request, vocabulary, &|_| false).1;
        let generation = outcome.unwrap();
        (generation.text, generation.finish_reason)
    };
    let stop = options().stop("AA");
    // By max_tokens, and by the end of sequence.
    let cut = || ("one ".to_owned(), FinishReason::StopText);
    assert_eq!(run("one AA two", &stop.clone().max_tokens(7)), cut());
    assert_eq!(run("one AA", &stop), cut());
    let whole = run("one A", &stop);
    assert_eq!(whole, ("one A".to_owned(), FinishReason::Stop));
    let whole = run("one A", &stop.max_tokens(3));
    assert_eq!(whole, ("one".to_owned(), FinishReason::Length));
}

#[test]
fn a_token_that_ends_the_answer_is_part_of_it() {
    let mut model = Script::new("abcd");
    model.last = Some(1);
    let (pieces, outcome) = run(&mut model, &request(1, &options()));
    let generation = outcome.unwrap();
    assert_eq!(
        (generation.text.as_str(), pieces.concat().as_str()),
        ("ab", "ab")
    );
    assert_eq!(generation.finish_reason, FinishReason::Stop);
    // A stop text that it completes counts before.
    let mut model = Script::new("abcd");
    model.last = Some(1);
    let stop = run(&mut model, &request(1, &options().stop("b")))
        .1
        .unwrap();
    assert_eq!(stop.finish_reason, FinishReason::StopText);
}
