// Numbers of weights, packed in words, as files have them that store matrices
// by input: GPTQ's and AWQ's.
#ifndef OUNCE_MODEL_SAVER_TRANSPOSED_WORDS_H_
#define OUNCE_MODEL_SAVER_TRANSPOSED_WORDS_H_

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "model/checkpoint/formats/grouped_integers.h"
#include "model/saver/integer_codes.h"
#include "model/saver/safetensors_files.h"

namespace ounce::model {

// Some columns of a matrix of words, [height, width].
class WordColumns {
 public:
  WordColumns(int64_t height, int64_t width)
      : height_(height), width_(width), words_(height * width), down_(2) {}

  uint32_t& word(int64_t row, int64_t col) {
    return words_[row * width_ + col];
  }

  // A number that begins with a bit of a column, as a stream down the words.
  void PutDown(uint8_t number, int64_t col, int64_t bit, int bits) {
    down_[0] = down_[1] = 0;
    PutNumberAtBit(number, bit % 32, bits, down_.data());
    word(bit / 32, col) |= down_[0];
    if (down_[1] != 0) word(bit / 32 + 1, col) |= down_[1];
  }
  // Likewise of a row, along its words.
  void PutAcross(uint8_t number, int64_t row, int64_t bit, int bits) {
    PutNumberAtBit(number, bit, bits, &words_[row * width_]);
  }

  // As columns [first, first + width) of the file's [height, file_width].
  absl::Status Write(int64_t first, int64_t file_width, TensorSink& sink) const;

 private:
  const int64_t height_;
  const int64_t width_;
  std::vector<uint32_t> words_;
  std::vector<uint32_t> down_;
};

// A band's scales as columns of a file's float16 [groups, rows].
absl::Status WriteScaleColumns(const IntegerBand& band, int64_t groups,
                               int64_t rows, TensorSink& sink);

}  // namespace ounce::model

#endif  // OUNCE_MODEL_SAVER_TRANSPOSED_WORDS_H_
