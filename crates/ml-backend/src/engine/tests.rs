//! The thread and its callers, on a scripted model.

use std::pin::Pin;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::{Duration, Instant};

use futures_core::Stream;

use super::*;
use crate::language_model::Reading;
use crate::stream::GenerationStream;
use crate::testing::{Call, Letters, Script, request, service};
use crate::{FinishReason, Options};

const SOON: Duration = Duration::from_secs(10);

fn start(model: impl FnOnce() -> Script + Send + 'static) -> Arc<Engine> {
    let load = |_: &mut dyn FnMut(())| Ok((model(), service(1), ()));
    Arc::new(Engine::start(load, 100, &mut |()| ()).unwrap().0)
}

fn started(text: &'static str) -> Arc<Engine> {
    start(move || Script::new(text))
}

fn gated(text: &'static str) -> (Arc<Engine>, Sender<()>) {
    let (model, open) = Script::new(text).gated();
    (start(move || model), open)
}

fn stream(engine: &Arc<Engine>, options: &Options) -> GenerationStream {
    let vocabulary: Arc<dyn Vocabulary> = Arc::new(Letters);
    let requests = vec![request(1, options)];
    let streams = GenerationStream::start(
        engine,
        requests.into_iter(),
        Some(&vocabulary),
        &options.cancel,
    );
    streams.unwrap().remove(0)
}

fn text(engine: &Arc<Engine>) -> Result<String> {
    stream(engine, &Options::new())
        .wait()
        .map(|generation| generation.text)
}

#[test]
fn the_handle_goes_to_any_thread() {
    fn holds<T: Send + Sync + Clone + 'static>() {}
    holds::<crate::MlxBackend>();
    fn goes<T: Send>() {}
    goes::<GenerationStream>();
}

#[test]
fn the_pieces_of_a_stream_are_the_text() {
    let engine = started("hello");
    let mut stream = stream(&engine, &Options::new());
    let mut pieces = String::new();
    for piece in &mut stream {
        pieces.push_str(&piece.unwrap().text);
    }
    assert_eq!(pieces, "hello");
    let whole = stream.generation().unwrap();
    assert_eq!(
        (whole.text.as_str(), whole.finish_reason),
        ("hello", FinishReason::Stop)
    );
    assert!(stream.next().is_none(), "an ended stream stays ended");
}

#[test]
fn requests_of_many_threads_are_served_each_in_full() {
    let engine = started("the answer");
    std::thread::scope(|scope| {
        let answers: Vec<_> = (0..16)
            .map(|_| scope.spawn(|| text(&engine).unwrap()))
            .collect();
        for answer in answers {
            assert_eq!(answer.join().unwrap(), "the answer");
        }
    });
}

#[test]
fn a_request_waits_for_the_one_before_it_and_not_for_its_reader() {
    let (engine, open) = gated("ab");
    let first = stream(&engine, &Options::new());
    let mut second = stream(&engine, &Options::new());
    for _ in 0..6 {
        open.send(()).unwrap();
    }
    // Nobody has read a piece of the first.
    assert_eq!(second.next().unwrap().unwrap().text, "a");
    assert_eq!(first.wait().unwrap().text, "ab");
}

#[test]
fn a_callback_that_fails_gets_its_error_back_with_what_it_was_given() {
    let engine = started("abcdef");
    let mut given = String::new();
    let outcome = stream(&engine, &Options::new()).for_each_piece(|piece| {
        given.push_str(&piece.text);
        if given == "abc" {
            Err("the disk is full".into())
        } else {
            Ok(())
        }
    });
    let Err(Error::Callback { partial, source }) = outcome else {
        panic!("{outcome:?}")
    };
    assert_eq!(source.to_string(), "the disk is full");
    assert_eq!(partial.text, "abc");
    assert_eq!(partial.token_ids, [97, 98, 99]);
    assert_eq!(partial.metrics.generated_tokens, 3);
    assert_eq!(partial.finish_reason, FinishReason::Callback);
    assert_eq!(text(&engine).unwrap(), "abcdef", "the next request works");
}

#[test]
fn cancelling_in_a_callback_hands_out_no_further_piece() {
    let engine = started("abcdef");
    let cancel = CancelToken::new();
    let options = Options::new().cancel(cancel.clone());
    let mut given = String::new();
    let outcome = stream(&engine, &options).for_each_piece(|piece| {
        given.push_str(&piece.text);
        if given == "ab" {
            cancel.cancel();
        }
        Ok(())
    });
    let Err(Error::Cancelled { partial }) = outcome else {
        panic!("{outcome:?}")
    };
    assert_eq!(given, "ab");
    assert_eq!(partial.text, "ab");
    assert_eq!(partial.finish_reason, FinishReason::Cancelled);
}

