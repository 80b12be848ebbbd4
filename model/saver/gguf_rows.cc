#include "model/saver/gguf_rows.h"

#include <vector>

#include "base/status_macros.h"
#include "quant/codes.h"
#include "quant/dtype.h"

namespace ounce::model {
namespace {

using quant::CodeBand;
using quant::DType;

// A band's rows as the file has them, one after the other.
std::vector<uint8_t> Packed(const quant::CodeFormat& format,
                            const GgufBlockType& block, int64_t cols,
                            const CodeBand& band) {
  std::vector<uint8_t> bytes(band.rows * (cols / block.cols) * block.bytes);
  std::vector<const float*> fields(format.fields.size());
  uint8_t* to = bytes.data();
  for (int64_t row = band.first_row; row < band.first_row + band.rows; ++row) {
    for (int64_t col = 0; col < cols; col += block.cols, to += block.bytes) {
      for (size_t i = 0; i < fields.size(); ++i) {
        fields[i] = band.fields[i].values.data() +
                    (format.fields[i].reach.IndexOf(row, col, cols) -
                     band.fields[i].first);
      }
      block.pack({band.unsigned_row(row, cols) + col, fields.data()}, to);
    }
  }
  return bytes;
}

}  // namespace

std::optional<GgufRowType> GgufRowTypeOf(const StoredTensorView& tensor) {
  const std::optional<DType> floats = tensor.float_dtype();
  if (floats == DType::kF32) return GgufRowType{.id = 0, .float_bytes = 4};
  if (floats == DType::kF16) {
    return GgufRowType{.id = 1, .file_type = 1, .float_bytes = 2};
  }
  if (floats == DType::kBF16) {
    return GgufRowType{.id = 30, .file_type = 32, .float_bytes = 2};
  }
  const GgufBlockType* block = FindGgufBlockTypeOf(tensor.format);
  if (block == nullptr) return std::nullopt;
  return GgufRowType{
      .id = block->id, .file_type = block->file_type, .block = block};
}

absl::Status WriteGgufMatrix(const ModelToSave& model,
                             const StoredTensorView& tensor,
                             const GgufRowType& type, const GgufRowOrder& order,
                             TensorSink& sink) {
  const int64_t row_bytes = type.Bytes(tensor.cols());
  return ForEachBand(model, tensor, [&](const CodeBand& band) -> absl::Status {
    std::vector<uint8_t> packed;
    const void* bytes = band.elements.data();
    if (type.block != nullptr) {
      packed = Packed(tensor.format, *type.block, tensor.cols(), band);
      bytes = packed.data();
    }
    if (order.is_same()) {
      return sink.WriteAt(band.first_row * row_bytes, bytes,
                          band.rows * row_bytes);
    }
    for (int64_t row = 0; row < band.rows; ++row) {
      RETURN_IF_ERROR(sink.WriteAt(
          order.FileRow(band.first_row + row) * row_bytes,
          static_cast<const uint8_t*>(bytes) + row * row_bytes, row_bytes));
    }
    return absl::OkStatus();
  });
}

absl::Status WriteGgufVector(const ModelToSave& model,
                             const StoredTensorView& tensor,
                             const GgufRowOrder& order, TensorSink& sink) {
  std::vector<float> values(order.rows), turned(order.rows);
  RETURN_IF_ERROR(
      model.checkpoint.ReadFloats(tensor.name(), 0, order.rows, values.data()));
  for (int64_t i = 0; i < order.rows; ++i) {
    const bool plus_one = order.change == GgufChange::kPlusOne;
    turned[order.FileRow(i)] = plus_one ? values[i] + 1 : values[i];
  }
  return sink.WriteAt(0, turned.data(), order.rows * sizeof(float));
}

}  // namespace ounce::model
