#include "server/scheduler/memory_budget.h"

#include <algorithm>
#include <optional>
#include <thread>

#include "base/mapped_memory.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/scheduler/refusal.h"
#include "tests/testing/status_matchers.h"

namespace ounce::server {
namespace {

using ::ounce::testing::IsOk;
using ::ounce::testing::StatusIs;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::Pair;

constexpr int64_t kMiB = int64_t{1} << 20;

MemoryNeed Weights(int64_t bytes) {
  MemoryNeed need;
  need[MemoryShare::kWeights] = bytes;
  return need;
}

TEST(MemoryBudgetTest, GivesWhatIsFreeAndTakesItBack) {
  MemoryBudget budget({.limit_bytes = 100, .process_bytes = 20});
  EXPECT_EQ(budget.usable_bytes(), 80);
  {
    ASSERT_OK_AND_ASSIGN(const auto first, budget.Reserve(Weights(50), "it"));
    EXPECT_EQ(budget.state().free_bytes(), 30);
    ASSERT_OK_AND_ASSIGN(const auto second, budget.Reserve(Weights(30), "it"));
    EXPECT_FALSE(budget.Reserve(Weights(1), "it").ok());
    EXPECT_OK(budget.Reserve(Weights(0), "it"));
  }
  EXPECT_EQ(budget.state().free_bytes(), 80);
  EXPECT_OK(budget.Reserve(Weights(80), "it"));
}

TEST(MemoryBudgetTest, RefusesWithFigures) {
  MemoryBudget budget({.limit_bytes = 260 * kMiB, .process_bytes = 64 * kMiB});
  MemoryNeed served = Weights(150 * kMiB);
  served[MemoryShare::kKvCache] = 6 * kMiB;
  ASSERT_OK_AND_ASSIGN(const auto first, budget.Reserve(served, "loading 'a'"));
  MemoryNeed need = Weights(300 * kMiB);
  need[MemoryShare::kScratch] = 12 * kMiB;
  const absl::Status refused = budget.Reserve(need, "quantizing 'a'").status();
  EXPECT_THAT(
      refused,
      StatusIs(absl::StatusCode::kResourceExhausted,
               "quantizing 'a' needs 312 MiB (weights 300 MiB, working memory "
               "12.0 MiB); 40.0 MiB of the limit of 260 MiB are free; 64.0 MiB "
               "are set aside for the process and 156 MiB (weights 150 MiB, KV "
               "cache 6.00 MiB) are in use"));
  EXPECT_FALSE(RetryAfter(refused).has_value()) << "it can never fit";
}

TEST(MemoryBudgetTest, SaysWhenTryingAgainMayHelp) {
  MemoryBudget budget({.limit_bytes = 100});
  ASSERT_OK_AND_ASSIGN(auto old, budget.Reserve(Weights(40), "it"));
  ASSERT_OK_AND_ASSIGN(const auto serves, budget.Reserve(Weights(30), "it"));
  absl::Status refused = budget.Reserve(Weights(50), "it").status();
  EXPECT_FALSE(RetryAfter(refused).has_value());
  // The old version ends some time.
  old.MarkEnding();
  EXPECT_EQ(budget.state().ending_bytes, 40);
  refused = budget.Reserve(Weights(50), "it").status();
  EXPECT_THAT(refused.message(), HasSubstr("no longer serve still hold 40 B"));
  EXPECT_TRUE(RetryAfter(refused).has_value());
  EXPECT_FALSE(RetryAfter(budget.Reserve(Weights(71), "it").status()));
  old = {};
  EXPECT_EQ(budget.state().ending_bytes, 0);
  // So do requests.
  ASSERT_TRUE(budget.Take(MemoryShare::kKvCache, 30));
  refused = budget.Reserve(Weights(50), "it").status();
  EXPECT_TRUE(RetryAfter(refused).has_value());
  budget.GiveBack(MemoryShare::kKvCache, 30);
  EXPECT_OK(budget.Reserve(Weights(50), "it"));
}

TEST(MemoryBudgetTest, CountsWhatOthersHaveTakenOfTheMachine) {
  int64_t attainable = 1000;
  MemoryBudget budget(
      {.limit_bytes = 500, .attainable_bytes = [&] { return attainable; }});
  EXPECT_OK(budget.Reserve(Weights(500), "it"));
  attainable = 200;
  const absl::Status refused = budget.Reserve(Weights(201), "it").status();
  EXPECT_THAT(refused, StatusIs(absl::StatusCode::kResourceExhausted,
                                AllOf(HasSubstr("200 B of the limit of 500 B"),
                                      HasSubstr("others"))));
  EXPECT_TRUE(RetryAfter(refused).has_value());
  EXPECT_OK(budget.Reserve(Weights(200), "it"));
}

TEST(MemoryBudgetTest, APartOfAReservationLivesOnItsOwn) {
  MemoryBudget budget({.limit_bytes = 100});
  MemoryNeed both = Weights(50);
  both[MemoryShare::kKvCache] = 20;
  ASSERT_OK_AND_ASSIGN(auto whole, budget.Reserve(both, "it"));
  MemoryNeed part;
  part[MemoryShare::kKvCache] = 20;
  auto kv = whole.Split(part);
  EXPECT_EQ(whole.need().total(), 50);
  whole = {};
  EXPECT_EQ(budget.state().used[MemoryShare::kKvCache], 20);
  EXPECT_EQ(budget.state().used.total(), 20);
  kv = {};
  ASSERT_OK_AND_ASSIGN(whole, budget.Reserve(Weights(90), "it"));
  whole.ShrinkTo(Weights(10));
  EXPECT_EQ(budget.state().used.total(), 10);
}

TEST(MemoryBudgetTest, CountsVersionsByModel) {
  MemoryBudget budget;
  ASSERT_OK_AND_ASSIGN(auto a1, budget.Reserve(Weights(1), "it"));
  ASSERT_OK_AND_ASSIGN(auto a2, budget.Reserve(Weights(1), "it"));
  ASSERT_OK_AND_ASSIGN(auto b1, budget.Reserve(Weights(1), "it"));
  a1.CountAsVersionOf("a");
  a2.CountAsVersionOf("a");
  b1.CountAsVersionOf("b");
  EXPECT_THAT(budget.state().versions, ElementsAre(Pair("a", 2), Pair("b", 1)));
  const auto moved = std::move(a1);
  a2 = {};
  b1 = {};
  EXPECT_THAT(budget.state().versions, ElementsAre(Pair("a", 1)));
}

TEST(MemoryUseTest, TakesWhatIsAboveItsFloorAndNothingElse) {
  MemoryBudget budget({.limit_bytes = 100});
  {
    MemoryUse use(budget, MemoryShare::kKvCache, 30);
    EXPECT_TRUE(use.Resize(30));
    EXPECT_EQ(budget.state().used.total(), 0);
    EXPECT_TRUE(use.Resize(110));
    EXPECT_EQ(budget.state().used[MemoryShare::kKvCache], 80);
    EXPECT_FALSE(use.Resize(131)) << "one more than there is";
    EXPECT_EQ(budget.state().used.total(), 80);
    EXPECT_TRUE(use.Resize(40));
    EXPECT_EQ(budget.state().used.total(), 10);
    EXPECT_TRUE(budget.Take(MemoryShare::kPictures, 90));
    EXPECT_FALSE(use.Resize(41));
    EXPECT_TRUE(use.Resize(30)) << "always up to its floor";
    EXPECT_TRUE(use.Resize(0));
    EXPECT_TRUE(use.Resize(40));
    budget.GiveBack(MemoryShare::kPictures, 90);
  }
  EXPECT_EQ(budget.state().used.total(), 0);
}

// A user that keeps as much as it is told to, in pieces of 10 bytes.
class Keeper {
 public:
  Keeper(MemoryBudget& budget, int64_t floor_bytes)
      : use(budget, MemoryShare::kKvCache, floor_bytes) {
    use.SetGiveUp([this](int64_t bytes) {
      const int64_t given = std::min(kept, (bytes + 9) / 10 * 10);
      kept -= given;
      return given;
    });
  }
  void Keep(int64_t bytes) {
    kept += bytes;
    use.ChangeKept(bytes);
  }

