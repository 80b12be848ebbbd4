// IEEE binary16, rounded to nearest even.
#include "quant/float_method.h"

namespace ounce::quant {
namespace {

struct Float16 {
  static constexpr DType kDType = DType::kF16;
  using Element = uint16_t;
  static constexpr Element kExponent = 0x7C00;
  static constexpr CodeFormat::Kind kKind = CodeFormat::Kind::kFloat16;
  static constexpr std::string_view kName = "float16";
  static constexpr std::string_view kSummary =
      "16-bit IEEE floats: half the bytes of float32, values up to 65504.";
  static constexpr std::string_view kUnfit =
      "does not fit float16 (largest 65504); bfloat16 has the range of float32";
};

}  // namespace

const QuantMethod& Float16Method() {
  static const FloatMethod<Float16> method;
  return method;
}

}  // namespace ounce::quant
