//! A failure says which operation it was, with the shapes and dtypes of its operands.

use mlx_core::fast::{self, SdpaMask};
use mlx_core::quant::{self, Mode};
use mlx_core::{Array, Dtype, Error, Result, eval, ops, random};

use crate::common::on_each_device;

#[track_caller]
fn says<T>(result: Result<T>, parts: &[&str]) {
    let Err(error) = result else {
        panic!("no error; expected one with {parts:?}")
    };
    let text = error.to_string();
    for part in parts {
        assert!(text.contains(part), "{text:?} lacks {part:?}");
    }
}

on_each_device! {
    fn a_failed_operation_names_itself_and_its_operands() {
        let a = Array::zeros(&[2, 3], Dtype::Float32).unwrap();
        let b = Array::zeros(&[4, 5], Dtype::Bfloat16).unwrap();
        says(ops::matmul(&a, &b), &["matmul(float32[2, 3], bfloat16[4, 5])", "Last dimension"]);
        says(ops::add(&a, &b), &["add(float32[2, 3], bfloat16[4, 5])", "broadcast"]);
        says(ops::sum(&a, &[7], false), &["sum(float32[2, 3], axes [7])", "7"]);
        says(ops::softmax(&a, -3, true), &["softmax(float32[2, 3], axis -3)"]);
        says(
            ops::concatenate(&[&a, &b], 0),
            &["concatenate(float32[2, 3], bfloat16[4, 5], axis 0)"],
        );
        says(ops::stack(&[], 0), &["stack(axis 0)"]);
        says(ops::split(&a, 2, 1), &["split(float32[2, 3], 2 parts, axis 1)"]);
        says(ops::take(&a, &b, 0), &["take(float32[2, 3], bfloat16[4, 5], axis 0)"]);
        says(a.reshape(&[5]), &["reshape(float32[2, 3], to [5])"]);
        says(a.transpose(&[0, 0]), &["transpose(float32[2, 3], axes [0, 0])"]);
        says(a.slice(&[0], &[1]), &["slice(float32[2, 3], [0] to [1]"]);
        says(a.squeeze(0), &["squeeze(float32[2, 3], axis 0)"]);
        says(a.broadcast_to(&[3, 3]), &["broadcast_to(float32[2, 3], [3, 3])"]);
    }

    fn a_failed_fused_operation_names_itself_and_its_operands() {
        let x = Array::zeros(&[1, 2, 3, 8], Dtype::Float32).unwrap();
        let wide = Array::zeros(&[9], Dtype::Float32).unwrap();
        says(fast::rms_norm(&x, Some(&wide), 1e-6), &["rms_norm(float32[1, 2, 3, 8], float32[9]"]);
        says(
            fast::rope(&x, 8, false, None, 1.0, 0, None),
            &["rope(float32[1, 2, 3, 8], dims 8, base None"],
        );
        let k = Array::zeros(&[1, 2, 3, 4], Dtype::Float32).unwrap();
        says(
            fast::scaled_dot_product_attention(&x, &k, &k, 1.0, SdpaMask::Causal),
            &["scaled_dot_product_attention(float32[1, 2, 3, 8], float32[1, 2, 3, 4]", "causal"],
        );
        let scheme = Mode::Affine.defaults();
        says(quant::quantize(&wide, &scheme), &["quantize(float32[9], affine, 4 bits, group 64)"]);
        says(
            quant::quantized_matmul(&x, &wide, &wide, None, true, &scheme),
            &["quantized_matmul(float32[1, 2, 3, 8], float32[9], float32[9], affine"],
        );
    }

    /// MLX divides by these, which ends the process, or takes them for something else.
    fn what_mlx_would_not_check_is_refused_here() {
        let x = Array::zeros(&[6], Dtype::Float32).unwrap();
        says(x.reshape(&[-2, -3]), &["reshape(float32[6], to [-2, -3])", "negative"]);
        says(x.slice_strided(&[0], &[6], &[0]), &["slice(float32[6]", "stride is zero"]);
        let q = Array::zeros(&[1, 2, 3, 8], Dtype::Float32).unwrap();
        let k = Array::zeros(&[1, 0, 3, 8], Dtype::Float32).unwrap();
        says(
            fast::scaled_dot_product_attention(&q, &k, &k, 1.0, SdpaMask::None),
            &["float32[1, 0, 3, 8]", "no key heads"],
        );
        let key = random::Key::new(0).unwrap();
        says(random::gumbel(&key, &[i32::MAX; 3], Dtype::Float32), &["gumbel", "too large"]);
        let empty = Array::zeros(&[0, 3], Dtype::Float32).unwrap();
        assert_eq!(ops::cumsum(&empty, 0, false, true).unwrap().shape(), [0, 3]);
    }

    fn reading_as_another_type_is_refused() {
        let x = Array::zeros(&[2], Dtype::Bfloat16).unwrap();
        let error = x.to_vec::<f32>().unwrap_err();
        let wanted = Dtype::Float32;
        assert_eq!(error, Error::Dtype { op: "to_vec", wanted, found: Dtype::Bfloat16 });
        says(x.item::<f32>(), &["bfloat16", "float32", "cast"]);
        let several = Array::zeros(&[2], Dtype::Float32).unwrap();
        says(several.item::<f32>(), &["item(float32[2])", "one element"]);
    }

    fn impossible_shapes_are_refused() {
        says(Array::from_slice(&[1.0f32, 2.0], &[3]), &["float32[3]", "2 elements"]);
        says(Array::from_slice(&[1.0f32], &[-1]), &["float32[-1]"]);
        says(Array::zeros(&[-2], Dtype::Uint8), &["zeros(uint8[-2])"]);
        says(Array::ones(&[i32::MAX; 3], Dtype::Float64), &["ones(float64[", "too large"]);
        says(Array::full(&[i32::MAX; 3], 1.0, Dtype::Int8), &["full(int8["]);
    }

    fn evaluating_nothing_is_fine() {
        eval(&[]).unwrap();
        mlx_core::async_eval(&[]).unwrap();
    }
}

#[test]
fn a_long_list_of_operands_is_cut_short() {
    crate::common::devices();
    let rows: Vec<Array> = (0..40)
        .map(|i| Array::zeros(&[2, i + 1], Dtype::Float32).unwrap())
        .collect();
    let rows: Vec<&Array> = rows.iter().collect();
    let text = ops::concatenate(&rows, 0).unwrap_err().to_string();
    assert!(
        text.contains("float32[2, 6], and 34 more, axis 0)"),
        "{text}"
    );
    assert!(!text.contains("float32[2, 7]"), "{text}");
}

#[test]
fn an_error_may_travel_where_an_array_may_not() {
    fn everywhere<T: Send + Sync + 'static>() {}
    everywhere::<Error>();
}
