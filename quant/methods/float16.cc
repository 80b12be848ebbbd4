// IEEE binary16, rounded to nearest even.
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
    .unpack = {UnpackFloat16Portable, UnpackFloat16Avx2, UnpackFloat16Avx512}};

class Float16 final : public QuantMethod {
 public:
  std::string_view name() const override { return "float16"; }
  std::string_view summary() const override {
    return "16-bit IEEE floats: half the bytes of float32, values up to 65504.";
  }
  bool lossless_from(DType dtype) const override {
    return dtype == DType::kF16;
  }

  absl::StatusOr<PackedWeight> Quantize(const FloatRows& weight,
                                        const ParamValues&) const override {
    return PackElements<uint16_t, 2>(
        kLayout, weight, FloatToHalf,
        [](uint16_t bits) { return std::isfinite(HalfToFloat(bits)); },
        "does not fit float16 (largest 65504); bfloat16 has the range of "
        "float32");
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
    return "float16";
  }
};

}  // namespace

const QuantMethod& Float16Method() {
  static const Float16 method;
  return method;
}

}  // namespace ounce::quant
