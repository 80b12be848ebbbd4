#include "model/saver/code_streams.h"

#include <vector>

#include "base/status_macros.h"
#include "model/checkpoint/formats/ounce_layout.h"
#include "quant/dtype.h"

namespace ounce::model {

void BitStream::Add(uint64_t number) {
  pending_ |= (number & ((uint64_t{1} << bits_) - 1)) << pending_bits_;
  for (pending_bits_ += bits_; pending_bits_ >= 8; pending_bits_ -= 8) {
    bytes_.push_back(static_cast<char>(pending_ & 0xff));
    pending_ >>= 8;
  }
}

absl::Status BitStream::Flush(bool is_end) {
  if (is_end && pending_bits_ > 0) {
    bytes_.push_back(static_cast<char>(pending_));
  }
  const auto size = static_cast<int64_t>(bytes_.size());
  RETURN_IF_ERROR(sink_->WriteAt(written_, bytes_.data(), size));
  written_ += size;
  bytes_.clear();
  return absl::OkStatus();
}

absl::Status FieldStream::Add(const quant::CodeBand& band, size_t index,
                              int64_t cols) {
  const quant::CodeBand::Field& values = band.fields[index];
  const int64_t end =
      field_.reach.IndexOf(band.first_row + band.rows - 1, cols - 1, cols) + 1;
  if (end <= next_) return absl::OkStatus();
  const float* from = values.values.data() + (next_ - values.first);
  const int64_t count = end - next_;
  if (field_.is_integer()) {
    for (int64_t i = 0; i < count; ++i) {
      bits_.Add(static_cast<uint64_t>(static_cast<int64_t>(from[i])));
    }
    RETURN_IF_ERROR(bits_.Flush(/*is_end=*/false));
  } else {
    const quant::DType dtype = OunceFieldDType(field_);
    const int64_t size = quant::SizeOf(dtype);
    std::vector<std::byte> bytes(count * size);
    quant::FromFloat(dtype, from, count, bytes.data());
    RETURN_IF_ERROR(sink_->WriteAt(next_ * size, bytes.data(), count * size));
  }
  next_ = end;
  return absl::OkStatus();
}

absl::Status FieldStream::Finish() {
  return field_.is_integer() ? bits_.Flush(/*is_end=*/true) : absl::OkStatus();
}

}  // namespace ounce::model
