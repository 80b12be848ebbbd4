#include "quant/scratch.h"

#include "gtest/gtest.h"

namespace ounce::quant {
namespace {

TEST(ScratchTest, TakesAlignedPiecesThatDoNotOverlap) {
  auto scratch = Scratch::Create(4096);
  ASSERT_TRUE(scratch.ok());
  char* first = scratch->Take<char>(1);
  float* second = scratch->Take<float>(17);
  double* third = scratch->Take<double>(0);
  EXPECT_EQ(0u, reinterpret_cast<uintptr_t>(first) % 64);
  EXPECT_EQ(first + 64, reinterpret_cast<char*>(second));
  EXPECT_EQ(first + 192, reinterpret_cast<char*>(third));
}

TEST(ScratchTest, AScopeGivesBackAndThePeakStays) {
  auto scratch = Scratch::Create(4096);
  ASSERT_TRUE(scratch.ok());
  scratch->Take<char>(64);
  char* inside = nullptr;
  {
    ScratchScope scope(*scratch);
    inside = scratch->Take<char>(1000);
  }
  EXPECT_EQ(64u, scratch->mark());
  EXPECT_EQ(64u + 1024u, scratch->peak());
  EXPECT_EQ(inside, scratch->Take<char>(1));
}

TEST(ScratchTest, ACountingOneHasRoomForAnythingAndKnowsThePeak) {
  Scratch counting = Scratch::Counting();
  EXPECT_TRUE(counting.counting());
  const float* first = counting.Take<float>(17);
  EXPECT_NE(nullptr, first);
  {
    ScratchScope scope(counting);
    const char* inside = counting.Take<char>(int64_t{1} << 40);
    EXPECT_EQ(reinterpret_cast<const char*>(first) + 128, inside);
  }
  EXPECT_EQ(128u, counting.mark());
  EXPECT_EQ(128u + (uint64_t{1} << 40), counting.peak());
}

TEST(ScratchDeathTest, RunningOutIsABug) {
  auto scratch = Scratch::Create(128);
  ASSERT_TRUE(scratch.ok());
  scratch->Take<char>(128);
  EXPECT_DEATH(scratch->Take<char>(1), "scratch sized too small");
}

}  // namespace
}  // namespace ounce::quant
