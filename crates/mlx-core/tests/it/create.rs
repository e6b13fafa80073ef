use half::{bf16, f16};
use mlx_core::{Array, Dtype, Error};

use crate::common::on_each_device;

fn round_trips<T: mlx_core::Element + PartialEq + std::fmt::Debug>(values: &[T]) {
    let array = Array::from_slice(values, &[values.len() as i32]).unwrap();
    assert_eq!(array.dtype(), T::DTYPE);
    assert_eq!(array.nbytes(), size_of_val(values));
    assert_eq!(array.to_vec::<T>().unwrap(), values);
    let first = Array::scalar(values[0]).unwrap();
    assert_eq!(first.shape(), [0i32; 0]);
    assert_eq!(first.item::<T>().unwrap(), values[0]);
}

on_each_device! {
    fn every_element_type_comes_back_as_it_went() {
        round_trips(&[u8::MAX, 0, 7]);
        round_trips(&[u16::MAX, 0, 7]);
        round_trips(&[u32::MAX, 0, 7]);
        round_trips(&[u64::MAX, 0, 7]);
        round_trips(&[i8::MIN, -1, i8::MAX]);
        round_trips(&[i16::MIN, -1, i16::MAX]);
        round_trips(&[i32::MIN, -1, i32::MAX]);
        round_trips(&[i64::MIN, -1, i64::MAX]);
        round_trips(&[f32::MIN_POSITIVE, -1.5, f32::INFINITY]);
        round_trips(&[f64::MIN_POSITIVE, -1.5, f64::MAX]);
        round_trips(&[f16::MIN_POSITIVE, f16::NEG_INFINITY, f16::from_f32(0.1)]);
        round_trips(&[bf16::MIN_POSITIVE, bf16::NEG_INFINITY, bf16::from_f32(0.1)]);
        round_trips(&[true, false, true]);
    }

    fn filled_arrays_hold_what_they_say() {
        let zeros = Array::zeros(&[2, 3], Dtype::Bfloat16).unwrap();
        assert_eq!(zeros.to_vec::<bf16>().unwrap(), [bf16::ZERO; 6]);
        let ones = Array::ones(&[3], Dtype::Int16).unwrap();
        assert_eq!(ones.to_vec::<i16>().unwrap(), [1; 3]);
        let full = Array::full(&[2, 2], f64::NEG_INFINITY, Dtype::Float16).unwrap();
        assert_eq!(full.to_vec::<f16>().unwrap(), [f16::NEG_INFINITY; 4]);
        let range = Array::arange(3.0, -2.0, -2.0, Dtype::Int32).unwrap();
        assert_eq!(range.to_vec::<i32>().unwrap(), [3, 1, -1]);
        assert_eq!(Array::zeros(&[0, 4], Dtype::Uint8).unwrap().to_vec::<u8>().unwrap(), [0u8; 0]);
    }

    fn a_scalar_takes_the_dtype_it_is_given() {
        for dtype in [
            Dtype::Bool, Dtype::Uint8, Dtype::Uint16, Dtype::Uint32, Dtype::Uint64, Dtype::Int8,
            Dtype::Int16, Dtype::Int32, Dtype::Int64, Dtype::Float16, Dtype::Float32,
            Dtype::Bfloat16, Dtype::Complex64,
        ] {
            let one = Array::scalar_of(1.0, dtype).unwrap();
            assert_eq!(one.dtype(), dtype);
            assert_eq!(one.cast(Dtype::Float32).unwrap().item::<f32>().unwrap(), 1.0);
        }
        let tenth = Array::scalar_of(0.1, Dtype::Bfloat16).unwrap();
        assert_eq!(tenth.item::<bf16>().unwrap(), bf16::from_f64(0.1));
    }

    fn a_clone_is_the_same_array() {
        let x = Array::from_slice(&[1.0f32, 2.0], &[2]).unwrap();
        let y = x.clone();
        drop(x);
        assert_eq!(y.to_vec::<f32>().unwrap(), [1.0, 2.0]);
    }

    fn dimensions_are_counted_from_either_end() {
        let x = Array::zeros(&[2, 3, 5], Dtype::Float32).unwrap();
        assert_eq!((x.ndim(), x.size(), x.nbytes()), (3, 30, 120));
        assert_eq!((x.dim(0), x.dim(-1), x.dim(-3)), (2, 5, 2));
        assert_eq!(format!("{x:?}"), "float32[2, 3, 5]");
    }
}

#[test]
fn a_number_that_the_dtype_cannot_hold_is_refused() {
    crate::common::devices();
    for (value, dtype) in [
        (1.5, Dtype::Int32),
        (-1.0, Dtype::Uint8),
        (256.0, Dtype::Uint8),
        (f64::NAN, Dtype::Int64),
        (3e9, Dtype::Int32),
    ] {
        match Array::scalar_of(value, dtype) {
            Err(Error::Value { dtype: found, .. }) => assert_eq!(found, dtype),
            other => panic!("{value} as {dtype}: {other:?}"),
        }
    }
}

#[test]
#[should_panic(expected = "axis 3 of an array of shape [2, 3]")]
fn a_dimension_that_is_not_there_panics_with_the_shape() {
    crate::common::devices();
    Array::zeros(&[2, 3], Dtype::Float32).unwrap().dim(3);
}

#[test]
fn dtypes_have_mlx_names_and_sizes() {
    for (dtype, name, size, floating) in [
        (Dtype::Bool, "bool", 1, false),
        (Dtype::Uint32, "uint32", 4, false),
        (Dtype::Float16, "float16", 2, true),
        (Dtype::Bfloat16, "bfloat16", 2, true),
        (Dtype::Float64, "float64", 8, true),
        (Dtype::Complex64, "complex64", 8, false),
    ] {
        assert_eq!((dtype.to_string().as_str(), dtype.size()), (name, size));
        assert_eq!(dtype.is_floating(), floating);
        assert_eq!(name.parse::<Dtype>().unwrap(), dtype);
    }
    let error = "f8".parse::<Dtype>().unwrap_err().to_string();
    assert!(
        error.contains("f8") && error.contains("bfloat16"),
        "{error}"
    );
}
