// GGUF's 4-bit codes of a table that is denser around zero, T: 32 weights have
// a scale that is searched (kernels/gguf_search.h), in float16 (iq4_nl) or as
// an integer from -32 to 31 times a float16 of 256 weights (iq4_xs):
//
//   iq4_nl  w ~ d T[q]        iq4_xs  w ~ d s T[q]
//
// Codes are those nearest under the scales before float16 rounds them.
#include <algorithm>
#include <array>
#include <cmath>
#include <vector>

#include "quant/gguf_method.h"

namespace ounce::quant {
namespace {

constexpr int kGroup = 32;
constexpr int kBlock = 256;

constexpr std::array<float, kGgufLevels> kLevels = [] {
  std::array<float, kGgufLevels> levels{};
  for (int i = 0; i < kGgufLevels; ++i) levels[i] = kGgufTable[i];
  return levels;
}();

float InverseOrZero(float scale) { return scale == 0 ? 0 : 1 / scale; }

// Of what is halfway between two levels, the larger one's.
void NearestLevels(const float* x, float inverse, uint8_t* codes) {
  std::array<int32_t, kGroup> code{};
  for (int level = 1; level < kGgufLevels; ++level) {
    const float middle = (kLevels[level - 1] + kLevels[level]) / 2;
    for (int i = 0; i < kGroup; ++i) {
      code[i] += inverse * x[i] >= middle ? 1 : 0;
    }
  }
  std::copy(code.begin(), code.end(), codes);
}

void EncodeNl(const float* values, int64_t cols, uint8_t* codes,
              float* const* fields) {
  const int64_t groups = cols / kGroup;
  GgufSearchesFor(BestIsa()).table_32(values, groups, fields[0]);
  for (int64_t group = 0; group < groups; ++group) {
    float& d = fields[0][group];
    NearestLevels(values + group * kGroup, InverseOrZero(d),
                  codes + group * kGroup);
    d = RoundTo(DType::kF16, d);
  }
}

void EncodeXs(const float* values, int64_t cols, uint8_t* codes,
              float* const* fields) {
  constexpr int kGroups = kBlock / kGroup;
  std::vector<float> scales(cols / kGroup);
  GgufSearchesFor(BestIsa()).table_32(values, cols / kGroup, scales.data());
  for (int64_t block = 0; block < cols / kBlock; ++block) {
    const int64_t first = block * kGroups;
    float largest = 0;
    for (int64_t group = first; group < first + kGroups; ++group) {
      if (std::abs(scales[group]) > std::abs(largest)) largest = scales[group];
    }
    const float d = -largest / 32;
    fields[0][block] = RoundTo(DType::kF16, d);
    for (int64_t group = first; group < first + kGroups; ++group) {
      const float integer = std::clamp(
          std::nearbyint(InverseOrZero(d) * scales[group]), -32.0f, 31.0f);
      fields[1][group] = integer;
      NearestLevels(values + group * kGroup, InverseOrZero(d * integer),
                    codes + group * kGroup);
    }
  }
}

constexpr CodeField kNl[] = {GgufFloat16("d", kGroup)};
constexpr CodeField kXs[] = {
    GgufFloat16("d", kBlock),
    GgufInteger("scale", CodeField::Type::kSigned, 6, kGroup)};

constexpr GgufType kIq4Nl = {
    .name = "gguf-iq4_nl",
    .summary =
        "llama.cpp's IQ4_NL: 4-bit indexes into a fixed table, and a "
        "scale for each 32 columns",
    .block = kGroup,
    .instead = Float16Method,
    .encode = EncodeNl,
    .kind = CodeFormat::Kind::kUnsigned,
    .bits = 4,
    .fields = kNl,
    .rule = GgufScaled(0),
    .tables = kLevels};
constexpr GgufType kIq4Xs = {
    .name = "gguf-iq4_xs",
    .summary =
        "llama.cpp's IQ4_XS: 4-bit indexes into a fixed table, and a "
        "scale of 6 bits for each 32 columns",
    .block = kBlock,
    .instead = GgufIq4NlMethod,
    .encode = EncodeXs,
    .kind = CodeFormat::Kind::kUnsigned,
    .bits = 4,
    .fields = kXs,
    .rule = GgufNested(0),
    .tables = kLevels};

}  // namespace

const QuantMethod& GgufIq4NlMethod() { return GgufMethodOf<kIq4Nl>(); }
const QuantMethod& GgufIq4XsMethod() { return GgufMethodOf<kIq4Xs>(); }

}  // namespace ounce::quant
