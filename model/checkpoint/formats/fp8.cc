// Weights of 8-bit floats as transformers' `fp8` and `fbgemm_fp8` have them. Of
// a linear layer X of `in` columns and `out` rows:
//
//   fp8         X.weight float8 [out, in], X.weight_scale_inv f32, one for each
//               block of weight_block_size, or one for all
//   fbgemm_fp8  X.weight float8 [out, in], X.weight_scale [out, 1]
//
// Both name factors, whatever they are called: a value is code * scale. What
// they round activations to is left out: these are read in 16 bits or more.
//
// Source: huggingface/transformers, integrations/finegrained_fp8.py and
// fbgemm_fp8.py.
#include <string>
#include <vector>

#include "base/status_macros.h"
#include "base/str_cat.h"
#include "model/checkpoint/formats/float8_codes.h"
#include "model/checkpoint/formats/format_fields.h"
#include "model/checkpoint/quantized_format.h"
#include "model/files/json_fields.h"
#include "nlohmann/json.hpp"

namespace ounce::model {
namespace {

using quant::Reach;

// weight_block_size, [rows, columns]; all of the matrix if there is none.
absl::StatusOr<Reach> BlockOf(const nlohmann::json& config) {
  const auto size = config.find("weight_block_size");
  if (size == config.end() || size->is_null()) return Reach::Matrix();
  ASSIGN_OR_RETURN(const auto block, JsonShape(config, "weight_block_size"));
  const Reach reach = {.rows = block.first, .cols = block.second};
  return reach;
}

class Fp8 final : public QuantizedFormat {
 public:
  std::string_view name() const override { return "fp8"; }

  absl::Status FindTensors(const QuantizedSource& source,
                           CodedTensors& found) const override {
    constexpr char kScales[] = ".weight_scale_inv";
    ASSIGN_OR_RETURN(const Reach block, BlockOf(source.config));
    for (const std::string& module : source.ModulesWith(kScales)) {
      RETURN_IF_ERROR(AddFloat8(source, module,
                                {module + ".weight", module + kScales, block},
                                found));
      // Of activations, where they are not measured as they come.
      found.parts.insert(module + ".activation_scale");
      found.parts.insert(module + ".input_scale");
    }
    return absl::OkStatus();
  }
};

class FbgemmFp8 final : public QuantizedFormat {
 public:
  std::string_view name() const override { return "fbgemm_fp8"; }

  absl::Status FindTensors(const QuantizedSource& source,
                           CodedTensors& found) const override {
    constexpr char kScales[] = ".weight_scale";
    for (const std::string& module : source.ModulesWith(kScales)) {
      RETURN_IF_ERROR(AddFloat8(
          source, module, {module + ".weight", module + kScales, Reach::Row()},
          found));
      found.parts.insert(module + ".input_scale_ub");
    }
    return absl::OkStatus();
  }
};

}  // namespace

const QuantizedFormat& Fp8Format() {
  static const Fp8 format;
  return format;
}

const QuantizedFormat& FbgemmFp8Format() {
  static const FbgemmFp8 format;
  return format;
}

}  // namespace ounce::model
