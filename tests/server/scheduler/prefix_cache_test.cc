#include "server/scheduler/prefix_cache.h"

#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace ounce::server {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

using Tokens = std::vector<int32_t>;

// Blocks of 2 tokens.
class PrefixCacheTest : public ::testing::Test {
 protected:
  PrefixCacheTest() { cache_.BeginVersion(1); }

  static Prefix Of(const Tokens& tokens, std::string_view scope = "a") {
    return {1, scope, tokens};
  }
  // Lists `blocks` for the tokens, which are theirs alone.
  void List(const Prefix& prefix, const std::vector<int32_t>& blocks) {
    for (size_t i = 0; i < blocks.size(); ++i) {
      const int32_t before = i == 0 ? -1 : blocks[i - 1];
      cache_.List(prefix, static_cast<int64_t>(i), before, blocks[i]);
    }
  }
  // The last block first.
  void SetIdle(std::vector<int32_t> blocks) {
    for (; !blocks.empty(); blocks.pop_back()) cache_.SetIdle(blocks.back());
  }

  PrefixCache cache_{10, 2, 5};
};

TEST_F(PrefixCacheTest, FindsTheFullBlocksThatBeginAlike) {
  const Tokens tokens = {1, 2, 3, 4, 5};
  List(Of(tokens), {7, 3});
  EXPECT_THAT(cache_.Find(Of(tokens)), ElementsAre(7, 3));
  EXPECT_THAT(cache_.Find(Of({1, 2, 3, 4, 9, 9, 9})), ElementsAre(7, 3));
  EXPECT_THAT(cache_.Find(Of({1, 2, 3})), ElementsAre(7));
  EXPECT_THAT(cache_.Find(Of({1, 2, 9, 4})), ElementsAre(7));
  EXPECT_THAT(cache_.Find(Of({1})), IsEmpty());
  EXPECT_THAT(cache_.Find(Of({9, 2, 3, 4})), IsEmpty());
}

TEST_F(PrefixCacheTest, ABlockStandsForAllThatIsBeforeIt) {
  List(Of({1, 2, 3, 4}), {0, 1});
  List(Of({5, 6, 3, 4}), {2, 3});
  EXPECT_THAT(cache_.Find(Of({1, 2, 3, 4})), ElementsAre(0, 1));
  EXPECT_THAT(cache_.Find(Of({5, 6, 3, 4})), ElementsAre(2, 3));
  EXPECT_THAT(cache_.Find(Of({3, 4})), IsEmpty()) << "not a beginning";
}

TEST_F(PrefixCacheTest, ScopesShareNothing) {
  List(Of({1, 2, 3, 4}, "a"), {0, 1});
  EXPECT_THAT(cache_.Find(Of({1, 2, 3, 4}, "b")), IsEmpty());
  List(Of({1, 2, 3, 4}, "b"), {2, 3});
  EXPECT_THAT(cache_.Find(Of({1, 2, 3, 4}, "b")), ElementsAre(2, 3));
  EXPECT_THAT(cache_.Find(Of({1, 2, 3, 4}, "a")), ElementsAre(0, 1));
  EXPECT_EQ(cache_.List(Of({8, 9}, ""), 0, -1, 4), -1);
  EXPECT_FALSE(cache_.IsListed(4)) << "nobody may share it";
  EXPECT_THAT(cache_.Find(Of({8, 9}, "")), IsEmpty());
}

TEST_F(PrefixCacheTest, TheSameIsListedOnce) {
  List(Of({1, 2, 3, 4}), {0, 1});
  EXPECT_EQ(cache_.List(Of({1, 2}), 0, -1, 5), 0);
  EXPECT_EQ(cache_.List(Of({1, 2, 3, 4}), 1, 0, 6), 1);
  EXPECT_FALSE(cache_.IsListed(5));
  EXPECT_FALSE(cache_.IsListed(6));
  EXPECT_EQ(cache_.List(Of({1, 2, 3, 5}), 1, 0, 6), 6);
  EXPECT_THAT(cache_.Find(Of({1, 2, 3, 5})), ElementsAre(0, 6));
}

TEST_F(PrefixCacheTest, ForgetsWhatHasBeenIdleForLongest) {
  List(Of({1, 2, 3, 4}), {0, 1});
  List(Of({5, 6}), {2});
  SetIdle({0, 1});
  SetIdle({2});
  EXPECT_EQ(cache_.num_idle(), 3);
  cache_.SetInUse(0);  // and 1 with it, as every sequence does
  cache_.SetInUse(1);
  SetIdle({0, 1});
  EXPECT_EQ(cache_.Evict(), 2);
  EXPECT_THAT(cache_.Find(Of({5, 6})), IsEmpty());
  EXPECT_EQ(cache_.Evict(), 1) << "the end of a chain goes first";
  EXPECT_THAT(cache_.Find(Of({1, 2, 3, 4})), ElementsAre(0));
  EXPECT_EQ(cache_.Evict(), 0);
  EXPECT_EQ(cache_.num_evicted(), 3);
  EXPECT_EQ(cache_.num_idle(), 0);
}

TEST_F(PrefixCacheTest, WhatIsForgottenComesNotBackThroughItsFollowers) {
  List(Of({1, 2, 3, 4}), {0, 1});
  cache_.SetIdle(0);  // though the one behind it is in use
  EXPECT_EQ(cache_.Evict(), 0);
  List(Of({1, 2}), {5});
  EXPECT_THAT(cache_.Find(Of({1, 2, 3, 4})), ElementsAre(5))
      << "block 1 was computed behind block 0";
}

TEST_F(PrefixCacheTest, SaysWhenTooManyAreIdle) {
  for (int32_t i = 0; i < 6; ++i) List(Of({i, i}), {i});
  for (int32_t i = 0; i < 5; ++i) cache_.SetIdle(i);
  EXPECT_FALSE(cache_.has_too_many());
  cache_.SetIdle(5);
  EXPECT_TRUE(cache_.has_too_many());
}

TEST_F(PrefixCacheTest, ServesOneVersionAtATime) {
  const Tokens tokens = {1, 2, 3, 4};
  List(Of(tokens), {0, 1});
  SetIdle({1});
  EXPECT_THAT(cache_.BeginVersion(1), IsEmpty()) << "it has begun";
  EXPECT_THAT(cache_.Find({2, "a", tokens}), IsEmpty());
  EXPECT_THAT(cache_.BeginVersion(2), ElementsAre(1));
  EXPECT_EQ(cache_.num_idle(), 0);
  EXPECT_FALSE(cache_.IsListed(0));
  EXPECT_THAT(cache_.Find({1, "a", tokens}), IsEmpty());
  EXPECT_THAT(cache_.Find({2, "a", tokens}), IsEmpty());
  EXPECT_EQ(cache_.List(Of(tokens), 0, -1, 0), -1) << "the old version's";
}

TEST(PrefixCacheOffTest, ListsNothing) {
  PrefixCache cache(10, 2, 0);
  cache.BeginVersion(1);
  const Tokens tokens = {1, 2};
  EXPECT_EQ(cache.List({1, "a", tokens}, 0, -1, 3), -1);
  EXPECT_THAT(cache.Find({1, "a", tokens}), IsEmpty());
}

}  // namespace
}  // namespace ounce::server
