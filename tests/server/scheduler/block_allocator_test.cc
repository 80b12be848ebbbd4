#include "server/scheduler/block_allocator.h"

#include <deque>
#include <numeric>
#include <set>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace ounce::server {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;
using ::testing::UnorderedElementsAre;

TEST(BlockAllocatorTest, HandsOutEveryBlockOnce) {
  BlockAllocator blocks({.num_blocks = 5});
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
  BlockAllocator blocks({.num_blocks = 3});
  std::vector<int32_t> held;
  EXPECT_FALSE(blocks.Allocate(4, &held));
  EXPECT_TRUE(held.empty());
  EXPECT_EQ(blocks.num_free(), 3);
}

TEST(BlockAllocatorTest, TakesBlocksBack) {
  BlockAllocator blocks({.num_blocks = 3});
  std::vector<int32_t> held;
  ASSERT_TRUE(blocks.Allocate(3, &held));
  blocks.Free(absl::MakeConstSpan(held).subspan(1, 1));
  std::vector<int32_t> again;
  ASSERT_TRUE(blocks.Allocate(1, &again));
  EXPECT_EQ(again, std::vector<int32_t>{held[1]});
}

TEST(BlockAllocatorTest, SaysWhichAreFreeAroundOthers) {
  using Blocks = std::vector<int32_t>;
  BlockAllocator blocks({.num_blocks = 12});
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
  BlockAllocator blocks({.num_blocks = 5, .may_hold = [&](int64_t num_held) {
                           told.push_back(num_held);
                           return num_held <= most;
                         }});
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
  BlockAllocator blocks({.num_blocks = 2});
  std::vector<int32_t> held;
  ASSERT_TRUE(blocks.Allocate(1, &held));
  blocks.Free(held);
  EXPECT_DEATH(blocks.Free(held), "nobody holds");
}

// Blocks of 4 tokens; at most 4 are kept.
class KeepingBlocksTest : public ::testing::Test {
 protected:
  KeepingBlocksTest() { blocks_.BeginVersion(1); }

  // `num_tokens` tokens from `first` on.
  Prefix Of(int32_t first, int64_t num_tokens) {
    std::vector<int32_t>& tokens = tokens_.emplace_back(num_tokens);
    std::iota(tokens.begin(), tokens.end(), first);
    return {1, "peer", tokens};
  }
  // Blocks that somebody holds, all of whose tokens are computed.
  std::vector<int32_t> Compute(const Prefix& prefix) {
    std::vector<int32_t> held = blocks_.Adopt(prefix);
    const auto first = static_cast<int64_t>(held.size());
    EXPECT_TRUE(blocks_.Allocate(
        (static_cast<int64_t>(prefix.tokens.size()) + 3) / 4 - first, &held));
    EXPECT_THAT(blocks_.List(prefix, first, &held), IsEmpty());
    return held;
  }

  int64_t may_hold_ = 8;
  int64_t told_held_ = 0;
  int64_t told_kept_ = 0;
  std::deque<std::vector<int32_t>> tokens_;
  BlockAllocator blocks_{
      {.num_blocks = 8,
       .block_tokens = 4,
       .may_hold =
           [this](int64_t num_held) {
             if (num_held > may_hold_) return false;
             told_held_ = num_held;
             return true;
           },
       .max_kept = 4,
       .on_kept = [this](int64_t more) { told_kept_ += more; }}};
};

TEST_F(KeepingBlocksTest, KeepsFullBlocksForWhoBeginsAlike) {
  const std::vector<int32_t> first = Compute(Of(0, 11));
  EXPECT_THAT(blocks_.Free(first), ElementsAre(first[2])) << "it is not full";
  EXPECT_EQ(blocks_.num_kept(), 2);
  EXPECT_EQ(blocks_.num_held(), 0);
  EXPECT_EQ(blocks_.num_free(), 8) << "kept blocks are free";
  EXPECT_EQ(told_held_, 0);
  EXPECT_EQ(told_kept_, 2);
  EXPECT_THAT(blocks_.Adopt(Of(0, 20)), ElementsAre(first[0], first[1]));
  EXPECT_EQ(blocks_.num_kept(), 0);
  EXPECT_EQ(told_held_, 2);
  EXPECT_EQ(told_kept_, 0);
}

TEST_F(KeepingBlocksTest, BlocksOfSeveralAreFreeWhenTheLastLeaves) {
  const std::vector<int32_t> first = Compute(Of(0, 8));
  const std::vector<int32_t> second = Compute(Of(0, 10));
  EXPECT_EQ(blocks_.num_holders(first[0]), 2);
  EXPECT_EQ(blocks_.num_held(), 3);
  EXPECT_THAT(blocks_.Free(first), IsEmpty());
  EXPECT_EQ(blocks_.num_held(), 3);
  EXPECT_THAT(blocks_.Free(second), ElementsAre(second[2]));
  EXPECT_EQ(blocks_.num_held(), 0);
  EXPECT_EQ(blocks_.num_kept(), 2);
}

