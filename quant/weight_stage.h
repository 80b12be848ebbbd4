// One way to change a float matrix before a method encodes it, such as pruning.
// To add one: a file in quant/stages/ and a line in quant/stages.def; nothing
// else names one. In a spec stages stand before the method, with '+' between:
// "prune-24+linear:bits=4".
//
// What becomes zero takes no fewer bytes: codes and tiles are as dense as those
// of any other matrix. Errors are measured against what was before all stages.
//
// Threads: stateless, so any thread may call anything.
#ifndef OUNCE_QUANT_WEIGHT_STAGE_H_
#define OUNCE_QUANT_WEIGHT_STAGE_H_

#include <bit>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "quant/float_rows.h"
#include "quant/params.h"

namespace ounce::quant {

class WeightStage {
 public:
  virtual ~WeightStage() = default;

  // As a method's (quant_method.h), and not the name of one.
  virtual std::string_view name() const = 0;
  virtual std::string_view summary() const = 0;
  virtual absl::Span<const ParamSpec> params() const { return {}; }

  // A matrix of the shape, name and dtype of `weight`, which must outlive it.
  // Its values are made each time it is read. A stage that has to know the
  // whole matrix first reads it here, and keeps no more than a few numbers a
  // row.
  // Errors: those of `weight`; kInvalidArgument for NaN and infinite values
  // where all has to be known first, else they are left to the method.
  virtual absl::StatusOr<std::unique_ptr<const FloatRows>> Apply(
      const FloatRows& weight, const ParamValues& params) const = 0;
};

// A stage with its parameters.
struct StageSpec {
  const WeightStage* stage = nullptr;
  ParamValues params;  // all declared ones

  std::string ToString() const;
};

// What stages share: rows of another matrix, changed after they were read.
class ChangedRows : public FloatRows {
 public:
  explicit ChangedRows(const FloatRows& weight) : weight_(weight) {}

  const std::string& name() const final { return weight_.name(); }
  std::string Place(int64_t row, int64_t col) const final {
    return weight_.Place(row, col);
  }
  int64_t rows() const final { return weight_.rows(); }
  int64_t cols() const final { return weight_.cols(); }
  DType dtype() const final { return weight_.dtype(); }
  bool allows_non_finite() const final { return weight_.allows_non_finite(); }
  absl::Status Read(int64_t first, int64_t count, float* out) const final;

 private:
  // Changes the values [cols] of a row.
  virtual void ChangeRow(int64_t row, float* values) const = 0;

  const FloatRows& weight_;
};

// Magnitudes are ordered as these are; NaN and infinity are the largest.
inline uint32_t MagnitudeBits(float value) {
  return std::bit_cast<uint32_t>(value) & 0x7fffffffu;
}

// `weight`, which must outlive the result, behind all stages in order.
absl::StatusOr<std::unique_ptr<const FloatRows>> ApplyStages(
    absl::Span<const StageSpec> stages, const FloatRows& weight);

}  // namespace ounce::quant

#endif  // OUNCE_QUANT_WEIGHT_STAGE_H_
