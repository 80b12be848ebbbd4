#include "model/checkpoint/gguf_blocks.h"

#include <array>
#include <cmath>
#include <cstring>
#include <memory>
#include <string>

#include "base/check.h"
#include "base/str_cat.h"
#include "model/checkpoint/coded_tensor.h"
#include "model/checkpoint/gguf_grids.h"
#include "model/checkpoint/gguf_packing.h"
#include "model/files/byte_source.h"
#include "quant/dtype.h"
#include "quant/gguf_method.h"
#include "quant/registry.h"

namespace ounce::model {
namespace {

using quant::CodeField;
using quant::CodeFormat;

float Half(const uint8_t* bytes) {
  uint16_t bits;
  std::memcpy(&bits, bytes, sizeof bits);
  return quant::HalfToFloat(bits);
}

// The low halves of `half` bytes are so many columns, the high ones as many
// more; and so on.
void Nibbles(const uint8_t* bytes, int cols, int half, uint8_t* codes) {
  for (int run = 0; run < cols; run += 2 * half) {
    for (int i = 0; i < half; ++i, ++bytes) {
      codes[run + i] = *bytes & 15;
      codes[run + half + i] = *bytes >> 4;
    }
  }
}

// Adds `bits` of columns that lie 32 apart, from one byte, above `shift`.
void AddBits(const uint8_t* bytes, int cols, int bits, int shift,
             uint8_t* codes) {
  const int in_a_byte = 8 / bits;
  for (int run = 0; run < cols; run += 32 * in_a_byte) {
    for (int i = 0; i < 32; ++i, ++bytes) {
      for (int k = 0; k < in_a_byte; ++k) {
        const int code = *bytes >> k * bits & ((1 << bits) - 1);
        codes[run + 32 * k + i] |= static_cast<uint8_t>(code << shift);
      }
    }
  }
}

// The fifth bits of 32 columns.
void AddFifthBits(const uint8_t* bytes, uint8_t* codes) {
  for (int i = 0; i < 32; ++i) {
    codes[i] |= static_cast<uint8_t>((bytes[i / 8] >> i % 8 & 1) << 4);
  }
}

// Eight scales and eight minima of 6 bits, in 12 bytes.
void ScalesAndMinima(const uint8_t* b, float* scales, float* minima) {
  for (int i = 0; i < 4; ++i) {
    scales[i] = static_cast<float>(b[i] & 63);
    minima[i] = static_cast<float>(b[i + 4] & 63);
    scales[i + 4] = static_cast<float>((b[i + 8] & 15) | b[i] >> 6 << 4);
    minima[i + 4] = static_cast<float>(b[i + 8] >> 4 | b[i + 4] >> 6 << 4);
  }
}

void UnpackQ40(const uint8_t* b, const GgufPlaces& to) {
  to.fields[0][0] = Half(b);
  Nibbles(b + 2, 32, 16, to.codes);
}
void UnpackQ41(const uint8_t* b, const GgufPlaces& to) {
  to.fields[0][0] = Half(b);
  to.fields[1][0] = Half(b + 2);
  Nibbles(b + 4, 32, 16, to.codes);
}
void UnpackQ50(const uint8_t* b, const GgufPlaces& to) {
  to.fields[0][0] = Half(b);
  Nibbles(b + 6, 32, 16, to.codes);
  AddFifthBits(b + 2, to.codes);
}
void UnpackQ51(const uint8_t* b, const GgufPlaces& to) {
  to.fields[0][0] = Half(b);
  to.fields[1][0] = Half(b + 2);
  Nibbles(b + 8, 32, 16, to.codes);
  AddFifthBits(b + 4, to.codes);
}
void UnpackQ80(const uint8_t* b, const GgufPlaces& to) {
  to.fields[0][0] = Half(b);
  std::memcpy(to.codes, b + 2, 32);
}

void UnpackQ2K(const uint8_t* b, const GgufPlaces& to) {
  for (int i = 0; i < 16; ++i) {
    to.fields[2][i] = static_cast<float>(b[i] & 15);
    to.fields[3][i] = static_cast<float>(b[i] >> 4);
  }
  std::memset(to.codes, 0, 256);
  AddBits(b + 16, 256, 2, 0, to.codes);
  to.fields[0][0] = Half(b + 80);
  to.fields[1][0] = Half(b + 82);
}
void UnpackQ3K(const uint8_t* b, const GgufPlaces& to) {
  std::memset(to.codes, 0, 256);
  AddBits(b + 32, 256, 2, 0, to.codes);
  AddBits(b, 256, 1, 2, to.codes);
  const uint8_t* scales = b + 96;
  for (int i = 0; i < 16; ++i) {
    const int low = i < 8 ? scales[i] & 15 : scales[i - 8] >> 4;
    const int high = scales[8 + i % 4] >> 2 * (i / 4) & 3;
    to.fields[1][i] = static_cast<float>((low | high << 4) - 32);
  }
  to.fields[0][0] = Half(b + 108);
}
void UnpackQ4K(const uint8_t* b, const GgufPlaces& to) {
  to.fields[0][0] = Half(b);
  to.fields[1][0] = Half(b + 2);
  ScalesAndMinima(b + 4, to.fields[2], to.fields[3]);
  Nibbles(b + 16, 256, 32, to.codes);
}
void UnpackQ5K(const uint8_t* b, const GgufPlaces& to) {
  to.fields[0][0] = Half(b);
  to.fields[1][0] = Half(b + 2);
  ScalesAndMinima(b + 4, to.fields[2], to.fields[3]);
  Nibbles(b + 48, 256, 32, to.codes);
  AddBits(b + 16, 256, 1, 4, to.codes);
}
void UnpackQ6K(const uint8_t* b, const GgufPlaces& to) {
  Nibbles(b, 256, 64, to.codes);
  AddBits(b + 128, 256, 2, 4, to.codes);
  for (int i = 0; i < 16; ++i) {
    to.fields[1][i] = static_cast<float>(static_cast<int8_t>(b[192 + i]));
  }
  to.fields[0][0] = Half(b + 208);
}
void UnpackIq4Xs(const uint8_t* b, const GgufPlaces& to) {
  to.fields[0][0] = Half(b);
  const int high = b[2] | b[3] << 8;
  for (int i = 0; i < 8; ++i) {
    const int low = b[4 + i / 2] >> i % 2 * 4 & 15;
    to.fields[1][i] = static_cast<float>((low | (high >> 2 * i & 3) << 4) - 32);
  }
  Nibbles(b + 8, 256, 16, to.codes);
}
void UnpackTq20(const uint8_t* b, const GgufPlaces& to) {
  std::memset(to.codes, 0, 256);
  AddBits(b, 256, 2, 0, to.codes);
  to.fields[0][0] = Half(b + 64);
}

// Five numbers of 0 to 2 in a byte, b, rounded up from thirds of 256: the first
// is what 3 b has above a byte, and what is left goes on so.
void UnpackTq10(const uint8_t* b, const GgufPlaces& to) {
  static constexpr uint8_t kPowers[] = {1, 3, 9, 27, 81};
  const auto number = [](uint8_t byte, int i) {
    const auto shifted = static_cast<uint8_t>(byte * kPowers[i]);
    return static_cast<uint8_t>(shifted * 3 >> 8);
  };
  uint8_t* codes = to.codes;
  for (int i = 0; i < 5; ++i) {
    for (int k = 0; k < 32; ++k) *codes++ = number(b[k], i);
  }
  for (int i = 0; i < 5; ++i) {
    for (int k = 32; k < 48; ++k) *codes++ = number(b[k], i);
  }
  for (int i = 0; i < 4; ++i) {
    for (int k = 48; k < 52; ++k) *codes++ = number(b[k], i);
  }
  to.fields[0][0] = Half(b + 52);
}

void UnpackMxfp4(const uint8_t* b, const GgufPlaces& to) {
  // 255 stands for no number.
  to.fields[0][0] = b[0] == 255 ? NAN : static_cast<float>(b[0]);
  Nibbles(b + 1, 32, 16, to.codes);
}

// Types that files have and no method makes.
class ReadType final : public StoredMethod {
 public:
  ReadType(std::string_view name, CodeFormat format, int64_t cols,
           int64_t bytes)
      : name_(name), format_(std::move(format)), cols_(cols), bytes_(bytes) {}

