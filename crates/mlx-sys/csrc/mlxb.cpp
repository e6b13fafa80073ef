// The small functions of mlxb.h.

#include <exception>

#include "mlx/c/error.h"
#include "mlx/c/private/mlx.h"
#include "mlxb.h"

extern "C" int mlxb_abi_version(void) {
  return MLXB_ABI_VERSION;
}

extern "C" const char* mlxb_backend(void) {
  return MLXB_BACKEND;
}

extern "C" int mlxb_array_data(const void** result, const mlx_array array) {
  try {
    auto& a = mlx_array_get_(array);
    if (a.status() == mlx::core::array::Status::unscheduled) {
      throw std::invalid_argument("[mlxb_array_data] The array was not evaluated.");
    }
    a.wait();
    *result = a.data<void>();
  } catch (std::exception& e) {
    mlx_error("%s", e.what());
    return 1;
  } catch (...) {
    mlx_error("[mlxb_array_data] Unknown C++ exception.");
    return 1;
  }
  return 0;
}
