// The 4-bit codes of bitsandbytes: a table of 16 levels from -1 to 1, times the
// largest magnitude (absmax) of a block. Blocks run over the matrix read row by
// row, across the ends of rows; the last may be shorter.
//
//   v = w * (1 / absmax), clamped to -1 .. 1;  the code is the level next to v;
//   w ~ level * absmax
//
// all in float32. The thresholds between levels are those of the reference's
// kernel, to the digit, and a value on one goes to the level nearer to -1
// (nf4) or to 0 (fp4).
//
// Double quantization stores each absmax in 8 bits: with `offset`, the mean of
// all of the matrix (summed in float64, rounded once), in runs of 256,
//
//   largest = max |absmax - offset|;  the index is that of the entry of a map
//   of 256 next to (absmax - offset) / largest, the lower of two; absmax ~
//   map[index] * largest + offset
//
// Codes are made with the absmax that there was before.
#include <algorithm>
#include <array>
#include <cmath>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/status_macros.h"
#include "quant/encode_rows.h"
#include "quant/quant_method.h"

namespace ounce::quant {
namespace {

constexpr int64_t kNestedBlock = 256;
// Of quant_map and nested_quant_map, 16 and 256 levels in float32.
constexpr int64_t kQuantMapBytes = 64, kNestedMapBytes = 1024;

// Signed, dense around zero: in each of seven decades up to 1, 2^i means of
// neighbours among 2^i + 1 points from 0.1 to 1 of it; and 0, and 1 itself.
const std::array<float, 256>& DynamicMap() {
  static const std::array<float, 256> kMap = [] {
    std::array<float, 256> map = {0, 1};
    size_t size = 2;
    for (int i = 0; i < 7; ++i) {
      const int count = 1 << i;
      const float step = (1 - 0.1f) / static_cast<float>(count);
      const auto point = [&](int k) {
        // To the bit as torch.linspace, on CPUs with fused multiply-adds.
        return 2 * k < count + 1
                   ? std::fma(step, static_cast<float>(k), 0.1f)
                   : std::fma(-step, static_cast<float>(count - k), 1.0f);
      };
      const auto decade = static_cast<float>(std::pow(10.0, i - 6));
      for (int k = 0; k < count; ++k) {
        const float mean = decade * ((point(k) + point(k + 1)) / 2);
        map[size++] = mean;
        map[size++] = -mean;
      }
    }
    std::sort(map.begin(), map.end());
    return map;
  }();
  return kMap;
}

uint8_t NearestInMap(float value) {
  const std::array<float, 256>& map = DynamicMap();
  const auto above = std::lower_bound(map.begin(), map.end(), value);
  if (above == map.begin()) return 0;
  const auto below = above - 1;
  const bool upper = above != map.end() && *above - value < value - *below;
  return static_cast<uint8_t>((upper ? above : below) - map.begin());
}

struct Nf4 {
  static constexpr std::string_view kName = "bnb-nf4";
  static constexpr std::string_view kElement = "nf4";
  static constexpr std::string_view kSummary =
      "bitsandbytes' NF4: 16 levels that fit a normal distribution, times the "
      "largest magnitude of a block.";
  static constexpr float kLevels[] = {-1.0f,
                                      -0.6961928009986877f,
                                      -0.5250730514526367f,
                                      -0.39491748809814453f,
                                      -0.28444138169288635f,
                                      -0.18477343022823334f,
                                      -0.09105003625154495f,
                                      0.0f,
                                      0.07958029955625534f,
                                      0.16093020141124725f,
                                      0.24611230194568634f,
                                      0.33791524171829224f,
                                      0.44070982933044434f,
                                      0.5626170039176941f,
                                      0.7229568362236023f,
                                      1.0f};
  static constexpr float kThresholds[] = {
      -0.8480964004993439f,   -0.6106329262256622f,  -0.4599952697753906f,
      -0.33967943489551544f,  -0.23460740596055984f, -0.13791173323988914f,
      -0.045525018125772476f, 0.03979014977812767f,  0.1202552504837513f,
      0.2035212516784668f,    0.2920137718319893f,   0.3893125355243683f,
      0.5016634166240692f,    0.6427869200706482f,   0.8614784181118011f};

  static uint8_t CodeOf(float v) {
    int code = 0;
    for (const float threshold : kThresholds) code += v > threshold ? 1 : 0;
    return static_cast<uint8_t>(code);
  }
};

// Sign, two bits of exponent, one of mantissa; the smallest magnitude is
// subnormal.
struct Fp4 {
  static constexpr std::string_view kName = "bnb-fp4";
  static constexpr std::string_view kElement = "fp4";
  static constexpr std::string_view kSummary =
      "bitsandbytes' FP4: floats of 4 bits, times the largest magnitude of a "
      "block.";
  static constexpr float kLevels[] = {
      0.0f,       0.0625f / 12,  8.0f / 12,  1.0f,
      4.0f / 12,  6.0f / 12,     2.0f / 12,  3.0f / 12,
      -0.0f,      -0.0625f / 12, -8.0f / 12, -1.0f,
      -4.0f / 12, -6.0f / 12,    -2.0f / 12, -3.0f / 12};
  // Between magnitudes.
  static constexpr float kThresholds[] = {0.00260417f, 0.0859375f, 0.20833333f,
                                          0.29166667f, 0.4166667f, 0.583333f,
                                          0.8333333f};

