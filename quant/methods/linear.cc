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
//
// The range may leave weights out, which are clamped to its ends: those beyond
// a percentile (percentile.h; none where only zeros would be within), or those
// without which the squared error is least, of ranges that are 1, 0.98, 0.96
// ... 0.22 of the whole one.
//
// Scale and zero-point of a tensor may also be given, or drawn: the scale from
// 1/16 to 16 times the computed one, evenly in its logarithm, the zero-point
// evenly from qmin to qmax, by a generator seeded with the seed and the
// tensor's name. They show what the choice of a pair is worth.
#include <algorithm>
#include <array>
#include <cmath>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/cpu.h"
#include "base/status_macros.h"
#include "base/str_cat.h"
#include "quant/encode_rows.h"
#include "quant/granularity.h"
#include "quant/percentile.h"
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

struct Pair {
  float scale = 1;
  float zero = 0;
};

enum class Range { kAll, kPercentile, kLeastSquares };

struct Settings {
  int bits = 8;
  bool symmetric = true;
  Reach reach = Reach::Row();
  DType dtype = DType::kF32;  // of the scale
  Range range = Range::kAll;
  double percentile = 100;
  std::optional<Pair> given;
  std::optional<int64_t> seed;  // of a drawn pair

  float qmin() const { return static_cast<float>(-(1 << (bits - 1))); }
  float qmax() const { return static_cast<float>((1 << (bits - 1)) - 1); }
  bool is_computed() const { return !given.has_value() && !seed.has_value(); }
};

constexpr std::string_view kPercentile = "99.9";

absl::Status Contradiction(std::string_view param, std::string_view needed) {
  return absl::InvalidArgumentError(
      StrCat("parameter '", param, "' of method 'linear' is for ", needed,
             "; add that, or leave '", param, "' out"));
}

// Of a pair that does not follow from the weights.
absl::Status SetPair(const ParamValues& params, Settings& settings) {
  const double scale = NumberOf(params, "scale");
  const int64_t zero = IntegerOf(params, "zero");
  const int64_t seed = IntegerOf(params, "seed");
  if (zero != 0 && scale == 0) return Contradiction("zero", "a given scale");
  if (scale == 0 && seed < 0) return absl::OkStatus();
  const std::string_view param = scale > 0 ? "scale" : "seed";
  if (settings.reach.rows != Reach::kAll) {
    return Contradiction(param, "granularity=tensor");
  }
  if (settings.range != Range::kAll) {
    return Contradiction(param, "range=absmax");
  }
  if (seed >= 0) {
    if (scale > 0) return Contradiction("seed", "a scale that is not given");
    settings.seed = seed;
    return absl::OkStatus();
  }
  if (zero != 0 && settings.symmetric) {
    return Contradiction("zero", "mode=asymmetric");
  }
  const Pair pair = {RoundTo(settings.dtype, static_cast<float>(scale)),
                     static_cast<float>(zero)};
  if (pair.scale == 0 || !std::isfinite(pair.scale)) {
    return absl::InvalidArgumentError(StrCat(
        "parameter 'scale' of method 'linear' must fit ", Name(settings.dtype),
        ", in which the checkpoint has the "
        "weights, is ",
        scale));
  }
  if (pair.zero < settings.qmin() || pair.zero > settings.qmax()) {
    return absl::InvalidArgumentError(StrCat(
        "parameter 'zero' of method 'linear' must be from ", settings.qmin(),
        " to ", settings.qmax(), " with bits=", settings.bits, ", is ", zero));
  }
  settings.given = pair;
  return absl::OkStatus();
}

absl::StatusOr<Settings> SettingsOf(const QuantMethod& method, DType dtype,
                                    const ParamValues& params) {
  Settings settings;
  settings.bits = static_cast<int>(IntegerOf(params, "bits"));
  settings.symmetric = params.at("mode") == "symmetric";
  ASSIGN_OR_RETURN(settings.reach, ReachOf(method, params));
  settings.dtype = ScaleDType(dtype);
  const std::string& range = params.at("range");
  settings.range = range == "absmax"       ? Range::kAll
                   : range == "percentile" ? Range::kPercentile
                                           : Range::kLeastSquares;
  settings.percentile = NumberOf(params, "percentile");
  if (settings.range != Range::kPercentile &&
      params.at("percentile") != kPercentile) {
    return Contradiction("percentile", "range=percentile");
  }
  RETURN_IF_ERROR(SetPair(params, settings));
  return settings;
}

