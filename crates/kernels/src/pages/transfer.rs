//! Keys and values from pages into arrays, and back.

use std::sync::Arc;

use mlx_core::{Array, Dtype, Error, Result, host_op};

use super::graph::{PageMap, Segment, after, held, pages_of};
use crate::Cpu;
use crate::arrays::{exactly, heads_outside, heads_outside_mut};
use crate::vector::copy;

/// Keys and values of a state, `[1, heads, tokens, dim]`, from a position on.
#[derive(Clone, Debug)]
pub struct Range {
    /// The position of the first token.
    pub start: i32,
    /// Keys and values.
    pub arrays: [Array; 2],
}

/// Keys and values `[1, heads, tokens, dim]` of each state, of the positions from those in `starts` up to the
/// segment's, whose new rows are none.
///
/// What writes the pages next has to come after what is given.
///
/// # Errors
/// When a page of these positions is not in the segment.
pub fn read_pages(map: &Arc<PageMap>, segment: &Segment, starts: &[i32]) -> Result<Vec<Range>> {
    let refused = || Error::Native("pages: what is to be read is not there".to_owned());
    let mut held = held(map, std::slice::from_ref(segment))?;
    let mut shapes = Vec::with_capacity(2 * starts.len());
    for (state, start) in starts.iter().enumerate() {
        let list = map.placed(state).map(|placed| &segment.kinds[placed.kind]);
        let list = list.filter(|list| list.first <= *start && *start <= segment.position);
        list.ok_or_else(refused)?;
        let heads = map.heads()[state];
        let shape = [1, heads.count, segment.position - start, heads.dim];
        shapes.extend([(shape, heads.dtype); 2]);
    }
    let outputs: Vec<_> = shapes.iter().map(|(s, dtype)| (&s[..], *dtype)).collect();
    let (starts_of, map) = (starts.to_vec(), Arc::clone(map));
    let inputs = after(std::slice::from_ref(segment));
    let segment = held.remove(0);
    let made = host_op::call("pages_read", &inputs, &outputs, move |_, outputs| {
        let cpu = Cpu::shared();
        // SAFETY: this is the closure of the operation that the segment was made for.
        let mut addresses = unsafe { segment.addresses() };
        for (state, (to, start)) in outputs.chunks_exact_mut(2).zip(&starts_of).enumerate() {
            let placed = map.placed(state).ok_or("there is no such state")?;
            let first = segment.first(placed.kind);
            let range = *start as usize - first..segment.position - first;
            for (place, to) in [placed.keys, placed.values].iter().zip(to) {
                let mut to = heads_outside_mut(to)?;
                let mut at = 0;
                for rows in pages_of(&mut addresses, placed).rows_mut(place, range.clone())? {
                    let next = at + rows.layout().rows;
                    copy(cpu, rows.as_view(), to.slice_rows(at..next)?)?;
                    at = next;
                }
            }
        }
        Ok(())
    })?;
    let mut made = made.into_iter();
    let ranges = starts.iter().map(|start| {
        let arrays = [made.next(), made.next()].map(|array| array.ok_or_else(refused));
        let [keys, values] = arrays;
        Ok(Range {
            start: *start,
            arrays: [keys?, values?],
        })
    });
    ranges.collect()
}

/// Writes keys and values of each state into the segment's pages, where they end with the last new row. A byte,
/// which whoever uses the pages next comes after.
///
/// # Errors
/// When the arrays are not of the states' heads, do not end with the last row, or have no room.
pub fn write_pages(map: &Arc<PageMap>, segment: &Segment, ranges: &[Range]) -> Result<Array> {
    let refused = || Error::Native("pages: what is to be written does not fit".to_owned());
    let mut held = held(map, std::slice::from_ref(segment))?;
    let stop = segment.position + segment.rows;
    let all = ranges.len() == map.heads().len();
    let fits = ranges.iter().enumerate().all(|(state, range)| {
        let heads = map.heads()[state];
        let first = segment.kinds[map.kind_of(state)].first;
        let shape = [1, heads.count, stop - range.start, heads.dim];
        let is = |a: &Array| a.shape() == shape && a.dtype() == heads.dtype;
        // Only pages that were found to be this segment's alone are written.
        let in_new = range.start >= segment.position / super::PAGE as i32 * super::PAGE as i32;
        first <= range.start && in_new && range.arrays.iter().all(is)
    });
    if !all || !fits {
        return Err(refused());
    }
    let arrays = ranges.iter().flat_map(|range| &range.arrays);
    let mut inputs: Vec<&Array> = arrays.collect();
    inputs.extend(after(std::slice::from_ref(segment)));
    let (map, starts) = (
        Arc::clone(map),
        ranges.iter().map(|r| r.start as usize).collect::<Vec<_>>(),
    );
    let segment = held.remove(0);
    let outputs = [(&[1][..], Dtype::Uint8)];
    let made = host_op::call(
        "pages_written",
        &inputs,
        &outputs,
        move |inputs, outputs| {
            let cpu = Cpu::shared();
            // SAFETY: this is the closure of the operation that the segment was made for.
            let mut addresses = unsafe { segment.addresses() };
            segment.copy(cpu, &map, &mut addresses)?;
            for (state, (from, start)) in inputs.chunks_exact(2).zip(&starts).enumerate() {
                let placed = map.placed(state).ok_or("there is no such state")?;
                let first = segment.first(placed.kind);
                let range = start - first..segment.position + segment.rows - first;
                for (place, from) in [placed.keys, placed.values].iter().zip(from) {
                    let from = heads_outside(from)?;
                    let mut at = 0;
                    for rows in pages_of(&mut addresses, placed).rows_mut(place, range.clone())? {
                        let next = at + rows.layout().rows;
                        copy(cpu, from.slice_rows(at..next)?, rows)?;
                        at = next;
                    }
                }
            }
            if let [done] = outputs {
                done.bytes_mut().fill(1);
            }
            Ok(())
        },
    )?;
    let [done] = exactly(made);
    Ok(done)
}
