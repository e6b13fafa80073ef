//! Several requests at once, on a scripted model.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use super::*;
use crate::Options;
use crate::testing::{Call, Failing, Letters, Script, request, service};

/// What one request was given.
#[derive(Default)]
struct Told {
    pieces: RefCell<String>,
    outcome: RefCell<Option<Result<Generation>>>,
    taken: Cell<bool>,
    cancelled: Cell<bool>,
    /// Panics when a piece comes.
    panics: Cell<bool>,
}

impl Client for Rc<Told> {
    fn is_cancelled(&self) -> bool {
        self.cancelled.get()
    }

    fn emit(&mut self, piece: Piece) {
        assert!(!self.panics.get(), "scripted panic");
        self.pieces.borrow_mut().push_str(&piece.text);
    }

    fn taken(&mut self) {
        self.taken.set(true);
    }

    fn done(&mut self, outcome: Result<Generation>) {
        let before = self.outcome.replace(Some(outcome));
        assert!(before.is_none(), "an end comes once");
    }
}

impl Told {
    fn text(&self) -> String {
        match &*self.outcome.borrow() {
            Some(Ok(generation)) => {
                assert_eq!(generation.text, *self.pieces.borrow());
                generation.text.clone()
            }
            other => panic!("{other:?}"),
        }
    }

    fn is_over(&self) -> bool {
        self.outcome.borrow().is_some()
    }
}

type Requests = Scheduler<usize, Rc<Told>>;

fn ask(requests: &mut Requests, prompt: usize, options: &Options) -> Rc<Told> {
    let told = Rc::new(Told::default());
    let (request, client) = (request(prompt, options), Rc::clone(&told));
    requests.add(request, Some(Arc::new(Letters)), client, Instant::now());
    told
}

fn finish(requests: &mut Requests, model: &mut Script) {
    for _ in 0..10_000 {
        if requests.is_idle() {
            assert!(model.held_sequences.iter().all(|held| !held));
            return;
        }
        requests.step(model);
    }
    panic!("it does not end");
}

fn tokens(count: usize) -> Options {
    Options::new().max_tokens(count)
}

#[test]
fn requests_decode_together_and_each_gets_its_whole_answer() {
    let mut model = Script::new("abcdefgh");
    let mut requests = Requests::new(service(3));
    let told: Vec<_> = [5, 6, 8].map(|n| ask(&mut requests, 2, &tokens(n))).into();
    finish(&mut requests, &mut model);
    let texts: Vec<String> = told.iter().map(|told| told.text()).collect();
    assert_eq!(texts, ["abcde", "abcdef", "abcdefgh"]);
    assert!(
        model.calls.contains(&Call::Together(3)),
        "{:?}",
        model.calls
    );
    assert!(
        model.calls.contains(&Call::Together(2)),
        "{:?}",
        model.calls
    );
}

#[test]
fn who_comes_later_waits_for_a_place_and_joins_between_two_steps() {
    let mut model = Script::new("abcdefgh");
    let mut requests = Requests::new(service(2));
    let first = ask(&mut requests, 1, &tokens(8));
    let second = ask(&mut requests, 1, &tokens(2));
    let third = ask(&mut requests, 1, &tokens(3));
    while !second.is_over() {
        requests.step(&mut model);
        assert!(!third.taken.get() || second.is_over());
    }
    assert!(!first.is_over());
    finish(&mut requests, &mut model);
    assert_eq!(
        (first.text(), third.text()),
        ("abcdefgh".into(), "abc".into())
    );
    let waited = third.outcome.borrow();
    let waited = waited
        .as_ref()
        .unwrap()
        .as_ref()
        .unwrap()
        .metrics
        .queue_time;
    assert!(waited > std::time::Duration::ZERO);
}

#[test]
fn an_answer_goes_on_between_the_chunks_of_another_prompt() {
    let mut model = Script::new("abcdefgh");
    let mut requests = Requests::new(service(3));
    let first = ask(&mut requests, 1, &tokens(8));
    while first.pieces.borrow().is_empty() {
        requests.step(&mut model);
    }
    let long = ask(&mut requests, 50, &tokens(1).prefill_chunk(10));
    let short = ask(&mut requests, 3, &tokens(1));
    requests.step(&mut model);
    // A short prompt is read beside a long one.
    assert!(long.taken.get() && model.calls.contains(&Call::First(3)));
    for _ in 0..4 {
        let before = first.pieces.borrow().len();
        requests.step(&mut model);
        assert_eq!(first.pieces.borrow().len(), before + 1);
    }
    finish(&mut requests, &mut model);
    let texts = [first.text(), long.text(), short.text()];
    assert_eq!(texts, ["abcdefgh", "a", "a"]);
    let prefills = model
        .calls
        .iter()
        .filter(|call| **call == Call::Prefill(10));
    assert_eq!(prefills.count(), 4);
}

