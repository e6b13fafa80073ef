//! What is loaded, and who comes next: decisions alone, without a model and without a thread.
//!
//! A slot belongs to a model for as long as the server lives. Whoever wants it is one of its users until the answer
//! has ended, also while it waits: so what was loaded for somebody is not unloaded before it was used.

use std::time::{Duration, Instant};

use crate::errors::ApiError;

/// All models; `B` is what a loaded one is held by.
pub(super) struct Slots<B> {
    pub(super) slots: Vec<Slot<B>>,
    /// Bytes that models may take together.
    pub(super) room: u64,
    /// Whether what does not fit is loaded all the same.
    pub(super) force: bool,
}

pub(super) struct Slot<B> {
    pub(super) state: State<B>,
    /// Bytes that it takes or will take; not known before its files were read.
    pub(super) bytes: Option<u64>,
    /// Requests that use it or wait for it.
    users: usize,
    /// When it was loaded, or its last user went.
    idle_since: Instant,
    /// How often loading it was begun.
    attempt: u64,
    /// Why the last attempt failed.
    failure: Option<ApiError>,
}

/// How far a model is.
pub(super) enum State<B> {
    Unloaded,
    /// So many bytes are in place, of so many.
    Loading(u64, u64),
    Loaded(B),
    Unloading,
}

/// What a user of a model has to do next.
pub(super) enum Step<B> {
    /// To use it.
    Use(B),
    /// To see how large it is ([`Slots::measured`]), and ask again.
    Measure,
    /// To load it ([`Slots::loaded`], [`Slots::failed`]), and ask again.
    Load,
    /// To let go of this other one ([`Slots::unloaded`]), and ask again.
    Unload(usize, B),
    /// To ask again when something has changed: it is being loaded, or unloaded.
    Wait,
    /// As `Wait`, for models in use that stand where it has to be.
    WaitForRoom,
    /// To give up: the attempt that it waited for failed.
    Failed(ApiError),
    /// To give up: so many bytes are more than there are.
    TooLarge(u64),
}

impl<B: Clone> Slots<B> {
    pub(super) fn new(count: usize, room: u64, force: bool) -> Self {
        let slot = || Slot {
            state: State::Unloaded,
            bytes: None,
            users: 0,
            idle_since: Instant::now(),
            attempt: 0,
            failure: None,
        };
        Self {
            slots: (0..count).map(|_| slot()).collect(),
            room,
            force,
        }
    }

    /// Another user of a model.
    pub(super) fn enter(&mut self, at: usize) {
        self.slots[at].users += 1;
    }

    /// One user less.
    pub(super) fn leave(&mut self, at: usize) {
        let slot = &mut self.slots[at];
        slot.users -= 1;
        slot.idle_since = Instant::now();
    }

    /// What a user of model `at` does next. `joined` is the attempt to load it that the user has waited for.
    pub(super) fn step(&mut self, at: usize, joined: &mut Option<u64>) -> Step<B> {
        let slot = &self.slots[at];
        match &slot.state {
            State::Loaded(backend) => Step::Use(backend.clone()),
            State::Loading(..) => {
                *joined = Some(slot.attempt);
                Step::Wait
            }
            State::Unloading => Step::Wait,
            State::Unloaded => match (&slot.failure, slot.bytes) {
                (Some(error), _) if *joined == Some(slot.attempt) => Step::Failed(error.clone()),
                (_, None) => Step::Measure,
                (_, Some(bytes)) => {
                    let step = self.make_room(at, bytes);
                    if let Step::Load = step {
                        // Should it fail before this user looks again, that is the answer.
                        *joined = Some(self.slots[at].attempt);
                    }
                    step
                }
            },
        }
    }

