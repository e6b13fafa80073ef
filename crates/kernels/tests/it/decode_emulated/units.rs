//! Bfloat16 matrices in 12 bits an element, as `bf12/cuda/unit.cuh` describes units.

use half::bf16;

const ROWS: usize = 8;
const COLUMNS: usize = 128;
const BYTES: usize = 1568;
const TOPS: usize = 1536;
const RARE: usize = 1544;
const HERE: usize = 4;

/// The units of a matrix of `rows` times `columns`, and for each of those that have more rare elements than fit
/// the place of the address of its list, and the list.
pub(super) fn encode(
    plain: &[bf16],
    rows: usize,
    columns: usize,
) -> (Vec<u8>, Vec<(usize, Vec<u32>)>) {
    let deep = columns.div_ceil(COLUMNS);
    let mut bytes = vec![0; rows.div_ceil(2 * ROWS) * 2 * deep * BYTES];
    let mut lists = Vec::new();
    for (number, unit) in bytes.chunks_mut(BYTES).enumerate() {
        let mut rare = Vec::new();
        for row in 0..ROWS {
            let from = number / deep * ROWS + row;
            let bits: Vec<u16> = (0..COLUMNS)
                .map(|column| number % deep * COLUMNS + column)
                .map(|column| match from < rows && column < columns {
                    true => plain[from * columns + column].to_bits(),
                    false => 0,
                })
                .collect();
            let inside = columns - number % deep * COLUMNS;
            encode_row(unit, row, &bits, inside, &mut rare);
        }
        let (here, more) = rare.split_at(rare.len().min(HERE));
        for (word, to) in here.iter().zip(unit[RARE..].chunks_mut(4)) {
            to.copy_from_slice(&word.to_le_bytes());
        }
        if !more.is_empty() {
            let list = std::iter::once(more.len() as u32).chain(more.iter().copied());
            lists.push((number * BYTES + RARE + 4 * HERE, list.collect()));
        }
    }
    (bytes, lists)
}

fn encode_row(unit: &mut [u8], row: usize, bits: &[u16], inside: usize, rare: &mut Vec<u32>) {
    let exponent = |bits: u16| bits >> 7 & 0xff;
    let zeros = bits.iter().all(|bits| bits & 0x7fff == 0);
    let top = bits.iter().map(|&bits| exponent(bits)).max().unwrap_or(0);
    let top = if zeros { 0 } else { top.max(16) };
    unit[TOPS + row] = top as u8;
    for (column, &bits) in bits.iter().enumerate() {
        let has_code = top > 0 && exponent(bits) > 0 && exponent(bits) + 15 >= top;
        let (code, kept) = match has_code {
            true => (exponent(bits) + 15 - top, bits & 0x807f),
            false if top == 0 => (0, bits & 0x8000),
            false => (0, 0),
        };
        if !has_code && top > 0 && column < inside {
            rare.push(u32::from(bits) << 16 | 0x8000 | (row as u32) << 7 | column as u32);
        }
        let low = (kept & 0x7f | (code & 1) << 7) as u8;
        let high = (kept >> 8 & 0x80 | code >> 1) as u8;
        let (j, lane, i) = (column / 32, row * 4 + column / 8 % 4, column % 8);
        unit[j / 2 * 512 + lane * 16 + j % 2 * 8 + i] = low;
        let at = 1024 + 4 * (lane * 4 + j);
        let word = u32::from_le_bytes([unit[at], unit[at + 1], unit[at + 2], unit[at + 3]]);
        let own = u32::from(high) << (8 * (i % 4));
        let word = word | if i < 4 { own } else { own.rotate_left(4) };
        unit[at..at + 4].copy_from_slice(&word.to_le_bytes());
    }
}