#[test]
fn an_answer_goes_on_between_the_layers_of_another_prompt() {
    let mut model = Script::new("abcdefghijklmnopqrst");
    model.layers = 4;
    let mut requests = Requests::new(service(3));
    let first = ask(&mut requests, 1, &tokens(20));
    while first.pieces.borrow().is_empty() {
        requests.step(&mut model);
    }
    // Alone it is not made to pause.
    assert!(!model.calls.iter().any(|call| matches!(call, Call::Part(_))));
    let long = ask(&mut requests, 15, &tokens(1).prefill_chunk(10));
    for parts in 1..=3 {
        let before = first.pieces.borrow().len();
        requests.step(&mut model);
        assert_eq!(first.pieces.borrow().len(), before + 1);
        let all = model.calls.iter().filter(|call| **call == Call::Part(10));
        assert_eq!(all.count(), parts);
    }
    requests.step(&mut model);
    assert!(model.calls.contains(&Call::Prefill(10)));
    requests.step(&mut model);
    assert_eq!(model.calls.last(), Some(&Call::Part(5)));

    // One that goes in the midst of a pass leaves its place to the next.
    long.cancelled.set(true);
    let next = ask(&mut requests, 15, &tokens(1).prefill_chunk(10));
    finish(&mut requests, &mut model);
    let outcome = long.outcome.borrow();
    assert!(matches!(&*outcome, Some(Err(Error::Cancelled { .. }))));
    assert_eq!(
        (first.text(), next.text()),
        ("abcdefghijklmnopqrst".into(), "a".into())
    );
}

#[test]
fn what_has_no_room_beside_others_waits_and_what_came_later_waits_behind_it() {
    let mut model = Script::new("abcd");
    model.room = 10;
    let mut requests = Requests::new(service(3));
    let first = ask(&mut requests, 5, &tokens(4));
    let large = ask(&mut requests, 11, &tokens(1));
    let small = ask(&mut requests, 5, &tokens(1));
    requests.step(&mut model);
    requests.step(&mut model);
    assert!(first.taken.get() && !large.taken.get() && !small.taken.get());
    finish(&mut requests, &mut model);
    let texts = [first.text(), large.text(), small.text()];
    assert_eq!(texts, ["abcd", "a", "a"]);
}

#[test]
fn who_came_last_is_put_aside_when_answers_have_grown_and_goes_on_where_it_was() {
    let text: String = ('a'..='z').cycle().take(600).collect();
    let mut model = Script::new(&text);
    // For both prompts with the margin, and not for both answers at their ends.
    model.room = 700;
    let mut requests = Requests::new(service(3));
    let first = ask(&mut requests, 20, &tokens(500));
    let second = ask(&mut requests, 30, &tokens(400).prefill_chunk(16));
    let third = ask(&mut requests, 1, &tokens(1));
    finish(&mut requests, &mut model);
    assert_eq!(first.text(), text[..500]);
    assert_eq!(second.text(), text[..400]);
    assert_eq!(third.text(), "a");
    let put_aside = |told: &Told| {
        let outcome = told.outcome.borrow();
        outcome
            .as_ref()
            .unwrap()
            .as_ref()
            .unwrap()
            .metrics
            .put_aside
    };
    assert_eq!((put_aside(&first), put_aside(&second)), (0, 1));
    assert!(model.calls.contains(&Call::PutAside));
    let replayed = model.calls.iter().filter_map(|call| match call {
        Call::Replay(tokens) => Some(*tokens),
        _ => None,
    });
    // 700 tokens are 20 + 30 of the prompts, and as many of each answer.
    assert!((310..=325).contains(&replayed.sum::<usize>()));
}

#[test]
fn what_was_put_aside_can_be_cancelled() {
    let text: String = ('a'..='z').cycle().take(600).collect();
    let mut model = Script::new(&text);
    model.room = 600;
    let mut requests = Requests::new(service(2));
    let first = ask(&mut requests, 1, &tokens(500));
    let second = ask(&mut requests, 1, &tokens(500));
    while !model.calls.contains(&Call::PutAside) {
        requests.step(&mut model);
    }
    second.cancelled.set(true);
    requests.step(&mut model);
    let outcome = second.outcome.borrow();
    let Some(Err(Error::Cancelled { partial })) = &*outcome else {
        panic!("{outcome:?}")
    };
    assert!(partial.text.len() > 290 && text.starts_with(&partial.text));
    assert!(!first.is_over());
    finish(&mut requests, &mut model);
    assert_eq!(first.text(), text[..500]);
}

