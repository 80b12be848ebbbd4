#include "quant/scratch_array.h"

#include <cstdint>

#include "gtest/gtest.h"

namespace ounce::quant {
namespace {

TEST(ScratchArrayTest, LiesInScratch) {
  auto scratch = Scratch::Create(4096);
  ASSERT_TRUE(scratch.ok());
  auto* first = scratch->Take<int64_t>(1);
  const ScratchArray<int64_t> array(10, *scratch);
  EXPECT_EQ(10u, array.span().size());
  EXPECT_EQ(first + 8, array.span().data());
  EXPECT_EQ(64u + 128u, scratch->mark());
}

TEST(ScratchArrayTest, ACountingPassCountsItAndMayWriteIt) {
  Scratch counting = Scratch::Counting();
  const ScratchArray<int64_t> array(10, counting);
  EXPECT_EQ(128u, counting.peak());
  for (size_t i = 0; i < 10; ++i) array[i] = static_cast<int64_t>(i);
  EXPECT_EQ(9, array.span().back());
}

}  // namespace
}  // namespace ounce::quant
