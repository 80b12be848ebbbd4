// Linear quantization to integers of 2 to 8 bits, qmin = -2^(bits - 1) to
// qmax = 2^(bits - 1) - 1, of all weights that share a scale:
//
//   symmetric   s = max|w| / qmax;  q = round(w / s);  w ~ s * q
//   asymmetric  s = (max - min) / (qmax - qmin), where min <= 0 <= max;
//               z = round(qmin - min / s);  q = round(w / s + z);
//               w ~ s * (q - z)
//
// Rounding is to nearest even; s is rounded to the checkpoint's dtype before it
// is used; z and q are clamped to qmin .. qmax. (The range takes in zero, so
// that z is within reach where all weights have one sign.) Activations stay in
// floating point ("W8A16"); the rounding that our kernels add is that of a
// 16-bit integer (matmul.h).
#include <algorithm>
#include <cmath>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/status_macros.h"
#include "base/str_cat.h"
#include "quant/encode_rows.h"
#include "quant/granularity.h"
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

// Of weights from min <= 0 to max >= 0 in so many steps; `most` of them are
// tolerable.
float ScaleOf(float min, float max, float steps, float most, DType dtype) {
  if (max == min) return 1;
  const float extent = max - min;
  float scale =
      RoundTo(dtype, std::isfinite(extent) ? extent / steps
                                           : max / steps - min / steps);
  // A scale among the subnormals of `dtype` may be rounded far down, even to
  // zero; one that is a little too large costs less than clamped weights.
  while (!(max / scale - min / scale <= most)) {
    scale = NextUp(dtype, scale);
  }
  return scale;
}

struct Settings {
  int bits = 8;
  bool symmetric = true;
  Reach reach = Reach::Row();

  float qmin() const { return static_cast<float>(-(1 << (bits - 1))); }
  float qmax() const { return static_cast<float>((1 << (bits - 1)) - 1); }
};

absl::StatusOr<Settings> SettingsOf(const QuantMethod& method,
                                    const ParamValues& params) {
  Settings settings;
  settings.bits = static_cast<int>(IntegerOf(params, "bits"));
  settings.symmetric = params.at("mode") == "symmetric";
  ASSIGN_OR_RETURN(settings.reach, ReachOf(method, params));
  return settings;
}

struct Pair {
  float scale = 1;
  float zero = 0;
};

class LinearRows final : public EncodedRows {
 public:
  // `of_all`: what all weights share, if they do.
  LinearRows(const FloatRows& weight, CodeFormat format,
             const Settings& settings, const std::optional<Pair>& of_all)
      : EncodedRows(weight, std::move(format)),
        settings_(settings),
        of_all_(of_all) {}

  // Of weights from min <= 0 to max >= 0.
  static Pair PairOf(const Settings& settings, float min, float max,
                     DType dtype) {
    if (settings.symmetric) {
      const float qmax = settings.qmax();
      return {ScaleOf(0, std::max(-min, max), qmax, qmax + 0.5f, dtype), 0};
    }
    Pair pair;
    if (max == min) return pair;
    const float qmin = settings.qmin(), qmax = settings.qmax();
    // bfloat16 may round a scale down by a 512th, which makes up to half a step
    // of 255.
    const float steps = qmax - qmin;
    pair.scale = ScaleOf(min, max, steps, steps * (1 + 0x1p-8f) + 0.5f, dtype);
    pair.zero = std::clamp(RoundToInteger(qmin - min / pair.scale), qmin, qmax);
    return pair;
  }

 private:
  absl::Status EncodeRow(int64_t row, const float* values, std::byte* codes,
                         CodeBand& out) const override {
    const Reach reach = settings_.reach;
    for (int64_t col = 0; col < cols();) {
      const int64_t end = reach.EndOf(row, col, cols());
      Pair pair;
      if (of_all_.has_value()) {
        pair = *of_all_;
      } else {
        const Extent extent = ExtentOf(values + col, end - col);
        pair = PairOf(settings_, extent.min, extent.max,
                      ScaleDType(weight().dtype()));
      }
      const int64_t field = reach.IndexOf(row, col, cols());
      out.fields[0].values[field - out.fields[0].first] = pair.scale;
      if (!settings_.symmetric) {
        out.fields[1].values[field - out.fields[1].first] = pair.zero;
      }
      EncodeRun(values + col, end - col, pair, codes + col);
      col = end;
    }
    return absl::OkStatus();
  }

