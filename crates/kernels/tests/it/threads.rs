//! The pool does each task once, whatever happens to its callers and tasks.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use kernels::Pool;

#[test]
fn each_task_runs_once() {
    for threads in [1, 2, 3, 8] {
        let pool = Pool::new(threads);
        for tasks in [0, 1, 2, 7, 100, 1000] {
            let counts: Vec<_> = (0..tasks).map(|_| AtomicU32::new(0)).collect();
            pool.run(tasks, |i| {
                counts[i].fetch_add(1, Ordering::Relaxed);
            });
            assert!(
                counts.iter().all(|c| c.load(Ordering::Relaxed) == 1),
                "{threads} {tasks}"
            );
        }
    }
}

#[test]
fn ranges_cover_everything_once() {
    let pool = Pool::new(3);
    for (len, grain) in [(0, 4), (1, 4), (10, 3), (64, 64), (65, 64), (5, 0)] {
        let seen = Mutex::new(Vec::new());
        pool.run_ranges(len, grain, |range| seen.lock().unwrap().extend(range));
        let mut seen = seen.into_inner().unwrap();
        seen.sort_unstable();
        assert_eq!(seen, (0..len).collect::<Vec<_>>());
    }
}

#[test]
fn what_tasks_wrote_is_seen_after_the_join() {
    let pool = Pool::new(4);
    let mut data = vec![0_u64; 4096];
    for round in 1..2000_u64 {
        let cells: Vec<_> = data.chunks_mut(512).map(Mutex::new).collect();
        pool.run(cells.len(), |i| {
            cells[i]
                .lock()
                .unwrap()
                .iter_mut()
                .for_each(|x| *x += round)
        });
        drop(cells);
    }
    assert!(data.iter().all(|&x| x == (1..2000).sum::<u64>()));
}

#[test]
fn several_threads_share_the_work() {
    let pool = Pool::new(2);
    let names = Mutex::new(BTreeSet::new());
    // Two tasks that each wait for the other to have begun can only end on two threads.
    let begun = AtomicUsize::new(0);
    pool.run(2, |_| {
        begun.fetch_add(1, Ordering::SeqCst);
        while begun.load(Ordering::SeqCst) < 2 {
            thread::yield_now();
        }
        names
            .lock()
            .unwrap()
            .insert(format!("{:?}", thread::current().id()));
    });
    assert_eq!(names.into_inner().unwrap().len(), 2);
}

#[test]
fn workers_wake_after_they_slept() {
    let pool = Pool::new(2);
    for pause in [0, 30, 60, 61, 70, 200, 5000] {
        for _ in 0..20 {
            let begun = AtomicUsize::new(0);
            pool.run(2, |_| {
                begun.fetch_add(1, Ordering::SeqCst);
                while begun.load(Ordering::SeqCst) < 2 {
                    thread::yield_now();
                }
            });
            thread::sleep(Duration::from_micros(pause));
        }
    }
}

#[test]
fn a_panic_reaches_the_caller_and_the_pool_lives_on() {
    let pool = Pool::new(3);
    for _ in 0..50 {
        let result = catch_unwind(AssertUnwindSafe(|| {
            pool.run(64, |i| {
                if i % 7 == 3 {
                    panic!("task {i}");
                }
            });
        }));
        let message = result.unwrap_err().downcast::<String>().unwrap();
        assert!(message.starts_with("task "), "{message}");
        let sum = AtomicUsize::new(0);
        pool.run(10, |i| {
            sum.fetch_add(i, Ordering::Relaxed);
        });
        assert_eq!(sum.into_inner(), 45);
    }
}

/// A payload that is dropped inside the job would unwind where nothing may.
#[test]
fn panics_whose_payload_cannot_be_dropped_leave_the_pool_alive() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("dropped");
        }
    }
    let pool = Pool::new(2);
    for _ in 0..20 {
        let begun = AtomicUsize::new(0);
        let result = catch_unwind(AssertUnwindSafe(|| {
            pool.run(2, |_| {
                begun.fetch_add(1, Ordering::SeqCst);
                while begun.load(Ordering::SeqCst) < 2 {
                    thread::yield_now();
                }
                std::panic::panic_any(Bomb);
            });
        }));
        let payload = result.unwrap_err();
        assert!(payload.is::<Bomb>());
        std::mem::forget(payload);
    }
    let sum = AtomicUsize::new(0);
    pool.run(10, |i| {
        sum.fetch_add(i, Ordering::Relaxed);
    });
    assert_eq!(sum.into_inner(), 45);
}

#[test]
fn a_nested_call_runs_inline() {
    let pool = Pool::new(2);
    let sum = AtomicUsize::new(0);
    pool.run(8, |i| {
        let here = thread::current().id();
        pool.run(8, |j| {
            assert_eq!(thread::current().id(), here);
            sum.fetch_add(i * 8 + j, Ordering::Relaxed);
        });
    });
    assert_eq!(sum.into_inner(), (0..64).sum::<usize>());
}

#[test]
fn callers_on_several_threads_take_turns() {
    let pool = Pool::new(2);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..500 {
                    let sum = AtomicUsize::new(0);
                    pool.run(16, |i| {
                        sum.fetch_add(i, Ordering::Relaxed);
                    });
                    assert_eq!(sum.into_inner(), 120);
                }
            });
        }
    });
}

#[test]
fn the_number_of_threads_can_change() {
    let pool = Pool::new(1);
    for threads in [4, 2, 1, 3] {
        pool.set_threads(threads);
        assert_eq!(pool.threads(), threads);
        let begun = AtomicUsize::new(0);
        pool.run(threads, |_| {
            begun.fetch_add(1, Ordering::SeqCst);
            while begun.load(Ordering::SeqCst) < threads {
                thread::yield_now();
            }
        });
    }
    pool.set_threads(0);
    assert_eq!(pool.threads(), kernels::threads::physical_cores());
}
