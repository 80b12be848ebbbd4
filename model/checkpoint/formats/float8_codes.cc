#include "model/checkpoint/formats/float8_codes.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <utility>
#include <vector>

#include "base/status_macros.h"
#include "base/str_cat.h"
#include "model/checkpoint/coded_tensor.h"
#include "model/checkpoint/formats/format_fields.h"
#include "model/checkpoint/formats/stored_rows.h"
#include "model/checkpoint/stored_tensor.h"
#include "model/files/byte_source.h"
#include "quant/registry.h"

namespace ounce::model {
namespace {

using quant::CodeBand;
using quant::CodeFormat;
using quant::DType;
using quant::ParamSpec;
using quant::Reach;

// The extent of a block that is all of an axis.
constexpr int64_t kAll = 0;

class Fp8 final : public StoredMethod {
 public:
  std::string_view name() const override { return "fp8"; }
  std::string_view summary() const override {
    return "8-bit floats with scales, as another tool made them.";
  }
  absl::Span<const ParamSpec> params() const override {
    static const std::vector<ParamSpec> params = {
        {.name = "format",
         .type = ParamSpec::Type::kChoice,
         .default_value = "e4m3",
         .choices = {"e4m3", "e5m2"},
         .help = "bits of exponent and mantissa"},
        {.name = "block_rows",
         .default_value = "1",
         .min = kAll,
         .max = INT64_MAX,
         .help = "rows that share a scale; 0: all"},
        {.name = "block_cols",
         .default_value = "0",
         .min = kAll,
         .max = INT64_MAX,
         .help = "columns that share a scale; 0: all"},
        ScalesParam("float32")};
    return params;
  }

  absl::StatusOr<CodeFormat> Format(
      int64_t rows, int64_t cols, DType dtype,
      const quant::ParamValues& params) const override {
    // Levels are those of the method that makes such codes.
    ASSIGN_OR_RETURN(
        const quant::MethodSpec made,
        quant::ParseMethodSpec(StrCat("float8:format=", params.at("format"))));
    ASSIGN_OR_RETURN(CodeFormat format, made.Format(rows, cols, dtype));
    const auto extent = [&](const char* key) {
      const int64_t value = quant::IntegerOf(params, key);
      return value == kAll ? Reach::kAll : value;
    };
    format.fields = {ScaleField(
        "scale", params.at("scales"),
        {.rows = extent("block_rows"), .cols = extent("block_cols")})};
    return format;
  }
};

const Fp8& Method() {
  static const Fp8 method;
  return method;
}

class Float8Rows final : public StoredRows {
 public:
  Float8Rows(const TensorFiles& files, std::string name,
             const Float8Tensors& tensors, int64_t rows, int64_t cols,
             CodeFormat format)
      : StoredRows(files, std::move(name), rows, cols, std::move(format)),
        codes_(tensors.codes),
        scales_(tensors.scales) {}

  absl::Status Read(int64_t first, int64_t count,
                    CodeBand& out) const override {
    out.first_row = first;
    out.rows = count;
    out.elements.resize(count * cols());
    RETURN_IF_ERROR(files().ReadElements(codes_, first * cols(), count * cols(),
                                         out.elements.data()));
    RETURN_IF_ERROR(CheckLevels(name(), format(), out, cols()));
    const Reach& reach = format().fields[0].reach;
    const int64_t begin = reach.IndexOf(first, 0, cols());
    const int64_t end =
        reach.IndexOf(first + count - 1, cols() - 1, cols()) + 1;
    out.fields.resize(1);
    CodeBand::Field& field = out.fields[0];
    field.first = begin;
    return ReadScales(files(), scales_, begin, end - begin, field.values);
  }

 private:
  const std::string codes_;
  const std::string scales_;
};

// One of each block, of rows first; of whole rows also without columns.
bool AreOfBlocks(const std::vector<int64_t>& shape, const Reach& reach,
                 int64_t rows, int64_t cols) {
  const int64_t down = reach.Count(rows, 1);
  const int64_t across = reach.Count(1, cols);
  int64_t elements = 1;
  for (const int64_t extent : shape) elements *= extent;
  return shape == std::vector<int64_t>{down, across} ||
         (across == 1 && shape == std::vector<int64_t>{down}) ||
         (down * across == 1 && elements == 1);
}

}  // namespace

absl::Status AddFloat8(const QuantizedSource& source, const std::string& module,
                       const Float8Tensors& tensors, CodedTensors& found) {
  const std::string name = module + ".weight";
  const auto& [codes, scales, reach] = tensors;
  ASSIGN_OR_RETURN(
      const TensorInfo* weight,
      source.Find(codes, {DType::kF8E4M3, DType::kF8E5M2}, {-1, -1}));
  const int64_t rows = weight->shape[0], cols = weight->shape[1];
  const auto place = source.files.tensors.find(scales);
  const int64_t wanted = reach.Count(rows, cols);
  if (place == source.files.tensors.end()) {
    return source.Find(scales, {}, {wanted}).status();
  }
  const TensorInfo& info = place->second.tensor.info;
  if (!quant::IsFloat(info.dtype) || info.dtype == DType::kF64 ||
      !AreOfBlocks(info.shape, reach, rows, cols)) {
    return source.Problem(
        scales, StrCat("must have ", wanted, " floats, the scales of ", name,
                       ", by rows and columns, has shape ",
                       ShapeText(info.shape), " of ", quant::Name(info.dtype)));
  }
  const auto extent = [](int64_t value) {
    return StrCat(value == Reach::kAll ? kAll : value);
  };
  const quant::MethodSpec spec = {
      .method = &Method(),
      .params = {{"format", weight->dtype == DType::kF8E4M3 ? "e4m3" : "e5m2"},
                 {"block_rows", extent(reach.rows)},
                 {"block_cols", extent(reach.cols)},
                 {"scales", std::string(quant::Name(info.dtype))}}};
  found.parts.insert(codes);
  found.parts.insert(scales);
  return found.Add(name, rows, cols, source.dtype, {.spec = spec},
                   [=, &files = source.files](const quant::CodeFormat& format) {
                     return std::make_unique<const Float8Rows>(
                         files, name, tensors, rows, cols, format);
                   });
}

}  // namespace ounce::model