TEST_F(KeepingBlocksTest, WhoComputesTheSameTakesWhatIsThere) {
  const std::vector<int32_t> first = Compute(Of(0, 8));
  std::vector<int32_t> second;
  ASSERT_TRUE(blocks_.Allocate(2, &second));
  const std::vector<int32_t> own = second;
  EXPECT_THAT(blocks_.List(Of(0, 8), 0, &second),
              UnorderedElementsAre(own[0], own[1]));
  EXPECT_EQ(second, first);
  EXPECT_EQ(blocks_.num_held(), 2);
  EXPECT_EQ(told_held_, 2);
}

TEST_F(KeepingBlocksTest, KeptBlocksGoBeforeAnyoneLacksOne) {
  blocks_.Free(Compute(Of(0, 16)));
  EXPECT_EQ(blocks_.num_kept(), 4);
  std::vector<int32_t> held;
  ASSERT_TRUE(blocks_.Allocate(4, &held));
  EXPECT_EQ(blocks_.num_kept(), 4) << "free ones go first";
  ASSERT_TRUE(blocks_.Allocate(3, &held));
  EXPECT_EQ(blocks_.num_kept(), 1);
  EXPECT_EQ(told_kept_, 1);
  EXPECT_EQ(blocks_.num_evicted(), 3);
  EXPECT_THAT(blocks_.Find(Of(0, 16)), SizeIs(1))
      << "the last of a chain go first";
  EXPECT_FALSE(blocks_.Allocate(2, &held));
  EXPECT_EQ(blocks_.num_kept(), 1);
}

TEST_F(KeepingBlocksTest, KeepsNoMoreThanItMay) {
  const std::vector<int32_t> old = Compute(Of(0, 8));
  blocks_.Free(old);
  const std::vector<int32_t> next = Compute(Of(100, 12));
  EXPECT_THAT(blocks_.Free(next), ElementsAre(old[1]))
      << "the one kept for longest goes";
  EXPECT_EQ(blocks_.num_kept(), 4);
  EXPECT_EQ(told_kept_, 4);
  EXPECT_EQ(blocks_.num_evicted(), 1);
}

TEST_F(KeepingBlocksTest, GivesUpWhatIsKeptAndNothingElse) {
  const std::vector<int32_t> held = Compute(Of(100, 8));
  const std::vector<int32_t> kept = Compute(Of(0, 12));
  blocks_.Free(kept);
  std::vector<int32_t> released;
  const auto release = [&](absl::Span<const int32_t> blocks) {
    released.assign(blocks.begin(), blocks.end());
  };
  EXPECT_EQ(blocks_.GiveUp(2, 0, release), 2);
  EXPECT_THAT(released, UnorderedElementsAre(kept[1], kept[2]));
  EXPECT_EQ(blocks_.GiveUp(5, 8, release), 1);
  EXPECT_THAT(released, SizeIs(6)) << "all but what is held";
  EXPECT_EQ(blocks_.GiveUp(1, 0, release), 0);
  EXPECT_EQ(told_kept_, 3) << "whoever asks counts them";
  EXPECT_EQ(blocks_.num_held(), 2);
  EXPECT_EQ(blocks_.num_free(), 6);
}

TEST_F(KeepingBlocksTest, AnotherVersionHasNothingOfTheOld) {
  const std::vector<int32_t> kept = Compute(Of(0, 8));
  blocks_.Free(kept);
  const std::vector<int32_t> held = Compute(Of(100, 8));
  EXPECT_THAT(blocks_.BeginVersion(2), UnorderedElementsAre(kept[0], kept[1]));
  EXPECT_EQ(told_kept_, 0);
  EXPECT_EQ(blocks_.num_evicted(), 0);
  EXPECT_THAT(blocks_.Find(Of(0, 8)), IsEmpty());
  EXPECT_THAT(blocks_.Free(held), UnorderedElementsAre(held[0], held[1]));
  std::vector<int32_t> late;
  ASSERT_TRUE(blocks_.Allocate(1, &late));
  EXPECT_THAT(blocks_.List(Of(0, 4), 0, &late), IsEmpty());
  EXPECT_EQ(blocks_.Free(late), late) << "the old version's are for nobody";
}

TEST_F(KeepingBlocksTest, WithoutTheMemoryNothingIsAdopted) {
  blocks_.Free(Compute(Of(0, 8)));
  may_hold_ = 1;
  EXPECT_THAT(blocks_.Adopt(Of(0, 8)), IsEmpty());
  EXPECT_EQ(blocks_.num_kept(), 2);
  EXPECT_EQ(told_kept_, 2);
  EXPECT_EQ(told_held_, 0);
}

}  // namespace
}  // namespace ounce::server