#[test]
fn a_request_can_be_cancelled_where_it_waits() {
    let (engine, open) = gated("a");
    let first = stream(&engine, &Options::new());
    let cancel = CancelToken::new();
    let second = stream(&engine, &Options::new().cancel(cancel.clone()));
    cancel.cancel();
    // The engine is stuck in the first request.
    let outcome = second.wait();
    assert!(matches!(outcome, Err(Error::Cancelled { partial }) if partial.text.is_empty()));
    open.send(()).unwrap();
    open.send(()).unwrap();
    assert_eq!(first.wait().unwrap().text, "a");
}

#[test]
fn dropping_a_stream_stops_its_work() {
    let (engine, open) = gated("abcdefghij");
    let mut first = stream(&engine, &Options::new());
    open.send(()).unwrap();
    assert_eq!(first.next().unwrap().unwrap().text, "a");
    drop(first);
    // The engine is waiting for the second token at most; the rest of the gate is for the other.
    for _ in 0..1 + 11 {
        open.send(()).unwrap();
    }
    assert_eq!(text(&engine).unwrap(), "abcdefghij");
}

#[test]
fn a_panic_is_an_error_of_its_request_and_of_no_other() {
    let engine = start(|| {
        let mut model = Script::new("abc");
        model.panic_at = Some(1);
        model
    });
    let outcome = text(&engine);
    assert!(matches!(&outcome, Err(Error::Panicked { message }) if message == "scripted panic"));
    assert_eq!(text(&engine).unwrap(), "abc");
    assert!(engine.is_alive());
}

#[test]
fn a_failure_is_reported_and_the_next_request_works() {
    let engine = start(|| {
        let mut model = Script::new("abc");
        model.fail_at = Some(3);
        model
    });
    let outcome = text(&engine);
    assert!(matches!(&outcome, Err(Error::Interrupted { partial, .. }) if partial.text == "abc"));
    let short = Options::new().max_tokens(2);
    assert_eq!(stream(&engine, &short).wait().unwrap().text, "ab");
}

#[test]
fn a_panic_while_loading_is_an_error() {
    let load =
        |_: &mut dyn FnMut(())| -> Result<(Script, Service, ())> { panic!("no such tensor") };
    let outcome = Engine::start(load, 100, &mut |()| ());
    assert!(matches!(outcome, Err(Error::Panicked { message }) if message == "no such tensor"));
}

#[test]
fn progress_is_told_on_the_thread_that_loads() {
    let here = std::thread::current().id();
    let mut steps = Vec::new();
    let load = |progress: &mut dyn FnMut(u32)| {
        progress(1);
        progress(2);
        Ok((Script::new(""), service(1), "ready"))
    };
    let (_engine, info) = Engine::start(load, 100, &mut |step| {
        assert_eq!(std::thread::current().id(), here);
        steps.push(step);
    })
    .unwrap();
    assert_eq!((steps, info), (vec![1, 2], "ready"));
}

#[test]
fn the_last_handle_to_go_frees_the_model() {
    let (freed, told) = channel();
    let engine = start(move || {
        let mut model = Script::new("abc");
        model.freed = Some(freed);
        model
    });
    let other = engine.clone();
    let stream = stream(&engine, &Options::new());
    drop(engine);
    assert_eq!(stream.wait().unwrap().text, "abc");
    assert!(told.try_recv().is_err(), "another handle is left");
    drop(other);
    assert!(told.try_recv().is_ok(), "freed before the drop returns");
}

#[test]
fn dropping_everything_in_the_middle_of_an_answer_does_not_wait_for_its_end() {
    let (mut model, open) = Script::from_ids(vec![97; 1_000_000]).gated();
    let (freed, told) = channel();
    model.freed = Some(freed);
    let engine = start(move || model);
    let mut stream = stream(&engine, &Options::new());
    open.send(()).unwrap();
    assert!(stream.next().unwrap().is_ok());
    drop(engine);
    // A token at a time until the model is gone, however late this thread comes to drop the stream.
    let tokens = thread::spawn(move || {
        while open.send(()).is_ok() {
            thread::sleep(Duration::from_millis(5));
        }
    });
    let start = Instant::now();
    drop(stream);
    assert!(told.try_recv().is_ok());
    assert!(start.elapsed() < SOON);
    tokens.join().unwrap();
}

#[test]
fn logits_are_served_like_everything_else() {
    let engine = started("");
    let (reply, answer) = channel();
    engine
        .submit(Job::Logits {
            ids: vec![3, 4],
            reply,
        })
        .unwrap();
    assert_eq!(answer.recv_timeout(SOON).unwrap().unwrap(), [3.0, 4.0]);
}

