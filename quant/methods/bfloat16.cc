// The upper half of a float32, rounded to nearest even.
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
    .unpack = {UnpackBFloat16Portable, UnpackBFloat16Avx2,
               UnpackBFloat16Avx512}};

class BFloat16Method final : public QuantMethod {
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
    ASSIGN_OR_RETURN(
        PackedWeight packed,
        PackedWeight::Create(kLayout, weight.rows(), weight.cols()));
    RETURN_IF_ERROR(ForEachRow(weight, [&](int64_t row, const float* values) {
      for (int64_t col = 0; col < weight.cols(); ++col) {
        const uint16_t bits = FloatToBFloat16(values[col]);
        if (!std::isfinite(BFloat16ToFloat(bits))) {
          return RefuseValue(
              weight, row, col, values[col],
              "does not fit bfloat16 when rounded; float32 keeps it");
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
    return "bfloat16";
  }
};

}  // namespace

const QuantMethod& BFloat16() {
  static const BFloat16Method method;
  return method;
}

}  // namespace ounce::quant
