// One way to store a weight matrix. To add one: a file in quant/methods/, a
// line in quant/methods.def and a row in tests/quant/error_bounds.h. Nothing
// else names a method; a method without unpackers of its own for an
// instruction set is correct on it and merely slower.
//
// Threads: stateless, so any thread may call anything.
#ifndef OUNCE_QUANT_QUANT_METHOD_H_
#define OUNCE_QUANT_QUANT_METHOD_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "quant/dtype.h"
#include "quant/float_rows.h"
#include "quant/packed_weight.h"

namespace ounce::quant {

// A parameter that a method declares: the one place that help texts, checking
// and ListMethods come from.
struct ParamSpec {
  std::string_view name;  // "bits"
  enum class Type { kInteger, kChoice } type = Type::kInteger;
  std::string_view default_value;  // in text form
  // kInteger: [min, max]. kChoice: the values allowed.
  int64_t min = 0;
  int64_t max = 0;
  std::vector<std::string_view> choices;
  std::string_view help;
};

// Every declared parameter with its value in text form, checked.
using ParamValues = absl::flat_hash_map<std::string, std::string>;

class QuantMethod {
 public:
  virtual ~QuantMethod() = default;

  // Goes to the wire and into metrics, so never renamed.
  virtual std::string_view name() const = 0;
  virtual std::string_view summary() const = 0;  // one sentence for people
  virtual absl::Span<const ParamSpec> params() const { return {}; }

  // Whether the method changes values at all (float32 does not).
  virtual bool lossless_from(DType dtype) const = 0;

  // Packs all of `weight`, reading it a panel at a time.
  // Errors: kInvalidArgument for a shape that the format cannot hold, or for
  // NaN, infinite (unless the weight allows_non_finite and this is a float
  // method) or unrepresentable values, named by tensor and row; what `weight`
  // returns; kResourceExhausted.
  virtual absl::StatusOr<PackedWeight> Quantize(
      const FloatRows& weight, const ParamValues& params) const = 0;

  // Bytes of the parameters and buffers that Hugging Face's
  // get_memory_footprint() counts for a matrix stored this way, when the
  // checkpoint's dtype is `dtype`: codes plus scales, without padding.
  virtual int64_t StoredBytes(int64_t rows, int64_t cols, DType dtype,
                              const ParamValues& params) const = 0;

  // Bytes that the result of Quantize takes in memory, without a look at the
  // weight. Errors: kInvalidArgument for a shape that the format cannot hold,
  // kResourceExhausted for one that is too large to count.
  virtual absl::StatusOr<int64_t> ResidentBytes(
      int64_t rows, int64_t cols, const ParamValues& params) const = 0;

  // Label of the stored elements in metrics: "int8", "float16", ...
  virtual std::string_view element_name(const ParamValues& params) const = 0;
};

// A method with its parameters.
struct MethodSpec {
  const QuantMethod* method = nullptr;
  ParamValues params;  // all declared ones

  // The text of a spec, defined here once: the method's name, then, after a
  // colon, `key=value` of each parameter that differs from its default, in
  // declared order, with commas between and no spaces: "linear",
  // "linear:bits=4". So equal specs are equal texts, and a parameter that a
  // method gains renames nothing. It is what replies, reports, metrics and
  // command lines show. ParseMethodSpec reads it back (and takes parameters in
  // any order, defaults written out or not).
  std::string ToString() const;
};

}  // namespace ounce::quant

#endif  // OUNCE_QUANT_QUANT_METHOD_H_