    fn make_room(&mut self, at: usize, bytes: u64) -> Step<B> {
        // What is more than all of it has to itself what there is, by force; it waits for those in use as others do.
        let room = match self.force {
            true => self.room.max(bytes),
            false => self.room,
        };
        if self.taken(|_| true) + bytes <= room {
            return self.begin(at);
        }
        if bytes > room {
            return Step::TooLarge(bytes);
        }
        let leaves = |slot: &Slot<B>| matches!(slot.state, State::Unloading);
        if self.taken(|slot| !leaves(slot)) + bytes <= room {
            return Step::Wait;
        }
        // Others are unloaded only if that helps.
        let stays = self.taken(|slot| !slot.is_idle() && !leaves(slot));
        if stays + bytes > room {
            return Step::WaitForRoom;
        }
        let idle = |(_, slot): &(usize, &Slot<B>)| slot.is_idle();
        let slots = self.slots.iter().enumerate().filter(idle);
        let oldest = slots.min_by_key(|(_, slot)| slot.idle_since);
        let Some((oldest, _)) = oldest else {
            return Step::Wait;
        };
        match self.take(oldest) {
            Some(backend) => Step::Unload(oldest, backend),
            None => Step::Wait,
        }
    }

    /// Bytes of the models in memory for which that is so.
    pub(super) fn taken(&self, of: impl Fn(&Slot<B>) -> bool) -> u64 {
        let there = |slot: &&Slot<B>| !matches!(slot.state, State::Unloaded);
        let slots = self.slots.iter().filter(there).filter(|slot| of(slot));
        slots.filter_map(|slot| slot.bytes).sum()
    }

    fn begin(&mut self, at: usize) -> Step<B> {
        let slot = &mut self.slots[at];
        slot.attempt += 1;
        slot.failure = None;
        slot.state = State::Loading(0, 0);
        Step::Load
    }

    fn take(&mut self, at: usize) -> Option<B> {
        match std::mem::replace(&mut self.slots[at].state, State::Unloading) {
            State::Loaded(backend) => Some(backend),
            other => {
                self.slots[at].state = other;
                None
            }
        }
    }

    /// The files were read: so many bytes.
    pub(super) fn measured(&mut self, at: usize, bytes: u64) {
        self.slots[at].bytes = Some(bytes);
    }

    /// So many bytes of it are in place, of so many.
    pub(super) fn progress(&mut self, at: usize, done: u64, total: u64) {
        if let State::Loading(..) = self.slots[at].state {
            self.slots[at].state = State::Loading(done, total);
        }
    }

    /// It is loaded, and takes so many bytes.
    pub(super) fn loaded(&mut self, at: usize, backend: B, bytes: u64) {
        let slot = &mut self.slots[at];
        slot.state = State::Loaded(backend);
        slot.bytes = Some(bytes);
        slot.idle_since = Instant::now();
    }

    /// It cannot be loaded. Who asks from now on has it tried again, with files that may be others.
    pub(super) fn failed(&mut self, at: usize, error: ApiError) {
        let slot = &mut self.slots[at];
        slot.state = State::Unloaded;
        slot.bytes = None;
        slot.failure = Some(error);
    }

    /// It is gone.
    pub(super) fn unloaded(&mut self, at: usize) {
        self.slots[at].state = State::Unloaded;
    }

    /// Takes what nobody has used for so long, and says when to look again.
    pub(super) fn expire(&mut self, after: Duration, now: Instant) -> Expired<B> {
        let mut gone = Vec::new();
        let mut next = None;
        for at in 0..self.slots.len() {
            if !self.slots[at].is_idle() {
                continue;
            }
            let Some(ends) = self.slots[at].idle_since.checked_add(after) else {
                continue;
            };
            if ends > now {
                next = Some(next.map_or(ends, |next: Instant| next.min(ends)));
            } else if let Some(backend) = self.take(at) {
                gone.push((at, backend));
            }
        }
        (gone, next)
    }
}

/// Models that are to be let go of, by their places, and when the next one's time comes.
pub(super) type Expired<B> = (Vec<(usize, B)>, Option<Instant>);

impl<B> Slot<B> {
    fn is_idle(&self) -> bool {
        self.users == 0 && matches!(self.state, State::Loaded(_))
    }

