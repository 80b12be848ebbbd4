#include "model/loader/tensor_rows.h"

#include <algorithm>
#include <memory>
#include <utility>

#include "base/status_macros.h"

namespace ounce::model {
TensorRows::TensorRows(const Checkpoint& checkpoint, std::string name,
                       bool allows_non_finite)
    : checkpoint_(checkpoint),
      name_(std::move(name)),
      info_(checkpoint.tensors().at(name_)),
      cols_(info_.elements() / info_.shape[0]),
      allows_non_finite_(allows_non_finite) {}

absl::Status TensorRows::Read(int64_t first, int64_t count, float* out) const {
  return checkpoint_.ReadFloats(name_, first * cols_, count * cols_, out);
}

TransposedRows::TransposedRows(const Checkpoint& checkpoint, std::string name,
                               bool allows_non_finite)
    : checkpoint_(checkpoint),
      name_(std::move(name)),
      info_(checkpoint.tensors().at(name_)),
      band_rows_(std::max<int64_t>(
          1,
          kBandBytes / static_cast<int64_t>(sizeof(float)) / info_.shape[0])),
      allows_non_finite_(allows_non_finite) {}

std::string TransposedRows::Place(int64_t row, int64_t col) const {
  return FloatRows::Place(col, row);
}

absl::Status TransposedRows::ReadBand(int64_t row) const {
  const int64_t first = row / band_rows_ * band_rows_;
  const int64_t count = std::min(band_rows_, rows() - first);
  held_count_ = 0;  // until all of it is there
  band_.resize(count * cols());
  for (int64_t col = 0; col < cols(); ++col) {
    RETURN_IF_ERROR(checkpoint_.ReadFloats(name_, col * info_.shape[1] + first,
                                           count, band_.data() + col * count));
  }
  held_first_ = first;
  held_count_ = count;
  return absl::OkStatus();
}

absl::Status TransposedRows::Read(int64_t first, int64_t count,
                                  float* out) const {
  MutexLock lock(&mutex_);
  const int64_t width = cols();
  for (int64_t row = first; row < first + count;) {
    if (row < held_first_ || row >= held_first_ + held_count_) {
      RETURN_IF_ERROR(ReadBand(row));
    }
    const int64_t n = std::min(first + count, held_first_ + held_count_) - row;
    const float* from = band_.data() + (row - held_first_);
    for (int64_t col = 0; col < width; ++col, from += held_count_) {
      for (int64_t i = 0; i < n; ++i) out[i * width + col] = from[i];
    }
    out += n * width;
    row += n;
  }
  if (first + count == rows()) {
    held_count_ = 0;
    band_ = std::vector<float>();
  }
  return absl::OkStatus();
}

DecodedRows::DecodedRows(std::unique_ptr<const quant::CodeRows> codes,
                         quant::DType dtype, bool allows_non_finite)
    : codes_(std::move(codes)),
      dtype_(dtype),
      allows_non_finite_(allows_non_finite) {}

absl::Status DecodedRows::Read(int64_t first, int64_t count, float* out) const {
  return quant::ReadValues(*codes_, first, count, out);
}

absl::StatusOr<std::unique_ptr<const quant::FloatRows>> RowsOf(
    const Checkpoint& checkpoint, std::string name, bool transposed,
    bool allows_non_finite) {
  const TensorInfo& info = checkpoint.tensors().at(name);
  if (info.coded != nullptr) {
    ASSIGN_OR_RETURN(auto codes, info.coded->open());
    return std::make_unique<DecodedRows>(std::move(codes), info.dtype,
                                         allows_non_finite);
  }
  if (transposed) {
    return std::make_unique<TransposedRows>(checkpoint, std::move(name),
                                            allows_non_finite);
  }
  return std::make_unique<TensorRows>(checkpoint, std::move(name),
                                      allows_non_finite);
}

}  // namespace ounce::model
