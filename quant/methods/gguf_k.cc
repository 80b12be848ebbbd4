// GGUF's K-quants: blocks of 256 weights, in groups of 16 or 32 whose scales,
// and perhaps minima, are integers times a float16 of the block's:
//
//   q2_k, q4_k, q5_k  w ~ d s q - dmin m
//   q3_k, q6_k        w ~ d s (q - 4), d s (q - 32)
//
// Groups are searched each for itself (kernels/gguf_search.h); the scales found
// become integers, of which the largest is largest; codes are then those
// nearest to the weights under the scales as they are stored.
#include <algorithm>
#include <cmath>
#include <vector>

#include "quant/gguf_method.h"
#include "quant/kernels/gguf_search.h"

namespace ounce::quant {
namespace {

constexpr int kBlock = 256;
constexpr int kSmall = 16, kLarge = 32;  // columns of a group

// Of q2_k, q4_k and q5_k. Fields: d, dmin; of groups, the scale and minimum.
template <int kCols, int kMost, int kMostScale>
void EncodeAffine(const float* values, int64_t cols, uint8_t* codes,
                  float* const* fields) {
  constexpr int kGroups = kBlock / kCols;
  constexpr AffineTrials kTrials = {
      .most = kMost,
      .first = kMost == 15 ? -1.0f : -0.5f,
      .count = kMost == 15 ? 21 : 16,
  };
  const int64_t groups = cols / kCols;
  std::vector<float> scales(groups), minima(groups);
  const GgufSearches& searches = GgufSearchesFor(BestIsa());
  (kCols == kLarge ? searches.affine_32 : searches.affine_16)(
      kTrials, values, groups, scales.data(), minima.data(), codes);
  // To the integers of a block; returns what they are times of.
  const auto round = [](const float* from, float* to) {
    const float largest =
        std::max(0.0f, *std::max_element(from, from + kGroups));
    const float inverse = kMostScale / largest;
    for (int i = 0; i < kGroups; ++i) {
      // An infinite one's are zeros, as is what they are times of in float16.
      to[i] = std::isfinite(inverse)
                  ? std::clamp<float>(std::nearbyint(inverse * from[i]), 0,
                                      kMostScale)
                  : 0;
    }
    return RoundTo(DType::kF16, largest / kMostScale);
  };
  for (int64_t block = 0; block < cols / kBlock; ++block) {
    const int64_t first = block * kGroups;
    const float d = round(scales.data() + first, fields[2] + first);
    const float dmin = round(minima.data() + first, fields[3] + first);
    fields[0][block] = d;
    fields[1][block] = dmin;
    for (int64_t group = first; group < first + kGroups; ++group) {
      const float scale = d * fields[2][group];
      if (scale == 0) continue;  // the search's codes stay
      GgufNearest(values + group * kCols, kCols, scale, dmin * fields[3][group],
                  0, kMost, codes + group * kCols);
    }
  }
}

// Of q3_k and q6_k. Fields: d; of groups, the scale.
template <int kZero, int kLowest>
void EncodeSymmetric(const float* values, int64_t cols, uint8_t* codes,
                     float* const* fields) {
  constexpr bool kIsQ3 = kZero == 4;
  const int64_t groups = cols / kSmall;
  std::vector<float> scales(groups);
  const GgufSearches& searches = GgufSearchesFor(BestIsa());
  (kIsQ3 ? searches.descent_16 : searches.symmetric_16)(values, groups,
                                                        scales.data(), codes);
  for (int64_t block = 0; block < cols / kBlock; ++block) {
    const int64_t first = block * kBlock / kSmall;
    const int64_t end = first + kBlock / kSmall;
    float largest = 0;
    for (int64_t group = first; group < end; ++group) {
      // Of weights whose squares are infinite.
      if (std::isnan(scales[group])) scales[group] = HUGE_VALF;
      if (std::abs(scales[group]) > std::abs(largest)) largest = scales[group];
    }
    if (std::abs(largest) < (kIsQ3 ? 0x1p-149f : kGgufZero)) {
      fields[0][block] = 0;
      // What ggml's zero bytes mean.
      std::fill(fields[1] + first, fields[1] + end, kIsQ3 ? kLowest : 0);
      std::fill_n(codes + block * kBlock, kBlock, uint8_t{0});
      continue;
    }
    const float inverse = kLowest / largest;
    const float d = RoundTo(DType::kF16, 1 / inverse);
    fields[0][block] = d;
    for (int64_t group = first; group < end; ++group) {
      const float integer = std::clamp<float>(
          std::nearbyint(inverse * scales[group]), kLowest, -kLowest - 1);
      fields[1][group] = integer;
      if (d * integer == 0) continue;  // the search's codes stay
      GgufNearest(values + group * kSmall, kSmall, d * integer, 0, kZero,
                  2 * kZero - 1, codes + group * kSmall);
    }
  }
}

constexpr auto kSigned = CodeField::Type::kSigned;
constexpr auto kUnsigned = CodeField::Type::kUnsigned;

constexpr CodeField kAffineSmall[] = {
    GgufFloat16("d", kBlock), GgufFloat16("dmin", kBlock),
    GgufInteger("scale", kUnsigned, 4, kSmall),
    GgufInteger("min", kUnsigned, 4, kSmall)};
constexpr CodeField kAffine[] = {GgufFloat16("d", kBlock),
                                 GgufFloat16("dmin", kBlock),
                                 GgufInteger("scale", kUnsigned, 6, kLarge),
                                 GgufInteger("min", kUnsigned, 6, kLarge)};
constexpr CodeField kSixBits[] = {GgufFloat16("d", kBlock),
                                  GgufInteger("scale", kSigned, 6, kSmall)};
constexpr CodeField kEightBits[] = {GgufFloat16("d", kBlock),
                                    GgufInteger("scale", kSigned, 8, kSmall)};

constexpr RunRule kAffineRule = {
    .scale = {.field = 2, .times = 0},
    .minimum = {.field = 3, .times = 1, .negative = true}};

constexpr GgufType kQ2K = {
    .name = "gguf-q2_k",
    .summary =
        "llama.cpp's Q2_K: 2 bits, and a scale and a minimum of 4 bits "
        "for each 16 columns",
    .block = kBlock,
    .instead = GgufQ40Method,
    .encode = EncodeAffine<kSmall, 3, 15>,
    .kind = CodeFormat::Kind::kUnsigned,
    .bits = 2,
    .fields = kAffineSmall,
    .rule = kAffineRule};
constexpr GgufType kQ3K = {
    .name = "gguf-q3_k",
    .summary =
        "llama.cpp's Q3_K: 3 bits, and a scale of 6 bits for each 16 "
        "columns",
    .block = kBlock,
    .instead = GgufQ40Method,
    .encode = EncodeSymmetric<4, -32>,
    .kind = CodeFormat::Kind::kUnsigned,
    .bits = 3,
    .fields = kSixBits,
    .rule = GgufNested(4)};
constexpr GgufType kQ4K = {
    .name = "gguf-q4_k",
    .summary =
        "llama.cpp's Q4_K: 4 bits, and a scale and a minimum of 6 bits "
        "for each 32 columns",
    .block = kBlock,
    .instead = GgufQ50Method,
    .encode = EncodeAffine<kLarge, 15, 63>,
    .kind = CodeFormat::Kind::kUnsigned,
    .bits = 4,
    .fields = kAffine,
    .rule = kAffineRule};
constexpr GgufType kQ5K = {
    .name = "gguf-q5_k",
    .summary =
        "llama.cpp's Q5_K: 5 bits, and a scale and a minimum of 6 bits "
        "for each 32 columns",
    .block = kBlock,
    .instead = GgufQ51Method,
    .encode = EncodeAffine<kLarge, 31, 63>,
    .kind = CodeFormat::Kind::kUnsigned,
    .bits = 5,
    .fields = kAffine,
    .rule = kAffineRule};
constexpr GgufType kQ6K = {
    .name = "gguf-q6_k",
    .summary =
        "llama.cpp's Q6_K: 6 bits, and a scale of 8 bits for each 16 "
        "columns",
    .block = kBlock,
    .instead = GgufQ80Method,
    .encode = EncodeSymmetric<32, -128>,
    .kind = CodeFormat::Kind::kUnsigned,
    .bits = 6,
    .fields = kEightBits,
    .rule = GgufNested(32)};

}  // namespace

const QuantMethod& GgufQ2KMethod() { return GgufMethodOf<kQ2K>(); }
const QuantMethod& GgufQ3KMethod() { return GgufMethodOf<kQ3K>(); }
const QuantMethod& GgufQ4KMethod() { return GgufMethodOf<kQ4K>(); }
const QuantMethod& GgufQ5KMethod() { return GgufMethodOf<kQ5K>(); }
const QuantMethod& GgufQ6KMethod() { return GgufMethodOf<kQ6K>(); }

}  // namespace ounce::quant
