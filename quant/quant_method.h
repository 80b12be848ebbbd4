// One way to store a weight matrix. To add one: a file in quant/methods/, a
// line in quant/methods.def and a row in tests/quant/error_bounds.h. Nothing
// else names a method; a method without unpackers of its own for an
// instruction set is correct on it and merely slower.
//
// Threads: stateless, so any thread may call anything.
#ifndef OUNCE_QUANT_QUANT_METHOD_H_
#define OUNCE_QUANT_QUANT_METHOD_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "quant/codes.h"
#include "quant/dtype.h"
#include "quant/float_rows.h"
#include "quant/packed_weight.h"
#include "quant/params.h"
#include "quant/weight_stage.h"

namespace ounce::quant {

class QuantMethod {
 public:
  virtual ~QuantMethod() = default;

  // Goes to the wire and into metrics, so never renamed.
  virtual std::string_view name() const = 0;
  virtual std::string_view summary() const = 0;  // one sentence for people
  virtual absl::Span<const ParamSpec> params() const { return {}; }

  // Of the codes that Encode makes of a matrix of this shape in a checkpoint of
  // this dtype. Errors: kInvalidArgument for a shape that they cannot hold.
  virtual absl::StatusOr<CodeFormat> Format(
      int64_t rows, int64_t cols, DType dtype,
      const ParamValues& params) const = 0;

  // The codes of `weight`, which must outlive them and is read as they are. A
  // method that has to know the whole matrix first reads it here once, and
  // keeps no more than a few numbers a row or block.
  // Errors: those of Format and of `weight`. Reading the codes:
  // kInvalidArgument for NaN, infinite (unless the weight allows_non_finite and
  // these are floats) or unrepresentable values, named by tensor and row.
  virtual absl::StatusOr<std::unique_ptr<const CodeRows>> Encode(
      const FloatRows& weight, const ParamValues& params) const = 0;

  // The same with scales that follow from the weights, of parameters that give
  // them instead: what reports compare with.
  virtual std::optional<ParamValues> Computed(const ParamValues&) const {
    return std::nullopt;
  }

  // Encodes and packs (pack.h).
  absl::StatusOr<PackedWeight> Quantize(const FloatRows& weight,
                                        const ParamValues& params) const;
};

// A method with its parameters, behind stages.
struct MethodSpec {
  const QuantMethod* method = nullptr;
  ParamValues params;  // all declared ones
  std::vector<StageSpec> stages = {};

  // The method's, of these parameters; of what the stages make of `weight`.
  absl::StatusOr<CodeFormat> Format(int64_t rows, int64_t cols,
                                    DType dtype) const {
    return method->Format(rows, cols, dtype, params);
  }
  absl::StatusOr<std::unique_ptr<const CodeRows>> Encode(
      const FloatRows& weight) const;

  // The dtype that it stores, of a method that stores floats.
  std::optional<DType> float_dtype() const;
  // Whether every value of `dtype` is stored as it is.
  bool lossless_from(DType dtype) const;

  // The text of a spec, defined here once: each stage and then the method, with
  // '+' between. Of each, its name, then, after a
  // colon, `key=value` of each parameter that differs from its default, in
  // declared order, with commas between and no spaces: "linear",
  // "linear:bits=4", "prune-24+linear". So equal specs are equal texts, and a
  // parameter that a method gains renames nothing. It is what replies, reports,
  // metrics and command lines show. ParseMethodSpec reads it back (and takes
  // parameters in any order, defaults written out or not). `more` are settings
  // of somebody else, which go behind the method's.
  std::string ToString(std::string_view more = {}) const;
};

}  // namespace ounce::quant

#endif  // OUNCE_QUANT_QUANT_METHOD_H_
