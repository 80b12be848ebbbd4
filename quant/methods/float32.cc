// Weights as they are.
#include "quant/pack_rows.h"
#include "quant/quant_method.h"

namespace ounce::quant {
namespace {

constexpr TileLayout kLayout = {
    .form = TileForm::kFloat, .tile_bytes = 4096, .unpack = {TileAsIs}};

class Float32 final : public QuantMethod {
 public:
  std::string_view name() const override { return "float32"; }
  std::string_view summary() const override {
    return "32-bit floats: keeps every weight as it is in the checkpoint.";
  }
  bool lossless_from(DType dtype) const override {
    return IsFloat(dtype) && dtype != DType::kF64;
  }

  absl::StatusOr<PackedWeight> Quantize(const FloatRows& weight,
                                        const ParamValues&) const override {
    return PackElements<float, 1>(
        kLayout, weight, [](float value) { return value; },
        [](float) { return true; }, "");
  }

  int64_t StoredBytes(int64_t rows, int64_t cols, DType,
                      const ParamValues&) const override {
    return rows * cols * 4;
  }
  absl::StatusOr<int64_t> ResidentBytes(int64_t rows, int64_t cols,
                                        const ParamValues&) const override {
    return PackedWeight::ResidentBytes(kLayout, rows, cols);
  }
  std::string_view element_name(const ParamValues&) const override {
    return "float32";
  }
};

}  // namespace

const QuantMethod& Float32Method() {
  static const Float32 method;
  return method;
}

}  // namespace ounce::quant
