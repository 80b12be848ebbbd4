// The 8-bit floats of the OCP's specification, times a scale of an output
// channel or of a block of 128 rows and 128 columns:
//
//   s = max|w| / largest, 1 for zeros;  code = round(w / s);  w ~ s * code
//
//   e4m3  4 bits of exponent, 3 of mantissa, no infinity: up to 448
//   e5m2  5 bits and 2: up to 57344
//
// s is a float32, no less than its smallest normal number. Rounding is to
// nearest even and saturates.
#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <memory>
#include <utility>
#include <vector>

#include "base/status_macros.h"
#include "quant/encode_rows.h"
#include "quant/quant_method.h"

namespace ounce::quant {
namespace {

struct E4m3 {
  static constexpr std::string_view kElement = "float8_e4m3";
  static constexpr int kMantissa = 3;
  static constexpr int kBias = 7;
  static constexpr int kLargestCode = 0x7E;
};

struct E5m2 {
  static constexpr std::string_view kElement = "float8_e5m2";
  static constexpr int kMantissa = 2;
  static constexpr int kBias = 15;
  static constexpr int kLargestCode = 0x7B;
};

constexpr float PowerOfTwo(int exponent) {
  return std::bit_cast<float>(static_cast<uint32_t>(exponent + 127) << 23);
}

// Levels by code; infinities and NaN, which are never made, as NaN.
template <class Format>
constexpr std::array<float, 256> MakeLevels() {
  std::array<float, 256> levels = {};
  for (int code = 0; code < 256; ++code) {
    const int magnitude = code & 0x7F;
    const int exponent = magnitude >> Format::kMantissa;
    const int mantissa = magnitude & ((1 << Format::kMantissa) - 1);
    float level = std::numeric_limits<float>::quiet_NaN();
    if (magnitude <= Format::kLargestCode) {
      level =
          static_cast<float>(
              exponent == 0 ? mantissa : mantissa + (1 << Format::kMantissa)) *
          PowerOfTwo(std::max(exponent, 1) - Format::kBias - Format::kMantissa);
    }
    levels[code] = code < 128 ? level : -level;
  }
  return levels;
}

template <class Format>
constexpr std::array<float, 256> kLevels = MakeLevels<Format>();

template <class Format>
constexpr float kLargest = kLevels<Format>[Format::kLargestCode];

template <class Format>
uint8_t CodeOf(float value) {
  constexpr int kDropped = 23 - Format::kMantissa;
  constexpr uint32_t kBiases = static_cast<uint32_t>(127 - Format::kBias)
                               << Format::kMantissa;
  const float magnitude = std::min(std::abs(value), kLargest<Format>);
  const auto bits = std::bit_cast<uint32_t>(magnitude);
  const uint32_t half = (1u << (kDropped - 1)) - 1;
  const uint32_t normal =
      ((bits + half + ((bits >> kDropped) & 1)) >> kDropped) - kBiases;
  const auto subnormal = static_cast<uint32_t>(RoundToInteger(
      magnitude * PowerOfTwo(Format::kBias + Format::kMantissa - 1)));
  const uint32_t code =
      magnitude < PowerOfTwo(1 - Format::kBias) ? subnormal : normal;
  return static_cast<uint8_t>(code | (std::signbit(value) ? 0x80 : 0));
}

template <class Format>
class Float8Rows final : public EncodedRows {
 public:
  // `largest`: by the scale, of scales that reach over several rows.
  Float8Rows(const FloatRows& weight, CodeFormat format,
             std::vector<float> largest)
      : EncodedRows(weight, std::move(format)), largest_(std::move(largest)) {}

 private:
  absl::Status EncodeRow(int64_t row, const float* values, std::byte* codes,
                         CodeBand& out) const override {
    const Reach& reach = format().fields[0].reach;
    for (int64_t col = 0; col < cols();) {
      const int64_t end = reach.EndOf(row, col, cols());
      const int64_t index = reach.IndexOf(row, col, cols());
      const float largest = largest_.empty()
                                ? LargestMagnitude(values + col, end - col)
                                : largest_[index];
      const float scale = largest == 0
                              ? 1
                              : std::max(largest / kLargest<Format>,
                                         std::numeric_limits<float>::min());
      out.fields[0].Set(index, scale);
      for (; col < end; ++col) {
        codes[col] = std::byte{CodeOf<Format>(values[col] / scale)};
      }
    }
    return absl::OkStatus();
  }

  const std::vector<float> largest_;
};

class Float8 final : public QuantMethod {
 public:
  std::string_view name() const override { return "float8"; }
  std::string_view summary() const override {
    return "8-bit floats, e4m3 or e5m2, with a scale of an output channel or "
           "a block of 128 by 128.";
  }
  absl::Span<const ParamSpec> params() const override {
    static const std::vector<ParamSpec> params = {
        {.name = "format",
         .type = ParamSpec::Type::kChoice,
         .default_value = "e4m3",
         .choices = {"e4m3", "e5m2"},
         .help = "e4m3: 3 bits of mantissa; e5m2: 2, and a wider range"},
        {.name = "granularity",
         .type = ParamSpec::Type::kChoice,
         .default_value = "channel",
         .choices = {"channel", "block"},
         .help = "what shares a scale: an output channel, or 128 by 128 "
                 "weights"}};
    return params;
  }

  absl::StatusOr<CodeFormat> Format(int64_t, int64_t, DType,
                                    const ParamValues& params) const override {
    constexpr Reach kBlock = {.rows = 128, .cols = 128};
    const bool e4m3 = params.at("format") == "e4m3";
    return CodeFormat{.kind = CodeFormat::Kind::kUnsigned,
                      .bits = 8,
                      .element = e4m3 ? E4m3::kElement : E5m2::kElement,
                      .tables = e4m3 ? kLevels<E4m3> : kLevels<E5m2>,
                      .fields = {{.name = "scale",
                                  .reach = params.at("granularity") == "block"
                                               ? kBlock
                                               : Reach::Row()}},
                      .rule = {.scale = {.field = 0}}};
  }

  absl::StatusOr<std::unique_ptr<const CodeRows>> Encode(
      const FloatRows& weight, const ParamValues& params) const override {
    ASSIGN_OR_RETURN(CodeFormat format, Format(weight.rows(), weight.cols(),
                                               weight.dtype(), params));
    const Reach reach = format.fields[0].reach;
    std::vector<float> largest;
    if (reach.rows > 1) {
      ASSIGN_OR_RETURN(largest, LargestMagnitudes(weight, reach));
    }
    if (params.at("format") == "e4m3") {
      return std::make_unique<const Float8Rows<E4m3>>(weight, std::move(format),
                                                      std::move(largest));
    }
    return std::make_unique<const Float8Rows<E5m2>>(weight, std::move(format),
                                                    std::move(largest));
  }
};

}  // namespace

const QuantMethod& Float8Method() {
  static const Float8 method;
  return method;
}

}  // namespace ounce::quant
