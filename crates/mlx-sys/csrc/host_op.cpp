// The host primitive: an MLX graph node whose work is a C function.

#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>
#include <vector>

#include "mlx/allocator.h"
#include "mlx/backend/cpu/encoder.h"
#include "mlx/primitives.h"

#include "mlx/c/error.h"
#include "mlx/c/private/mlx.h"
#include "mlxb.h"

namespace mx = mlx::core;

namespace {

mlx_dtype to_c(mx::Dtype dtype) {
  return mlx_dtype_to_c(dtype);
}

// What a task needs to call the function. It outlives the primitive, which MLX drops as soon as
// the task is queued.
struct Work {
  std::string name;
  mlxb_host_function function;
  std::shared_ptr<void> payload;
  std::mutex running;

  void run(std::vector<mx::array>& inputs, std::vector<mx::array>& outputs) {
    std::vector<mlxb_view> in = views(inputs);
    std::vector<mlxb_view> out = views(outputs);
    char message[1024] = "";
    std::lock_guard<std::mutex> lock(running);
    int failed = function(
        payload.get(), in.data(), in.size(), out.data(), out.size(), message, sizeof(message));
    if (failed) {
      message[sizeof(message) - 1] = '\0';
      throw std::runtime_error("[" + name + "] " + message);
    }
  }

  static std::vector<mlxb_view> views(std::vector<mx::array>& arrays) {
    std::vector<mlxb_view> result;
    result.reserve(arrays.size());
    for (auto& a : arrays) {
      result.push_back(
          {a.data<void>(),
           a.shape().data(),
           a.strides().data(),
           a.ndim(),
           a.size(),
           to_c(a.dtype()),
           a.flags().row_contiguous});
    }
    return result;
  }
};

class HostOp : public mx::Primitive {
 public:
  HostOp(mx::Stream stream, std::shared_ptr<Work> work, int donate)
      : mx::Primitive(stream), work_(std::move(work)), donate_(donate) {}

  void eval_cpu(const std::vector<mx::array>& inputs, std::vector<mx::array>& outputs) override {
    for (size_t i = 0; i < outputs.size(); i++) {
      if (i == 0 && may_donate(inputs, outputs[0])) {
        outputs[0].copy_shared_buffer(inputs[donate_]);
      } else {
        outputs[i].set_data(mx::allocator::malloc(outputs[i].nbytes()));
      }
    }
    // Weak copies, as MLX's own operations use: a strong one would keep the next operation from
    // reusing an output's buffer. MLX itself keeps the inputs' and siblings' buffers until after
    // this task, and the output's until its consumer, or whoever waits for it, is done.
    std::vector<mx::array> in, out;
    for (auto& a : inputs) {
      in.push_back(mx::array::unsafe_weak_copy(a));
    }
    for (auto& a : outputs) {
      out.push_back(mx::array::unsafe_weak_copy(a));
    }
    mx::cpu::get_command_encoder(stream()).dispatch(
        [work = work_, in = std::move(in), out = std::move(out)]() mutable {
          work->run(in, out);
        });
  }

  void eval_gpu(const std::vector<mx::array>&, std::vector<mx::array>&) override {
    throw std::runtime_error(
        "[" + work_->name + "] This operation runs on the CPU only; put it on a CPU stream.");
  }

  const char* name() const override {
    return work_->name.c_str();
  }

 private:
  bool may_donate(const std::vector<mx::array>& inputs, const mx::array& output) const {
    if (donate_ < 0) {
      return false;
    }
    const auto& in = inputs[donate_];
    return in.is_donatable() && in.flags().row_contiguous && in.nbytes() == output.nbytes() &&
        in.shape() == output.shape();
  }

  std::shared_ptr<Work> work_;
  int donate_;
};

std::vector<mx::array> host_op(
    const char* name,
    const std::vector<mx::array>& inputs,
    const mlxb_output* specs,
    size_t n_outputs,
    mlxb_host_function function,
    std::shared_ptr<void> payload,
    int donate,
    mx::Stream stream) {
  if (!function || !name || n_outputs == 0) {
    throw std::invalid_argument("[mlxb_host_op] Needs a name, a function and an output.");
  }
  if (donate >= static_cast<int>(inputs.size())) {
    throw std::invalid_argument("[mlxb_host_op] There is no such input to donate.");
  }
  std::vector<mx::Shape> shapes;
  std::vector<mx::Dtype> dtypes;
  for (size_t i = 0; i < n_outputs; i++) {
    for (size_t d = 0; d < specs[i].ndim; d++) {
      if (specs[i].shape[d] < 0) {
        throw std::invalid_argument("[mlxb_host_op] An output has a negative dimension.");
      }
    }
    shapes.emplace_back(specs[i].shape, specs[i].shape + specs[i].ndim);
    dtypes.push_back(mlx_dtype_to_cpp(specs[i].dtype));
  }
  auto work = std::make_shared<Work>();
  work->name = name;
  work->function = function;
  work->payload = std::move(payload);
  return mx::array::make_arrays(
      std::move(shapes), dtypes, std::make_shared<HostOp>(stream, std::move(work), donate), inputs);
}

} // namespace

extern "C" int mlxb_host_op(
    mlx_vector_array* outputs,
    const char* name,
    const mlx_vector_array inputs,
    const mlxb_output* specs,
    size_t n_outputs,
    mlxb_host_function function,
    void* payload,
    void (*payload_free)(void*),
    int donate,
    const mlx_stream stream) {
  try {
    // First of all, so that whatever fails after it frees the payload. The constructor itself
    // frees it if it cannot allocate.
    std::shared_ptr<void> owned(payload, [payload_free](void* p) {
      if (payload_free) {
        payload_free(p);
      }
    });
    mlx_vector_array_set_(
        *outputs,
        host_op(
            name,
            mlx_vector_array_get_(inputs),
            specs,
            n_outputs,
            function,
            std::move(owned),
            donate,
            mlx_stream_get_(stream)));
  } catch (std::exception& e) {
    mlx_error("%s", e.what());
    return 1;
  } catch (...) {
    mlx_error("[mlxb_host_op] Unknown C++ exception.");
    return 1;
  }
  return 0;
}