  void EncodeRun(const float* values, int64_t count, const Pair& pair,
                 std::byte* codes) const {
    const float qmin = settings_.qmin(), qmax = settings_.qmax();
    // Divided in float32, not in the checkpoint's dtype as other
    // implementations do: a quotient rounded to 11 or 8 bits first may land on
    // the wrong integer, and |w - q s| <= s / 2 would not hold.
    for (int64_t i = 0; i < count; ++i) {
      const float code = RoundToInteger(values[i] / pair.scale + pair.zero);
      codes[i] = static_cast<std::byte>(
          static_cast<int8_t>(std::min(std::max(code, qmin), qmax)));
    }
  }

  const Settings settings_;
  const std::optional<Pair> of_all_;
};

absl::StatusOr<Pair> PairOfAll(const FloatRows& weight,
                               const Settings& settings) {
  float min = 0, max = 0;
  RETURN_IF_ERROR(ForEachRow(weight, [&](int64_t, const float* values) {
    const Extent extent = ExtentOf(values, weight.cols());
    min = std::min(min, extent.min);
    max = std::max(max, extent.max);
  }));
  return LinearRows::PairOf(settings, min, max, ScaleDType(weight.dtype()));
}

constexpr std::string_view kElements[] = {"int2", "int3", "int4", "int5",
                                          "int6", "int7", "int8"};

class Linear final : public QuantMethod {
 public:
  std::string_view name() const override { return "linear"; }
  std::string_view summary() const override {
    return "Integers of 2 to 8 bits with a scale per tensor, output channel or "
           "group of columns; activations stay in 16 bits or more.";
  }
  absl::Span<const ParamSpec> params() const override {
    static const std::vector<ParamSpec> params = {
        {.name = "bits",
         .type = ParamSpec::Type::kInteger,
         .default_value = "8",
         .min = 2,
         .max = 8,
         .help = "bits per weight"},
        {.name = "mode",
         .type = ParamSpec::Type::kChoice,
         .default_value = "symmetric",
         .choices = {"symmetric", "asymmetric"},
         .help = "symmetric: zero is the code 0; asymmetric: the codes span "
                 "the weights' range, with a zero-point of 8 bits"},
        GranularityParam("channel"),
        GroupParam("64"),
    };
    return params;
  }

  absl::StatusOr<CodeFormat> Format(int64_t, int64_t, DType dtype,
                                    const ParamValues& params) const override {
    ASSIGN_OR_RETURN(const Settings settings, SettingsOf(*this, params));
    const DType scale = ScaleDType(dtype);
    CodeFormat format = {.kind = CodeFormat::Kind::kSigned,
                         .bits = settings.bits,
                         .element = kElements[settings.bits - 2],
                         .fields = {{.name = "scale",
                                     .type = FieldType(scale),
                                     .bits = 8 * SizeOf(scale),
                                     .reach = settings.reach}},
                         .rule = {.scale = {.field = 0}}};
    if (!settings.symmetric) {
      format.fields.push_back({.name = "zero",
                               .type = CodeField::Type::kSigned,
                               .bits = 8,
                               .reach = settings.reach});
      format.rule.zero = {.field = 1};
    }
    return format;
  }
  absl::StatusOr<std::unique_ptr<const CodeRows>> Encode(
      const FloatRows& weight, const ParamValues& params) const override {
    ASSIGN_OR_RETURN(CodeFormat format, Format(weight.rows(), weight.cols(),
                                               weight.dtype(), params));
    ASSIGN_OR_RETURN(const Settings settings, SettingsOf(*this, params));
    std::optional<Pair> of_all;
    if (params.at("granularity") == "tensor") {
      ASSIGN_OR_RETURN(of_all, PairOfAll(weight, settings));
    }
    return std::make_unique<const LinearRows>(weight, std::move(format),
                                              settings, of_all);
  }
};

}  // namespace

const QuantMethod& LinearMethod() {
  static const Linear method;
  return method;
}

}  // namespace ounce::quant
