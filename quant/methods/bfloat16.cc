// The upper half of a float32, rounded to nearest even.
#include "quant/float_method.h"

namespace ounce::quant {
namespace {

struct BFloat16 {
  static constexpr DType kDType = DType::kBF16;
  using Element = uint16_t;
  static constexpr Element kExponent = 0x7F80;
  static constexpr CodeFormat::Kind kKind = CodeFormat::Kind::kBFloat16;
  static constexpr std::string_view kName = "bfloat16";
  static constexpr std::string_view kSummary =
      "16-bit floats with the range of float32 and 8 significant bits.";
  static constexpr std::string_view kUnfit =
      "does not fit bfloat16 when rounded; float32 keeps it";
};

}  // namespace

const QuantMethod& BFloat16Method() {
  static const FloatMethod<BFloat16> method;
  return method;
}

}  // namespace ounce::quant
