#include "model/checkpoint/gguf_grids.h"

#include <array>
#include <bit>
#include <cstring>

#include "quant/dtype.h"
#include "quant/gguf_method.h"

namespace ounce::model {
namespace {

using quant::CodeField;
using quant::CodeFormat;

#include "model/checkpoint/gguf_grids.inc"

template <class Number>
Number Take(const uint8_t* bytes) {
  Number number;
  std::memcpy(&number, bytes, sizeof number);
  return number;
}

float Half(const uint8_t* bytes) {
  return quant::HalfToFloat(Take<uint16_t>(bytes));
}

// Seven signs stand for eight, of which an even number is negative.
uint8_t EvenSigns(uint32_t seven) {
  const auto signs = static_cast<uint8_t>(seven & 127);
  return static_cast<uint8_t>(signs | (std::popcount(signs) & 1) << 7);
}

// `count` codes of an entry: indexes of `bits`, and above them the sign.
void PutEntry(uint16_t entry, int count, int bits, int signs, uint8_t* codes) {
  for (int i = 0; i < count; ++i) {
    const int index = entry >> bits * i & ((1 << bits) - 1);
    codes[i] = static_cast<uint8_t>(index | (signs >> i & 1) << bits);
  }
}
void PutEight(uint16_t entry, int signs, uint8_t* codes) {
  PutEntry(entry, 8, 2, signs, codes);
}
// Two entries of four.
void PutFours(uint16_t first, uint16_t second, int signs, uint8_t* codes) {
  PutEntry(first, 4, 3, signs, codes);
  PutEntry(second, 4, 3, signs >> 4, codes + 4);
}

// A weight of IQ1 is its grid's -1, 0 or 1, and 1/8 more or less.
void PutIq1(uint16_t entry, bool less, uint8_t* codes) {
  PutEight(entry, less ? 255 : 0, codes);
}

// Magnitudes, then the same negative. Indexes that no grid has are 0.
constexpr float kIq2Levels[] = {8, 25, 43, 0, -8, -25, -43, 0};
constexpr float kIq3XxsLevels[] = {4,  12,  20,  28,  36,  44,  52,  62,
                                   -4, -12, -20, -28, -36, -44, -52, -62};
constexpr float kIq3SLevels[] = {1,  3,  5,  7,  9,  11,  13,  15,
                                 -1, -3, -5, -7, -9, -11, -13, -15};
// In eighths: plus one, then minus one.
constexpr float kIq1Levels[] = {-7, 1, 9, 0, -9, -1, 7, 0};

// What a scale s is worth, times d: (s + plus) * factor.
template <int kCount>
constexpr std::array<float, kCount> Scales(float plus, float factor) {
  std::array<float, kCount> scales{};
  for (int i = 0; i < kCount; ++i) {
    scales[i] = (static_cast<float>(i) + plus) * factor;
  }
  return scales;
}
constexpr auto kQuarters = Scales<16>(0.5f, 0.25f);
constexpr auto kHalves = Scales<16>(0.5f, 0.5f);
constexpr auto kOdd = Scales<16>(0.5f, 2);
constexpr auto kOddEighths = Scales<8>(0.5f, 0.25f);

CodeFormat Format(std::string_view element, int bits,
                  absl::Span<const float> levels,
                  absl::Span<const float> scales, int64_t cols) {
  const int scale_bits = scales.size() == 16 ? 4 : 3;
  return {.kind = CodeFormat::Kind::kUnsigned,
          .bits = bits,
          .element = element,
          .tables = levels,
          .fields = {quant::GgufFloat16("d", 256),
                     quant::GgufInteger("scale", CodeField::Type::kUnsigned,
                                        scale_bits, cols)},
          .rule = {.scale = {.field = 1, .map = scales, .times = 0}}};
}

}  // namespace

CodeFormat Iq2Format(std::string_view element, int64_t cols) {
  return Format(element, 3, kIq2Levels, kQuarters, cols);
}
CodeFormat Iq3XxsFormat() {
  return Format("iq3_xxs", 4, kIq3XxsLevels, kHalves, 32);
}
CodeFormat Iq3SFormat() { return Format("iq3_s", 4, kIq3SLevels, kOdd, 32); }
CodeFormat Iq1Format(std::string_view element, int64_t cols) {
  return Format(element, 3, kIq1Levels, kOddEighths, cols);
}

// d, then for each 32: four indexes, and a word of signs with the scale on top.
void UnpackIq2Xxs(const uint8_t* b, const GgufPlaces& to) {
  to.fields[0][0] = Half(b);
  for (int group = 0; group < 8; ++group) {
    const uint8_t* from = b + 2 + group * 8;
    const auto word = Take<uint32_t>(from + 4);
    to.fields[1][group] = static_cast<float>(word >> 28);
    for (int i = 0; i < 4; ++i) {
      PutEight(kIq2XxsGrid[from[i]], EvenSigns(word >> 7 * i),
               to.codes + group * 32 + i * 8);
    }
  }
}

// d, words of an index of 9 bits and seven signs, scales in halves of bytes.
void UnpackIq2Xs(const uint8_t* b, const GgufPlaces& to) {
  to.fields[0][0] = Half(b);
  for (int i = 0; i < 32; ++i) {
    const auto word = Take<uint16_t>(b + 2 + i * 2);
    PutEight(kIq2XsGrid[word & 511], EvenSigns(word >> 9), to.codes + i * 8);
  }
  for (int i = 0; i < 16; ++i) {
    to.fields[1][i] = static_cast<float>(b[66 + i / 2] >> i % 2 * 4 & 15);
  }
}

// d, low bytes of indexes, signs, high bits of indexes, scales.
void UnpackIq2S(const uint8_t* b, const GgufPlaces& to) {
  to.fields[0][0] = Half(b);
  for (int i = 0; i < 32; ++i) {
    const int index = b[2 + i] | (b[66 + i / 4] >> i % 4 * 2 & 3) << 8;
    PutEight(kIq2SGrid[index], b[34 + i], to.codes + i * 8);
  }
  for (int i = 0; i < 16; ++i) {
    to.fields[1][i] = static_cast<float>(b[74 + i / 2] >> i % 2 * 4 & 15);
  }
}

// d, indexes of fours, for each 32 a word of signs with the scale on top.
void UnpackIq3Xxs(const uint8_t* b, const GgufPlaces& to) {
  to.fields[0][0] = Half(b);
  for (int group = 0; group < 8; ++group) {
    const auto word = Take<uint32_t>(b + 66 + group * 4);
    const uint8_t* from = b + 2 + group * 8;
    to.fields[1][group] = static_cast<float>(word >> 28);
    for (int i = 0; i < 4; ++i) {
      PutFours(kIq3XxsGrid[from[2 * i]], kIq3XxsGrid[from[2 * i + 1]],
               EvenSigns(word >> 7 * i), to.codes + group * 32 + i * 8);
    }
  }
}

// d, low bytes of indexes, their ninth bits, signs, scales of 32.
void UnpackIq3S(const uint8_t* b, const GgufPlaces& to) {
  to.fields[0][0] = Half(b);
  const auto entry = [&](int i) {
    return kIq3SGrid[b[2 + i] | (b[66 + i / 8] >> i % 8 & 1) << 8];
  };
  for (int i = 0; i < 32; ++i) {
    PutFours(entry(2 * i), entry(2 * i + 1), b[74 + i], to.codes + i * 8);
  }
  for (int i = 0; i < 8; ++i) {
    to.fields[1][i] = static_cast<float>(b[106 + i / 2] >> i % 2 * 4 & 15);
  }
}

// d, low bytes of indexes, for each 32 a word: three bits more of each of four
// indexes, the scale, and whether weights are less or more than the grid.
void UnpackIq1S(const uint8_t* b, const GgufPlaces& to) {
  to.fields[0][0] = Half(b);
  for (int group = 0; group < 8; ++group) {
    const auto word = Take<uint16_t>(b + 34 + group * 2);
    to.fields[1][group] = static_cast<float>(word >> 12 & 7);
    for (int i = 0; i < 4; ++i) {
      const int index = b[2 + group * 4 + i] | (word >> 3 * i & 7) << 8;
      PutIq1(kIq1Grid[index], word >> 15 != 0, to.codes + group * 32 + i * 8);
    }
  }
}

// Low bytes of indexes, halves of bytes with three bits more and less or more;
// words of four scales of 16 and a part of d each.
void UnpackIq1M(const uint8_t* b, const GgufPlaces& to) {
  int d = 0;
  for (int i = 0; i < 4; ++i) {
    const auto word = Take<uint16_t>(b + 48 + i * 2);
    d |= word >> 12 << 4 * i;
    for (int k = 0; k < 4; ++k) {
      to.fields[1][i * 4 + k] = static_cast<float>(word >> 3 * k & 7);
    }
  }
  to.fields[0][0] = quant::HalfToFloat(static_cast<uint16_t>(d));
  for (int i = 0; i < 32; ++i) {
    const int high = b[32 + i / 2] >> i % 2 * 4 & 15;
    PutIq1(kIq1Grid[b[i] | (high & 7) << 8], (high & 8) != 0, to.codes + i * 8);
  }
}

}  // namespace ounce::model