// Of weights in such a range.
Pair PairOf(const Settings& settings, const Extent& extent) {
  const float qmin = settings.qmin(), qmax = settings.qmax();
  const auto [min, max] = extent;
  if (settings.symmetric) {
    return {ScaleOf(0, std::max(-min, max), qmax, qmax + 0.5f, settings.dtype),
            0};
  }
  Pair pair;
  if (max == min) return pair;
  // bfloat16 may round a scale down by a 512th, which makes up to half a step
  // of 255.
  const float steps = qmax - qmin;
  pair.scale =
      ScaleOf(min, max, steps, steps * (1 + 0x1p-8f) + 0.5f, settings.dtype);
  pair.zero = std::clamp(RoundToInteger(qmin - min / pair.scale), qmin, qmax);
  return pair;
}

inline float CodeOf(float least, float most, const Pair& pair, float value) {
  // Divided in float32, not in the checkpoint's dtype as other implementations
  // do: a quotient rounded to 11 or 8 bits first may land on the wrong integer,
  // and |w - q s| <= s / 2 would not hold.
  const float code = value / pair.scale + pair.zero;
  // A given scale may be as small as it likes.
  return RoundToInteger(std::min(std::max(code, least), most));
}
float CodeOf(const Settings& settings, const Pair& pair, float value) {
  return CodeOf(settings.qmin(), settings.qmax(), pair, value);
}

// Numbers by value: no store changes what codes are made with, so that
// compilers make several at once.
using EncodeRun = void(float least, float most, Pair pair, const float* values,
                       int64_t count, std::byte* codes);
__attribute__((always_inline)) inline void EncodeAny(float least, float most,
                                                     const Pair pair,
                                                     const float* values,
                                                     int64_t count,
                                                     std::byte* codes) {
  for (int64_t i = 0; i < count; ++i) {
    const float code = CodeOf(least, most, pair, values[i]);
    codes[i] = static_cast<std::byte>(static_cast<int32_t>(code));
  }
}
// (Functions of one file need no namespace per instruction set.)
void EncodePortable(float least, float most, Pair pair, const float* values,
                    int64_t count, std::byte* codes) {
  EncodeAny(least, most, pair, values, count, codes);
}
__attribute__((target("avx2"))) void EncodeAvx2(float least, float most,
                                                Pair pair, const float* values,
                                                int64_t count,
                                                std::byte* codes) {
  EncodeAny(least, most, pair, values, count, codes);
}

// What makes the squared error least, of parts of a range.
constexpr int kTrials = 40;

std::array<Pair, kTrials> Trials(const Settings& settings,
                                 const Extent& extent) {
  std::array<Pair, kTrials> pairs;
  for (int i = 0; i < kTrials; ++i) {
    const float part = 1 - 0.02f * static_cast<float>(i);
    pairs[i] =
        PairOf(settings, {.min = part * extent.min, .max = part * extent.max});
  }
  return pairs;
}

double SquaredError(const Settings& settings, const Pair& pair,
                    const float* values, int64_t count) {
  // Sums that do not wait for each other.
  constexpr int64_t kLanes = 8;
  float sums[kLanes] = {};
  double sum = 0;
  const auto add = [&](float value, int64_t lane) {
    const float found =
        pair.scale * (CodeOf(settings, pair, value) - pair.zero);
    sums[lane] += (value - found) * (value - found);
  };
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    for (int64_t lane = 0; lane < kLanes; ++lane) add(values[i + lane], lane);
  }
  for (int64_t lane = 0; i < count; ++i, ++lane) add(values[i], lane);
  for (const float part : sums) sum += part;
  return sum;
}

Pair BestOf(const std::array<Pair, kTrials>& pairs,
            const std::array<double, kTrials>& errors) {
  return pairs[std::min_element(errors.begin(), errors.end()) - errors.begin()];
}

