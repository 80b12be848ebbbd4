#include "quant/gguf_method.h"

#include <cmath>
#include <utility>
#include <vector>

#include "base/status_macros.h"
#include "base/str_cat.h"
#include "quant/encode_rows.h"
#include "quant/kernels/for_isa.h"

namespace ounce::quant {
namespace {

class GgufRows final : public EncodedRows {
 public:
  GgufRows(const FloatRows& weight, CodeFormat format, GgufEncode* encode)
      : EncodedRows(weight, std::move(format)), encode_(encode) {}

 private:
  absl::Status EncodeRow(int64_t row, const float* values, std::byte* codes,
                         CodeBand& out) const override {
    std::vector<float*> fields;
    for (size_t i = 0; i < out.fields.size(); ++i) {
      fields.push_back(out.fields[i].values.data() +
                       (format().fields[i].reach.IndexOf(row, 0, cols()) -
                        out.fields[i].first));
    }
    encode_(values, cols(), reinterpret_cast<uint8_t*>(codes), fields.data());
    for (size_t i = 0; i < fields.size(); ++i) {
      const int64_t reach = format().fields[i].reach.cols;
      for (int64_t col = 0; col < cols(); col += reach) {
        if (!std::isfinite(fields[i][col / reach])) {
          return Refusal(row, values, col, reach);
        }
      }
    }
    return absl::OkStatus();
  }

  absl::Status Refusal(int64_t row, const float* values, int64_t first,
                       int64_t count) const {
    int64_t largest = first;
    for (int64_t col = first; col < first + count; ++col) {
      if (std::abs(values[col]) > std::abs(values[largest])) largest = col;
    }
    return RefuseValue(weight(), row, largest, values[largest],
                       StrCat("is too large for ", format().element,
                              ", whose scales are float16 (largest 65504); "
                              "bfloat16 has the range of float32"));
  }

  GgufEncode* const encode_;
};

}  // namespace

GgufMethod::GgufMethod(const GgufType& type)
    : type_(type),
      summary_(StrCat(type.summary, "; ", type.instead().name(),
                      " for widths that ", type.block, " does not divide.")),
      format_{.kind = type.kind,
              .bits = type.bits,
              .element = type.name.substr(type.name.find('-') + 1),
              .tables = type.tables,
              .fields = {type.fields.begin(), type.fields.end()},
              .rule = type.rule} {}

absl::StatusOr<CodeFormat> GgufMethod::Format(int64_t rows, int64_t cols,
                                              DType dtype,
                                              const ParamValues& params) const {
  if (cols % type_.block == 0) return format_;
  ASSIGN_OR_RETURN(CodeFormat format,
                   type_.instead().Format(rows, cols, dtype, params));
  format.note =
      StrCat("stored as ", format.element, " instead of ", format_.element,
             ": ", cols, " columns are not whole blocks of ", type_.block);
  return format;
}

absl::StatusOr<std::unique_ptr<const CodeRows>> GgufMethod::Encode(
    const FloatRows& weight, const ParamValues& params) const {
  if (weight.cols() % type_.block != 0) {
    return type_.instead().Encode(weight, params);
  }
  return std::make_unique<const GgufRows>(weight, format_, type_.encode);
}

void GgufNearest(const float* values, int64_t count, float scale, float minimum,
                 float zero, float most, uint8_t* codes) {
  for (int64_t i = 0; i < count; ++i) {
    float code = (values[i] + minimum) / scale;
    code = code > -zero ? code : -zero;
    code = code < most - zero ? code : most - zero;
    codes[i] =
        static_cast<uint8_t>(static_cast<int32_t>(RoundToInteger(code) + zero));
  }
}

const GgufSearches& GgufSearchesFor(Isa isa) {
  return ForIsa(isa, GgufSearchesPortable, GgufSearchesAvx2,
                GgufSearchesAvx512)();
}

}  // namespace ounce::quant
