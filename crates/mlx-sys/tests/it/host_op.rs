//! The host primitive: a node of MLX's graph whose work is a function of ours.

use std::ffi::{c_char, c_int, c_void};
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use mlx_sys::{Api, MLX_FLOAT32, mlx_array, mlx_stream, mlxb_output, mlxb_view, take_last_error};

/// What the function of these tests gets: how to behave, and counters of what happened.
struct Payload {
    fail_with: Option<&'static str>,
    runs: Arc<AtomicUsize>,
    frees: Arc<AtomicUsize>,
    shared_buffer: Arc<AtomicUsize>,
}

#[derive(Default)]
struct Counters {
    runs: Arc<AtomicUsize>,
    frees: Arc<AtomicUsize>,
    shared_buffer: Arc<AtomicUsize>,
}

impl Counters {
    fn payload(&self, fail_with: Option<&'static str>) -> *mut c_void {
        let payload = Payload {
            fail_with,
            runs: self.runs.clone(),
            frees: self.frees.clone(),
            shared_buffer: self.shared_buffer.clone(),
        };
        Box::into_raw(Box::new(payload)).cast()
    }

    fn runs(&self) -> usize {
        self.runs.load(Ordering::SeqCst)
    }

    fn frees(&self) -> usize {
        self.frees.load(Ordering::SeqCst)
    }
}

unsafe extern "C" fn free_payload(payload: *mut c_void) {
    // SAFETY: made by Counters::payload, and freed once, which is what the counter checks.
    let payload = unsafe { Box::from_raw(payload.cast::<Payload>()) };
    payload.frees.fetch_add(1, Ordering::SeqCst);
}

/// out[i][j] = 2 in[i][j] for every output, reading the input through its strides.
unsafe extern "C" fn double(
    payload: *mut c_void,
    inputs: *const mlxb_view,
    n_inputs: usize,
    outputs: *const mlxb_view,
    n_outputs: usize,
    message: *mut c_char,
    message_size: usize,
) -> c_int {
    // SAFETY: the payload of these tests; the bridge passes valid views and a message buffer.
    let (payload, inputs, outputs, message) = unsafe {
        (
            &*payload.cast::<Payload>(),
            std::slice::from_raw_parts(inputs, n_inputs),
            std::slice::from_raw_parts(outputs, n_outputs),
            std::slice::from_raw_parts_mut(message.cast::<u8>(), message_size),
        )
    };
    payload.runs.fetch_add(1, Ordering::SeqCst);
    if let Some(text) = payload.fail_with {
        message[..text.len()].copy_from_slice(text.as_bytes());
        message[text.len()] = 0;
        return 1;
    }
    let input = &inputs[0];
    for output in outputs {
        assert!(output.row_contiguous);
        if output.data == input.data {
            payload.shared_buffer.fetch_add(1, Ordering::SeqCst);
        }
        // SAFETY: both views are two-dimensional with `ndim` sizes and strides, and their data
        // has every element that these reach.
        unsafe {
            let (rows, columns) = (*output.shape as isize, *output.shape.add(1) as isize);
            let (s0, s1) = (*input.strides as isize, *input.strides.add(1) as isize);
            for i in 0..rows {
                for j in 0..columns {
                    let value = *input.data.cast::<f32>().offset(i * s0 + j * s1);
                    *output.data.cast::<f32>().offset(i * columns + j) = 2.0 * value;
                }
            }
        }
    }
    0
}

/// A random-looking array of `rows` x `columns`; equal arguments give equal values.
fn values(rows: usize, columns: usize) -> Vec<f32> {
    (0..rows * columns)
        .map(|i| ((i * 7919 + 13) % 1009) as f32 / 7.0 - 70.0)
        .collect()
}

struct Test {
    api: &'static Api,
    stream: mlx_stream,
}

impl Test {
    fn new() -> Self {
        let api = mlx_sys::api().expect("the native library loads");
        // SAFETY: makes a handle.
        let stream = unsafe { api.mlx_default_cpu_stream_new() };
        Self { api, stream }
    }

    fn array(&self, rows: usize, columns: usize) -> mlx_array {
        let shape = [rows as c_int, columns as c_int];
        let data = values(rows, columns);
        // SAFETY: the data has what the shape says, and MLX copies it.
        unsafe {
            self.api
                .mlx_array_new_data(data.as_ptr().cast(), shape.as_ptr(), 2, MLX_FLOAT32)
        }
    }