RangeSides SidesOf(const Settings& settings) {
  return settings.symmetric ? RangeSides::kSymmetric : RangeSides::kBothSides;
}

bool IsEmpty(const Extent& extent) { return extent.max == extent.min; }

Pair PairOfRun(const Settings& settings, const float* values, int64_t count) {
  const Extent extent = ExtentOf(values, count);
  if (settings.range == Range::kPercentile) {
    const Extent within =
        PercentileOf(values, count, settings.percentile, SidesOf(settings));
    return PairOf(settings, IsEmpty(within) ? extent : within);
  }
  if (settings.range == Range::kAll) return PairOf(settings, extent);
  const std::array<Pair, kTrials> pairs = Trials(settings, extent);
  std::array<double, kTrials> errors;
  for (int i = 0; i < kTrials; ++i) {
    errors[i] = SquaredError(settings, pairs[i], values, count);
  }
  return BestOf(pairs, errors);
}

absl::StatusOr<Pair> ComputedPairOfAll(const FloatRows& weight,
                                       const Settings& settings) {
  if (settings.range == Range::kPercentile) {
    ASSIGN_OR_RETURN(
        const Extent within,
        PercentileOf(weight, settings.percentile, SidesOf(settings)));
    if (!IsEmpty(within)) return PairOf(settings, within);
  }
  Extent extent;
  RETURN_IF_ERROR(ForEachRow(weight, [&](int64_t, const float* values) {
    const Extent of_row = ExtentOf(values, weight.cols());
    extent.min = std::min(extent.min, of_row.min);
    extent.max = std::max(extent.max, of_row.max);
  }));
  if (settings.range != Range::kLeastSquares) return PairOf(settings, extent);
  const std::array<Pair, kTrials> pairs = Trials(settings, extent);
  std::array<double, kTrials> errors = {};
  RETURN_IF_ERROR(ForEachRow(weight, [&](int64_t, const float* values) {
    for (int i = 0; i < kTrials; ++i) {
      errors[i] += SquaredError(settings, pairs[i], values, weight.cols());
    }
  }));
  return BestOf(pairs, errors);
}

// The next of a sequence of evenly distributed numbers (splitmix64).
uint64_t NextRandom(uint64_t& state) {
  uint64_t z = (state += 0x9E3779B97F4A7C15);
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
  return z ^ (z >> 31);
}

Pair DrawnPair(const Settings& settings, const std::string& name,
               const Pair& computed) {
  uint64_t state = 0xCBF29CE484222325;  // FNV-1a of the name
  for (const char c : name) {
    state = (state ^ static_cast<uint8_t>(c)) * 0x100000001B3;
  }
  state ^= static_cast<uint64_t>(*settings.seed);
  const double even = static_cast<double>(NextRandom(state) >> 11) * 0x1p-53;
  Pair pair;
  pair.scale =
      RoundTo(settings.dtype,
              static_cast<float>(computed.scale * std::exp2(8 * even - 4)));
  // Among the smallest and largest numbers there is no room to draw from.
  if (pair.scale == 0 || !std::isfinite(pair.scale)) {
    pair.scale = computed.scale;
  }
  if (!settings.symmetric) {
    const uint64_t levels = uint64_t{1} << settings.bits;
    pair.zero =
        settings.qmin() + static_cast<float>(NextRandom(state) % levels);
  }
  return pair;
}

absl::StatusOr<Pair> PairOfAll(const FloatRows& weight,
                               const Settings& settings) {
  if (settings.given.has_value()) return *settings.given;
  ASSIGN_OR_RETURN(const Pair pair, ComputedPairOfAll(weight, settings));
  if (!settings.seed.has_value()) return pair;
  return DrawnPair(settings, weight.name(), pair);
}

class LinearRows final : public EncodedRows {
 public:
  // `of_all`: what all weights share, if they do.
  LinearRows(const FloatRows& weight, CodeFormat format,
             const Settings& settings, const std::optional<Pair>& of_all)
      : EncodedRows(weight, std::move(format)),
        settings_(settings),
        of_all_(of_all) {}