#[test]
fn a_failure_of_one_is_no_failure_of_the_others() {
    let mut model = Script::new("abcdef");
    model.fail_after = Some(2);
    let mut requests = Requests::new(service(3));
    let failing: Vec<_> = [6, 6].map(|n| ask(&mut requests, 1, &tokens(n))).into();
    let short = ask(&mut requests, 1, &tokens(3));
    finish(&mut requests, &mut model);
    assert_eq!(short.text(), "abc");
    for told in failing {
        let outcome = told.outcome.borrow();
        let Some(Err(Error::Interrupted { partial, .. })) = &*outcome else {
            panic!("{outcome:?}")
        };
        assert_eq!(partial.text, "abc");
    }
}

#[test]
fn what_cannot_be_run_together_is_run_one_by_one() {
    let mut model = Script::new("abcdef");
    model.fail_together = Some(Failing::Refuses);
    let mut requests = Requests::new(service(3));
    let told: Vec<_> = [5, 6, 6].map(|n| ask(&mut requests, 1, &tokens(n))).into();
    finish(&mut requests, &mut model);
    let texts: Vec<String> = told.iter().map(|told| told.text()).collect();
    assert_eq!(texts, ["abcde", "abcdef", "abcdef"]);
    assert!(model.fail_together.is_none(), "it has failed");
}

#[test]
fn a_panic_of_a_step_ends_those_that_took_it_and_says_why() {
    let mut model = Script::new("abcdef");
    model.fail_together = Some(Failing::Panics);
    let mut requests = Requests::new(service(2));
    let told: Vec<_> = [5, 6].map(|n| ask(&mut requests, 1, &tokens(n))).into();
    let later = ask(&mut requests, 1, &tokens(2));
    finish(&mut requests, &mut model);
    assert_eq!(later.text(), "ab");
    for told in told {
        let outcome = told.outcome.borrow();
        let Some(Err(Error::Panicked { message })) = &*outcome else {
            panic!("{outcome:?}")
        };
        assert_eq!(message, "scripted panic");
    }
}

#[test]
fn a_panic_ends_the_request_that_caused_it() {
    let mut model = Script::new("abc");
    let mut requests = Requests::new(service(2));
    let bad = ask(&mut requests, 1, &tokens(3));
    let good = ask(&mut requests, 1, &tokens(3));
    bad.panics.set(true);
    finish(&mut requests, &mut model);
    assert_eq!(good.text(), "abc");
    assert!(matches!(
        &*bad.outcome.borrow(),
        Some(Err(Error::Panicked { .. }))
    ));
    assert!(model.calls.contains(&Call::DropCaches));
}

/// Requests that come, are cancelled and end at random moments: each that was not cancelled gets its answer,
/// and no sequence is left.
#[test]
fn random_schedules_end_with_nothing_held() {
    let text = "abcdefghijklmnopqrstuvwxyz";
    let mut state = 9_u64;
    let mut below = |n: usize| {
        state = state
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (state >> 33) as usize % n
    };
    let mut put_aside = 0;
    for _ in 0..1000 {
        let mut model = Script::new(text);
        model.room = 1 + below(80);
        model.layers = 1 + below(4);
        let mut requests = Requests::new(service(1 + below(5)));
        requests.margin = below(8);
        let mut asked = Vec::new();
        for _ in 0..below(60) {
            match below(4) {
                0 => {
                    let options = tokens(below(20)).prefill_chunk(1 + below(9));
                    let wanted = options.max_tokens.unwrap();
                    asked.push((ask(&mut requests, 1 + below(40), &options), wanted));
                }
                1 if !asked.is_empty() => asked[below(asked.len())].0.cancelled.set(true),
                _ => requests.step(&mut model),
            }
        }
        finish(&mut requests, &mut model);
        put_aside += model
            .calls
            .iter()
            .filter(|call| **call == Call::PutAside)
            .count();
        for (told, wanted) in asked {
            let outcome = told.outcome.borrow();
            match outcome.as_ref().unwrap() {
                Ok(generation) => assert_eq!(generation.text, text[..wanted]),
                Err(Error::Cancelled { partial }) => {
                    assert!(told.cancelled.get() && text.starts_with(&partial.text));
                }
                Err(error) => panic!("{error}"),
            }
        }
    }
    assert!(put_aside > 100, "{put_aside}");
}

fn ask_copy(requests: &mut Requests, prompt: usize, options: &Options) -> Rc<Told> {
    let told = Rc::new(Told::default());
    let (request, client) = (request(prompt, options), Rc::clone(&told));
    requests.add_copy(request, Some(Arc::new(Letters)), client, Instant::now());
    told
}

