#include "quant/dtype.h"

#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "gtest/gtest.h"

namespace ounce::quant {
namespace {

constexpr DType kAll[] = {DType::kF64, DType::kF32, DType::kF16, DType::kBF16,
                          DType::kI64, DType::kI32, DType::kI16, DType::kI8,
                          DType::kU8,  DType::kBool};

TEST(DTypeTest, FloatsBecomeShortOnesAsOneByOneDoes) {
  // All exponents, what lies between and beside two halves, NaN, infinity; of a
  // number that no vector has.
  std::vector<float> values;
  std::mt19937 random(11);
  for (int i = 0; i < 200'001; ++i) {
    const uint32_t bits = random();
    values.push_back(std::bit_cast<float>(
        i % 4 == 0 ? bits : (bits & 0x8FFFE000) | 0x30000000 | bits % 3 << 12));
  }
  for (const uint32_t bits :
       {0x7F800000u, 0xFF800000u, 0x7F800001u, 0xFFFFFFFFu, 0x7FC00000u, 0u,
        0x80000000u, 1u, 0x33000000u, 0x33000001u, 0x477FEFFFu, 0x477FF000u,
        0x7F7FFFFFu}) {
    values.push_back(std::bit_cast<float>(bits));
  }
  const auto count = static_cast<int64_t>(values.size());
  ASSERT_NE(count % 8, 0);
  std::vector<uint16_t> halves(count), shorts(count);
  FromFloat(DType::kF16, values.data(), count, halves.data());
  FromFloat(DType::kBF16, values.data(), count, shorts.data());
  std::vector<float> copies(count);
  FromFloat(DType::kF32, values.data(), count, copies.data());
  EXPECT_EQ(std::memcmp(copies.data(), values.data(), count * 4), 0);
  for (int64_t i = 0; i < count; ++i) {
    const uint32_t bits = std::bit_cast<uint32_t>(values[i]);
    ASSERT_EQ(halves[i], FloatToHalf(values[i])) << bits;
    ASSERT_EQ(shorts[i], FloatToBFloat16(values[i])) << bits;
  }
}

TEST(DTypeTest, NamesAndSizesBelongTogether) {
  for (const DType dtype : kAll) {
    EXPECT_EQ(dtype, ParseDType(Name(dtype)));
  }
  EXPECT_EQ(std::nullopt, ParseDType("float8"));
  EXPECT_EQ(std::nullopt, ParseDType(""));
  EXPECT_EQ("bfloat16", Name(DType::kBF16));
  EXPECT_EQ(8, SizeOf(DType::kF64));
  EXPECT_EQ(2, SizeOf(DType::kBF16));
  EXPECT_EQ(1, SizeOf(DType::kBool));
  EXPECT_TRUE(IsFloat(DType::kF64));
  EXPECT_FALSE(IsFloat(DType::kI64));
}

TEST(DTypeTest, EveryHalfGoesToFloatAndBack) {
  for (uint32_t bits = 0; bits < 65536; ++bits) {
    const auto half = static_cast<uint16_t>(bits);
    const float value = HalfToFloat(half);
    // The definition: sign, fraction and a power of two.
    const int exponent = half >> 10 & 31;
    const int fraction = half & 1023;
    const double sign = half & 0x8000 ? -1 : 1;
    if (exponent == 31 && fraction != 0) {
      ASSERT_TRUE(std::isnan(value));
      ASSERT_TRUE(std::isnan(HalfToFloat(FloatToHalf(value))));
      continue;
    }
    const double wanted =
        exponent == 31  ? sign * HUGE_VAL
        : exponent == 0 ? sign * std::ldexp(fraction, -24)
                        : sign * std::ldexp(1024 + fraction, exponent - 25);
    ASSERT_EQ(wanted, value) << bits;
    ASSERT_EQ(std::signbit(wanted), std::signbit(value)) << bits;
    ASSERT_EQ(half, FloatToHalf(value)) << bits;
  }
}

TEST(DTypeTest, FloatsRoundToTheNearestHalfTiesToEven) {
  // Between each two neighbours: the middle, and just beside it.
  for (uint32_t bits = 0; bits < 0x7BFF; ++bits) {
    const float low = HalfToFloat(static_cast<uint16_t>(bits));
    const float high = HalfToFloat(static_cast<uint16_t>(bits + 1));
    const float middle = (low + high) / 2;
    ASSERT_EQ(bits + bits % 2, FloatToHalf(middle));
    ASSERT_EQ(bits, FloatToHalf(std::nextafter(middle, 0.0f)));
    ASSERT_EQ(bits + 1, FloatToHalf(std::nextafter(middle, 1e9f)));
    ASSERT_EQ(0x8000 | (bits + bits % 2), FloatToHalf(-middle));
  }
  EXPECT_EQ(0x7BFF, FloatToHalf(65519.996f));
  EXPECT_EQ(0x7C00, FloatToHalf(65520.0f));
  EXPECT_EQ(0x7C00, FloatToHalf(3e38f));
  EXPECT_EQ(0xFC00, FloatToHalf(-HUGE_VALF));
  EXPECT_EQ(0x0000, FloatToHalf(0x1p-25f));
  EXPECT_EQ(0x0001, FloatToHalf(0x1.8p-25f));
}

TEST(DTypeTest, FloatsRoundToTheNearestBFloat16TiesToEven) {
  for (uint32_t bits = 0; bits < 0x7F7F; ++bits) {
    const uint32_t middle = bits << 16 | 0x8000;
    const auto round = [](uint32_t float_bits) {
      return FloatToBFloat16(std::bit_cast<float>(float_bits));
    };
    ASSERT_EQ(bits, round(bits << 16));
    ASSERT_EQ(bits + bits % 2, round(middle));
    ASSERT_EQ(bits, round(middle - 1));
    ASSERT_EQ(bits + 1, round(middle + 1));
  }
  EXPECT_EQ(0x7F80, FloatToBFloat16(3.4e38f));
  EXPECT_TRUE(std::isnan(
      BFloat16ToFloat(FloatToBFloat16(std::bit_cast<float>(0x7F800001u)))));
}

TEST(DTypeTest, ArraysConvertFromAnyAddress) {
  std::mt19937 generator(1);
  constexpr int kCount = 37;
  for (const DType dtype :
       {DType::kF64, DType::kF32, DType::kF16, DType::kBF16}) {
    for (int offset = 0; offset < 3; ++offset) {
      std::vector<unsigned char> bytes(offset + kCount * SizeOf(dtype));
      std::vector<float> wanted(kCount), found(kCount);
      for (int i = 0; i < kCount; ++i) {
        const double value =
            std::ldexp(static_cast<double>(generator()), -30) - 2;
        wanted[i] = static_cast<float>(value);
        unsigned char* at = bytes.data() + offset + i * SizeOf(dtype);
        if (dtype == DType::kF64) {
          std::memcpy(at, &value, 8);
        } else if (dtype == DType::kF32) {
          std::memcpy(at, &wanted[i], 4);
        } else {
          wanted[i] = RoundTo(dtype, wanted[i]);
          const uint16_t bits = dtype == DType::kF16
                                    ? FloatToHalf(wanted[i])
                                    : FloatToBFloat16(wanted[i]);
          std::memcpy(at, &bits, 2);
        }
      }
      ToFloat(dtype, bytes.data() + offset, kCount, found.data());
      EXPECT_EQ(wanted, found) << Name(dtype);
    }
  }
}

}  // namespace
}  // namespace ounce::quant
