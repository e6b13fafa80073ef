//! How long an input takes, in the processor's time: on a busy machine the time of the clock says
//! nothing.

use std::fs;
use std::time::{Duration, Instant};

/// One input may take as much, with all that counts coverage in it.
const MOST: Duration = Duration::from_secs(2);
/// How old the figure of before may be. Within it, others may have used time as well.
const FRESH: Duration = Duration::from_millis(100);

/// The processor's time at some point.
pub(crate) struct Clock {
    known: Option<(Instant, Duration)>,
}

impl Clock {
    pub(crate) const fn new() -> Self {
        Self { known: None }
    }

    /// An input begins.
    pub(crate) fn start(&mut self) -> Instant {
        let now = Instant::now();
        if self.known.is_none_or(|(then, _)| now - then > FRESH) {
            self.known = used().map(|used| (now, used));
        }
        now
    }

    /// It ended. What it took, if that is too much.
    pub(crate) fn end(&mut self, start: Instant) -> Option<Duration> {
        if start.elapsed() <= MOST {
            return None;
        }
        let (_, before) = self.known?;
        Some(used()?.saturating_sub(before)).filter(|took| *took > MOST + FRESH)
    }
}

/// What all threads of this process have used. The system counts in hundredths of a second.
fn used() -> Option<Duration> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    let (_, fields) = stat.rsplit_once(')')?;
    let mut ticks = fields.split_whitespace().skip(11).take(2);
    let (user, system): (u64, u64) = (ticks.next()?.parse().ok()?, ticks.next()?.parse().ok()?);
    Some(Duration::from_millis(10 * (user + system)))
}
