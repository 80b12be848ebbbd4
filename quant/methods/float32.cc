// Weights as they are.
#include "quant/float_method.h"

namespace ounce::quant {
namespace {

struct Float32 {
  using Element = float;
  static constexpr CodeFormat::Kind kKind = CodeFormat::Kind::kFloat32;
  static constexpr std::string_view kName = "float32";
  static constexpr std::string_view kSummary =
      "32-bit floats: keeps every weight as it is in the checkpoint.";
  static constexpr std::string_view kUnfit = "";
  static float FromFloat(float value) { return value; }
  static float ToFloat(float element) { return element; }
};

}  // namespace

const QuantMethod& Float32Method() {
  static const FloatMethod<Float32> method;
  return method;
}

}  // namespace ounce::quant
