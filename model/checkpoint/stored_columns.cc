#include "model/checkpoint/stored_columns.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/status_macros.h"
#include "quant/dtype.h"

namespace ounce::model {
namespace {

const TensorInfo& InfoOf(const TensorFiles& files, const std::string& name) {
  return files.tensors.at(name).tensor.info;
}

}  // namespace

StoredColumns::StoredColumns(const TensorFiles& files, std::string name)
    : files_(files),
      name_(std::move(name)),
      rows_(InfoOf(files, name_).shape[0]),
      cols_(InfoOf(files, name_).shape[1]),
      size_(quant::SizeOf(InfoOf(files, name_).dtype)),
      band_cols_(std::clamp<int64_t>(kBandBytes / (rows_ * size_), 1, cols_)) {}

absl::Status StoredColumns::ReadBand(int64_t col) const {
  const int64_t first = col / band_cols_ * band_cols_;
  const int64_t count = std::min(band_cols_, cols_ - first);
  held_count_ = 0;  // until all of it is there
  band_.resize(rows_ * count * size_);
  // Of whole rows there is no gap between two.
  const int64_t at_once = count == cols_ ? rows_ : 1;
  for (int64_t row = 0; row < rows_; row += at_once) {
    RETURN_IF_ERROR(files_.ReadElements(name_, row * cols_ + first,
                                        at_once * count,
                                        band_.data() + row * count * size_));
  }
  held_first_ = first;
  held_count_ = count;
  return absl::OkStatus();
}

absl::Status StoredColumns::Read(int64_t first, int64_t count,
                                 void* out) const {
  MutexLock lock(&mutex_);
  auto* to = static_cast<std::byte*>(out);
  for (int64_t col = first; col < first + count; ++col) {
    if (col < held_first_ || col >= held_first_ + held_count_) {
      RETURN_IF_ERROR(ReadBand(col));
    }
    const std::byte* from = band_.data() + (col - held_first_) * size_;
    for (int64_t row = 0; row < rows_; ++row, to += size_) {
      std::memcpy(to, from + row * held_count_ * size_, size_);
    }
  }
  if (first + count == cols_) {
    held_count_ = 0;
    band_ = {};
  }
  return absl::OkStatus();
}

}  // namespace ounce::model
