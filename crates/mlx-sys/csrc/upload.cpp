// Memory that MLX's CUDA allocator gives to an array made from host bytes is managed: it lies on
// the host until a kernel touches it, page by page, and may wander back. Only operations on the GPU
// allocate the GPU's own memory. The one that turns host bytes into such an array is loading a
// file, so the bytes are presented as a safetensors file of one tensor.

#include "upload.h"

#include <cstring>
#include <sstream>
#include <stdexcept>
#include <string>
#include <string_view>

#include "mlx/device.h"
#include "mlx/io.h"
#include "mlx/io/load.h"
#include "mlx/stream.h"

namespace mx = mlx::core;

namespace {

const char* name_of(mx::Dtype dtype) {
  switch (dtype.val()) {
    case mx::Dtype::Val::bool_:
      return "BOOL";
    case mx::Dtype::Val::uint8:
      return "U8";
    case mx::Dtype::Val::uint16:
      return "U16";
    case mx::Dtype::Val::uint32:
      return "U32";
    case mx::Dtype::Val::uint64:
      return "U64";
    case mx::Dtype::Val::int8:
      return "I8";
    case mx::Dtype::Val::int16:
      return "I16";
    case mx::Dtype::Val::int32:
      return "I32";
    case mx::Dtype::Val::int64:
      return "I64";
    case mx::Dtype::Val::float16:
      return "F16";
    case mx::Dtype::Val::bfloat16:
      return "BF16";
    case mx::Dtype::Val::float32:
      return "F32";
    case mx::Dtype::Val::complex64:
      return "C64";
    default:
      return nullptr;
  }
}

// The header of a file whose only tensor is "x": its length in 8 bytes, then JSON.
std::string header(const mx::Shape& shape, mx::Dtype dtype, size_t nbytes) {
  std::ostringstream json;
  json << "{\"x\":{\"dtype\":\"" << name_of(dtype) << "\",\"shape\":[";
  for (size_t i = 0; i < shape.size(); i++) {
    json << (i ? "," : "") << shape[i];
  }
  json << "],\"data_offsets\":[0," << nbytes << "]}}";
  auto text = json.str();
  uint64_t length = text.size();
  return std::string(reinterpret_cast<const char*>(&length), sizeof(length)) + text;
}

// A file in memory: a header, then bytes that lie elsewhere.
class File : public mx::io::Reader {
 public:
  File(std::string header, const void* data, size_t nbytes)
      : header_(std::move(header)), data_(static_cast<const char*>(data), nbytes) {}

  bool is_open() const override {
    return true;
  }

  bool good() const override {
    return true;
  }

  size_t tell() override {
    return at_;
  }

  void seek(int64_t offset, std::ios_base::seekdir way) override {
    size_t from = way == std::ios_base::beg ? 0 : way == std::ios_base::cur ? at_ : size();
    at_ = from + offset;
  }

  void read(char* to, size_t n) override {
    read(to, n, at_);
    at_ += n;
  }

  void read(char* to, size_t n, size_t offset) override {
    // MLX reads the header and the data apart.
    bool in_header = offset < header_.size();
    std::string_view part = in_header ? header_ : data_;
    size_t start = in_header ? offset : offset - header_.size();
    if (start > part.size() || n > part.size() - start) {
      throw std::runtime_error("[upload] A read beyond the bytes there are.");
    }
    std::memcpy(to, part.data() + start, n);
  }

  std::string label() const override {
    return "memory";
  }

 private:
  size_t size() const {
    return header_.size() + data_.size();
  }

  std::string header_;
  std::string_view data_;
  size_t at_ = 0;
};

} // namespace

namespace mlxb {

bool can_upload(mx::Dtype dtype) {
  return std::string_view(MLXB_BACKEND) == "cuda" && mx::default_device() == mx::Device::gpu &&
      name_of(dtype);
}

mx::array upload(const void* data, mx::Shape shape, mx::Dtype dtype) {
  size_t nbytes = dtype.size();
  for (auto n : shape) {
    nbytes *= n;
  }
  auto file = std::make_shared<File>(header(shape, dtype, nbytes), data, nbytes);
  auto stream = mx::default_stream(mx::Device::gpu);
  auto made = mx::load_safetensors(file, stream).first.at("x");
  // The bytes are only lent for the call.
  made.eval();
  return made;
}

} // namespace mlxb
