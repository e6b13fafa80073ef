//! Random sequences of everything that states can do, against a plain model of them: lists of tokens.

use std::rc::Rc;

use arch::{Keys, State};
use kernels::graph::{PageRange, write_pages};
use mlx_core::device::{self, Choice};
use mlx_core::{Array, Dtype};
use proptest::prelude::*;

use super::*;

/// Two layers that see everything, and windows that are less than a page and more.
const STATES: [Keys; 4] = [
    keys(2, None),
    keys(1, Some(300)),
    keys(3, None),
    keys(1, Some(8)),
];

/// Positions stay below it.
const LONGEST: usize = 1500;

const fn keys(heads: usize, window: Option<usize>) -> Keys {
    Keys {
        heads,
        head_dim: 2,
        window,
    }
}

fn states_of(keys: &[Keys]) -> Vec<State> {
    keys.iter().copied().map(State::Keys).collect()
}

/// What is written for a token: it says which, where and of what.
fn number(token: u8, position: usize, place: [usize; 4]) -> f32 {
    let [state, of_values, head, element] = place;
    let place = ((state * 2 + of_values) * 3 + head) * 2 + element;
    (((usize::from(token) * LONGEST) + position) * 48 + place) as f32
}

/// `[heads, tokens, 2]` of tokens from position `start` on.
fn numbers(tokens: &[u8], start: usize, state: usize, of_values: usize) -> Vec<f32> {
    let mut all = Vec::new();
    for head in 0..STATES[state].heads {
        for (i, token) in tokens.iter().enumerate() {
            for element in 0..2 {
                all.push(number(*token, start + i, [state, of_values, head, element]));
            }
        }
    }
    all
}

/// A sequence and what should be in it.
#[derive(Clone, Debug)]
struct Plain {
    id: SequenceId,
    tokens: Vec<u8>,
    /// The most that it, or what it was made of, ever held.
    most: usize,
    /// It was put together behind so many tokens, with what the next one sees and no page more.
    begun: usize,
}

/// Writes `tokens` of each sequence where a pass would.
fn write(states: &States, reserved: &Reserved, plain: &[&Plain], tokens: &[u8]) -> Rc<Array> {
    let segments = states.segments(reserved).unwrap();
    let mut done = None;
    for (segment, plain) in segments.iter().zip(plain) {
        let start = plain.tokens.len();
        assert_eq!(segment.position as usize, start);
        let ranges: Vec<PageRange> = (0..STATES.len())
            .map(|state| {
                let shape = [1, STATES[state].heads as i32, tokens.len() as i32, 2];
                let array = |of_values| {
                    Array::from_slice(&numbers(tokens, start, state, of_values), &shape).unwrap()
                };
                PageRange {
                    start: segment.position,
                    arrays: [array(0), array(1)],
                }
            })
            .collect();
        let written = write_pages(states.map(), segment, &ranges).unwrap();
        written.eval().unwrap();
        done = Some(written);
    }
    Rc::new(done.unwrap())
}

/// A sequence holds its tokens, each where it belongs, as far back as the next one sees.
fn check(states: &mut States, plain: &Plain) {
    let count = plain.tokens.len();
    assert_eq!(states.position(plain.id) as usize, count);
    let exported = states.export(plain.id).unwrap();
    assert_eq!(exported.position as usize, count);
    for (state, range) in exported.states.iter().enumerate() {
        let seen = STATES[state]
            .window
            .map_or(0, |w| (count + 1).saturating_sub(w));
        let start = range.start as usize;
        assert!(
            start <= seen,
            "state {state} begins at {start}, {seen} is seen"
        );
        for (of_values, array) in range.arrays.iter().enumerate() {
            let found = array.to_vec::<f32>().unwrap();
            let wanted = numbers(&plain.tokens[start..], start, state, of_values);
            assert_eq!(found, wanted, "state {state}, {count} tokens from {start}");
        }
    }
}

/// A part to be read, as soon as the operation that wrote it has been let go of, which its thread does.
fn still(states: &States, id: SequenceId, part: Part) -> StillPage {
    let end = std::time::Instant::now() + std::time::Duration::from_secs(10);
    loop {
        match states.still(id, part) {
            Some(page) => return page,
            None => assert!(
                std::time::Instant::now() < end,
                "{part:?} is written for ever"
            ),
        }
        std::thread::yield_now();
    }
}

