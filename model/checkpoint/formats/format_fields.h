// What readers of several formats share.
#ifndef OUNCE_MODEL_CHECKPOINT_FORMATS_FORMAT_FIELDS_H_
#define OUNCE_MODEL_CHECKPOINT_FORMATS_FORMAT_FIELDS_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "model/checkpoint/tensor_files.h"
#include "nlohmann/json_fwd.hpp"
#include "quant/codes.h"
#include "quant/params.h"

namespace ounce::model {

// Larger than any scale: no product with a code is infinite.
inline constexpr float kLargestScale = 1e30f;

// Values [first, first + count) of a tensor of floats. Errors: those of
// reading; kInvalidArgument, with file, tensor and element, for one that is no
// finite number, or beyond kLargestScale.
absl::Status ReadScales(const TensorFiles& files, const std::string& tensor,
                        int64_t first, int64_t count, std::vector<float>& out);

// "int4" or "uint4", of 1 to 8 bits: CodeFormat::element.
std::string_view IntegerName(int bits, bool is_signed);

// kInvalidArgument, with the weight's name, row and column, for a code of the
// band that a table has no finite number for.
absl::Status CheckLevels(const std::string& name,
                         const quant::CodeFormat& format,
                         const quant::CodeBand& band, int64_t cols);

// A parameter "scales": which floats a file has them in.
quant::ParamSpec ScalesParam(
    std::string_view default_value,
    std::string_view help = "what scales are stored in");

// Of scales that a file has in "float16", "bfloat16" or "float32".
quant::CodeField ScaleField(std::string_view name, std::string_view dtype,
                            const quant::Reach& reach);

// Two numbers of `key`, each from 1 on: [rows, columns].
absl::StatusOr<std::pair<int64_t, int64_t>> JsonShape(
    const nlohmann::json& object, const char* key);

// The group_size of a config: -1, or from 1 on.
absl::StatusOr<int64_t> GroupSize(const nlohmann::json& config);

}  // namespace ounce::model

#endif  // OUNCE_MODEL_CHECKPOINT_FORMATS_FORMAT_FIELDS_H_
