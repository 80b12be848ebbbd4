// Integers with a scale, and perhaps a zero-point, for each group of columns of
// a row: the codes of several formats, which differ in where a file has their
// bits and in what they are called.
//
//   w = scale * (q - zero)
//
// with q and zero from 0 to 2^bits - 1; of symmetric ones zero is 2^(bits - 1)
// everywhere, and the codes here are q - zero.
#ifndef OUNCE_MODEL_CHECKPOINT_FORMATS_GROUPED_INTEGERS_H_
#define OUNCE_MODEL_CHECKPOINT_FORMATS_GROUPED_INTEGERS_H_

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "model/checkpoint/coded_tensor.h"
#include "model/checkpoint/quantized_format.h"
#include "quant/codes.h"
#include "quant/dtype.h"
#include "quant/quant_method.h"

namespace ounce::model {

// What is the same for all weights of a matrix.
struct GroupedIntegers {
  int bits = 4;
  // Columns that share a scale; kRow: all of a row, kMatrix: all there are.
  static constexpr int64_t kRow = -1, kMatrix = 0;
  int64_t group = kRow;
  bool symmetric = true;
  bool ordered = false;  // groups are not of neighbours (CodeRows::order)
  quant::DType scales = quant::DType::kF16;

  // Of a row; 1 of kMatrix.
  int64_t groups(int64_t cols) const {
    return group <= 0 ? 1 : (cols - 1) / group + 1;
  }
};

// The method that such codes are reported as.
class GroupedIntegersMethod final : public StoredMethod {
 public:
  // `is_gptq`: files have the group of each column, and zero-points of
  // symmetric ones too.
  explicit GroupedIntegersMethod(std::string_view name, bool is_gptq = false)
      : name_(name), is_gptq_(is_gptq) {}

  quant::MethodSpec SpecOf(const GroupedIntegers& integers) const;

  std::string_view name() const override { return name_; }
  std::string_view summary() const override;
  absl::Span<const quant::ParamSpec> params() const override;
  absl::StatusOr<quant::CodeFormat> Format(
      int64_t rows, int64_t cols, quant::DType dtype,
      const quant::ParamValues& params) const override;

 private:
  const std::string_view name_;
  const bool is_gptq_;
};

// Codes that a format's reader takes from its file.
class GroupedIntegerRows : public quant::CodeRows {
 public:
  // Of a matrix that `format` is the format of. `order` as CodeRows::order.
  GroupedIntegerRows(std::string name, int64_t rows, int64_t cols,
                     const GroupedIntegers& integers, quant::CodeFormat format,
                     std::vector<int32_t> order = {});

  const std::string& name() const final { return name_; }
  int64_t rows() const final { return rows_; }
  int64_t cols() const final { return cols_; }
  const quant::CodeFormat& format() const final { return format_; }
  absl::Span<const int32_t> order() const final { return order_; }
  absl::Status Read(int64_t first, int64_t count,
                    quant::CodeBand& out) const final;

 protected:
  // Numbers of some rows, as a file has them.
  struct Numbers {
    uint8_t* codes;  // [count, cols], by the checkpoint's column
    float* scales;   // [count, groups]
    // [count, groups], filled with 2^(bits - 1): what is not stored stays.
    uint8_t* zeros;
  };
  virtual absl::Status ReadNumbers(int64_t first, int64_t count,
                                   const Numbers& out) const = 0;

  int bits() const { return integers_.bits; }
  int64_t groups() const { return groups_; }

 private:
  const std::string name_;
  const int64_t rows_;
  const int64_t cols_;
  const GroupedIntegers integers_;
  const int64_t groups_;
  const quant::CodeFormat format_;
  const std::vector<int32_t> order_;
};

// The columns in the order of their groups, where tensor `name` has that of
// each; empty if that is their own order. Errors: those of Find;
// kInvalidArgument unless each group has `group` columns (negative: all), but
// the last may have fewer.
absl::StatusOr<std::vector<int32_t>> OrderOfGroups(
    const QuantizedSource& source, const std::string& name, int64_t cols,
    int64_t group);

// A number of `bits` in a stream of little-endian words, lowest bits first,
// from a bit of it on; it may lie across two words.
uint8_t NumberAtBit(const uint32_t* words, int64_t bit, int bits);
// Adds a number to such a stream where it has only zeros.
void PutNumberAtBit(uint8_t number, int64_t bit, int bits, uint32_t* words);
// The `index`th of numbers one behind the other.
inline uint8_t NumberInWords(const uint32_t* words, int64_t index, int bits) {
  return NumberAtBit(words, index * bits, bits);
}

// Words of a stream of so many numbers.
constexpr int64_t WordsOf(int64_t numbers, int bits) {
  return (numbers * bits + 31) / 32;
}

}  // namespace ounce::model

#endif  // OUNCE_MODEL_CHECKPOINT_FORMATS_GROUPED_INTEGERS_H_
