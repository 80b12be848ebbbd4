#include "model/loader/tensor_rows.h"

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "base/status_macros.h"
#include "base/str_cat.h"

namespace ounce::model {
namespace {

std::string TensorPlace(const std::string& name, int64_t row, int64_t col) {
  return StrCat("tensor '", name, "', row ", row, ", column ", col);
}

}  // namespace

TensorRows::TensorRows(const Checkpoint& checkpoint, std::string name,
                       RowRange range, bool allows_non_finite)
    : checkpoint_(checkpoint),
      name_(std::move(name)),
      info_(checkpoint.tensors().at(name_)),
      range_(range),
      cols_(info_.elements() / info_.shape[0]),
      allows_non_finite_(allows_non_finite) {}

std::string TensorRows::Place(int64_t row, int64_t col) const {
  return TensorPlace(name_, range_.first + row, col);
}

absl::Status TensorRows::Read(int64_t first, int64_t count, float* out) const {
  return checkpoint_.ReadFloats(name_, (range_.first + first) * cols_,
                                count * cols_, out);
}

TransposedRows::TransposedRows(const Checkpoint& checkpoint, std::string name,
                               RowRange range, bool allows_non_finite)
    : checkpoint_(checkpoint),
      name_(std::move(name)),
      info_(checkpoint.tensors().at(name_)),
      range_(range),
      band_rows_(std::max<int64_t>(
          1,
          kBandBytes / static_cast<int64_t>(sizeof(float)) / info_.shape[0])),
      allows_non_finite_(allows_non_finite) {}

std::string TransposedRows::Place(int64_t row, int64_t col) const {
  return TensorPlace(name_, col, range_.first + row);
}

absl::Status TransposedRows::ReadBand(int64_t row) const {
  const int64_t first = row / band_rows_ * band_rows_;
  const int64_t count = std::min(band_rows_, rows() - first);
  held_ = {};  // until all of it is there
  band_.resize(count * cols());
  for (int64_t col = 0; col < cols(); ++col) {
    RETURN_IF_ERROR(checkpoint_.ReadFloats(
        name_, col * info_.shape[1] + range_.first + first, count,
        band_.data() + col * count));
  }
  held_ = {first, count};
  return absl::OkStatus();
}

absl::Status TransposedRows::Read(int64_t first, int64_t count,
                                  float* out) const {
  MutexLock lock(&mutex_);
  const int64_t width = cols();
  for (int64_t row = first; row < first + count;) {
    if (row < held_.first || row >= held_.first + held_.count) {
      RETURN_IF_ERROR(ReadBand(row));
    }
    const int64_t n = std::min(first + count, held_.first + held_.count) - row;
    const float* from = band_.data() + (row - held_.first);
    for (int64_t col = 0; col < width; ++col, from += held_.count) {
      for (int64_t i = 0; i < n; ++i) out[i * width + col] = from[i];
    }
    out += n * width;
    row += n;
  }
  if (first + count == rows()) {
    held_ = {};
    band_ = std::vector<float>();
  }
  return absl::OkStatus();
}

JoinedRows::JoinedRows(
    std::vector<std::unique_ptr<const quant::FloatRows>> sources)
    : sources_(std::move(sources)) {
  OUNCE_CHECK(!sources_.empty(), "rows of something");
  for (const auto& source : sources_) {
    OUNCE_CHECK(source->cols() == cols() && source->dtype() == dtype() &&
                    source->allows_non_finite() == allows_non_finite(),
                "rows of one kind");
    StrAppend(&name_, name_.empty() ? "" : ", ", source->name());
    rows_ += source->rows();
  }
}

std::string JoinedRows::Place(int64_t row, int64_t col) const {
  size_t i = 0;
  for (; row >= sources_[i]->rows(); ++i) row -= sources_[i]->rows();
  return sources_[i]->Place(row, col);
}

absl::Status JoinedRows::Read(int64_t first, int64_t count, float* out) const {
  for (const auto& source : sources_) {
    const int64_t n = std::min(count, source->rows() - first);
    if (n > 0) {
      RETURN_IF_ERROR(source->Read(first, n, out));
      out += n * cols();
      count -= n;
    }
    first = std::max<int64_t>(first - source->rows(), 0);
  }
  return absl::OkStatus();
}

}  // namespace ounce::model
