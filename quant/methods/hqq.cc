// Half-quadratic quantization: integers of 1 to 8 bits with a scale and a
// zero-point that is a float, for each group of columns of a row. The scale is
// that of the range, s = (max - min) / qmax, and stays; the zero-point is moved
// so that the error's p-norm, p = 0.7, becomes small without its few largest
// parts, which `e` takes up:
//
//   q = round(w / s + z), clamped to 0 .. qmax;  d = w - s * (q - z)
//   e = sign(d) * max(0, |d| - |d|^(p - 1) / 10);  z = mean(q - (w - e) / s)
//
// up to 20 times, and no more once the mean |d| of the whole matrix has stopped
// to fall, as the reference (the package hqq, its default optimizer) does. How
// often that is a first pass finds; then each group is encoded by itself.
//
// 1 / s is at most 20,000, and 1 where the range is 1e-4 or less. s and z are
// stored in float16; codes are made before they are rounded. Where a group lies
// so far from zero that z would not fit, s is larger.
#include <algorithm>
#include <array>
#include <cmath>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/status_macros.h"
#include "quant/encode_rows.h"
#include "quant/granularity.h"
#include "quant/quant_method.h"

namespace ounce::quant {
namespace {

constexpr int kMostTurns = 20;
constexpr float kNorm = 0.7f;
constexpr float kBeta = 10;

struct Pair {
  float inverse = 1;  // of the scale
  float zero = 0;
};

Pair PairOfRange(const float* values, int64_t count, float qmax) {
  float min = values[0], max = values[0];
  for (int64_t i = 1; i < count; ++i) {
    min = std::min(values[i], min);
    max = std::max(values[i], max);
  }
  constexpr float kLargestZero = 60000;  // and some room below float16's 65504
  const float range = max - min;
  Pair pair;
  if (range > 1e-4f) pair.inverse = std::min(qmax / range, 2e4f);
  pair.inverse = std::min(
      pair.inverse, kLargestZero / std::max(std::abs(min), std::abs(max)));
  pair.zero = -min * pair.inverse;
  return pair;
}

float CodeOf(float w, const Pair& pair, float qmax) {
  const float code = w * pair.inverse + pair.zero;
  return RoundToInteger(std::min(std::max(code, 0.0f), qmax));
}

// What is left of an error.
float Shrunk(float d) {
  const float magnitude = std::abs(d);
  const float left = magnitude - std::pow(magnitude, kNorm - 1) / kBeta;
  return left > 0 ? std::copysign(left, d) : 0;
}

// Moves the zero-point once; returns the sum of |d| before.
float Turn(const float* values, int64_t count, float qmax, Pair& pair) {
  // |d| below which Shrunk is zero, and a little less.
  constexpr float kAllShrinks = 0.17f;
  // Sums that do not wait for each other.
  constexpr int64_t kLanes = 8;
  float errors[kLanes] = {}, zeros[kLanes] = {}, largest[kLanes] = {};
  const auto add = [&](float w, int64_t lane) {
    const float code = CodeOf(w, pair, qmax);
    const float magnitude = std::abs(w - (code - pair.zero) / pair.inverse);
    errors[lane] += magnitude;
    largest[lane] = std::max(largest[lane], magnitude);
    zeros[lane] += code - w * pair.inverse;
  };
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    for (int64_t lane = 0; lane < kLanes; ++lane) add(values[i + lane], lane);
  }
  for (int64_t lane = 0; i < count; ++i, ++lane) add(values[i], lane);
  float error = 0, zero = 0;
  for (int64_t lane = 0; lane < kLanes; ++lane) {
    error += errors[lane];
    zero += zeros[lane];
  }
  if (*std::max_element(largest, largest + kLanes) > kAllShrinks) {
    for (int64_t i = 0; i < count; ++i) {
      const float code = CodeOf(values[i], pair, qmax);
      zero +=
          Shrunk(values[i] - (code - pair.zero) / pair.inverse) * pair.inverse;
    }
  }
  pair.zero = zero / static_cast<float>(count);
  return error;
}

class HqqRows final : public EncodedRows {
 public:
  HqqRows(const FloatRows& weight, CodeFormat format, int turns)
      : EncodedRows(weight, std::move(format)), turns_(turns) {}

