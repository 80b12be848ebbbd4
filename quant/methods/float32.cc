// Weights as they are.
#include "quant/float_method.h"

namespace ounce::quant {
namespace {

struct Float32 {
  static constexpr DType kDType = DType::kF32;
  using Element = uint32_t;
  static constexpr Element kExponent = 0x7F800000;
  static constexpr CodeFormat::Kind kKind = CodeFormat::Kind::kFloat32;
  static constexpr std::string_view kName = "float32";
  static constexpr std::string_view kSummary =
      "32-bit floats: keeps every weight as it is in the checkpoint.";
  static constexpr std::string_view kUnfit = "";
};

}  // namespace

const QuantMethod& Float32Method() {
  static const FloatMethod<Float32> method;
  return method;
}

}  // namespace ounce::quant