fn reading(texts: &[usize], cancel: &CancelToken) -> (ReadJob, Receiver<Result<Vec<Vec<f32>>>>) {
    let (reply, answer) = channel();
    let texts = texts.iter().map(|n| vec![*n as u32; *n]);
    let job = ReadJob {
        texts: texts.collect(),
        want: Reading::Next(Vec::new()),
        cancel: cancel.clone(),
        place: None,
        reply,
    };
    (job, answer)
}

/// A waker that sends a message.
struct Sends(Mutex<Sender<()>>);

impl Wake for Sends {
    fn wake(self: Arc<Self>) {
        let _ = self.0.lock().unwrap().send(());
    }
}

/// No piece is asked for again before the engine says that there is one.
#[test]
fn a_task_is_woken_for_each_piece_and_for_the_end() {
    let (engine, open) = gated("ab");
    let mut stream = stream(&engine, &Options::new());
    let (send, woken) = channel();
    let waker = Waker::from(Arc::new(Sends(Mutex::new(send))));
    let mut context = Context::from_waker(&waker);
    let mut pieces = String::new();
    assert!(stream.try_next().is_pending());
    assert!(Pin::new(&mut stream).poll_next(&mut context).is_pending());
    assert!(woken.try_recv().is_err());
    loop {
        open.send(()).unwrap();
        woken
            .recv_timeout(SOON)
            .expect("the engine wakes who waits");
        match Pin::new(&mut stream).poll_next(&mut context) {
            Poll::Ready(Some(piece)) => pieces.push_str(&piece.unwrap().text),
            Poll::Ready(None) => break,
            Poll::Pending => {}
        }
        if pieces.len() < 2 {
            assert!(Pin::new(&mut stream).poll_next(&mut context).is_pending());
        } else {
            let end = Pin::new(&mut stream).poll_next(&mut context);
            assert!(matches!(end, Poll::Pending | Poll::Ready(None)));
        }
    }
    assert_eq!(pieces, "ab");
    assert_eq!(stream.generation().unwrap().text, "ab");
    assert!(matches!(stream.try_next(), Poll::Ready(None)));
}

/// As the iterator does it, but what still comes is discarded when it is there.
#[test]
fn a_polled_answer_that_is_cancelled_has_what_was_handed_out() {
    let (engine, open) = gated("abcdef");
    let cancel = CancelToken::new();
    let mut stream = stream(&engine, &Options::new().cancel(cancel.clone()));
    open.send(()).unwrap();
    let first = loop {
        match stream.try_next() {
            Poll::Ready(piece) => break piece.unwrap().unwrap(),
            Poll::Pending => thread::yield_now(),
        }
    };
    assert_eq!(first.text, "a");
    cancel.cancel();
    for _ in 0..6 {
        let _ = open.send(());
    }
    let outcome = loop {
        match stream.try_next() {
            Poll::Ready(outcome) => break outcome.unwrap(),
            Poll::Pending => thread::yield_now(),
        }
    };
    let Err(Error::Cancelled { partial }) = outcome else {
        panic!("{outcome:?}")
    };
    assert_eq!(
        (partial.text.as_str(), partial.finish_reason),
        ("a", FinishReason::Cancelled)
    );
    assert!(matches!(stream.try_next(), Poll::Ready(None)));
}

#[test]
fn who_has_closed_an_engine_does_not_wait_for_it() {
    let (freed, told) = channel();
    let (mut model, open) = Script::new("a").gated();
    model.freed = Some(freed);
    let engine = start(move || model);
    let waits = stream(&engine, &Options::new());
    engine.close();
    drop(engine);
    let start = Instant::now();
    // Its model waits for the gate.
    drop(waits);
    assert!(start.elapsed() < SOON);
    assert!(told.try_recv().is_err());
    for _ in 0..2 {
        let _ = open.send(());
    }
    told.recv_timeout(SOON)
        .expect("the model is freed in the end");
}

/// In passes from the shortest to the longest, which the caller does not see.
#[test]
fn texts_come_back_in_their_order() {
    let mut script = Script::new("");
    let (job, answer) = reading(&[3, 1, 2, 3, 1, 1], &CancelToken::new());
    let mut texts = Some(Texts::new(job));
    while let Some(some) = texts {
        texts = some.step(&mut script, true);
    }
    let lengths: Vec<usize> = answer
        .recv()
        .unwrap()
        .unwrap()
        .iter()
        .map(Vec::len)
        .collect();
    assert_eq!(lengths, [3, 1, 2, 3, 1, 1]);
    // Two of one length go together.
    let passes = [2, 1, 1, 2].map(Call::Texts);
    assert_eq!(script.calls, passes);
}

