//! Cosines and sines of the angles of some positions.

use std::sync::Arc;

use super::RotationView;
use crate::Cpu;
use crate::kept::{List, Lists};
use crate::scratch::Shared;

/// Tables of several positions that a thread keeps: a model has up to two kinds of layers, in a prefill by
/// chunks.
const KEPT: usize = 4;

/// Tables of one position, of decode steps: of two kinds of layers, in several sequences.
const KEPT_SINGLE: usize = 32;

static ALL: Lists<Arc<Table>> = Lists::new();

thread_local! {
    static TABLES: List<Arc<Table>> = ALL.join();
}

/// Frees the tables of all threads, but for those in use.
pub(crate) fn release() {
    ALL.retain(|_| false);
}

/// The angles of `rows` positions.
pub(super) struct Table {
    periods: Vec<f32>,
    scale: f32,
    offset: usize,
    rows: usize,
    cos: Vec<f32>,
    sin: Vec<f32>,
}

impl Table {
    /// The table of a call, made if this thread has none that has all its rows.
    pub(super) fn get(cpu: &Cpu, rope: &RotationView<'_>, rows: usize) -> Arc<Self> {
        let reaches = |table: &&Arc<Self>| {
            table.offset == rope.offset
                && table.rows >= rows
                && table.scale == rope.scale
                && table.periods == rope.periods
        };
        if let Some(table) = TABLES.with(|tables| tables.lock().iter().find(reaches).cloned()) {
            return table;
        }
        let table = Arc::new(Self::new(cpu, rope, rows));
        TABLES.with(|tables| {
            let mut tables = tables.lock();
            let alike = |table: &Arc<Self>| (table.rows == 1) == (rows == 1);
            let most = if rows == 1 { KEPT_SINGLE } else { KEPT };
            if tables.iter().filter(|table| alike(table)).count() >= most
                && let Some(oldest) = tables.iter().position(alike)
            {
                tables.remove(oldest);
            }
            tables.push(Arc::clone(&table));
        });
        table
    }

    /// Angles are float64: at position 100,000 a float32 is off by a hundredth of a radian.
    fn new(cpu: &Cpu, rope: &RotationView<'_>, rows: usize) -> Self {
        let half = rope.periods.len();
        let (mut cos, mut sin) = (vec![0.0; rows * half], vec![0.0; rows * half]);
        let to = (Shared::new(cos.as_mut_ptr()), Shared::new(sin.as_mut_ptr()));
        cpu.pool().run_ranges(rows, 8, |range| {
            let (cos, sin) = (to.0, to.1);
            for row in range {
                let position = f64::from(rope.scale) * (rope.offset + row) as f64;
                for (i, &period) in rope.periods.iter().enumerate() {
                    let (s, c) = (position / f64::from(period)).sin_cos();
                    // SAFETY: there are `rows * half` elements, and the row is this thread's.
                    unsafe {
                        *cos.get().add(row * half + i) = c as f32;
                        *sin.get().add(row * half + i) = s as f32;
                    }
                }
            }
        });
        Self {
            periods: rope.periods.to_vec(),
            scale: rope.scale,
            offset: rope.offset,
            rows,
            cos,
            sin,
        }
    }

    /// The cosines and sines of a row.
    pub(super) fn row(&self, row: usize) -> (&[f32], &[f32]) {
        let half = self.periods.len();
        (
            &self.cos[row * half..][..half],
            &self.sin[row * half..][..half],
        )
    }
}
