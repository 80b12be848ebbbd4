#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "quant/codes.h"
#include "quant/error_stats.h"
#include "quant/kernels/ks4_search.h"
#include "quant/registry.h"
#include "tests/quant/every_isa.h"
#include "tests/quant/held_codes.h"
#include "tests/quant/matrix_rows.h"

namespace ounce::quant {
namespace {

struct Found {
  float d = 0;
  std::vector<uint8_t> scales;
  std::vector<uint8_t> codes;
};

Found Search(Ks4Search search, const std::vector<float>& row) {
  const auto cols = static_cast<int64_t>(row.size());
  Found found = {.scales = std::vector<uint8_t>(Ks4Blocks(cols)),
                 .codes = std::vector<uint8_t>(cols)};
  std::vector<float> room(Ks4Room(cols), 7.0f);
  found.d = search(row.data(), cols, room.data(), found.scales.data(),
                   found.codes.data());
  return found;
}

std::vector<std::vector<float>> Rows() {
  std::vector<std::vector<float>> rows;
  for (const int64_t cols : {1, 31, 32, 33, 65, 576, 1000}) {
    rows.push_back(NormalValues(cols, 3, 0.02f));
  }
  std::vector<float> outliers = NormalValues(320, 4);
  outliers[5] = 300;
  outliers[200] = -40;
  rows.push_back(outliers);
  std::vector<float> holes = NormalValues(200, 5);
  std::fill(holes.begin() + 64, holes.begin() + 96, 0.0f);
  rows.push_back(holes);
  rows.push_back(std::vector<float>(70));
  for (const float deviation : {1e-30f, 1e37f}) {
    rows.push_back(NormalValues(100, 6, deviation));
  }
  return rows;
}

TEST(Ks4Test, AllInstructionSetsFindTheSameCodes) {
  for (const std::vector<float>& row : Rows()) {
    const Found wanted = Search(Ks4SearchPortable, row);
    for (const Isa isa : Isas()) {
      if (isa == Isa::kPortable) continue;
      const Found found =
          Search(isa == Isa::kAvx2 ? Ks4SearchAvx2 : Ks4SearchAvx512, row);
      EXPECT_EQ(wanted.d, found.d) << row.size() << IsaName(isa);
      EXPECT_EQ(wanted.scales, found.scales) << row.size() << IsaName(isa);
      EXPECT_EQ(wanted.codes, found.codes) << row.size() << IsaName(isa);
    }
  }
}

// Squared error of a block with a scale of its byte and the nearest levels.
double ErrorOf(const float* x, int64_t count, float d, int byte) {
  const double scale = double{d} * ((byte & 254) - 127);
  double error = 0;
  for (int64_t i = 0; i < count; ++i) {
    double least = HUGE_VAL;
    for (int k = 0; k < kKs4Levels; ++k) {
      least = std::min(least,
                       std::abs(x[i] - scale * kKs4Table[(byte & 1) * 16 + k]));
    }
    error += least * least;
  }
  return error;
}

TEST(Ks4Test, CodesAreNearestAndScalesHardlyWorseThanTheBest) {
  for (const std::vector<float>& row : Rows()) {
    const Found found = Search(Ks4SearchPortable, row);
    const auto cols = static_cast<int64_t>(row.size());
    double error = 0, searched = 0, best = 0;
    for (int64_t col = 0; col < cols; col += kKs4Block) {
      const int64_t count = std::min<int64_t>(kKs4Block, cols - col);
      const int byte = found.scales[col / kKs4Block];
      const double scale = double{found.d} * ((byte & 254) - 127);
      for (int64_t i = col; i < col + count; ++i) {
        const double difference =
            row[i] - scale * kKs4Table[(byte & 1) * 16 + found.codes[i]];
        error += difference * difference;
      }
      searched += ErrorOf(&row[col], count, found.d, byte);
      double least = HUGE_VAL;
      for (int other = 0; other < 256; ++other) {
        least = std::min(least, ErrorOf(&row[col], count, found.d, other));
      }
      best += least;
    }
    EXPECT_LE(error, searched * (1 + 1e-5)) << cols;
    // Of one to three weights many scales do, and few are tried.
    if (cols >= kKs4Block) {
      EXPECT_LE(searched, best * 1.04) << cols;
    }
  }
}

TEST(Ks4Test, ErrsLessThanItsNeighboursWithMoreBits) {
  const MatrixRows normal = NormalRows(64, 1024, 7);
  // With longer tails.
  std::vector<float> tails = NormalValues(64 * 1024, 8);
  for (float& value : tails) value *= 0.02f * std::abs(value);
  const MatrixRows long_tailed(64, 1024, tails);
  const auto error = [](const std::string& spec, const MatrixRows& weight) {
    return MeasureError(weight, **ParseMethodSpec(spec)->Encode(weight))
        ->relative_l2;
  };
  for (const MatrixRows* weight : {&normal, &long_tailed}) {
    for (const std::string other : {"bnb-nf4", "gguf-q4_0", "gguf-iq4_nl"}) {
      EXPECT_LT(error("ks4", *weight), 0.98 * error(other, *weight)) << other;
    }
  }
}

TEST(Ks4Test, TakesFourAndAQuarterBitsAndAFloatForEachRow) {
  const auto spec = ParseMethodSpec("ks4");
  EXPECT_EQ(spec->Format(6, 576, DType::kF32)->StoredBytes(6, 576),
            6 * (576 / 2 + 576 / 32 + 4));
  EXPECT_EQ(spec->Format(3, 40, DType::kF32)->StoredBytes(3, 40),
            3 * (20 + 2 + 4));
}

TEST(Ks4Test, ARowOfZerosStaysOne) {
  const std::vector<float> zeros(2 * 40);
  const MatrixRows weight(2, 40, zeros);
  EXPECT_EQ(ValuesOf(**ParseMethodSpec("ks4")->Encode(weight)), zeros);
}

}  // namespace
}  // namespace ounce::quant
