#include "server/scheduler/picture_memory.h"

#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/scheduler/refusal.h"
#include "tests/testing/status_matchers.h"

namespace ounce::server {
namespace {

using ::ounce::testing::StatusIs;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Pair;

TEST(PictureMemoryTest, RefusesForNowWhatOthersLeaveNoRoomFor) {
  PictureMemory memory(100);
  ASSERT_OK_AND_ASSIGN(PictureMemory::Reservation first, memory.Reserve(70));
  const absl::Status refused = memory.Reserve(31).status();
  EXPECT_THAT(refused,
              StatusIs(absl::StatusCode::kResourceExhausted,
                       AllOf(HasSubstr("31"), HasSubstr("100"),
                             HasSubstr("30 of --picture_memory_bytes"))));
  EXPECT_TRUE(RetryAfter(refused).has_value());
  EXPECT_OK(memory.Reserve(30));
  first = {};
  EXPECT_OK(memory.Reserve(100));
}

TEST(PictureMemoryTest, RefusesForGoodWhatCanNeverFit) {
  PictureMemory memory(100);
  const absl::Status refused = memory.Reserve(101).status();
  EXPECT_THAT(refused,
              StatusIs(absl::StatusCode::kResourceExhausted,
                       AllOf(HasSubstr("101"), HasSubstr("100 in all"))));
  EXPECT_FALSE(RetryAfter(refused).has_value());
}

TEST(PictureMemoryTest, LeavesSomeForOtherPeersHoweverMuchOneAsksFor) {
  PictureMemory memory(800);
  std::vector<PictureMemory::Reservation> hogs;
  absl::Status refused;
  while (true) {
    auto more = memory.Reserve(10, "hog");
    refused = more.status();
    if (!more.ok()) break;
    hogs.push_back(*std::move(more));
  }
  EXPECT_THAT(refused, StatusIs(absl::StatusCode::kResourceExhausted,
                                AllOf(HasSubstr("this peer"),
                                      HasSubstr("hold 700 bytes"),
                                      HasSubstr("kept for others"))));
  EXPECT_TRUE(RetryAfter(refused).has_value());
  EXPECT_EQ(memory.used_bytes(), 700) << "7/8 of it";
  // Anybody's first may take all that is left, the next one must leave some.
  {
    ASSERT_OK_AND_ASSIGN(const auto first, memory.Reserve(100, "other"));
    EXPECT_FALSE(memory.Reserve(1, "other").ok());
  }
  ASSERT_OK_AND_ASSIGN(const auto small, memory.Reserve(40, "other"));
  EXPECT_OK(memory.Reserve(40, "other"));
  // What the hog gives back it may have again; the server itself has no share.
  EXPECT_FALSE(memory.Reserve(10, "hog").ok());
  hogs.resize(hogs.size() / 2);
  EXPECT_OK(memory.Reserve(10, "hog"));
  EXPECT_OK(memory.Reserve(memory.capacity_bytes() - memory.used_bytes()));
}

TEST(PictureMemoryTest, TakesOfTheServersMemory) {
  MemoryBudget budget({.limit_bytes = 80});
  PictureMemory memory(
      100, [](int64_t, int64_t) {}, &budget);
  {
    ASSERT_OK_AND_ASSIGN(PictureMemory::Reservation first, memory.Reserve(60));
    EXPECT_EQ(budget.state().used[MemoryShare::kPictures], 60);
    const absl::Status refused = memory.Reserve(21).status();
    EXPECT_THAT(refused, StatusIs(absl::StatusCode::kResourceExhausted,
                                  AllOf(HasSubstr("memory is short"),
                                        HasSubstr("20 are free"))));
    EXPECT_TRUE(RetryAfter(refused).has_value());
    EXPECT_EQ(memory.used_bytes(), 60);
    first.Shrink(5);
    EXPECT_OK(memory.Reserve(75));
  }
  EXPECT_EQ(budget.state().used.total(), 0);
}

TEST(PictureMemoryTest, CountsWhatReservationsHoldWhereverTheyGo) {
  std::vector<std::pair<int64_t, int64_t>> told;
  PictureMemory memory(100, [&](int64_t pictures, int64_t bytes) {
    told.emplace_back(pictures, bytes);
  });
  {
    ASSERT_OK_AND_ASSIGN(PictureMemory::Reservation first, memory.Reserve(70));
    PictureMemory::Reservation moved = std::move(first);
    moved.Shrink(20);
    EXPECT_EQ(moved.bytes(), 20);
    EXPECT_EQ(memory.used_bytes(), 20);
    ASSERT_OK_AND_ASSIGN(const PictureMemory::Reservation second,
                         memory.Reserve(5));
  }
  EXPECT_EQ(memory.used_bytes(), 0);
  EXPECT_THAT(told, ElementsAre(Pair(1, 70), Pair(1, 20), Pair(2, 25),
                                Pair(1, 20), Pair(0, 0)));
}

}  // namespace
}  // namespace ounce::server