  int64_t kept = 0;
  MemoryUse use;
};

TEST(MemoryUseTest, WhatIsKeptIsUsedAndThereForWhoeverAsks) {
  MemoryBudget budget({.limit_bytes = 100});
  Keeper keeper(budget, 0);
  ASSERT_TRUE(keeper.use.Resize(20));
  keeper.Keep(60);
  EXPECT_EQ(budget.state().used[MemoryShare::kKvCache], 80);
  EXPECT_EQ(budget.state().kept.total(), 60);
  EXPECT_EQ(budget.state().free_bytes(), 20);
  EXPECT_EQ(budget.state().attainable_bytes(), 80);

  ASSERT_TRUE(budget.Take(MemoryShare::kPictures, 30));
  EXPECT_EQ(keeper.kept, 50);
  EXPECT_EQ(budget.state().used.total(), 100);
  budget.GiveBack(MemoryShare::kPictures, 30);

  ASSERT_OK_AND_ASSIGN(auto weights, budget.Reserve(Weights(45), "it"));
  EXPECT_EQ(keeper.kept, 30) << "in pieces of 10";
  EXPECT_EQ(budget.state().used.total(), 95);

  ASSERT_TRUE(keeper.use.Resize(55)) << "its own needs come first too";
  EXPECT_EQ(keeper.kept, 0);
  EXPECT_EQ(budget.state().used.total(), 100);
  EXPECT_EQ(budget.state().kept.total(), 0);
  EXPECT_FALSE(keeper.use.Resize(56));
}

TEST(MemoryUseTest, OnlyWhatIsKeptAboveTheFloorCounts) {
  MemoryBudget budget({.limit_bytes = 100});
  Keeper keeper(budget, 50);
  keeper.Keep(40);
  EXPECT_EQ(budget.state().used.total(), 0);
  EXPECT_EQ(budget.state().kept.total(), 0);
  ASSERT_TRUE(keeper.use.Resize(30));
  EXPECT_EQ(budget.state().used.total(), 20);
  EXPECT_EQ(budget.state().kept.total(), 20);
  ASSERT_OK_AND_ASSIGN(auto weights, budget.Reserve(Weights(100), "it"));
  EXPECT_EQ(keeper.kept, 20) << "those in the floor are of no use to others";
  EXPECT_EQ(budget.state().used.total(), 100);
  ASSERT_TRUE(keeper.use.Resize(50)) << "always up to its floor";
  EXPECT_EQ(keeper.kept, 0);
}

TEST(MemoryUseTest, KeepsOnlyWhatThereIs) {
  MemoryBudget budget({.limit_bytes = 100});
  Keeper other(budget, 0), keeper(budget, 0);
  other.Keep(30);
  keeper.Keep(90);
  EXPECT_EQ(keeper.kept, 70) << "it gives up its own first";
  EXPECT_EQ(other.kept, 30);
  EXPECT_EQ(budget.state().used.total(), 100);
  ASSERT_TRUE(keeper.use.Resize(80));
  EXPECT_EQ(keeper.kept, 0);
  EXPECT_EQ(other.kept, 20);
  ASSERT_TRUE(keeper.use.Resize(0));
  other.use.SetGiveUp(nullptr);
  EXPECT_FALSE(keeper.use.Resize(81)) << "the other one can't give it up";
  EXPECT_TRUE(keeper.use.Resize(80));
  EXPECT_EQ(other.kept, 20);
}

TEST(MemoryUseTest, ARefusalSaysWhatIsThereWithoutTheKept) {
  MemoryBudget budget({.limit_bytes = 100});
  Keeper keeper(budget, 0);
  ASSERT_TRUE(keeper.use.Resize(40));
  keeper.Keep(50);
  const absl::Status refused = budget.Reserve(Weights(61), "it").status();
  EXPECT_THAT(refused, StatusIs(absl::StatusCode::kResourceExhausted,
                                AllOf(HasSubstr("60 B of the limit of 100 B"),
                                      HasSubstr("40 B (KV cache 40 B) are"))));
  EXPECT_TRUE(RetryAfter(refused).has_value());
  EXPECT_EQ(keeper.kept, 50) << "a refusal costs nothing";
}

TEST(MemoryBudgetTest, WakesWhoWaitsForMemory) {
  MemoryBudget budget({.limit_bytes = 100});
  ASSERT_OK_AND_ASSIGN(auto held, budget.Reserve(Weights(100), "it"));
  std::thread other([&] { held = {}; });
  while (!budget.Reserve(Weights(1), "it").ok()) {
    budget.AwaitRelease(absl::Milliseconds(10));
  }
  other.join();
}

TEST(MemoryOfThisMachineTest, ALimitThatIsGivenCountsAlone) {
  const auto options = MemoryOfThisMachine(300 * kMiB, []() -> SystemMemory {
    ADD_FAILURE() << "the machine is not asked";
    return {};
  });
  EXPECT_EQ(options.limit_bytes, 300 * kMiB);
  EXPECT_FALSE(options.attainable_bytes);
  EXPECT_GE(options.process_bytes, 64 * kMiB);
}

TEST(MemoryOfThisMachineTest, WithoutOneTheMachineAndItsGroupsCount) {
  SystemMemory system = {.limit_bytes = 8192 * kMiB,
                         .available_bytes = 1000 * kMiB};
  const auto options = MemoryOfThisMachine(0, [&] { return system; });
  EXPECT_EQ(options.limit_bytes, 8192 * kMiB);
  const int64_t own = ResidentBytes();
  EXPECT_NEAR(static_cast<double>(options.attainable_bytes()),
              static_cast<double>(1000 * kMiB + own), 50e6);
  system.available_bytes = INT64_MAX;
  EXPECT_EQ(options.attainable_bytes(), MemoryBudget::kNoLimit);
}

}  // namespace
}  // namespace ounce::server
