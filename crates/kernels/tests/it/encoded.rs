//! Bfloat16 matrices in 12 bits as operations, on the device that `ML_TEST_DEVICE` names, or else the
//! CPU: what comes out is what went in.

use crate::common::{Rng, open_device};
use half::bf16;
use kernels::Cpu;
use kernels::bf12::Bf12;
use kernels::graph::{Encoded, bf12_matmuls, bf12_rows, encode_bf12, force_mlx};
use mlx_core::{Array, DeviceKind, Dtype};

/// Whether matrices are encoded on the device.
fn encodes() -> bool {
    let encodes = match open_device() {
        DeviceKind::Cpu => Bf12::pays(Cpu::shared().isa()),
        other => other == DeviceKind::Cuda,
    };
    if !encodes {
        eprintln!("skipped: this device has no kernels for it");
    }
    encodes
}

fn array(bits: &[u16], columns: usize) -> Array {
    let numbers: Vec<bf16> = bits.iter().map(|&bits| bf16::from_bits(bits)).collect();
    let shape = [(bits.len() / columns) as i32, columns as i32];
    Array::from_slice(&numbers, &shape).unwrap()
}

fn bits(array: &Array) -> Vec<u16> {
    let numbers = array.to_vec::<bf16>().unwrap();
    numbers.into_iter().map(bf16::to_bits).collect()
}

/// Weights as trained ones are distributed, with zeros of both signs, denormal and very small numbers
/// among them: one in `apart`, and if `lines` a column and half a row.
fn weights(rng: &mut Rng, rows: usize, columns: usize, apart: u64, lines: bool) -> Vec<u16> {
    let scale = 2_f64.powi((rng.bits() % 60) as i32 - 30);
    let mut bits: Vec<u16> = (0..rows * columns)
        .map(|_| bf16::from_f64((0.01 + rng.normal().abs()).copysign(rng.unit()) * scale).to_bits())
        .collect();
    let (row, column) = (rng.bits() as usize % rows, rng.bits() as usize % columns);
    for (i, bits) in bits.iter_mut().enumerate() {
        let of_row = i / columns == row && i % 2 == 0;
        if lines && (of_row || i % columns == column) || rng.bits().is_multiple_of(apart) {
            *bits = match rng.bits() % 3 {
                0 => (rng.bits() >> 20) as u16 & 0x8000,
                1 => (rng.bits() >> 20) as u16 & 0x807f,
                _ => (rng.bits() >> 20) as u16 & 0x8fff,
            };
        }
    }
    bits
}

/// All rows of a matrix, and its columns by a product with the unit matrix, which adds zeros to each
/// element.
fn check(what: &str, bits_of_w: &[u16], columns: usize, w: &Encoded) {
    let rows = bits_of_w.len() / columns;
    assert_eq!([w.rows(), w.cols()], [rows, columns], "{what}");
    let ids = Array::arange(0.0, rows as f64, 1.0, Dtype::Int32).unwrap();
    let found = bits(&bf12_rows(w, &ids).unwrap());
    for (i, (found, wanted)) in found.iter().zip(bits_of_w).enumerate() {
        let (row, column) = (i / columns, i % columns);
        assert_eq!(found, wanted, "{what}: row [{row}, {column}]");
    }
    let mut unit = vec![0; columns * columns];
    for i in 0..columns {
        unit[i * columns + i] = bf16::ONE.to_bits();
    }
    let product = bf12_matmuls(&array(&unit, columns), &[w, w]).unwrap();
    for product in product {
        let found = bits(&product);
        for (i, found) in found.iter().enumerate() {
            let (column, row) = (i / rows, i % rows);
            let wanted = bits_of_w[row * columns + column];
            // A sum of numbers of the other sign and zero is zero, and denormal ones may be flushed.
            let same = *found == wanted || (wanted & 0x7f80 == 0 && *found & 0x7f80 == 0);
            assert!(
                same,
                "{what}: product [{row}, {column}] {found:x}, not {wanted:x}"
            );
        }
    }
}

#[test]
fn every_bit_comes_back() {
    if !encodes() {
        return;
    }
    let mut rng = Rng::new(11);
    // In a few rows a column and half a row are too many.
    for (rows, columns, apart, lines) in [
        (1, 128, 1 << 40, false),
        (8, 256, 1 << 40, false),
        (17, 384, 2000, false),
        (40, 1152, 600, false),
        (150, 640, 600, false),
        (1600, 1024, 1 << 40, true),
        (2400, 1152, 4000, true),
    ] {
        let bits = weights(&mut rng, rows, columns, apart, lines);
        let what = format!("[{rows}, {columns}], one of {apart} small, lines {lines}");
        let w = encode_bf12(&array(&bits, columns)).unwrap();
        check(
            &what,
            &bits,
            columns,
            &w.unwrap_or_else(|| panic!("{what} was refused")),
        );
    }
}

#[test]
fn rows_that_are_no_whole_units_come_back_on_a_gpu() {
    if !encodes() || open_device() == DeviceKind::Cpu {
        return;
    }
    let mut rng = Rng::new(12);
    for columns in [32, 96, 544, 2080] {
        let bits = weights(&mut rng, 300, columns, 1000, false);
        let w = encode_bf12(&array(&bits, columns)).unwrap().unwrap();
        check(&format!("{columns} columns"), &bits, columns, &w);
    }
    let bits = weights(&mut rng, 4, 72, 1000, false);
    assert!(encode_bf12(&array(&bits, 72)).unwrap().is_none());
}

#[test]
fn what_cannot_be_encoded_is_refused_on_a_gpu() {
    if !encodes() || open_device() == DeviceKind::Cpu {
        return;
    }
    let mut rng = Rng::new(13);
    let usual: Vec<u16> = (0..64 * 512)
        .map(|_| bf16::from_f64(rng.normal()).to_bits())
        .collect();
    assert!(encode_bf12(&array(&usual, 512)).unwrap().is_some());
    for wrong in [0x7f80, 0xff80, 0x7fc1] {
        let mut bits = usual.clone();
        bits[rng.bits() as usize % (64 * 512)] = wrong;
        assert!(
            encode_bf12(&array(&bits, 512)).unwrap().is_none(),
            "{wrong:x}"
        );
    }
    // Exponents that are spread evenly.
    let spread: Vec<u16> = (0..64 * 512)
        .map(|_| (rng.bits() >> 20) as u16 & 0xbfff)
        .collect();
    assert!(encode_bf12(&array(&spread, 512)).unwrap().is_none());
    let floats = array(&usual, 512).cast(Dtype::Float32).unwrap();
    assert!(encode_bf12(&floats).unwrap().is_none());
}

#[test]
fn nothing_is_encoded_on_the_plain_path() {
    open_device();
    let bits = weights(&mut Rng::new(14), 64, 512, 4000, false);
    force_mlx(true);
    let encoded = encode_bf12(&array(&bits, 512)).unwrap();
    force_mlx(false);
    assert!(encoded.is_none());
}