#[test]
fn texts_wait_for_memory_beside_others_and_can_be_cancelled_there() {
    let mut script = Script::new("");
    script.room = 2;
    let cancel = CancelToken::new();
    let (job, answer) = reading(&[2, 5], &cancel);
    let texts = Texts::new(job).step(&mut script, false).unwrap();
    assert_eq!(script.calls, [Call::Texts(1)]);
    let texts = texts.step(&mut script, false).unwrap();
    assert_eq!(script.calls.len(), 1, "there is no room for five tokens");
    cancel.cancel();
    assert!(texts.step(&mut script, false).is_none());
    let outcome = answer.recv().unwrap();
    let Err(Error::CancelledTexts { done: 1, of: 2 }) = outcome else {
        panic!("{outcome:?}")
    };
}

#[test]
fn texts_have_a_place_in_the_queue_until_they_are_read() {
    let (model, open) = Script::new("a").gated();
    let load = |_: &mut dyn FnMut(())| Ok((model, service(1), ()));
    let engine = Arc::new(Engine::start(load, 1, &mut |()| ()).unwrap().0);
    // The engine is stuck in an answer.
    let first = stream(&engine, &Options::new());
    while engine.place().is_err() {
        thread::yield_now();
    }
    let (mut job, answer) = reading(&[4], &CancelToken::new());
    job.place = Some(engine.place().unwrap());
    engine.submit(Job::Read(job)).unwrap();
    assert!(matches!(
        engine.place(),
        Err(Error::QueueFull { waiting: 1 })
    ));
    for _ in 0..2 {
        open.send(()).unwrap();
    }
    assert_eq!(answer.recv_timeout(SOON).unwrap().unwrap(), [vec![4.0; 4]]);
    assert!(engine.place().is_ok());
    assert_eq!(first.wait().unwrap().text, "a");
}

/// MLX keeps a worker for each thread that ever used it.
#[test]
fn models_that_come_and_go_do_so_on_few_threads() {
    let mut threads = std::collections::HashSet::new();
    for round in 0..200 {
        let (tell, told) = channel();
        let load = move |_: &mut dyn FnMut(())| -> Result<(Script, Service, ())> {
            tell.send(thread::current().id()).unwrap();
            match round % 4 {
                0 => Err(Error::EmptyPrompt),
                1 => panic!("no such tensor"),
                _ => Ok((Script::new("abc"), service(1), ())),
            }
        };
        match Engine::start(load, 100, &mut |()| ()) {
            Ok((engine, ())) => assert_eq!(text(&Arc::new(engine)).unwrap(), "abc"),
            Err(_) => assert!(round % 4 < 2),
        }
        threads.insert(told.recv().unwrap());
    }
    // Tests that run at the same time take some away.
    assert!(threads.len() < 40, "{} threads", threads.len());
}

#[test]
fn a_request_that_is_cancelled_where_it_waits_does_not_reach_the_model() {
    let (mut model, open) = Script::new("a").gated();
    let (begun, told) = channel();
    model.begun = Some(begun);
    let engine = start(move || model);
    let first = stream(&engine, &Options::new());
    let cancel = CancelToken::new();
    let second = stream(&engine, &Options::new().cancel(cancel.clone()));
    cancel.cancel();
    assert!(matches!(second.wait(), Err(Error::Cancelled { .. })));
    for _ in 0..4 {
        open.send(()).unwrap();
    }
    assert_eq!(first.wait().unwrap().text, "a");
    assert_eq!(text(&engine).unwrap(), "a");
    drop(engine);
    // Its caches would have gone for nothing.
    assert_eq!(told.iter().count(), 2);
}

#[test]
fn a_full_queue_says_so_and_takes_requests_again_later() {
    let (model, open) = Script::new("ab").gated();
    let load = |_: &mut dyn FnMut(())| Ok((model, service(1), ()));
    let engine = Arc::new(Engine::start(load, 2, &mut |()| ()).unwrap().0);
    let first = stream(&engine, &Options::new());
    let start = |engine: &Arc<Engine>| {
        let vocabulary: Arc<dyn Vocabulary> = Arc::new(Letters);
        let options = Options::new();
        let requests = vec![request(1, &options)];
        let streams = GenerationStream::start(
            engine,
            requests.into_iter(),
            Some(&vocabulary),
            &options.cancel,
        );
        streams.map(|mut streams| streams.remove(0))
    };
    // The first is taken up sooner or later, and two may wait.
    let mut waiting = Vec::new();
    let full = loop {
        match start(&engine) {
            Ok(stream) => waiting.push(stream),
            Err(error) => break error,
        }
        assert!(waiting.len() <= 3);
    };
    assert!(matches!(full, Error::QueueFull { waiting: 2 }), "{full}");
    for _ in 0..3 * (1 + waiting.len()) {
        open.send(()).unwrap();
    }
    assert_eq!(first.wait().unwrap().text, "ab");
    for stream in waiting {
        assert_eq!(stream.wait().unwrap().text, "ab");
    }
    for _ in 0..3 {
        open.send(()).unwrap();
    }
    assert_eq!(text(&engine).unwrap(), "ab");
}
