#include "model/checkpoint/formats/format_fields.h"

#include <algorithm>
#include <cmath>

#include "base/status_macros.h"
#include "base/str_cat.h"
#include "model/checkpoint/stored_tensor.h"
#include "model/files/byte_source.h"
#include "model/files/json_fields.h"
#include "nlohmann/json.hpp"

namespace ounce::model {

using quant::CodeField;

absl::Status ReadScales(const TensorFiles& files, const std::string& tensor,
                        int64_t first, int64_t count, std::vector<float>& out) {
  out.resize(count);
  RETURN_IF_ERROR(files.ReadFloats(tensor, first, count, out.data()));
  for (int64_t i = 0; i < count; ++i) {
    if (std::abs(out[i]) <= kLargestScale) continue;
    return TensorError(
        *files.tensors.at(tensor).file, tensor,
        StrCat("element ", first + i, " must be a finite number of at most ",
               kLargestScale, ", is ", out[i]));
  }
  return absl::OkStatus();
}

std::string_view IntegerName(int bits, bool is_signed) {
  static constexpr std::string_view kSigned[] = {
      "int1", "int2", "int3", "int4", "int5", "int6", "int7", "int8"};
  static constexpr std::string_view kUnsigned[] = {
      "uint1", "uint2", "uint3", "uint4", "uint5", "uint6", "uint7", "uint8"};
  return (is_signed ? kSigned : kUnsigned)[bits - 1];
}

absl::Status CheckLevels(const std::string& name,
                         const quant::CodeFormat& format,
                         const quant::CodeBand& band, int64_t cols) {
  const auto is_none = [](float level) { return std::isnan(level); };
  if (std::none_of(format.tables.begin(), format.tables.end(), is_none)) {
    return absl::OkStatus();
  }
  for (int64_t i = 0; i < band.rows * cols; ++i) {
    const auto code = static_cast<uint8_t>(band.elements[i]);
    if (!is_none(format.tables[code])) continue;
    return absl::InvalidArgumentError(
        StrCat("tensor ", Quoted(name), ", row ", band.first_row + i / cols,
               ", column ", i % cols, ": must be a finite number"));
  }
  return absl::OkStatus();
}

quant::ParamSpec ScalesParam(std::string_view default_value,
                             std::string_view help) {
  return {.name = "scales",
          .type = quant::ParamSpec::Type::kChoice,
          .default_value = default_value,
          .choices = {"float16", "bfloat16", "float32"},
          .help = help};
}

CodeField ScaleField(std::string_view name, std::string_view dtype,
                     const quant::Reach& reach) {
  using Type = CodeField::Type;
  const Type type = dtype == "float16"    ? Type::kFloat16
                    : dtype == "bfloat16" ? Type::kBFloat16
                                          : Type::kFloat32;
  return {.name = name,
          .type = type,
          .bits = type == Type::kFloat32 ? 32 : 16,
          .reach = reach};
}

absl::StatusOr<std::pair<int64_t, int64_t>> JsonShape(
    const nlohmann::json& object, const char* key) {
  const auto shape = object.find(key);
  if (shape == object.end() || !shape->is_array() || shape->size() != 2) {
    return absl::InvalidArgumentError(
        StrCat("'", key, "' must be [rows, columns]"));
  }
  constexpr int64_t kMost = int64_t{1} << 31;
  const std::string rows = StrCat(key, "[0]"), cols = StrCat(key, "[1]");
  const nlohmann::json extents = {{rows, (*shape)[0]}, {cols, (*shape)[1]}};
  std::pair<int64_t, int64_t> extent;
  ASSIGN_OR_RETURN(extent.first, JsonInt(extents, rows, 1, kMost));
  ASSIGN_OR_RETURN(extent.second, JsonInt(extents, cols, 1, kMost));
  return extent;
}

absl::StatusOr<int64_t> GroupSize(const nlohmann::json& config) {
  ASSIGN_OR_RETURN(const int64_t group,
                   JsonInt(config, "group_size", -1, INT64_MAX));
  if (group != 0) return group;
  return absl::InvalidArgumentError(
      "'quantization_config': 'group_size' must be -1 or more than 0, is 0");
}

}  // namespace ounce::model