  static uint8_t CodeOf(float v) {
    constexpr uint8_t kByRank[] = {0, 1, 6, 7, 4, 5, 2, 3};
    const float magnitude = std::abs(v);
    int rank = 0;
    for (const float threshold : kThresholds) {
      rank += magnitude > threshold ? 1 : 0;
    }
    return static_cast<uint8_t>(kByRank[rank] | (v < 0 ? 8 : 0));
  }
};

// What a first pass over the matrix finds.
struct Scales {
  std::vector<float> absmax;  // by block
  // Of double quantization.
  std::vector<uint8_t> indexes;  // by block
  std::vector<float> largest;    // by 256 blocks
  float offset = 0;
};

void QuantizeScales(Scales& scales) {
  const std::vector<float>& absmax = scales.absmax;
  double sum = 0;
  for (const float value : absmax) sum += value;
  scales.offset = static_cast<float>(sum / static_cast<double>(absmax.size()));
  scales.indexes.resize(absmax.size());
  for (size_t first = 0; first < absmax.size(); first += kNestedBlock) {
    const size_t end = std::min<size_t>(absmax.size(), first + kNestedBlock);
    float largest = 0;
    for (size_t i = first; i < end; ++i) {
      largest = std::max(largest, std::abs(absmax[i] - scales.offset));
    }
    scales.largest.push_back(largest);
    for (size_t i = first; i < end; ++i) {
      const float difference = absmax[i] - scales.offset;
      scales.indexes[i] =
          NearestInMap(largest > 0 ? difference / largest : 0.0f);
    }
  }
}

template <class Code>
class Blocks final : public EncodedRows {
 public:
  Blocks(const FloatRows& weight, CodeFormat format, Reach block, Scales scales)
      : EncodedRows(weight, std::move(format)),
        block_(block),
        scales_(std::move(scales)) {}

 private:
  absl::Status EncodeRow(int64_t row, const float* values, std::byte* codes,
                         CodeBand& out) const override {
    for (int64_t col = 0; col < cols();) {
      const int64_t end = block_.EndOf(row, col, cols());
      const int64_t block = block_.IndexOf(row, col, cols());
      out.fields[0].Set(block,
                        scales_.indexes.empty()
                            ? scales_.absmax[block]
                            : static_cast<float>(scales_.indexes[block]));
      if (!scales_.indexes.empty()) {
        const int64_t run = block / kNestedBlock;
        out.fields[1].Set(run, scales_.largest[run]);
        out.fields[2].Set(0, scales_.offset);
      }
      // As the reference does, so that a block of zeros has no reciprocal that
      // is infinite.
      const float reciprocal = 1 / std::max(scales_.absmax[block], 1e-38f);
      for (; col < end; ++col) {
        codes[col] = std::byte{
            Code::CodeOf(std::clamp(values[col] * reciprocal, -1.0f, 1.0f))};
      }
    }
    return absl::OkStatus();
  }

  const Reach block_;
  const Scales scales_;
};

template <class Code>
class Bnb4Bit final : public QuantMethod {
 public:
  std::string_view name() const override { return Code::kName; }
  std::string_view summary() const override { return Code::kSummary; }
  absl::Span<const ParamSpec> params() const override {
    static const std::vector<ParamSpec> params = {
        {.name = "block",
         .type = ParamSpec::Type::kChoice,
         .default_value = "64",
         .choices = {"64", "128", "256", "512", "1024", "2048", "4096"},
         .help =
             "weights that share a scale, counted along the rows and across "
             "their ends"},
        {.name = "double_quant",
         .type = ParamSpec::Type::kBoolean,
         .default_value = "false",
         .help = "scales in 8 bits, with a float32 for each 256 of them"}};
    return params;
  }

  absl::StatusOr<CodeFormat> Format(int64_t rows, int64_t cols, DType,
                                    const ParamValues& params) const override {
    const int64_t block = IntegerOf(params, "block");
    CodeFormat format = {
        .kind = CodeFormat::Kind::kUnsigned,
        .bits = 4,
        .element = Code::kElement,
        .tables = Code::kLevels,
        .fields = {{.name = "absmax", .reach = Reach::Flat(block)}},
        .rule = {.scale = {.field = 0}},
        .constant_bytes = kQuantMapBytes};
    if (BooleanOf(params, "double_quant")) {
      format.fields = {
          {.name = "absmax",
           .type = CodeField::Type::kUnsigned,
           .bits = 8,
           .reach = Reach::Flat(block)},
          {.name = "nested_absmax", .reach = Reach::Flat(block * kNestedBlock)},
          {.name = "nested_offset"}};
      format.rule.scale = {
          .field = 0, .map = DynamicMap(), .times = 1, .plus = 2};
      // A file has the offset in quant_state, a text that nobody counts.
      format.constant_bytes +=
          kNestedMapBytes - format.fields[2].Bytes(rows, cols);
    }
    return format;
  }

  absl::StatusOr<std::unique_ptr<const CodeRows>> Encode(
      const FloatRows& weight, const ParamValues& params) const override {
    ASSIGN_OR_RETURN(CodeFormat format, Format(weight.rows(), weight.cols(),
                                               weight.dtype(), params));
    const Reach block = Reach::Flat(IntegerOf(params, "block"));
    Scales scales;
    ASSIGN_OR_RETURN(scales.absmax, LargestMagnitudes(weight, block));
    if (BooleanOf(params, "double_quant")) QuantizeScales(scales);
    return std::make_unique<const Blocks<Code>>(weight, std::move(format),
                                                block, std::move(scales));
  }
};

}  // namespace

const QuantMethod& BnbNf4Method() {
  static const Bnb4Bit<Nf4> method;
  return method;
}

const QuantMethod& BnbFp4Method() {
  static const Bnb4Bit<Fp4> method;
  return method;
}

}  // namespace ounce::quant