    /// A host op over one input, with outputs of the given shape.
    fn host_op(
        &self,
        input: mlx_array,
        shape: &[c_int],
        n_outputs: usize,
        payload: *mut c_void,
        donate: c_int,
        stream: mlx_stream,
    ) -> Result<Vec<mlx_array>, String> {
        let spec = mlxb_output {
            shape: shape.as_ptr(),
            ndim: shape.len(),
            dtype: MLX_FLOAT32,
        };
        let specs = vec![spec; n_outputs];
        // SAFETY: handles and specs are valid for the call; the payload fits the two functions.
        unsafe {
            let inputs = self.api.mlx_vector_array_new_value(input);
            let mut outputs = self.api.mlx_vector_array_new();
            let status = self.api.mlxb_host_op(
                &mut outputs,
                c"double".as_ptr(),
                inputs,
                specs.as_ptr(),
                n_outputs,
                Some(double),
                payload,
                Some(free_payload),
                donate,
                stream,
            );
            self.api.mlx_vector_array_free(inputs);
            let result = if status == 0 {
                let get = |i| {
                    let mut array = self.api.mlx_array_new();
                    assert_eq!(self.api.mlx_vector_array_get(&mut array, outputs, i), 0);
                    array
                };
                Ok((0..n_outputs).map(get).collect())
            } else {
                Err(take_last_error().expect("a message"))
            };
            self.api.mlx_vector_array_free(outputs);
            result
        }
    }

    fn read(&self, array: mlx_array) -> Result<Vec<f32>, String> {
        // SAFETY: a valid handle; the data is read after the evaluation, and host ops make
        // row-contiguous arrays.
        unsafe {
            if self.api.mlx_array_eval(array) != 0 {
                return Err(take_last_error().expect("a message"));
            }
            let mut data = ptr::null();
            assert_eq!(self.api.mlxb_array_data(&mut data, array), 0);
            let size = self.api.mlx_array_size(array);
            if size == 0 {
                return Ok(Vec::new());
            }
            Ok(std::slice::from_raw_parts(data.cast::<f32>(), size).to_vec())
        }
    }

    fn free(&self, arrays: impl IntoIterator<Item = mlx_array>) {
        for array in arrays {
            // SAFETY: each handle is freed once.
            unsafe { self.api.mlx_array_free(array) };
        }
    }

    /// Waits until the stream's thread has dropped what it ran.
    fn synchronize(&self) {
        // SAFETY: a valid stream.
        unsafe { self.api.mlx_synchronize(self.stream) };
        let _ = take_last_error();
    }
}

#[test]
fn a_strided_input_is_read_right_and_the_payload_freed_once() {
    let (test, counters) = (Test::new(), Counters::default());
    let a = test.array(5, 3);
    // SAFETY: valid handles.
    let transposed = unsafe {
        let mut t = test.api.mlx_array_new();
        assert_eq!(test.api.mlx_transpose(&mut t, a, test.stream), 0);
        t
    };
    let payload = counters.payload(None);
    let outputs = test
        .host_op(transposed, &[3, 5], 2, payload, -1, test.stream)
        .unwrap();
    test.free([a, transposed]);
    assert_eq!(counters.runs(), 0, "the op is lazy");

    let data = values(5, 3);
    let expected: Vec<f32> = (0..3)
        .flat_map(|i| (0..5).map(move |j| (j, i)))
        .map(|(j, i)| 2.0 * data[j * 3 + i])
        .collect();
    for output in &outputs {
        assert_eq!(test.read(*output).unwrap(), expected);
    }
    assert_eq!(counters.runs(), 1, "one run makes both outputs");
    test.free(outputs);
    test.synchronize();
    assert_eq!(counters.frees(), 1);
}

#[test]
fn a_failure_reaches_whoever_evaluates_and_the_thread_goes_on() {
    // Not the main thread: an engine's thread must be able to recover as well.
    let (test, counters) = (Test::new(), Counters::default());
    let a = test.array(2, 2);
    let payload = counters.payload(Some("the weights are not what they were"));
    let failing = test
        .host_op(a, &[2, 2], 1, payload, -1, test.stream)
        .unwrap();
    let message = test.read(failing[0]).unwrap_err();
    assert_eq!(message, "[double] the weights are not what they were");
    test.free(failing);
    test.synchronize();
    assert_eq!(counters.frees(), 1);

    let good = test
        .host_op(a, &[2, 2], 1, counters.payload(None), -1, test.stream)
        .unwrap();
    let expected: Vec<f32> = values(2, 2).iter().map(|x| 2.0 * x).collect();
    assert_eq!(test.read(good[0]).unwrap(), expected);
    test.free(good);
    test.free([a]);
    test.synchronize();
    assert_eq!(counters.frees(), 2);
}

