//! The library is found with no setting, computes, and reports failures.

use mlx_sys::{Api, Choice, take_last_error};

fn api() -> &'static Api {
    mlx_sys::api().expect("the native library loads")
}

fn array(api: &Api, values: &[f32]) -> mlx_sys::mlx_array {
    let shape = [i32::try_from(values.len()).expect("a small array")];
    // SAFETY: `values` has the elements that the shape and dtype say, and MLX copies them.
    unsafe {
        api.mlx_array_new_data(
            values.as_ptr().cast(),
            shape.as_ptr(),
            1,
            mlx_sys::MLX_FLOAT32,
        )
    }
}

#[test]
fn an_array_is_made_and_evaluated_on_the_cpu() {
    let api = api();
    // SAFETY: every handle is valid until it is freed, once, at the end; the data is read after
    // it was evaluated.
    unsafe {
        let stream = api.mlx_default_cpu_stream_new();
        let (a, b) = (
            array(api, &[1.0, 2.5, -3.0]),
            array(api, &[10.0, 20.0, 30.0]),
        );
        let mut sum = api.mlx_array_new();
        assert_eq!(api.mlx_add(&mut sum, a, b, stream), 0);
        assert_eq!(api.mlx_array_eval(sum), 0);
        let data = api.mlx_array_data_float32(sum);
        assert_eq!(std::slice::from_raw_parts(data, 3), [11.0, 22.5, 27.0]);
        for array in [a, b, sum] {
            api.mlx_array_free(array);
        }
        api.mlx_stream_free(stream);
    }
}

#[test]
fn a_failure_is_a_message_and_not_the_end_of_the_process() {
    let api = api();
    // SAFETY: every handle is valid until it is freed, once, at the end.
    unsafe {
        let stream = api.mlx_default_cpu_stream_new();
        let (a, b) = (array(api, &[1.0, 2.0]), array(api, &[1.0, 2.0, 3.0]));
        let mut sum = api.mlx_array_new();
        assert_ne!(api.mlx_add(&mut sum, a, b, stream), 0);
        let message = take_last_error().expect("a message");
        assert!(
            message.contains("(2)") && message.contains("(3)"),
            "{message}"
        );
        assert!(!message.contains(".cpp"), "{message}");
        assert_eq!(take_last_error(), None);
        for array in [a, b, sum] {
            api.mlx_array_free(array);
        }
        api.mlx_stream_free(stream);
    }
}

#[test]
fn a_choice_after_the_library_was_opened_is_refused_if_it_is_another() {
    let loaded = mlx_sys::loaded().expect("the native library loads");
    assert_ne!(loaded.backend, Choice::Auto);
    assert!(loaded.path.is_file());
    mlx_sys::init(Choice::Auto).expect("any library will do");
    mlx_sys::init(loaded.backend).expect("it is the one");
    let others = [Choice::Cuda, Choice::Metal]
        .into_iter()
        .filter(|c| *c != loaded.backend);
    for other in others {
        let error = mlx_sys::init(other)
            .expect_err("another library is open")
            .to_string();
        assert!(
            error.contains(&format!("for {other} was asked for")),
            "{error}"
        );
    }
}