  std::string_view name() const override { return name_; }
  std::string_view summary() const override {
    return "A type of GGUF's, as another tool made it.";
  }
  absl::StatusOr<CodeFormat> Format(int64_t rows, int64_t cols, quant::DType,
                                    const quant::ParamValues&) const override {
    CodeFormat format = format_;
    // Codes lie closer together in a file than one by one.
    format.packed_bytes = 0;
    format.packed_bytes =
        rows * (cols / cols_) * bytes_ - format.StoredBytes(rows, cols);
    return format;
  }

 private:
  const std::string_view name_;
  const CodeFormat format_;
  const int64_t cols_;
  const int64_t bytes_;
};

const quant::QuantMethod& Tq10() {
  static const ReadType type("gguf-tq1_0",
                             {.kind = CodeFormat::Kind::kUnsigned,
                              .bits = 2,
                              .element = "tq1_0",
                              .fields = {quant::GgufFloat16("d", 256)},
                              .rule = quant::GgufScaled(1)},
                             256, 54);
  return type;
}

// Floats of 4 bits, twice over, and the powers of two that scales are, halved.
constexpr float kMxfp4Levels[] = {0, 1,  2,  3,  4,  6,  8,  12,
                                  0, -1, -2, -3, -4, -6, -8, -12};
const std::array<float, 256>& HalvedPowers() {
  static const std::array<float, 256> powers = [] {
    std::array<float, 256> map;
    for (int i = 0; i < 256; ++i) map[i] = std::ldexp(1.0f, i - 128);
    return map;
  }();
  return powers;
}

const quant::QuantMethod& Mxfp4() {
  static const ReadType type(
      "gguf-mxfp4",
      {.kind = CodeFormat::Kind::kUnsigned,
       .bits = 4,
       .element = "mxfp4",
       .tables = kMxfp4Levels,
       .fields = {quant::GgufInteger("e", CodeField::Type::kUnsigned, 8, 32)},
       .rule = {.scale = {.field = 0, .map = HalvedPowers()}}},
      32, 17);
  return type;
}

const quant::QuantMethod& Iq2Xxs() {
  static const ReadType type("gguf-iq2_xxs", Iq2Format("iq2_xxs", 32), 256, 66);
  return type;
}
const quant::QuantMethod& Iq2Xs() {
  static const ReadType type("gguf-iq2_xs", Iq2Format("iq2_xs", 16), 256, 74);
  return type;
}
const quant::QuantMethod& Iq2S() {
  static const ReadType type("gguf-iq2_s", Iq2Format("iq2_s", 16), 256, 82);
  return type;
}
const quant::QuantMethod& Iq3Xxs() {
  static const ReadType type("gguf-iq3_xxs", Iq3XxsFormat(), 256, 98);
  return type;
}
const quant::QuantMethod& Iq3S() {
  static const ReadType type("gguf-iq3_s", Iq3SFormat(), 256, 110);
  return type;
}
const quant::QuantMethod& Iq1S() {
  static const ReadType type("gguf-iq1_s", Iq1Format("iq1_s", 32), 256, 50);
  return type;
}
const quant::QuantMethod& Iq1M() {
  static const ReadType type("gguf-iq1_m", Iq1Format("iq1_m", 16), 256, 56);
  return type;
}

// The method that makes such codes.
template <const char* kName>
const quant::QuantMethod& Made() {
  static const quant::QuantMethod* const method = [] {
    const auto spec = quant::ParseMethodSpec(kName);
    OUNCE_CHECK(spec.ok(), kName);
    return spec->method;
  }();
  return *method;
}

constexpr char kQ40[] = "gguf-q4_0", kQ41[] = "gguf-q4_1";
constexpr char kQ50[] = "gguf-q5_0", kQ51[] = "gguf-q5_1";
constexpr char kQ80[] = "gguf-q8_0", kQ2K[] = "gguf-q2_k";
constexpr char kQ3K[] = "gguf-q3_k", kQ4K[] = "gguf-q4_k";
constexpr char kQ5K[] = "gguf-q5_k", kQ6K[] = "gguf-q6_k";
constexpr char kIq4Nl[] = "gguf-iq4_nl", kIq4Xs[] = "gguf-iq4_xs";
constexpr char kTq20[] = "gguf-tq2_0";

constexpr GgufBlockType kTypes[] = {
    {2, "Q4_0", 32, 18, Made<kQ40>, UnpackQ40, PackQ40, 2},
    {3, "Q4_1", 32, 20, Made<kQ41>, UnpackQ41, PackQ41, 3},
    {6, "Q5_0", 32, 22, Made<kQ50>, UnpackQ50, PackQ50, 8},
    {7, "Q5_1", 32, 24, Made<kQ51>, UnpackQ51, PackQ51, 9},
    {8, "Q8_0", 32, 34, Made<kQ80>, UnpackQ80, PackQ80, 7},
    {10, "Q2_K", 256, 84, Made<kQ2K>, UnpackQ2K, PackQ2K, 10},
    {11, "Q3_K", 256, 110, Made<kQ3K>, UnpackQ3K, PackQ3K, 11},
    {12, "Q4_K", 256, 144, Made<kQ4K>, UnpackQ4K, PackQ4K, 14},
    {13, "Q5_K", 256, 176, Made<kQ5K>, UnpackQ5K, PackQ5K, 16},
    {14, "Q6_K", 256, 210, Made<kQ6K>, UnpackQ6K, PackQ6K, 18},
    {16, "IQ2_XXS", 256, 66, Iq2Xxs, UnpackIq2Xxs},
    {17, "IQ2_XS", 256, 74, Iq2Xs, UnpackIq2Xs},
    {18, "IQ3_XXS", 256, 98, Iq3Xxs, UnpackIq3Xxs},
    {19, "IQ1_S", 256, 50, Iq1S, UnpackIq1S},
    {20, "IQ4_NL", 32, 18, Made<kIq4Nl>, UnpackQ40, PackQ40, 25},
    {21, "IQ3_S", 256, 110, Iq3S, UnpackIq3S},
    {22, "IQ2_S", 256, 82, Iq2S, UnpackIq2S},
    {23, "IQ4_XS", 256, 136, Made<kIq4Xs>, UnpackIq4Xs, PackIq4Xs, 30},
    {29, "IQ1_M", 256, 56, Iq1M, UnpackIq1M},
    {34, "TQ1_0", 256, 54, Tq10, UnpackTq10},
    {35, "TQ2_0", 256, 66, Made<kTq20>, UnpackTq20, PackTq20, 37},
    {39, "MXFP4", 32, 17, Mxfp4, UnpackMxfp4},
};

}  // namespace

const GgufBlockType* FindGgufBlockType(uint32_t id) {
  for (const GgufBlockType& type : kTypes) {
    if (type.id == id) return &type;
  }
  return nullptr;
}

const GgufBlockType* FindGgufBlockTypeOf(const CodeFormat& format) {
  constexpr std::string_view kMethods = "gguf-";
  for (const GgufBlockType& type : kTypes) {
    if (type.pack != nullptr &&
        type.method().name().substr(kMethods.size()) == format.element) {
      return &type;
    }
  }
  return nullptr;
}

std::string GgufBlockTypeNames() {
  std::string names;
  for (const GgufBlockType& type : kTypes) {
    StrAppend(&names, names.empty() ? "" : ", ", type.name);
  }
  return names;
}

}  // namespace ounce::model
