// The upper half of a float32, rounded to nearest even.
#include <cmath>

#include "quant/kernels/panels.h"
#include "quant/pack_rows.h"
#include "quant/quant_method.h"

namespace ounce::quant {
namespace {

// [32 pairs of cols][16 rows][2 cols] of 16 bits.
constexpr TileLayout kLayout = {
    .form = TileForm::kFloat,
    .tile_bytes = 2048,
    .unpack = {UnpackBFloat16Portable, UnpackBFloat16Avx2,
               UnpackBFloat16Avx512}};

class BFloat16 final : public QuantMethod {
 public:
  std::string_view name() const override { return "bfloat16"; }
  std::string_view summary() const override {
    return "16-bit floats with the range of float32 and 8 significant bits.";
  }
  bool lossless_from(DType dtype) const override {
    return dtype == DType::kBF16;
  }

  absl::StatusOr<PackedWeight> Quantize(const FloatRows& weight,
                                        const ParamValues&) const override {
    return PackElements<uint16_t, 2>(
        kLayout, weight, FloatToBFloat16,
        [](uint16_t bits) { return std::isfinite(BFloat16ToFloat(bits)); },
        "does not fit bfloat16 when rounded; float32 keeps it");
  }

  int64_t StoredBytes(int64_t rows, int64_t cols, DType,
                      const ParamValues&) const override {
    return rows * cols * 2;
  }
  absl::StatusOr<int64_t> ResidentBytes(int64_t rows, int64_t cols,
                                        const ParamValues&) const override {
    return PackedWeight::ResidentBytes(kLayout, rows, cols);
  }
  std::string_view element_name(const ParamValues&) const override {
    return "bfloat16";
  }
};

}  // namespace

const QuantMethod& BFloat16Method() {
  static const BFloat16 method;
  return method;
}

}  // namespace ounce::quant