 private:
  absl::Status EncodeRow(int64_t row, const float* values, std::byte* codes,
                         CodeBand& out) const override {
    const Reach reach = settings_.reach;
    for (int64_t col = 0; col < cols();) {
      const int64_t end = reach.EndOf(row, col, cols());
      const Pair pair = of_all_.has_value()
                            ? *of_all_
                            : PairOfRun(settings_, values + col, end - col);
      const int64_t index = reach.IndexOf(row, col, cols());
      out.fields[0].Set(index, pair.scale);
      if (!settings_.symmetric) out.fields[1].Set(index, pair.zero);
      encode_(settings_.qmin(), settings_.qmax(), pair, values + col, end - col,
              codes + col);
      col = end;
    }
    return absl::OkStatus();
  }

  const Settings settings_;
  const std::optional<Pair> of_all_;
  EncodeRun* const encode_ =
      BestIsa() >= Isa::kAvx2 ? EncodeAvx2 : EncodePortable;
};

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
        {.name = "range",
         .type = ParamSpec::Type::kChoice,
         .default_value = "absmax",
         .choices = {"absmax", "percentile", "mse"},
         .help = "which weights the codes reach: all; all but those beyond a "
                 "percentile; or those that make the squared error least"},
        {.name = "percentile",
         .type = ParamSpec::Type::kNumber,
         .default_value = kPercentile,
         .lowest = 50,
         .highest = 100,
         .help = "percent of the weights that the codes reach; only with "
                 "range=percentile"},
        {.name = "scale",
         .type = ParamSpec::Type::kNumber,
         .default_value = "0",
         .lowest = 0,
         .highest = 1e30,
         .help = "the scale of each tensor, whatever its weights are; 0: "
                 "computed; only with granularity=tensor"},
        {.name = "zero",
         .type = ParamSpec::Type::kInteger,
         .default_value = "0",
         .min = -128,
         .max = 127,
         .help = "the zero-point beside a given scale; only with "
                 "mode=asymmetric"},
        {.name = "seed",
         .type = ParamSpec::Type::kInteger,
         .default_value = "-1",
         .min = -1,
         .max = INT32_MAX,
         .help = "draws each tensor's scale and zero-point at random; -1: "
                 "computed; only with granularity=tensor"},
    };
    return params;
  }

  absl::StatusOr<CodeFormat> Format(int64_t, int64_t, DType dtype,
                                    const ParamValues& params) const override {
    ASSIGN_OR_RETURN(const Settings settings, SettingsOf(*this, dtype, params));
    const DType scale = settings.dtype;
    CodeFormat format = {.kind = CodeFormat::Kind::kSigned,
                         .bits = settings.bits,
                         .element = kElements[settings.bits - 2],
                         .fields = {{.name = "scale",
                                     .type = FieldType(scale),
                                     .bits = 8 * SizeOf(scale),
                                     .reach = settings.reach}},
                         .rule = {.scale = {.field = 0}}};
    format.clamps = settings.range != Range::kAll || !settings.is_computed();
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
    ASSIGN_OR_RETURN(const Settings settings,
                     SettingsOf(*this, weight.dtype(), params));
    std::optional<Pair> of_all;
    if (params.at("granularity") == "tensor") {
      ASSIGN_OR_RETURN(of_all, PairOfAll(weight, settings));
    }
    return std::make_unique<const LinearRows>(weight, std::move(format),
                                              settings, of_all);
  }

  std::optional<ParamValues> Computed(
      const ParamValues& params) const override {
    if (NumberOf(params, "scale") == 0 && IntegerOf(params, "seed") < 0) {
      return std::nullopt;
    }
    ParamValues computed = params;
    for (const ParamSpec& param : this->params()) {
      if (param.name == "scale" || param.name == "zero" ||
          param.name == "seed") {
        computed[std::string(param.name)] = std::string(param.default_value);
      }
    }
    return computed;
  }
};

}  // namespace

const QuantMethod& LinearMethod() {
  static const Linear method;
  return method;
}

}  // namespace ounce::quant