fn count(model: &Script, call: impl Fn(&Call) -> bool) -> usize {
    model.calls.iter().filter(|one| call(one)).count()
}

#[test]
fn several_answers_read_their_prompt_once_and_each_is_whole() {
    for chunk in [1, 3, 64] {
        let mut model = Script::new("abcdefgh");
        let mut requests = Requests::new(service(4));
        let options = |n| tokens(n).prefill_chunk(chunk);
        let mut told = vec![ask(&mut requests, 7, &options(6))];
        told.extend([4, 8].map(|n| ask_copy(&mut requests, 7, &options(n))));
        let other = ask(&mut requests, 5, &options(3));
        finish(&mut requests, &mut model);
        let texts: Vec<String> = told.iter().map(|told| told.text()).collect();
        assert_eq!(texts, ["abcdef", "abcd", "abcdefgh"]);
        assert_eq!(other.text(), "abc");
        // Two prompts, and two copies of the first.
        assert_eq!(count(&model, |call| matches!(call, Call::First(_))), 2);
        assert_eq!(count(&model, |call| *call == Call::Copy), 2);
    }
}

#[test]
fn copies_without_a_place_or_without_pages_read_the_prompt_themselves() {
    for (places, copies, firsts) in [(2, true, 2), (1, true, 4), (4, false, 4)] {
        let mut model = Script::new("abcd");
        model.copies = copies;
        let mut requests = Requests::new(service(places));
        let first = ask(&mut requests, 3, &tokens(4));
        let told = [(); 3].map(|()| ask_copy(&mut requests, 3, &tokens(4)));
        finish(&mut requests, &mut model);
        assert!(
            told.iter()
                .chain([&first])
                .all(|told| told.text() == "abcd")
        );
        let found = count(&model, |call| matches!(call, Call::First(_)));
        assert_eq!(found, firsts, "{places} places, {copies}");
    }
}

#[test]
fn copies_outlive_the_one_whose_prompt_was_to_be_theirs() {
    // Cancelled while it waits, while its prompt is read, and before there is a place for the copies.
    for steps in 0..4 {
        let mut model = Script::new("abcd");
        model.layers = 3;
        let mut requests = Requests::new(service(2));
        let busy = ask(&mut requests, 1, &tokens(4));
        let first = ask(&mut requests, 4, &tokens(4).prefill_chunk(2));
        let told = [(); 3].map(|()| ask_copy(&mut requests, 4, &tokens(4).prefill_chunk(2)));
        for _ in 0..steps {
            requests.step(&mut model);
        }
        first.cancelled.set(true);
        told[1].cancelled.set(true);
        finish(&mut requests, &mut model);
        assert_eq!(busy.text(), "abcd");
        assert!(
            [&told[0], &told[2]]
                .iter()
                .all(|told| told.text() == "abcd")
        );
        for one in [&first, &told[1]] {
            let outcome = one.outcome.borrow();
            assert!(
                matches!(*outcome, Some(Err(Error::Cancelled { .. }))),
                "{outcome:?}"
            );
        }
    }
}

#[test]
fn a_prompt_that_comes_from_disk_holds_up_nobody() {
    let mut model = Script::new("abcdefgh");
    (model.on_disk, model.fetch_asks) = (6, 5);
    let mut requests = Requests::new(service(2));
    let slow = ask(&mut requests, 9, &tokens(4).prefill_chunk(4));
    requests.step(&mut model);
    let reads = |model: &Script| {
        count(model, |call| {
            matches!(call, Call::Prefill(_) | Call::First(_))
        })
    };
    assert_eq!(reads(&model), 0);
    // A shorter one that comes later is read meanwhile, and goes on.
    let other = ask(&mut requests, 2, &tokens(4));
    requests.step(&mut model);
    requests.step(&mut model);
    assert_eq!((reads(&model), model.fetch_asks), (1, 2));
    assert_eq!(*other.pieces.borrow(), "a");
    finish(&mut requests, &mut model);
    assert_eq!(
        (slow.text(), other.text()),
        ("abcd".to_owned(), "abcd".to_owned())
    );
    // Six tokens are there, and the chunks end where they would.
    let read: Vec<&Call> = model
        .calls
        .iter()
        .filter(|call| matches!(call, Call::Prefill(_) | Call::First(_)))
        .collect();
    assert!(
        read.contains(&&Call::Prefill(2)) && read.contains(&&Call::First(1)),
        "{read:?}"
    );
    let outcome = slow.outcome.borrow();
    let reused = outcome
        .as_ref()
        .unwrap()
        .as_ref()
        .unwrap()
        .metrics
        .reused_tokens;
    assert_eq!(reused, 6);
}
