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

#include "quant/dtype.h"
#include "quant/encode_rows.h"
#include "quant/quant_method.h"

namespace ounce::quant {

// Traits:
//   DType kDType; using Element = ...         as a file holds it, its bits
//   Element kExponent                         all ones: not finite
//   CodeFormat::Kind kKind
//   std::string_view kName, kSummary, kUnfit  what a finite value is refused
//                                             for whose element is not finite
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
      FromFloat(Traits::kDType, values, cols(), codes);
      if (AllFinite(codes, cols())) return absl::OkStatus();
      for (int64_t col = 0; col < cols(); ++col) {
        if (!IsFinite(codes, col) && std::isfinite(values[col])) {
          return RefuseValue(weight(), row, col, values[col], Traits::kUnfit);
        }
      }
      return absl::OkStatus();
    }

    static bool IsFinite(const std::byte* codes, int64_t col) {
      typename Traits::Element element;
      std::memcpy(&element, codes + col * sizeof element, sizeof element);
      return (element & Traits::kExponent) != Traits::kExponent;
    }
    // Without an end before the last, so that compilers take several at once.
    static bool AllFinite(const std::byte* codes, int64_t count) {
      typename Traits::Element found = 0;
      for (int64_t i = 0; i < count; ++i) found |= !IsFinite(codes, i);
      return found == 0;
    }
  };
};

}  // namespace ounce::quant

#endif  // OUNCE_QUANT_FLOAT_METHOD_H_
