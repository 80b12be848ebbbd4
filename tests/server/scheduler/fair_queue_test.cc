#include "server/scheduler/fair_queue.h"

#include <algorithm>
#include <cstddef>
#include <cstdlib>
#include <memory>
#include <new>
#include <string>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace {

// How many more allocations succeed before one fails; -1: all do.
int allocations_left = -1;

}  // namespace

[[gnu::noinline]] void* operator new(size_t size) {
  if (allocations_left >= 0 && allocations_left-- == 0) throw std::bad_alloc();
  void* const memory = std::malloc(std::max(size, size_t{1}));
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}
[[gnu::noinline]] void operator delete(void* memory) noexcept {
  std::free(memory);
}
[[gnu::noinline]] void operator delete(void* memory, size_t) noexcept {
  std::free(memory);
}

namespace ounce::server {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

struct Item {
  const std::string& peer() const { return whose; }
  int id = 0;
  std::string whose;
};

class FairQueueTest : public ::testing::Test {
 protected:
  void Push(int id, const std::string& peer) {
    queue_.Push(std::make_unique<Item>(Item{id, peer}));
  }
  // Takes all, as their turns come.
  std::vector<int> TakeAll() {
    std::vector<int> ids;
    while (const auto item = queue_.TakeNext()) ids.push_back(item->id);
    return ids;
  }
  std::vector<int> Seen() const {
    std::vector<int> ids;
    queue_.ForEach([&](const Item& item) {
      ids.push_back(item.id);
      return true;
    });
    return ids;
  }
  // Into a queue that is full as it is: who makes room, or -1 for nobody.
  int PushIntoFull(int id, const std::string& peer) {
    auto item = std::make_unique<Item>(Item{id, peer});
    const bool placed = queue_.PushWithin(queue_.size(), item);
    EXPECT_EQ(placed, item->id != id);
    return placed ? item->id : -1;
  }

