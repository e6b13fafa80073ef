// Arrays over memory that MLX did not allocate, such as a mapped file.
//
// Two things stand in the way of using such memory as it is. MLX's CPU allocator, unlike Metal's,
// cannot adopt memory: `over_cpu_memory` builds the buffer that it would make. And MLX writes an
// operation's result into the buffer of an operand that nothing else refers to, which must not
// happen to memory that is only lent: a second reference, kept here, prevents it until it is the
// last one. On CUDA the bytes are copied to the GPU's own memory (upload.cpp).

#include <atomic>
#include <cstdint>
#include <cstring>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <typeinfo>
#include <vector>

#include "mlx/allocator.h"

#include "mlx/c/error.h"
#include "mlx/c/private/mlx.h"
#include "mlxb.h"
#include "upload.h"

namespace mx = mlx::core;

namespace {

// The second references. Never destroyed: at exit another thread may still compute.
struct Lent {
  std::mutex mutex;
  std::vector<mx::array> arrays;
};

Lent& lent() {
  static auto* lent = new Lent;
  return *lent;
}

// Drops the references that are the last ones. What they are dropped after lets go of the lock:
// freeing a payload runs foreign code.
void release_unused() {
  std::vector<mx::array> unused;
  {
    std::lock_guard<std::mutex> lock(lent().mutex);
    auto& arrays = lent().arrays;
    for (size_t i = 0; i < arrays.size();) {
      // Nobody can take another reference: the only one to copy is this.
      if (arrays[i].is_donatable()) {
        unused.push_back(std::move(arrays[i]));
        arrays[i] = std::move(arrays.back());
        arrays.pop_back();
      } else {
        i++;
      }
    }
  }
  // The counts were read without ordering; what other threads did with the memory came before.
  std::atomic_thread_fence(std::memory_order_acquire);
}

// MLX's CPU allocator keeps a size_t with the buffer's size in front of the data. MLX reads it as a
// hint (whether a view wastes memory) and to free the buffer, which here the deleter does instead.
bool fits_cpu_allocator(const void* data, size_t headroom) {
  static const bool is_common = [] {
    const auto& allocator = mx::allocator::allocator();
    return std::strstr(typeid(allocator).name(), "CommonAllocator") != nullptr;
  }();
  return is_common && headroom >= sizeof(size_t) &&
      reinterpret_cast<uintptr_t>(data) % alignof(size_t) == 0;
}

mx::array over(
    void* data,
    size_t headroom,
    mx::Shape shape,
    mx::Dtype dtype,
    std::shared_ptr<void> payload) {
  if (mlxb::can_upload(dtype)) {
    return mlxb::upload(data, std::move(shape), dtype);
  }
  if (fits_cpu_allocator(data, headroom)) {
    mx::allocator::Buffer buffer(static_cast<size_t*>(data) - 1);
    if (buffer.raw_ptr() == data) {
      return mx::array(buffer, std::move(shape), dtype, [payload](mx::allocator::Buffer) {});
    }
  }
  // Adopts the memory if the allocator can, else copies it byte by byte.
  return mx::array(data, std::move(shape), dtype, [payload](void*) {});
}

} // namespace

extern "C" int mlxb_array_over(
    mlx_array* result,
    void* data,
    size_t headroom,
    const int* shape,
    size_t ndim,
    mlx_dtype dtype,
    void* payload,
    void (*payload_free)(void*)) {
  try {
    // First of all, so that whatever fails after it frees the payload.
    std::shared_ptr<void> owned(payload, [payload_free](void* p) {
      if (payload_free) {
        payload_free(p);
      }
    });
    release_unused();
    mx::array made = over(
        data, headroom, mx::Shape(shape, shape + ndim), mlx_dtype_to_cpp(dtype), std::move(owned));
    // Looking at the address of memory on a GPU would move it to the host.
    if (!mlxb::can_upload(made.dtype()) && made.data<void>() == data) {
      std::lock_guard<std::mutex> lock(lent().mutex);
      lent().arrays.push_back(made);
    }
    mlx_array_set_(*result, std::move(made));
  } catch (std::exception& e) {
    mlx_error("%s", e.what());
    return 1;
  } catch (...) {
    mlx_error("[mlxb_array_over] Unknown C++ exception.");
    return 1;
  }
  return 0;
}

extern "C" int mlxb_release_unused(void) {
  try {
    release_unused();
  } catch (std::exception& e) {
    mlx_error("%s", e.what());
    return 1;
  } catch (...) {
    mlx_error("[mlxb_release_unused] Unknown C++ exception.");
    return 1;
  }
  return 0;
}