/// Does one thing: which, with which sequences, and how much.
fn act(states: &mut States, all: &mut Vec<Plain>, (what, which, amount): (u8, usize, usize)) {
    const COUNTS: [usize; 8] = [1, 1, 2, 40, 255, 256, 257, 600];
    let count = COUNTS[amount % COUNTS.len()];
    let tokens: Vec<u8> = (0..count).map(|i| ((i * 7 + amount) % 200) as u8).collect();
    if all.is_empty() {
        let id = states.begin();
        all.push(Plain {
            id,
            tokens: Vec::new(),
            most: 0,
            begun: 0,
        });
    }
    let at = which % all.len();
    let other = (at + 1) % all.len();
    let held = [states.pages(), states.bytes()];
    let ids: Vec<SequenceId> = all.iter().map(|plain| plain.id).collect();
    assert_eq!(states.bytes_of_all(&ids), states.bytes());
    assert_eq!(states.bytes_alone(&ids), states.bytes());
    match what {
        // One goes on, or two together; or they would have, and the pass failed.
        0..=4 => {
            let together = what > 2 && other != at;
            let chosen: Vec<usize> = [at].into_iter().chain(together.then_some(other)).collect();
            if chosen
                .iter()
                .any(|i| all[*i].tokens.len() + count > LONGEST)
            {
                return;
            }
            let batch: Vec<Rows> = chosen
                .iter()
                .map(|i| Rows {
                    sequence: all[*i].id,
                    count: count as i32,
                })
                .collect();
            let reserved = states.reserve(&batch).unwrap();
            if what == 4 && amount % 2 == 0 {
                // Nobody has what was reserved, whether or not it was written.
                if amount % 4 == 0 {
                    let plain: Vec<&Plain> = chosen.iter().map(|i| &all[*i]).collect();
                    write(states, &reserved, &plain, &vec![255; count]);
                }
                drop(reserved);
                assert_eq!([states.pages(), states.bytes()], held);
                return;
            }
            let plain: Vec<&Plain> = chosen.iter().map(|i| &all[*i]).collect();
            let done = write(states, &reserved, &plain, &tokens);
            states.commit(reserved, &done);
            for i in chosen {
                all[i].tokens.extend(&tokens);
                all[i].most = all[i].most.max(all[i].tokens.len());
            }
        }
        5 | 6 => {
            let plain = &mut all[at];
            let to = plain.tokens.len().saturating_sub(count);
            let reached = states.rewind(plain.id, to as i32) as usize;
            assert!((to..=plain.tokens.len()).contains(&reached));
            if to == 0 || (to + PAGE >= plain.most && to >= plain.begun) {
                assert_eq!(reached, to, "a page is kept, {} were held", plain.most);
            }
            plain.tokens.truncate(reached);
        }
        7 => {
            let id = states.fork(all[at].id).unwrap();
            assert_eq!(
                [states.pages(), states.bytes()],
                held,
                "a fork takes nothing"
            );
            all.push(Plain {
                id,
                ..all[at].clone()
            });
        }
        8 => {
            let exported = states.export(all[at].id).unwrap();
            assert_eq!([states.pages(), states.bytes()], held);
            let id = states.import(&exported).unwrap();
            all.push(Plain {
                id,
                ..all[at].clone()
            });
        }
        9 => {
            // Put together again from whole pages that other threads have read and written, as far as all are there.
            let plain = &all[at];
            let there = states.parts(plain.id, plain.tokens.len() as i32);
            let complete = |pages: &usize| states.needed(*pages).iter().all(|p| there.contains(p));
            let pages = (0..=plain.tokens.len() / PAGE)
                .rev()
                .find(complete)
                .unwrap();
            let parts = states.needed(pages).into_iter().map(|part| {
                let page = still(states, plain.id, part);
                let mut room = states.room(part).unwrap();
                let copy = std::thread::spawn(move || {
                    room.bytes_mut().copy_from_slice(page.bytes());
                    room
                });
                (part, copy.join().unwrap())
            });
            let parts = parts.collect();
            assert_eq!([states.pages(), states.bytes()], held);
            let id = states.assemble(pages, parts).unwrap();
            assert_eq!(states.bytes_of_all(&[id]), states.bytes_of(id));
            assert_eq!(states.bytes_alone(&[id]), states.bytes_of(id));
            let tokens = plain.tokens[..pages * PAGE].to_vec();
            all.push(Plain {
                id,
                most: tokens.len(),
                begun: tokens.len(),
                tokens,
            });
        }
        _ => {
            let plain = all.swap_remove(at);
            states.free(plain.id);
            let rows = Rows {
                sequence: plain.id,
                count: 1,
            };
            assert!(states.reserve(&[rows]).is_err());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn sequences_hold_what_was_put_into_them(
        acts in prop::collection::vec((0_u8..=10, 0_usize..8, any::<u16>().prop_map(usize::from)), 1..40),
    ) {
        device::open(Choice::Cpu).unwrap();
        let mut states = States::new(&states_of(&STATES), Dtype::Float32).unwrap();
        let mut all = Vec::new();
        for one in acts {
            act(&mut states, &mut all, one);
            for plain in &all {
                check(&mut states, plain);
            }
            let most = all.iter().map(|plain| states.bytes_for(plain.tokens.len() as u64));
            prop_assert!(states.bytes() as u64 <= most.sum::<u64>());
        }
        for plain in &all {
            states.free(plain.id);
        }
        prop_assert_eq!((states.pages(), states.bytes()), (0, 0));
    }
}

#[test]
fn what_cannot_be_reserved_takes_nothing() {
    device::open(Choice::Cpu).unwrap();
    let mut states = States::new(&states_of(&STATES), Dtype::Float32).unwrap();
    let [one, other] = [states.begin(), states.begin()];
    let rows = |sequence, count| Rows { sequence, count };
    for wrong in [
        vec![rows(one, 5), rows(other, 0)],
        vec![rows(one, 5), rows(other, -1)],
        vec![rows(one, 5), rows(other, 5), rows(one, 1)],
        vec![rows(one, 5), rows(SequenceId(99), 5)],
    ] {
        assert!(states.reserve(&wrong).is_err(), "{wrong:?}");
        assert_eq!(states.pages(), 0);
    }
    assert!(States::new(&states_of(&STATES), Dtype::Int32).is_none());
}

/// Who writes into a page that another has takes a copy of that page and of no other.
#[test]
fn a_shared_page_is_copied_once_and_alone() {
    device::open(Choice::Cpu).unwrap();
    let full = [keys(1, None)];
    let mut states = States::new(&states_of(&full), Dtype::Float32).unwrap();
    let id = states.begin();
    let grow = |states: &mut States, id, count: i32| {
        let rows = Rows {
            sequence: id,
            count,
        };
        let reserved = states.reserve(&[rows]).unwrap();
        let segments = states.segments(&reserved).unwrap();
        let ones = Array::ones(&[1, 1, count, 2], Dtype::Float32).unwrap();
        let range = PageRange {
            start: segments[0].position,
            arrays: [ones.clone(), ones],
        };
        let done = write_pages(states.map(), &segments[0], &[range]).unwrap();
        done.eval().unwrap();
        states.commit(reserved, &Rc::new(done));
    };
    grow(&mut states, id, 600);
    assert_eq!(states.pages(), 3);
    let second = states.fork(id).unwrap();
    let third = states.fork(id).unwrap();
    assert_eq!(states.pages(), 3);
    grow(&mut states, second, 1);
    assert_eq!(states.pages(), 4);
    grow(&mut states, second, 100);
    assert_eq!(states.pages(), 4);
    grow(&mut states, id, 1);
    assert_eq!(states.pages(), 5);
    // The last one that has it may write there.
    grow(&mut states, third, 1);
    assert_eq!(states.pages(), 5);
    states.free(id);
    states.free(second);
    assert_eq!(states.pages(), 3);
    states.free(third);
    assert_eq!(states.pages(), 0);
}

/// What another thread reads stays as it is: who goes on there writes a copy.
#[test]
fn a_page_that_is_read_elsewhere_is_not_written() {
    device::open(Choice::Cpu).unwrap();
    let full = [keys(1, None)];
    let mut states = States::new(&states_of(&full), Dtype::Float32).unwrap();
    let id = states.begin();
    let grow = |states: &mut States, count: i32, value: f64| {
        let rows = Rows {
            sequence: id,
            count,
        };
        let reserved = states.reserve(&[rows]).unwrap();
        let segments = states.segments(&reserved).unwrap();
        let numbers = Array::full(&[1, 1, count, 2], value, Dtype::Float32).unwrap();
        let range = PageRange {
            start: segments[0].position,
            arrays: [numbers.clone(), numbers],
        };
        let done = write_pages(states.map(), &segments[0], &[range]).unwrap();
        // Not yet run: nobody may read it.
        states.commit(reserved, &Rc::new(done.clone()));
        done
    };
    let part = Part::Keys { kind: 0, page: 0 };
    let done = grow(&mut states, 300, 1.0);
    assert!(states.still(id, part).is_none());
    done.eval().unwrap();
    drop(done);
    let page = still(&states, id, part);
    let before = page.bytes().to_vec();
    assert_eq!(states.rewind(id, 100), 100);
    grow(&mut states, 50, 2.0).eval().unwrap();
    assert!(page.bytes() == before);
    drop(page);
    let exported = states.export(id).unwrap();
    let keys = exported.states[0].arrays[0].to_vec::<f32>().unwrap();
    assert!(keys[..200].iter().all(|k| *k == 1.0) && keys[200..].iter().all(|k| *k == 2.0));
}
