#include "model/saver/transposed_words.h"

#include "base/status_macros.h"
#include "quant/dtype.h"

namespace ounce::model {

absl::Status WordColumns::Write(int64_t first, int64_t file_width,
                                TensorSink& sink) const {
  constexpr auto kWord = static_cast<int64_t>(sizeof(uint32_t));
  for (int64_t row = 0; row < height_; ++row) {
    RETURN_IF_ERROR(sink.WriteAt((row * file_width + first) * kWord,
                                 &words_[row * width_], width_ * kWord));
  }
  return absl::OkStatus();
}

absl::Status WriteScaleColumns(const IntegerBand& band, int64_t groups,
                               int64_t rows, TensorSink& sink) {
  constexpr auto kHalf = static_cast<int64_t>(sizeof(uint16_t));
  std::vector<float> column(band.rows);
  std::vector<uint16_t> halves(band.rows);
  for (int64_t group = 0; group < groups; ++group) {
    for (int64_t row = 0; row < band.rows; ++row) {
      column[row] = band.scales[row * groups + group];
    }
    quant::FromFloat(quant::DType::kF16, column.data(), band.rows,
                     halves.data());
    RETURN_IF_ERROR(sink.WriteAt((group * rows + band.first_row) * kHalf,
                                 halves.data(), band.rows * kHalf));
  }
  return absl::OkStatus();
}

}  // namespace ounce::model
