#include "quant/packed_weight.h"

#include <malloc.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <vector>

#include "gtest/gtest.h"
#include "quant/registry.h"
#include "tests/quant/matrix_rows.h"
#include "tests/testing/heap_tells.h"

namespace ounce::quant {
namespace {

constexpr TileLayout kInt8Layout = {.form = TileForm::kInt8,
                                    .tile_bytes = 1024,
                                    .unpack = {TileAsIs},
                                    .unpack_row = RowOfBytes};

const void* Other(const std::byte*, void* scratch) { return scratch; }

TEST(TileLayoutTest, AMissingUnpackerIsTheOneOfTheNextLowerInstructionSet) {
  const TileLayout layout = {
      TileForm::kFloat, 4096, {TileAsIs, nullptr, Other}, RowOfFloats};
  EXPECT_EQ(TileAsIs, layout.UnpackFor(Isa::kPortable));
  EXPECT_EQ(TileAsIs, layout.UnpackFor(Isa::kAvx2));
  EXPECT_EQ(Other, layout.UnpackFor(Isa::kAvx512));
  EXPECT_EQ(Other, layout.UnpackFor(Isa::kAmx));
}

TEST(PackedWeightTest, IsZeroAndHoldsWholeTilesScalesAndSums) {
  auto weight = PackedWeight::Create(kInt8Layout, 17, 65);
  ASSERT_TRUE(weight.ok());
  EXPECT_EQ(2, weight->panels());
  EXPECT_EQ(2, weight->blocks());
  EXPECT_EQ(4 * 1024 + 32 * 8, weight->resident_bytes());
  EXPECT_TRUE(std::all_of(weight->panel(0),
                          weight->panel(0) + weight->resident_bytes(),
                          [](std::byte b) { return b == std::byte{0}; }));
  EXPECT_EQ(weight->panel(1), weight->mutable_tile(1, 0));
  EXPECT_EQ(weight->panel(0) + 4096,
            reinterpret_cast<const std::byte*>(weight->scales()));
  EXPECT_EQ(weight->scales() + 32,
            reinterpret_cast<const float*>(weight->code_sums()));
}

constexpr TileLayout kRunsLayout = {.form = TileForm::kRuns,
                                    .tile_bytes = 1024,
                                    .unpack = {TileAsIs},
                                    .unpack_row = RowOfBytes};

TEST(PackedWeightTest, HoldsScalesAndMinimaOfEachRun) {
  for (const auto& [run_cols, runs] :
       {std::pair{16, 8}, {32, 4}, {64, 2}, {128, 1}, {256, 1}}) {
    RunGeometry geometry = {.cols = run_cols};
    EXPECT_EQ(
        4 * 1024 + 32 * runs * 4,
        PackedWeight::Create(kRunsLayout, 17, 65, geometry)->resident_bytes());
    geometry.minimum.emplace();
    const auto weight = PackedWeight::Create(kRunsLayout, 17, 65, geometry);
    EXPECT_EQ(runs, weight->runs_per_row());
    EXPECT_EQ(4 * 1024 + 32 * runs * 8, weight->resident_bytes());
    EXPECT_EQ(weight->panel(0) + 4096, weight->run_scales().values);
    EXPECT_EQ(weight->run_scales().values + 32 * runs * 4,
              weight->run_minima().values);
  }
  const auto weight = PackedWeight::Create(kRunsLayout, 1, 1, {.cols = 64});
  EXPECT_EQ(nullptr, weight->run_minima().values);
  EXPECT_EQ(nullptr, weight->run_zeros());
}

TEST(PackedWeightTest, HoldsNumbersOfRunsInTheirForm) {
  // Three panels, 5 blocks: 20 runs, 5 of 64 columns, 2 of 256.
  RunGeometry geometry = {.cols = 16,
                          .scale = {.type = NumberType::kByte,
                                    .coarse_type = NumberType::kFloat16,
                                    .coarse_cols = 256,
                                    .has_plus = true},
                          .minimum = NumberForm{.type = NumberType::kBFloat16},
                          .zeros = RunGeometry::Zeros::kOwn};
  auto weight = PackedWeight::Create(kRunsLayout, 33, 320, geometry);
  ASSERT_TRUE(weight.ok());
  EXPECT_EQ(20, weight->runs_per_row());
  const int64_t tiles = 15 * 1024, bytes = 48 * 20, coarse = 48 * 2 * 2;
  const std::byte* const begin = weight->panel(0);
  EXPECT_EQ(begin + tiles, weight->run_scales().values);
  EXPECT_EQ(begin + tiles + bytes, weight->run_scales().coarse);
  EXPECT_EQ(begin + tiles + bytes + coarse,
            reinterpret_cast<const std::byte*>(weight->run_scales().plus));
  EXPECT_EQ(begin + tiles + bytes + coarse + 48 * 4,
            weight->run_minima().values);
  EXPECT_EQ(tiles + bytes + coarse + 48 * 4 + bytes * 2 + bytes,
            weight->resident_bytes());
  geometry.zeros = RunGeometry::Zeros::kInScales;
  weight = PackedWeight::Create(kRunsLayout, 33, 320, geometry);
  EXPECT_EQ(reinterpret_cast<const std::byte*>(weight->run_zeros()),
            weight->run_scales().values);
}

TEST(PackedWeightTest, AnOutlineHasALayoutAndAShapeOnly) {
  const PackedWeight outline =
      PackedWeight::Outline(kRunsLayout, 17, 65, {.cols = 32});
  EXPECT_TRUE(outline.is_outline());
  EXPECT_EQ(0, outline.resident_bytes());
  EXPECT_EQ(17, outline.rows());
  EXPECT_EQ(65, outline.cols());
  EXPECT_EQ(4, outline.runs_per_row());
  EXPECT_FALSE(PackedWeight::Create(kInt8Layout, 1, 1)->is_outline());
}

TEST(PackedWeightTest, RefusesSizesBeyondMemory) {
  for (const int64_t side : {int64_t{1} << 30, int64_t{1} << 40}) {
    EXPECT_EQ(absl::StatusCode::kResourceExhausted,
              PackedWeight::Create(kInt8Layout, side, side).status().code());
    EXPECT_EQ(absl::StatusCode::kResourceExhausted,
              PackedWeight::Create(kRunsLayout, side, side,
                                   {.cols = 16, .minimum = NumberForm{}})
                  .status()
                  .code());
  }
}

TEST(PackedWeightTest, RefusesEmptyShapes) {
  for (const auto& [rows, cols] : {std::pair{0, 5}, {5, 0}, {-1, 5}}) {
    EXPECT_EQ(absl::StatusCode::kInvalidArgument,
              PackedWeight::Create(kInt8Layout, rows, cols).status().code());
  }
}

TEST(PackedWeightTest, PlacesCodesAsTheHeaderDraws) {
  auto weight = PackedWeight::Create(kInt8Layout, 17, 65);
  ASSERT_TRUE(weight.ok());
  // Row 16, col 64: panel 1, block 1, group 0, row 0, col 0.
  *reinterpret_cast<int8_t*>(weight->mutable_tile(1, 1)) = -3;
  // Row 2, col 7: panel 0, block 0, group 1, row 2, col 3.
  reinterpret_cast<int8_t*>(weight->mutable_tile(0, 0))[64 + 2 * 4 + 3] = 5;
  weight->mutable_scales()[16] = 2.0f;
  weight->mutable_scales()[2] = 0.5f;
  std::vector<float> values(17 * 65);
  weight->Dequantize(0, 17, values.data());
  for (int row = 0; row < 17; ++row) {
    for (int col = 0; col < 65; ++col) {
      const float wanted = row == 16 && col == 64 ? -6.0f
                           : row == 2 && col == 7 ? 2.5f
                                                  : 0.0f;
      EXPECT_EQ(wanted, values[row * 65 + col]);
    }
  }
}

TEST(PackedWeightTest, DequantizesAnyRangeOfRows) {
  const MatrixRows rows = NormalRows(50, 70, 1);
  for (const QuantMethod* method : AllMethods()) {
    const auto spec = ParseMethodSpec(method->name());
    const auto packed = method->Quantize(rows, spec->params);
    ASSERT_TRUE(packed.ok());
    std::vector<float> all(50 * 70);
    packed->Dequantize(0, 50, all.data());
    for (const auto& [first, count] :
         {std::pair{0, 1}, {15, 2}, {16, 16}, {3, 40}, {49, 1}, {50, 0}}) {
      std::vector<float> some(count * 70);
      packed->Dequantize(first, count, some.data());
      EXPECT_TRUE(
          std::equal(some.begin(), some.end(), all.begin() + first * 70))
          << method->name();
    }
  }
}

TEST(PackedWeightTest, GivesItsMemoryBackWithTheLastOwner) {
  constexpr int64_t kMegabyte = 1 << 20;
  const MatrixRows rows = NormalRows(4096, 1024, 2);
  for (const QuantMethod* method : AllMethods()) {
    const auto spec = ParseMethodSpec(method->name());
    malloc_trim(0);  // what encoding left on the heap is not the weight's
    const int64_t before = ResidentBytes();
    auto packed = method->Quantize(rows, spec->params);
    ASSERT_TRUE(packed.ok());
    const int64_t bytes = packed->resident_bytes();
    auto first = std::make_shared<const PackedWeight>(*std::move(packed));
    auto second = first;
    first.reset();
    const int64_t held = ResidentBytes();
    EXPECT_GE(held, before + bytes - kMegabyte) << method->name();
    second.reset();
    EXPECT_LE(ResidentBytes(), held - bytes + kMegabyte) << method->name();
    malloc_trim(0);
    if (testing::kHeapTells) {
      EXPECT_LE(ResidentBytes(), before + kMegabyte) << method->name();
    }
  }
}

}  // namespace
}  // namespace ounce::quant