    /// Whether anybody uses it, or waits for it.
    pub(super) fn in_use(&self) -> bool {
        self.users > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Models of so many bytes, by their places.
    fn slots(sizes: &[u64], room: u64, force: bool) -> Slots<usize> {
        let mut slots = Slots::new(sizes.len(), room, force);
        for (at, bytes) in sizes.iter().enumerate() {
            slots.measured(at, *bytes);
        }
        slots
    }

    /// A user of a model, which gets loaded for it.
    fn load(slots: &mut Slots<usize>, at: usize) {
        slots.enter(at);
        assert!(matches!(slots.step(at, &mut None), Step::Load));
        let bytes = slots.slots[at].bytes.unwrap();
        slots.loaded(at, at, bytes);
        assert!(matches!(slots.step(at, &mut None), Step::Use(that) if that == at));
    }

    #[test]
    fn who_was_used_last_stays_longest() {
        let mut slots = slots(&[4, 4, 4], 8, false);
        load(&mut slots, 0);
        load(&mut slots, 1);
        slots.leave(1);
        std::thread::sleep(Duration::from_millis(2));
        slots.leave(0);
        slots.enter(2);
        assert!(matches!(slots.step(2, &mut None), Step::Unload(1, 1)));
        assert!(matches!(slots.step(2, &mut None), Step::Wait));
        slots.unloaded(1);
        assert!(matches!(slots.step(2, &mut None), Step::Load));
    }

    #[test]
    fn what_is_in_use_stays() {
        let mut slots = slots(&[4, 4, 6], 8, false);
        load(&mut slots, 0);
        load(&mut slots, 1);
        slots.leave(1);
        slots.enter(2);
        // The other one is let be, since that alone would not do.
        assert!(matches!(slots.step(2, &mut None), Step::WaitForRoom));
        assert!(matches!(slots.slots[1].state, State::Loaded(1)));
        slots.leave(0);
        assert!(matches!(slots.step(2, &mut None), Step::Unload(..)));
        assert!(matches!(slots.step(2, &mut None), Step::Unload(..)));
        assert!(slots.expire(Duration::ZERO, Instant::now()).0.is_empty());
    }

    #[test]
    fn what_can_never_fit_is_refused_unless_forced() {
        let mut refused = slots(&[4, 9], 8, false);
        load(&mut refused, 0);
        refused.leave(0);
        refused.enter(1);
        assert!(matches!(refused.step(1, &mut None), Step::TooLarge(9)));
        assert!(matches!(refused.slots[0].state, State::Loaded(0)));
        let mut forced = slots(&[4, 9], 8, true);
        load(&mut forced, 0);
        forced.enter(1);
        // One at a time, and not beside one whose answer is still on its way.
        assert!(matches!(forced.step(1, &mut None), Step::WaitForRoom));
        forced.leave(0);
        assert!(matches!(forced.step(1, &mut None), Step::Unload(0, 0)));
        assert!(matches!(forced.step(1, &mut None), Step::Wait));
        forced.unloaded(0);
        assert!(matches!(forced.step(1, &mut None), Step::Load));
    }

    #[test]
    fn a_model_is_loaded_once_and_tried_again_after_a_failure() {
        let mut slots = slots(&[4], 8, false);
        let (mut first, mut second) = (None, None);
        slots.enter(0);
        slots.enter(0);
        assert!(matches!(slots.step(0, &mut first), Step::Load));
        assert!(matches!(slots.step(0, &mut first), Step::Wait));
        assert!(matches!(slots.step(0, &mut second), Step::Wait));
        slots.failed(0, ApiError::bad("no"));
        assert!(matches!(slots.step(0, &mut first), Step::Failed(_)));
        assert!(matches!(slots.step(0, &mut second), Step::Failed(_)));
        assert!(matches!(slots.step(0, &mut None), Step::Measure));
        slots.measured(0, 4);
        assert!(matches!(slots.step(0, &mut None), Step::Load));
        // Another attempt is not theirs to fail by.
        assert!(matches!(slots.step(0, &mut first), Step::Wait));
    }

    #[test]
    fn nobody_for_long_enough_is_unloaded() {
        let mut slots = slots(&[4, 4], 8, false);
        let minute = Duration::from_secs(60);
        load(&mut slots, 0);
        load(&mut slots, 1);
        slots.leave(1);
        let now = Instant::now();
        let (gone, next) = slots.expire(minute, now);
        assert!(gone.is_empty() && next.is_some_and(|next| next > now && next <= now + minute));
        let (gone, next) = slots.expire(minute, now + minute);
        assert!(
            gone == [(1, 1)] && next.is_none(),
            "and the other is in use"
        );
    }
}
