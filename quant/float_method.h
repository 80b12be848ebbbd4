// What the methods that store floats share.
#ifndef OUNCE_QUANT_FLOAT_METHOD_H_
#define OUNCE_QUANT_FLOAT_METHOD_H_

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string_view>
#include <utility>

#include "quant/encode_rows.h"
#include "quant/quant_method.h"

namespace ounce::quant {

// Traits:
//   using Element = ...                       as a file holds it
//   CodeFormat::Kind kKind
//   std::string_view kName, kSummary, kUnfit  what a finite value is refused
//                                             for whose element is not finite
//   Element FromFloat(float); float ToFloat(Element)
template <class Traits>
class FloatMethod final : public QuantMethod {
 public:
  std::string_view name() const override { return Traits::kName; }
  std::string_view summary() const override { return Traits::kSummary; }

  absl::StatusOr<CodeFormat> Format(int64_t, int64_t, DType,
                                    const ParamValues&) const override {
    return CodeFormat{.kind = Traits::kKind,
                      .bits = 8 * sizeof(typename Traits::Element),
                      .element = Traits::kName};
  }
  absl::StatusOr<std::unique_ptr<const CodeRows>> Encode(
      const FloatRows& weight, const ParamValues& params) const override {
    return std::make_unique<const Rows>(
        weight, *Format(weight.rows(), weight.cols(), weight.dtype(), params));
  }

 private:
  class Rows final : public EncodedRows {
   public:
    using EncodedRows::EncodedRows;

   private:
    absl::Status EncodeRow(int64_t row, const float* values, std::byte* codes,
                           CodeBand&) const override {
      for (int64_t col = 0; col < cols(); ++col) {
        const auto element = Traits::FromFloat(values[col]);
        if (!std::isfinite(Traits::ToFloat(element)) &&
            std::isfinite(values[col])) {
          return RefuseValue(weight(), row, col, values[col], Traits::kUnfit);
        }
        std::memcpy(codes + col * sizeof(element), &element, sizeof(element));
      }
      return absl::OkStatus();
    }
  };
};

}  // namespace ounce::quant

#endif  // OUNCE_QUANT_FLOAT_METHOD_H_
