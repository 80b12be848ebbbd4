#include "server/scheduler/fair_queue.h"

#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

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
  int Displace(const std::string& peer) {
    const auto item = queue_.Displace(peer, [](const Item&) { return true; });
    return item == nullptr ? -1 : item->id;
  }

  FairQueue<Item> queue_;
};

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
  EXPECT_EQ(Displace("new"), 4);
  Push(7, "new");
  EXPECT_EQ(Displace("new"), 3);
  Push(8, "new");
  EXPECT_EQ(Displace("new"), -1) << "all have two";
  EXPECT_EQ(Displace("hog"), -1);
  EXPECT_EQ(Displace("newer"), 2);
  EXPECT_EQ(queue_.size(), 5);
}

TEST_F(FairQueueTest, DisplacesNobodyForAPeerThatHasAsMuch) {
  for (int id = 1; id <= 3; ++id) Push(id, "a");
  EXPECT_EQ(Displace("a"), -1);
  Push(4, "b");
  Push(5, "b");
  EXPECT_EQ(Displace("b"), -1) << "it would have more than a afterwards";
}

TEST_F(FairQueueTest, DisplacesNothingThatMustStay) {
  for (int id = 1; id <= 3; ++id) Push(id, "a");
  EXPECT_EQ(queue_.Displace("b", [](const Item& item) { return item.id < 3; }),
            nullptr);
  EXPECT_EQ(queue_.size(), 3);
}

TEST_F(FairQueueTest, AnEmptyOneHasNothing) {
  EXPECT_THAT(Seen(), IsEmpty());
  EXPECT_EQ(Displace("a"), -1);
  EXPECT_THAT(queue_.TakeIf([](const Item&) { return true; }), IsEmpty());
}

}  // namespace
}  // namespace ounce::server