 private:
  absl::Status EncodeRow(int64_t row, const float* values, std::byte* codes,
                         CodeBand& out) const override {
    const Reach& reach = format().fields[0].reach;
    const auto qmax = static_cast<float>((1 << format().bits) - 1);
    for (int64_t col = 0; col < cols();) {
      const int64_t end = reach.EndOf(row, col, cols());
      Pair pair = PairOfRange(values + col, end - col, qmax);
      for (int i = 0; i < turns_; ++i) {
        Turn(values + col, end - col, qmax, pair);
      }
      const float scale = RoundTo(DType::kF16, 1 / pair.inverse);
      if (!std::isfinite(scale)) {
        return RefuseValue(weight(), row, col, values[col],
                           "begins a group whose range is too large for a "
                           "scale in float16");
      }
      const int64_t index = reach.IndexOf(row, col, cols());
      out.fields[0].Set(index, scale);
      out.fields[1].Set(index, RoundTo(DType::kF16, pair.zero));
      for (; col < end; ++col) {
        codes[col] = static_cast<std::byte>(
            static_cast<uint8_t>(CodeOf(values[col], pair, qmax)));
      }
    }
    return absl::OkStatus();
  }

  const int turns_;
};

// How often the matrix' zero-points are moved.
absl::StatusOr<int> Turns(const FloatRows& weight, const CodeFormat& format) {
  const Reach& reach = format.fields[0].reach;
  const auto qmax = static_cast<float>((1 << format.bits) - 1);
  const int64_t cols = weight.cols();
  std::array<double, kMostTurns> errors = {};
  RETURN_IF_ERROR(ForEachRow(weight, [&](int64_t row, const float* values) {
    for (int64_t col = 0; col < cols;) {
      const int64_t end = reach.EndOf(row, col, cols);
      Pair pair = PairOfRange(values + col, end - col, qmax);
      bool moves = true;
      float error = 0;
      for (double& sum : errors) {
        if (moves) {
          const float before = pair.zero;
          error = Turn(values + col, end - col, qmax, pair);
          // Equal codes and errors from now on.
          moves = pair.zero != before;
        }
        sum += error;
      }
      col = end;
    }
  }));
  // The turn that finds no improvement has moved them too.
  for (int i = 1; i < kMostTurns; ++i) {
    if (errors[i] >= errors[i - 1]) return i + 1;
  }
  return kMostTurns;
}

constexpr std::string_view kElements[] = {"uint1", "uint2", "uint3", "uint4",
                                          "uint5", "uint6", "uint7", "uint8"};

class Hqq final : public QuantMethod {
 public:
  std::string_view name() const override { return "hqq"; }
  std::string_view summary() const override {
    return "Integers of 1 to 8 bits with a scale and a fitted, fractional "
           "zero-point for each group of columns.";
  }
  absl::Span<const ParamSpec> params() const override {
    static const std::vector<ParamSpec> params = {
        {.name = "bits",
         .type = ParamSpec::Type::kChoice,
         .default_value = "4",
         .choices = {"8", "4", "3", "2", "1"},
         .help = "bits per weight"},
        GroupParam("64")};
    return params;
  }

  absl::StatusOr<CodeFormat> Format(int64_t, int64_t, DType,
                                    const ParamValues& params) const override {
    ASSIGN_OR_RETURN(const Reach reach, ReachOf(*this, params));
    const auto bits = static_cast<int>(IntegerOf(params, "bits"));
    return CodeFormat{.kind = CodeFormat::Kind::kUnsigned,
                      .bits = bits,
                      .element = kElements[bits - 1],
                      .fields = {{.name = "scale",
                                  .type = CodeField::Type::kFloat16,
                                  .bits = 16,
                                  .reach = reach},
                                 {.name = "zero",
                                  .type = CodeField::Type::kFloat16,
                                  .bits = 16,
                                  .reach = reach}},
                      .rule = {.scale = {.field = 0}, .zero = {.field = 1}}};
  }

  absl::StatusOr<std::unique_ptr<const CodeRows>> Encode(
      const FloatRows& weight, const ParamValues& params) const override {
    ASSIGN_OR_RETURN(CodeFormat format, Format(weight.rows(), weight.cols(),
                                               weight.dtype(), params));
    ASSIGN_OR_RETURN(const int turns, Turns(weight, format));
    return std::make_unique<const HqqRows>(weight, std::move(format), turns);
  }
};

}  // namespace

const QuantMethod& HqqMethod() {
  static const Hqq method;
  return method;
}

}  // namespace ounce::quant
