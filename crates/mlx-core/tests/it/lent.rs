//! Arrays over bytes that belong to somebody else, such as a mapped file.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::common::{Rng, on_each_device};
use mlx_core::io::MappedFile;
use mlx_core::{Array, Bytes, Dtype, Result, device, memory, ops};

/// Bytes aligned to 8 that count how often they were dropped.
struct Owner {
    words: Vec<u64>,
    drops: Arc<AtomicUsize>,
}

impl Owner {
    fn lend(bytes: &[u8]) -> (Bytes, Arc<AtomicUsize>) {
        let drops = Arc::new(AtomicUsize::new(0));
        let words = bytes
            .chunks(8)
            .map(|chunk| {
                let mut word = [0; 8];
                word[..chunk.len()].copy_from_slice(chunk);
                u64::from_ne_bytes(word)
            })
            .collect();
        (
            Arc::new(Owner {
                words,
                drops: drops.clone(),
            }),
            drops,
        )
    }
}

impl AsRef<[u8]> for Owner {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: the words are initialised bytes, and live as long as this borrow.
        unsafe { std::slice::from_raw_parts(self.words.as_ptr().cast(), self.words.len() * 8) }
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.drops.fetch_add(1, Ordering::SeqCst);
    }
}

fn floats(n: usize) -> (Vec<f32>, Vec<u8>) {
    let mut rng = Rng::new(80);
    let values: Vec<f32> = (0..n).map(|_| rng.float(-1.0, 1.0) as f32).collect();
    let bytes = values.iter().flat_map(|v| v.to_ne_bytes()).collect();
    (values, bytes)
}

on_each_device! {
    fn an_owner_is_dropped_once_after_the_last_use() {
        let (values, bytes) = floats(1000);
        for start in [0, 8, 16] {
            let (owner, drops) = Owner::lend(&bytes);
            let n = values.len() - start / 4;
            let array =
                Array::from_owned_bytes(owner, start..4000, &[n as i32], Dtype::Float32).unwrap();
            let twice = ops::add(&array, &array).unwrap();
            let view = array.reshape(&[2, -1]).unwrap().t().unwrap();
            assert_eq!(array.to_vec::<f32>().unwrap(), values[start / 4..]);
            view.eval().unwrap();
            drop(array);
            memory::clear_cache().unwrap();
            let want: Vec<f32> = values[start / 4..].iter().map(|v| v + v).collect();
            assert_eq!(twice.to_vec::<f32>().unwrap(), want);
            assert_eq!(view.slice(&[0, 0], &[1, 1]).unwrap().item::<f32>().unwrap(), want[0] / 2.0);
            drop((twice, view));
            device::synchronize().unwrap();
            memory::clear_cache().unwrap();
            assert_eq!(drops.load(Ordering::SeqCst), 1, "from byte {start}");
        }
    }

    fn bytes_at_any_alignment_read_right() {
        let (values, bytes) = floats(64);
        for shift in 0..17 {
            let mut shifted = vec![0xff; shift];
            shifted.extend(&bytes);
            let (owner, drops) = Owner::lend(&shifted);
            let range = shift..shift + bytes.len();
            let array = Array::from_owned_bytes(owner, range, &[8, 8], Dtype::Float32).unwrap();
            assert_eq!(array.to_vec::<f32>().unwrap(), values, "shifted by {shift}");
            drop(array);
            device::synchronize().unwrap();
            memory::clear_cache().unwrap();
            assert_eq!(drops.load(Ordering::SeqCst), 1, "shifted by {shift}");
        }
    }

    fn a_read_only_map_is_never_written() {
        // Every operation here would reuse the buffer of an operand that nothing else refers to,
        // and a write to the map would end the process.
        let (values, bytes) = floats(1 << 16);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("weights");
        fs::write(&path, [&[0; 64][..], &bytes].concat()).unwrap();
        let map = MappedFile::new(&fs::File::open(&path).unwrap()).unwrap();
        let load = || {
            let range = 64..64 + bytes.len();
            Array::from_owned_bytes(map.clone(), range, &[1 << 16], Dtype::Float32).unwrap()
        };
        // The operand is gone when the result is computed.
        let of_lent = |op: &dyn Fn(&Array) -> Result<Array>| op(&load()).unwrap();
        let close = |got: &Array, want: &dyn Fn(f32) -> f32| {
            let want: Vec<f32> = values.iter().map(|&v| want(v)).collect();
            assert_eq!(got.to_vec::<f32>().unwrap(), want);
        };
        let (zero, one) = (Array::scalar(0.0f32).unwrap(), Array::scalar(1.0f32).unwrap());
        close(&of_lent(&|x| ops::neg(x)), &|v| -v);
        close(&of_lent(&|x| ops::add(x, &one)), &|v| v + 1.0);
        close(&of_lent(&|x| ops::neg(&x.reshape(&[256, 256])?)), &|v| -v);
        close(&of_lent(&|x| x.slice_update(&zero, &[0], &[1 << 16])), &|_| 0.0);
        close(
            &of_lent(&|x| {
                let view = x.reshape(&[256, 256])?;
                view.eval()?;
                ops::neg(&view)
            }),
            &|v| -v,
        );
        close(&load(), &|v| v);
        assert_eq!(fs::read(&path).unwrap()[64..], bytes);
    }

    fn lent_bytes_are_not_copied_on_the_cpu() {
        if device::open(device::Choice::Auto).unwrap().kind != mlx_core::DeviceKind::Cpu {
            continue;
        }
        let (owner, drops) = Owner::lend(&vec![1; 8 << 20]);
        device::synchronize().unwrap();
        let before = memory::active().unwrap();
        let range = 8..(8 << 20);
        let n = (8 << 20) - 8;
        let array = Array::from_owned_bytes(owner, range, &[n], Dtype::Uint8).unwrap();
        array.eval().unwrap();
        assert!(memory::active().unwrap() < before + (1 << 20));
        assert_eq!(drops.load(Ordering::SeqCst), 0);
        drop(array);
        memory::clear_cache().unwrap();
        assert_eq!(drops.load(Ordering::SeqCst), 1);
    }

    fn a_range_that_does_not_fit_is_refused_and_the_owner_dropped() {
        for (range, shape, part) in [
            (0..16, [5], "16 bytes do not fill"),
            (8..80, [18], "not within the 64"),
            (usize::MAX - 3..usize::MAX, [0], "not within"),
            (0..16, [-4], "float32[-4]"),
        ] {
            let (owner, drops) = Owner::lend(&[0; 64]);
            let result = Array::from_owned_bytes(owner, range, &shape, Dtype::Float32);
            let text = result.unwrap_err().to_string();
            assert!(text.starts_with("from_owned_bytes") && text.contains(part), "{text}");
            assert_eq!(drops.load(Ordering::SeqCst), 1);
        }
    }

    fn no_bytes_make_an_empty_array() {
        let (owner, _) = Owner::lend(&[0; 64]);
        let empty = Array::from_owned_bytes(owner, 16..16, &[0, 3], Dtype::Float32).unwrap();
        assert_eq!(empty.to_vec::<f32>().unwrap(), [0f32; 0]);
    }
}
