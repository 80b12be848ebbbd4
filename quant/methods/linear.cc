// Linear quantization of each row to 8-bit integers:
//
//   s = max|w| / 127, rounded to the checkpoint's dtype;  q = round(w / s)
//
// to nearest even, and w ~ q * s. Activations stay in floating point ("W8A16");
// the rounding that our kernels add is that of a 16-bit integer (matmul.h).
#include <algorithm>
#include <cmath>
#include <memory>
#include <vector>

#include "quant/encode_rows.h"
#include "quant/quant_method.h"

namespace ounce::quant {
namespace {

DType ScaleDType(DType dtype) {
  return dtype == DType::kF64 ? DType::kF32 : dtype;
}

CodeField::Type FieldType(DType dtype) {
  switch (dtype) {
    case DType::kF16:
      return CodeField::Type::kFloat16;
    case DType::kBF16:
      return CodeField::Type::kBFloat16;
    default:
      return CodeField::Type::kFloat32;
  }
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

class LinearRows final : public EncodedRows {
 public:
  using EncodedRows::EncodedRows;

 private:
  absl::Status EncodeRow(int64_t row, const float* values, std::byte* codes,
                         CodeBand& out) const override {
    float max = 0;
    for (int64_t col = 0; col < cols(); ++col) {
      max = std::max(max, std::abs(values[col]));
    }
    const float scale = ScaleOf(max, ScaleDType(weight().dtype()));
    // Divided in float32, not in the checkpoint's dtype as other
    // implementations do: a quotient rounded to 11 or 8 bits first may land on
    // the wrong integer, and |w - q s| <= s / 2 would not hold.
    // Adding 1.5 * 2^23 rounds to an integer, ties to even.
    constexpr float kMagic = 12582912.0f;
    for (int64_t col = 0; col < cols(); ++col) {
      const float code = (values[col] / scale + kMagic) - kMagic;
      codes[col] = static_cast<std::byte>(
          static_cast<int8_t>(std::min(std::max(code, -128.0f), 127.0f)));
    }
    out.fields[0].values[row - out.fields[0].first] = scale;
    return absl::OkStatus();
  }
};

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

  absl::StatusOr<CodeFormat> Format(int64_t, int64_t, DType dtype,
                                    const ParamValues&) const override {
    const DType scale = ScaleDType(dtype);
    return CodeFormat{
        .kind = CodeFormat::Kind::kSigned,
        .bits = 8,
        .element = "int8",
        .fields = {{.name = "scale",
                    .type = FieldType(scale),
                    .bits = 8 * SizeOf(scale),
                    .reach = Reach::Row()}},
        .run = [](const float* fields) { return CodeRun{.scale = fields[0]}; }};
  }
  absl::StatusOr<std::unique_ptr<const CodeRows>> Encode(
      const FloatRows& weight, const ParamValues& params) const override {
    return std::make_unique<const LinearRows>(
        weight, *Format(weight.rows(), weight.cols(), weight.dtype(), params));
  }
};

}  // namespace

const QuantMethod& LinearMethod() {
  static const Linear method;
  return method;
}

}  // namespace ounce::quant
