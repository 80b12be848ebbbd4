#include "model/checkpoint/stored_tensor.h"

#include <algorithm>
#include <cstddef>
#include <cstring>

#include "absl/functional/function_ref.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/status_macros.h"

namespace ounce::model {
namespace {

constexpr int64_t kChunkBytes = 256 << 10;

// Elements further apart than this are read one by one, not with the bytes
// between them.
constexpr int64_t kMaxGapBytes = 4 << 10;

// Takes elements that lie side by side, in the order of the tensor.
using Sink = absl::FunctionRef<void(const void* elements, int64_t count)>;

// Reads `count` elements of `size` bytes that lie `stride` apart, from byte
// `offset` on.
absl::Status ReadRun(const ByteSource& file, int64_t size, int64_t offset,
                     int64_t stride, int64_t count, std::vector<std::byte>& raw,
                     Sink sink) {
  const int64_t step = stride * size;
  const int64_t room = static_cast<int64_t>(raw.size());
  while (count > 0) {
    int64_t n = 1;
    if (step <= kMaxGapBytes) {
      n = std::min(count, (room - size) / std::max(step, int64_t{1}) + 1);
    }
    RETURN_IF_ERROR(file.Read(offset, (n - 1) * step + size, raw.data()));
    if (step == size) {
      sink(raw.data(), n);
    } else {
      for (int64_t i = 0; i < n; ++i) sink(raw.data() + i * step, 1);
    }
    offset += n * step;
    count -= n;
  }
  return absl::OkStatus();
}

absl::Status ReadInOrder(const ByteSource& file, const std::string& name,
                         const StoredTensor& tensor, int64_t first,
                         int64_t count, Sink sink) {
  const std::vector<int64_t>& shape = tensor.info.shape;
  const int64_t elements = tensor.info.elements();
  if (first < 0 || count < 0 || first > elements || count > elements - first) {
    return TensorError(
        file, name,
        absl::StrCat("has ", elements, " elements, shape ", ShapeText(shape),
                     ": too few to read ", count, " from ", first));
  }
  if (count == 0) return absl::OkStatus();
  RETURN_IF_ERROR(file.CheckProceed());
  if (tensor.check != nullptr) {
    if (absl::Status status = tensor.check->Verify(); !status.ok()) {
      return WithContext(status, absl::StrCat("tensor ", Quoted(name)));
    }
  }

  const int64_t size = quant::SizeOf(tensor.info.dtype);
  std::vector<std::byte> raw(std::min(kChunkBytes, count * size));
  if (tensor.strides.empty()) {
    return ReadRun(file, size, tensor.offset + first * size, 1, count, raw,
                   sink);
  }
  raw.resize(kChunkBytes);
  // Row by row of the last axis; the first may be entered in its middle.
  const int rank = static_cast<int>(shape.size());
  while (count > 0) {
    int64_t rest = first;
    int64_t offset = tensor.offset;
    for (int axis = rank - 1; axis >= 0; --axis) {
      offset += rest % shape[axis] * tensor.strides[axis] * size;
      rest /= shape[axis];
    }
    const int64_t n =
        std::min(count, shape[rank - 1] - first % shape[rank - 1]);
    RETURN_IF_ERROR(
        ReadRun(file, size, offset, tensor.strides[rank - 1], n, raw, sink));
    first += n;
    count -= n;
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<int64_t> CheckedBytes(const std::vector<int64_t>& shape,
                                     quant::DType dtype) {
  int64_t product = quant::SizeOf(dtype);
  bool empty = false;
  for (const int64_t extent : shape) {
    if (extent < 0) {
      return absl::InvalidArgumentError(
          absl::StrCat("shape ", ShapeText(shape), " has a negative extent"));
    }
    if (extent == 0) {
      empty = true;
    } else if (__builtin_mul_overflow(product, extent, &product)) {
      return absl::InvalidArgumentError(
          absl::StrCat("shape ", ShapeText(shape), " of ",
                       std::string(quant::Name(dtype)), " overflows 64 bits"));
    }
  }
  return empty ? 0 : product;
}

std::string ShapeText(const std::vector<int64_t>& shape) {
  return absl::StrCat("[", absl::StrJoin(shape, ", "), "]");
}

absl::Status TensorError(const ByteSource& file, std::string_view tensor,
                         const std::string& reason) {
  return absl::InvalidArgumentError(
      absl::StrCat(file.name(), ": tensor ", Quoted(tensor), ": ", reason));
}

absl::Status ReadStoredElements(const ByteSource& file, const std::string& name,
                                const StoredTensor& tensor, int64_t first,
                                int64_t count, void* out) {
  const int64_t size = quant::SizeOf(tensor.info.dtype);
  auto* to = static_cast<std::byte*>(out);
  return ReadInOrder(file, name, tensor, first, count,
                     [&](const void* elements, int64_t n) {
                       std::memcpy(to, elements, n * size);
                       to += n * size;
                     });
}

absl::Status ReadStoredFloats(const ByteSource& file, const std::string& name,
                              const StoredTensor& tensor, int64_t first,
                              int64_t count, float* out) {
  const quant::DType dtype = tensor.info.dtype;
  if (!quant::IsFloat(dtype)) {
    return TensorError(file, name,
                       absl::StrCat("dtype must be a float, is ",
                                    std::string(quant::Name(dtype))));
  }
  return ReadInOrder(file, name, tensor, first, count,
                     [&](const void* elements, int64_t n) {
                       quant::ToFloat(dtype, elements, n, out);
                       out += n;
                     });
}

}  // namespace ounce::model