  FairQueue<Item> queue_;
};

TEST_F(FairQueueTest, KnowsWhatComesBeforeANewcomerInAnyCase) {
  const auto ahead = [&](const std::string& peer) {
    std::vector<int> ids;
    queue_.ForEachAhead(peer,
                        [&](const Item& item) { ids.push_back(item.id); });
    return ids;
  };
  for (int id = 1; id <= 3; ++id) Push(id, "a");
  Push(4, "b");
  Push(5, "c");
  Push(6, "c");
  EXPECT_THAT(ahead("a"), ElementsAre(1, 2, 3, 4, 5, 6));
  EXPECT_THAT(ahead("b"), ElementsAre(1, 4, 5));
  EXPECT_THAT(ahead("new"), IsEmpty());
  EXPECT_EQ(queue_.FirstOf("c")->id, 5);
  EXPECT_EQ(queue_.FirstOf("new"), nullptr);
}

TEST_F(FairQueueTest, OnePeersItemsComeInTheirOrder) {
  for (int id = 1; id <= 4; ++id) Push(id, "a");
  EXPECT_EQ(queue_.size(), 4);
  EXPECT_THAT(TakeAll(), ElementsAre(1, 2, 3, 4));
  EXPECT_TRUE(queue_.empty());
  EXPECT_EQ(queue_.TakeNext(), nullptr);
}

TEST_F(FairQueueTest, PeersTakeTurns) {
  for (int id = 1; id <= 4; ++id) Push(id, "hog");
  Push(5, "");
  Push(6, "b");
  Push(7, "b");
  const std::vector<int> seen = Seen();
  EXPECT_THAT(seen, ElementsAre(1, 5, 6, 2, 7, 3, 4));
  EXPECT_EQ(TakeAll(), seen);
}

TEST_F(FairQueueTest, WhoHasJustHadATurnComesLast) {
  Push(1, "a");
  Push(2, "a");
  EXPECT_EQ(queue_.TakeNext()->id, 1);
  Push(3, "b");
  EXPECT_EQ(queue_.TakeNext()->id, 2);
  Push(4, "a");
  EXPECT_THAT(TakeAll(), ElementsAre(3, 4));
}

TEST_F(FairQueueTest, WhatComesBackComesBeforeItsPeersYounger) {
  for (const int id : {3, 4, 5}) Push(id, "a");
  Push(2, "a");
  Push(1, "a");
  EXPECT_THAT(TakeAll(), ElementsAre(1, 2, 3, 4, 5));
}

TEST_F(FairQueueTest, ATurnMayPassOrMakeTheOthersWait) {
  Push(1, "a");
  Push(2, "a");
  Push(3, "b");
  Push(4, "c");
  std::vector<int> asked;
  const auto take = [&](int pass, int wait) {
    asked.clear();
    return queue_.TakeNext([&](const Item& item) {
      asked.push_back(item.id);
      return item.id == pass   ? Turn::kPass
             : item.id == wait ? Turn::kWait
                               : Turn::kTake;
    });
  };
  EXPECT_EQ(take(0, 1), nullptr);
  EXPECT_THAT(asked, ElementsAre(1));
  EXPECT_EQ(take(1, 0)->id, 3);
  EXPECT_THAT(asked, ElementsAre(1, 3));
  EXPECT_EQ(take(1, 4), nullptr);
  // a has lost no turn by that.
  EXPECT_THAT(TakeAll(), ElementsAre(1, 4, 2));
}

TEST_F(FairQueueTest, TakesTheWantedFromAnyPlace) {
  for (int id = 1; id <= 6; ++id) Push(id, id % 2 == 0 ? "even" : "odd");
  std::vector<int> taken;
  for (const auto& item :
       queue_.TakeIf([](const Item& item) { return item.id % 3 != 0; })) {
    taken.push_back(item->id);
  }
  EXPECT_THAT(taken, ElementsAre(1, 5, 2, 4));
  EXPECT_EQ(queue_.size(), 2);
  EXPECT_EQ(queue_.TakeIf([](const Item& item) { return item.id == 3; }).size(),
            1u);
  EXPECT_THAT(TakeAll(), ElementsAre(6));
}

TEST_F(FairQueueTest, DisplacesTheYoungestOfWhomHasMost) {
  for (int id = 1; id <= 4; ++id) Push(id, "hog");
  Push(5, "b");
  Push(6, "b");
  EXPECT_EQ(PushIntoFull(7, "new"), 4);
  EXPECT_EQ(PushIntoFull(8, "new"), 3);
  EXPECT_EQ(PushIntoFull(9, "new"), -1) << "all have two";
  EXPECT_EQ(PushIntoFull(9, "hog"), -1);
  EXPECT_EQ(PushIntoFull(9, "newer"), 2);
  EXPECT_EQ(queue_.size(), 6);
  EXPECT_THAT(TakeAll(), ElementsAre(1, 5, 7, 9, 6, 8));
}

TEST_F(FairQueueTest, DisplacesNobodyForAPeerThatHasAsMuch) {
  for (int id = 1; id <= 3; ++id) Push(id, "a");
  EXPECT_EQ(PushIntoFull(6, "a"), -1);
  Push(4, "b");
  Push(5, "b");
  EXPECT_EQ(PushIntoFull(6, "b"), -1) << "it would have more than a afterwards";
}

TEST_F(FairQueueTest, DisplacesNothingThatMustStay) {
  for (int id = 1; id <= 3; ++id) Push(id, "a");
  auto item = std::make_unique<Item>(Item{4, "b"});
  EXPECT_FALSE(
      queue_.PushWithin(3, item, [](const Item& item) { return item.id < 3; }));
  EXPECT_EQ(item->id, 4);
  EXPECT_EQ(queue_.size(), 3);
}

TEST_F(FairQueueTest, DisplacesNobodyWhileThereIsRoom) {
  for (int id = 1; id <= 3; ++id) Push(id, "a");
  auto item = std::make_unique<Item>(Item{4, "b"});
  EXPECT_TRUE(queue_.PushWithin(4, item));
  EXPECT_EQ(item, nullptr);
  EXPECT_EQ(queue_.SizeOf("a"), 3);
  EXPECT_EQ(queue_.SizeOf("b"), 1);
}

TEST_F(FairQueueTest, APushThatFindsNoMemoryChangesNothing) {
  Push(1, "a");
  auto item = std::make_unique<Item>(Item{2, "b"});
  for (int left = 0; item != nullptr; ++left) {
    ASSERT_LT(left, 10);
    allocations_left = left;
    try {
      queue_.Push(std::move(item));
    } catch (const std::bad_alloc&) {
      EXPECT_EQ(allocations_left, -1);
      EXPECT_EQ(queue_.size(), 1);
      EXPECT_EQ(queue_.SizeOf("b"), 0);
      ASSERT_NE(item, nullptr);
    }
    allocations_left = -1;
    EXPECT_TRUE(left > 0 || item != nullptr) << "nothing was refused";
  }
  EXPECT_THAT(TakeAll(), ElementsAre(1, 2));
}

TEST_F(FairQueueTest, AnEmptyOneHasNothing) {
  EXPECT_THAT(Seen(), IsEmpty());
  EXPECT_EQ(PushIntoFull(1, "a"), -1);
  EXPECT_EQ(queue_.SizeOf("a"), 0);
  EXPECT_THAT(queue_.TakeIf([](const Item&) { return true; }), IsEmpty());
}

}  // namespace
}  // namespace ounce::server