#[test]
fn a_graph_that_is_dropped_before_it_runs_frees_the_payload() {
    let (test, counters) = (Test::new(), Counters::default());
    let a = test.array(4, 4);
    let outputs = test
        .host_op(a, &[4, 4], 3, counters.payload(None), -1, test.stream)
        .unwrap();
    test.free(outputs);
    test.free([a]);
    assert_eq!((counters.runs(), counters.frees()), (0, 1));
}

#[test]
fn a_bad_specification_is_an_error_and_frees_the_payload() {
    let (test, counters) = (Test::new(), Counters::default());
    let a = test.array(2, 2);
    let negative = test.host_op(a, &[2, -1], 1, counters.payload(None), -1, test.stream);
    assert!(negative.unwrap_err().contains("negative"));
    let missing = test.host_op(a, &[2, 2], 1, counters.payload(None), 1, test.stream);
    assert!(missing.unwrap_err().contains("no such input"));
    let empty = test.host_op(a, &[2, 2], 0, counters.payload(None), -1, test.stream);
    assert!(empty.unwrap_err().contains("an output"));
    let no_stream = mlx_stream {
        ctx: ptr::null_mut(),
    };
    assert!(
        test.host_op(a, &[2, 2], 1, counters.payload(None), -1, no_stream)
            .is_err()
    );
    test.free([a]);
    assert_eq!((counters.runs(), counters.frees()), (0, 4));
}

#[test]
fn an_empty_output_is_made() {
    let (test, counters) = (Test::new(), Counters::default());
    let a = test.array(2, 2);
    let outputs = test
        .host_op(a, &[0, 2], 1, counters.payload(None), -1, test.stream)
        .unwrap();
    assert_eq!(test.read(outputs[0]).unwrap(), []);
    test.free(outputs);
    test.free([a]);
}

#[test]
fn a_buffer_is_taken_over_only_where_nothing_else_uses_it() {
    let (test, counters) = (Test::new(), Counters::default());
    let expected: Vec<f32> = values(8, 8).iter().map(|x| 4.0 * x).collect();
    for kept in [false, true] {
        let a = test.array(8, 8);
        // SAFETY: valid handles.
        let sum = unsafe {
            let mut sum = test.api.mlx_array_new();
            assert_eq!(test.api.mlx_add(&mut sum, a, a, test.stream), 0);
            sum
        };
        let outputs = test
            .host_op(sum, &[8, 8], 1, counters.payload(None), 0, test.stream)
            .unwrap();
        if !kept {
            test.free([sum]);
        }
        assert_eq!(test.read(outputs[0]).unwrap(), expected);
        assert_eq!(
            counters.shared_buffer.load(Ordering::SeqCst),
            1,
            "shared when kept={kept}"
        );
        if kept {
            let twice: Vec<f32> = values(8, 8).iter().map(|x| 2.0 * x).collect();
            assert_eq!(
                test.read(sum).unwrap(),
                twice,
                "the kept input is unchanged"
            );
            test.free([sum]);
        }
        test.free(outputs);
        test.free([a]);
    }
}

#[test]
fn outputs_survive_asynchronous_evaluation_of_a_long_chain() {
    // Each link's input is dropped before it ran: buffers must live until their task is done.
    let (test, counters) = (Test::new(), Counters::default());
    let mut x = test.array(64, 64);
    let zero = [0.5_f32];
    // SAFETY: valid handles and data.
    let half = unsafe {
        test.api
            .mlx_array_new_data(zero.as_ptr().cast(), [1].as_ptr(), 1, MLX_FLOAT32)
    };
    for round in 0..200 {
        let doubled = test
            .host_op(
                x,
                &[64, 64],
                1,
                counters.payload(None),
                round % 2 - 1,
                test.stream,
            )
            .unwrap();
        // SAFETY: valid handles.
        let next = unsafe {
            let mut next = test.api.mlx_array_new();
            assert_eq!(
                test.api
                    .mlx_multiply(&mut next, doubled[0], half, test.stream),
                0
            );
            let outputs = test.api.mlx_vector_array_new_value(next);
            assert_eq!(test.api.mlx_async_eval(outputs), 0);
            test.api.mlx_vector_array_free(outputs);
            next
        };
        test.free(doubled);
        test.free([x]);
        x = next;
    }
    assert_eq!(test.read(x).unwrap(), values(64, 64));
    test.free([x, half]);
    test.synchronize();
    assert_eq!((counters.runs(), counters.frees()), (200, 200));
}
