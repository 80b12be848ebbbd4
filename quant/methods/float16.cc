// IEEE binary16, rounded to nearest even.
#include <cmath>

#include "base/status_macros.h"
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

class Float16Method final : public QuantMethod {
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
    ASSIGN_OR_RETURN(
        PackedWeight packed,
        PackedWeight::Create(kLayout, weight.rows(), weight.cols()));
    RETURN_IF_ERROR(ForEachRow(weight, [&](int64_t row, const float* values) {
      for (int64_t col = 0; col < weight.cols(); ++col) {
        const uint16_t bits = FloatToHalf(values[col]);
        if (!std::isfinite(HalfToFloat(bits))) {
          return RefuseValue(weight, row, col, values[col],
                             "does not fit float16 (largest 65504); bfloat16 "
                             "has the range of float32");
        }
        auto* tile = reinterpret_cast<uint16_t*>(
            packed.mutable_tile(row / kPanelRows, col / kBlockCols));
        tile[col % kBlockCols / 2 * 32 + row % kPanelRows * 2 + col % 2] = bits;
      }
      return absl::OkStatus();
    }));
    return packed;
  }

  int64_t StoredBytes(int64_t rows, int64_t cols, DType,
                      const ParamValues&) const override {
    return rows * cols * 2;
  }
  std::string_view element_name(const ParamValues&) const override {
    return "float16";
  }
};

}  // namespace

const QuantMethod& Float16() {
  static const Float16Method method;
  return method;
}

}  // namespace ounce::quant
