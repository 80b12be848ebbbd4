#include "server/scheduler/block_allocator.h"

#include <set>
#include <vector>

#include "gtest/gtest.h"

namespace ounce::server {
namespace {

TEST(BlockAllocatorTest, HandsOutEveryBlockOnce) {
  BlockAllocator blocks(5);
  std::vector<int32_t> first, second;
  ASSERT_TRUE(blocks.Allocate(2, &first));
  ASSERT_TRUE(blocks.Allocate(3, &second));
  std::set<int32_t> all(first.begin(), first.end());
  all.insert(second.begin(), second.end());
  EXPECT_EQ(all, (std::set<int32_t>{0, 1, 2, 3, 4}));
  EXPECT_EQ(blocks.num_free(), 0);
  EXPECT_EQ(blocks.num_held(), 5);
}

TEST(BlockAllocatorTest, GivesAllOrNothing) {
  BlockAllocator blocks(3);
  std::vector<int32_t> held;
  EXPECT_FALSE(blocks.Allocate(4, &held));
  EXPECT_TRUE(held.empty());
  EXPECT_EQ(blocks.num_free(), 3);
}

TEST(BlockAllocatorTest, TakesBlocksBack) {
  BlockAllocator blocks(3);
  std::vector<int32_t> held;
  ASSERT_TRUE(blocks.Allocate(3, &held));
  blocks.Free(absl::MakeConstSpan(held).subspan(1, 1));
  std::vector<int32_t> again;
  ASSERT_TRUE(blocks.Allocate(1, &again));
  EXPECT_EQ(again, std::vector<int32_t>{held[1]});
}

TEST(BlockAllocatorTest, SaysWhichAreFreeAroundOthers) {
  using Blocks = std::vector<int32_t>;
  BlockAllocator blocks(12);
  Blocks held;
  ASSERT_TRUE(blocks.Allocate(8, &held));
  blocks.Free({1, 2, 6, 7});
  EXPECT_EQ(blocks.FreeAround({2}, 0), Blocks({2}));
  EXPECT_EQ(blocks.FreeAround({3}, 0), Blocks());
  EXPECT_EQ(blocks.FreeAround({7, 1, 6, 7}, 2), Blocks({1, 2, 6, 7, 8, 9}));
  EXPECT_EQ(blocks.FreeAround({6}, 100), Blocks({1, 2, 6, 7, 8, 9, 10, 11}));
  EXPECT_EQ(blocks.FreeAround({}, 100), Blocks());
}

TEST(BlockAllocatorTest, AsksWhetherTheMemoryMayBeHad) {
  int64_t most = 2;
  std::vector<int64_t> told;
  BlockAllocator blocks(5, [&](int64_t num_held) {
    told.push_back(num_held);
    return num_held <= most;
  });
  std::vector<int32_t> held;
  ASSERT_TRUE(blocks.Allocate(2, &held));
  EXPECT_FALSE(blocks.Allocate(1, &held));
  EXPECT_EQ(held.size(), 2u);
  EXPECT_EQ(blocks.num_held(), 2);
  most = 3;
  ASSERT_TRUE(blocks.Allocate(1, &held));
  blocks.Free(held);
  EXPECT_EQ(told, (std::vector<int64_t>{2, 3, 3, 0}));
}

TEST(BlockAllocatorDeathTest, NoticesABlockThatIsFreedTwice) {
  testing::FLAGS_gtest_death_test_style = "threadsafe";
  BlockAllocator blocks(2);
  std::vector<int32_t> held;
  ASSERT_TRUE(blocks.Allocate(1, &held));
  blocks.Free(held);
  EXPECT_DEATH(blocks.Free(held), "nobody holds");
}

}  // namespace
}  // namespace ounce::server
