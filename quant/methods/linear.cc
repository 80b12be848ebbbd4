// Linear quantization of each row to 8-bit integers:
//
//   s = max|w| / 127, rounded to the checkpoint's dtype;  q = round(w / s)
//
// to nearest even, and w ~ q * s. Activations stay in floating point ("W8A16");
// the rounding that our kernels add is that of a 16-bit integer (matmul.h).
#include <cmath>
#include <vector>

#include "base/status_macros.h"
#include "quant/pack_rows.h"
#include "quant/quant_method.h"

namespace ounce::quant {
namespace {

constexpr TileLayout kLayout = {
    .form = TileForm::kInt8, .tile_bytes = 1024, .unpack = {TileAsIs}};

// Integer sums of 16-bit products must fit 32 bits (matmul.h).
constexpr int64_t kMaxCols = 65536;

absl::Status CheckCols(int64_t cols) {
  if (cols <= kMaxCols) return absl::OkStatus();
  return absl::InvalidArgumentError(
      StrCat("must have at most ", kMaxCols, " columns, has ", cols));
}

DType ScaleDType(DType dtype) {
  return dtype == DType::kF64 ? DType::kF32 : dtype;
}

// The next value of `dtype` above `value` >= 0.
float NextUp(DType dtype, float value) {
  switch (dtype) {
    case DType::kF16:
      return HalfToFloat(static_cast<uint16_t>(FloatToHalf(value) + 1));
    case DType::kBF16:
      return BFloat16ToFloat(static_cast<uint16_t>(FloatToBFloat16(value) + 1));
    default:
      return std::nextafter(value, HUGE_VALF);
  }
}

float ScaleOf(float max, DType dtype) {
  if (max == 0) return 1;
  float scale = RoundTo(dtype, max / 127);
  // A scale among the subnormals of `dtype` may be rounded far down, even to
  // zero; one that is a little too large costs less than clamped weights.
  while (!(max / scale <= 127.5f)) scale = NextUp(dtype, scale);
  return scale;
}

class Linear final : public QuantMethod {
 public:
  std::string_view name() const override { return "linear"; }
  std::string_view summary() const override {
    return "8-bit integers with a scale per output channel; activations stay "
           "in 16 bits or more.";
  }
  absl::Span<const ParamSpec> params() const override {
    static const std::vector<ParamSpec> params = {
        {.name = "bits",
         .type = ParamSpec::Type::kChoice,
         .default_value = "8",
         .choices = {"8"},
         .help = "bits per weight"},
        {.name = "mode",
         .type = ParamSpec::Type::kChoice,
         .default_value = "symmetric",
         .choices = {"symmetric"},
         .help = "symmetric: zero is the code 0"},
        {.name = "granularity",
         .type = ParamSpec::Type::kChoice,
         .default_value = "channel",
         .choices = {"channel"},
         .help = "channel: one scale per output channel"},
    };
    return params;
  }
  bool lossless_from(DType) const override { return false; }

  absl::StatusOr<PackedWeight> Quantize(const FloatRows& weight,
                                        const ParamValues&) const override {
    const int64_t cols = weight.cols();
    RETURN_IF_ERROR(
        WithContext(CheckCols(cols), StrCat("tensor '", weight.name(), "'")));
    ASSIGN_OR_RETURN(PackedWeight packed,
                     PackedWeight::Create(kLayout, weight.rows(), cols));
    const DType scale_dtype = ScaleDType(weight.dtype());
    std::vector<float> codes(cols);
    const auto pack_row = [&](int64_t row, const float* values) {
      float max = 0;
      for (int64_t col = 0; col < cols; ++col) {
        max = std::max(max, std::abs(values[col]));
      }
      const float scale = ScaleOf(max, scale_dtype);
      // Divided in float32, not in the checkpoint's dtype as other
      // implementations do: a quotient rounded to 11 or 8 bits first may land
      // on the wrong integer, and |w - q s| <= s / 2 would not hold.
      // Adding 1.5 * 2^23 rounds to an integer, ties to even.
      constexpr float kMagic = 12582912.0f;
      int32_t sum = 0;
      for (int64_t col = 0; col < cols; ++col) {
        const float code = (values[col] / scale + kMagic) - kMagic;
        codes[col] = std::min(std::max(code, -128.0f), 127.0f);
        sum += static_cast<int32_t>(codes[col]);
      }
      const int64_t panel = row / kPanelRows;
      for (int64_t col = 0; col < cols; ++col) {
        auto* tile = reinterpret_cast<int8_t*>(
            packed.mutable_tile(panel, col / kBlockCols));
        tile[col % kBlockCols / 4 * 64 + row % kPanelRows * 4 + col % 4] =
            static_cast<int8_t>(codes[col]);
      }
      packed.mutable_scales()[row] = scale;
      packed.mutable_code_sums()[row] = sum;
      return absl::OkStatus();
    };
    RETURN_IF_ERROR(ForEachRow(weight, /*allowed=*/false, pack_row));
    return packed;
  }

  int64_t StoredBytes(int64_t rows, int64_t cols, DType dtype,
                      const ParamValues&) const override {
    return rows * cols + rows * SizeOf(ScaleDType(dtype));
  }
  absl::StatusOr<int64_t> ResidentBytes(int64_t rows, int64_t cols,
                                        const ParamValues&) const override {
    RETURN_IF_ERROR(CheckCols(cols));
    return PackedWeight::ResidentBytes(kLayout, rows, cols);
  }
  std::string_view element_name(const ParamValues&) const override {
    return "int8";
  }
};

}  // namespace

const QuantMethod& LinearMethod() {
  static const Linear method;
  return method;
}

}  // namespace ounce::quant
