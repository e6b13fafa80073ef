//! What fuzzing found once, and what it began with, on every run of the tests.

use std::path::Path;

use fuzz_targets::{Target, seeds};

fn replay(target: Target) {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus");
    let dir = corpus.join(target.name());
    let entries = std::fs::read_dir(&dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
    let mut count = 0;
    for entry in entries {
        let path = entry.expect("an entry").path();
        // A panic says what is wrong, this line with which input.
        println!("{}", path.display());
        target.run(&std::fs::read(&path).expect("a file"));
        count += 1;
    }
    assert!(count > 0, "{} is empty", dir.display());
    for (at, seed) in seeds::seeds(target).iter().enumerate() {
        println!("seed {at}");
        target.run(seed);
    }
}

#[test]
fn answers_are_the_same_however_they_are_cut() {
    replay(Target::Answer);
}

#[test]
fn configurations_are_read_or_refused() {
    replay(Target::Config);
}

#[test]
fn headers_and_their_index_are_true_or_refused() {
    replay(Target::Safetensors);
}

#[test]
fn tokenizers_are_opened_and_used_or_refused() {
    replay(Target::Tokenizer);
}

#[test]
fn templates_are_rendered_or_refused() {
    replay(Target::Template);
}

#[test]
fn any_ids_are_streamed_as_they_are_decoded() {
    replay(Target::Stream);
}

#[test]
fn requests_are_read_or_refused_in_a_line() {
    let requests = Target::ALL.into_iter();
    for target in requests.filter(|target| matches!(target, Target::Request(_))) {
        replay(target);
    }
}

#[test]
fn seeds_of_requests_are_read() {
    for target in Target::ALL {
        if let Target::Request(api) = target {
            let seeds = seeds::seeds(target);
            let first = ml_server::fuzz::read(api, &seeds[0]);
            assert!(first.is_ok(), "{api:?}: {first:?}");
        }
    }
}
