#include "server/scheduler/running_sequences.h"

#include <memory>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/testing/fake_engine.h"

namespace ounce::server {
namespace {

using ::ounce::testing::FakeEngine;
using ::ounce::testing::FakeKv;
using ::ounce::testing::FakeTokenizer;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

// Blocks of 4 tokens and 1 MiB, 20 of them, and 4 places.
class RunningSequencesTest : public ::testing::Test {
 protected:
  std::unique_ptr<Sequence> Make(uint64_t id, const std::string& peer,
                                 int64_t num_tokens) {
    GenerateParams params;
    params.peer = peer;
    params.prompt.assign(num_tokens, 1);
    auto sequence =
        std::make_unique<Sequence>(std::move(params), nullptr, tokenizer_);
    sequence->id = id;
    sequence->engine = engine_;
    return sequence;
  }
  // With blocks for all its tokens, whoever has them.
  Sequence& Add(uint64_t id, const std::string& peer, int64_t num_tokens) {
    std::unique_ptr<Sequence> made = Make(id, peer, num_tokens);
    Sequence& sequence = *made;
    running_.Add(std::move(made));
    EXPECT_TRUE(running_.Reserve(sequence, num_tokens));
    return sequence;
  }
  static void Stall(Sequence& sequence, int64_t since) {
    sequence.paused_since = absl::FromUnixSeconds(since);
    sequence.stalled = true;
  }
  bool MakeRoom(const std::string& peer, int64_t num_tokens) {
    return running_.MakeRoomFor(*Make(99, peer, num_tokens));
  }
  std::vector<uint64_t> Running() const {
    std::vector<uint64_t> ids;
    for (const auto& sequence : running_) ids.push_back(sequence->id);
    return ids;
  }
  std::vector<uint64_t> PushedOut() {
    std::vector<uint64_t> ids;
    for (const auto& sequence : running_.TakePushedOut()) {
      EXPECT_FALSE(sequence->running);
      EXPECT_THAT(sequence->blocks, IsEmpty());
      EXPECT_EQ(sequence->num_cached, 0);
      ids.push_back(sequence->id);
    }
    return ids;
  }

  static EngineInfo Info() {
    EngineInfo info = FakeEngine::DefaultInfo();
    info.kv_block_bytes = 1 << 20;
    return info;
  }

  const EngineInfo info_ = Info();
  FakeTokenizer tokenizer_;
  std::shared_ptr<FakeEngine> engine_ =
      std::make_shared<FakeEngine>(info_, std::make_shared<FakeKv>(info_));
  int64_t may_hold_ = 20;
  RunningSequences running_{
      4,
      {.num_blocks = 20,
       .block_tokens = 4,
       .may_hold = [this](int64_t held) { return held <= may_hold_; },
       .max_kept = 20}};
};

TEST_F(RunningSequencesTest, StandByAgeHoweverTheyCame) {
  for (const uint64_t id : {3, 1, 2}) Add(id, "a", 4);
  EXPECT_THAT(Running(), ElementsAre(1, 2, 3));
  running_.Free(*running_.Take(**std::next(running_.begin())));
  EXPECT_THAT(Running(), ElementsAre(1, 3));
  EXPECT_EQ(running_.blocks().num_held(), 2);
}

TEST_F(RunningSequencesTest, ANewcomerLeavesABlockToEachThatRuns) {
  Add(1, "a", 4 * 10);
  Add(2, "a", 4 * 4);
  EXPECT_TRUE(MakeRoom("a", 4 * 4));
  EXPECT_FALSE(MakeRoom("a", 4 * 4 + 1));
  EXPECT_THAT(PushedOut(), IsEmpty());
}

TEST_F(RunningSequencesTest, ANewcomerLeavesThePromptsOfOthersTheirBlocks) {
  // It has started, and nothing of it is in the cache yet.
  running_.Add(Make(1, "a", 4 * 10));
  EXPECT_TRUE(MakeRoom("a", 4 * 9));
  EXPECT_FALSE(MakeRoom("a", 4 * 9 + 1));
}

TEST_F(RunningSequencesTest, ANewcomerAsksForTheMemory) {
  Add(1, "a", 4 * 2);
  may_hold_ = 9;
  EXPECT_FALSE(MakeRoom("a", 4 * 7));
  EXPECT_TRUE(MakeRoom("a", 4 * 6));
}

TEST_F(RunningSequencesTest, AFailedAttemptCostsNobodyAnything) {
  Stall(Add(1, "a", 4 * 3), 10);
  Add(2, "b", 4 * 15);
  EXPECT_FALSE(MakeRoom("a", 4 * 6)) << "the stalled one's would not do";
  EXPECT_THAT(Running(), ElementsAre(1, 2));
  EXPECT_EQ(running_.blocks().num_held(), 18);
  EXPECT_EQ(running_.num_preempted(), 0);
  EXPECT_TRUE(MakeRoom("a", 4 * 4));
  EXPECT_EQ(running_.blocks().num_held(), 15);
  EXPECT_EQ(running_.num_preempted(), 1);
  // It keeps waiting for its reader.
  EXPECT_THAT(Running(), ElementsAre(1, 2));
  EXPECT_THAT(PushedOut(), IsEmpty());
}

TEST_F(RunningSequencesTest, PlacesGoToAPeerThatWillHaveLessThanHalf) {
  for (uint64_t id = 1; id <= 4; ++id) Add(id, "hog", 4);
  EXPECT_FALSE(MakeRoom("hog", 4));
  EXPECT_TRUE(MakeRoom("b", 4)) << "4 places against 1";
  EXPECT_THAT(PushedOut(), ElementsAre(4));
  Add(5, "b", 4);
  EXPECT_FALSE(MakeRoom("b", 4)) << "3 against 2";
  EXPECT_TRUE(MakeRoom("c", 4)) << "3 against 1";
  EXPECT_THAT(PushedOut(), ElementsAre(3));
  Add(6, "c", 4);
  EXPECT_FALSE(MakeRoom("d", 4)) << "2 against 1";
  EXPECT_THAT(Running(), ElementsAre(1, 2, 5, 6));
}

TEST_F(RunningSequencesTest, BlocksGoToAPeerThatWillHaveLessThanHalf) {
  Add(1, "hog", 4 * 8);
  Add(2, "hog", 4 * 8);
  Add(3, "b", 4 * 2);
  EXPECT_FALSE(MakeRoom("b", 4 * 6)) << "16 blocks against 8";
  EXPECT_TRUE(MakeRoom("b", 4 * 5)) << "16 blocks against 7";
  EXPECT_THAT(PushedOut(), ElementsAre(2));
  EXPECT_THAT(Running(), ElementsAre(1, 3));
}

TEST_F(RunningSequencesTest, TheEldestGivesNothing) {
  Add(1, "hog", 4 * 19);
  EXPECT_FALSE(MakeRoom("b", 4 * 2));
  Sequence& young = Add(2, "b", 4);
  EXPECT_FALSE(running_.Reserve(young, 4 * 2));
  EXPECT_THAT(PushedOut(), ElementsAre(2));
  EXPECT_THAT(Running(), ElementsAre(1));
}

TEST_F(RunningSequencesTest, TheEldestTakesFromAnybody) {
  Sequence& eldest = Add(1, "a", 4);
  Add(2, "b", 4 * 9);
  Add(3, "c", 4 * 10);
  EXPECT_TRUE(running_.Reserve(eldest, 4 * 5));
  EXPECT_THAT(PushedOut(), ElementsAre(3));
  EXPECT_TRUE(running_.Reserve(eldest, 4 * 20));
  EXPECT_THAT(PushedOut(), ElementsAre(2));
}

TEST_F(RunningSequencesTest, WhoNeedsABlockGivesItsOwnAsSoonAsOthers) {
  Add(1, "a", 4 * 10);
  Sequence& middle = Add(2, "b", 4 * 5);
  Add(3, "c", 4 * 5);
  EXPECT_FALSE(running_.Reserve(middle, 4 * 6)) << "as much as c's";
  EXPECT_THAT(PushedOut(), ElementsAre(2));
}

TEST_F(RunningSequencesTest, TheStalledGiveFirst) {
  Sequence& eldest = Add(1, "a", 4 * 10);
  Stall(Add(2, "b", 4 * 3), 10);
  Sequence& worst = Add(3, "c", 4 * 4);
  Stall(worst, 20);
  Add(4, "d", 4 * 3);
  EXPECT_TRUE(running_.Reserve(eldest, 4 * 11));
  EXPECT_THAT(worst.blocks, IsEmpty());
  EXPECT_THAT(Running(), ElementsAre(1, 2, 3, 4));
  EXPECT_THAT(PushedOut(), IsEmpty());
}

TEST_F(RunningSequencesTest, ResumesInPlaceWhoStillHasBlocksAndAPlace) {
  Sequence& kept = Add(1, "a", 4);
  Sequence& robbed = Add(2, "a", 4);
  Stall(kept, 1);
  Stall(robbed, 1);
  Sequence& eldest = Add(3, "a", 4 * 18);
  EXPECT_TRUE(running_.Reserve(eldest, 4 * 19));
  for (Sequence* sequence : {&kept, &robbed}) {
    sequence->paused_since = absl::InfiniteFuture();
  }
  running_.ResumeStalled();
  EXPECT_THAT(Running(), ElementsAre(1, 3));
  EXPECT_FALSE(kept.stalled);
  EXPECT_THAT(PushedOut(), ElementsAre(2));
  // Without a place, blocks are of no use.
  Stall(kept, 1);
  for (uint64_t id = 4; id <= 6; ++id) running_.Add(Make(id, "a", 1));
  kept.paused_since = absl::InfiniteFuture();
  running_.ResumeStalled();
  EXPECT_THAT(PushedOut(), ElementsAre(1));
}

TEST_F(RunningSequencesTest, OfTooManyStalledTheWorstPeersOldestGoes) {
  Stall(Add(1, "a", 4), 10);
  Stall(Add(2, "b", 4), 30);
  EXPECT_EQ(running_.StalledTooMany(2), nullptr);
  Stall(Add(3, "b", 4), 20);
  ASSERT_NE(running_.StalledTooMany(2), nullptr);
  EXPECT_EQ(running_.StalledTooMany(2)->id, 3u);
}

TEST_F(RunningSequencesTest, ReleasesWhatNobodyHasTaken) {
  Sequence& eldest = Add(1, "a", 4 * 16);
  Add(2, "a", 4 * 4);
  EXPECT_TRUE(running_.Reserve(eldest, 4 * 17));
  running_.ReleaseFreed();
  EXPECT_THAT(engine_->released(), ElementsAre(17, 18, 19))
      << "the fourth has a new owner";
  running_.ReleaseFreed();
  EXPECT_THAT(engine_->released(), ElementsAre(17, 18, 19));
}

TEST_F(RunningSequencesTest, ReleasesFreeBlocksInTheHugePagesOfAFreedOne) {
  Add(1, "a", 4 * 3);
  Sequence& second = Add(2, "a", 4 * 2);
  running_.Free(*running_.Take(second));
  EXPECT_THAT(engine_->released(), ElementsAre(3, 4, 5, 6))
      << "two of 1 MiB on either side, unless they are held";
}

TEST_F(RunningSequencesTest, OneThatMayNotEvenHoldItsOwnStays) {
  may_hold_ = 3;
  Sequence& only = Add(1, "a", 4 * 3);
  EXPECT_FALSE(running_.Reserve(only, 4 * 4));
  EXPECT_TRUE(only.running);
  EXPECT_EQ(only.num_blocks(), 3);
}

// What sequences that begin alike share.
class SharingSequencesTest : public RunningSequencesTest {
 protected:
  SharingSequencesTest() { running_.BeginOn(engine_); }

  // One that begins as all of them do.
  Sequence& AddComputed(uint64_t id, int64_t num_tokens) {
    std::unique_ptr<Sequence> made = Make(id, "a", num_tokens);
    made->prefix_scope = "a";
    Sequence& sequence = running_.Add(std::move(made));
    EXPECT_TRUE(running_.Reserve(sequence, num_tokens));
    sequence.num_cached = num_tokens;
    running_.Publish(sequence);
    return sequence;
  }
  bool MakeRoomAlike(const std::string& peer, int64_t num_tokens) {
    const std::unique_ptr<Sequence> newcomer = Make(99, peer, num_tokens);
    newcomer->prefix_scope = "a";
    return running_.MakeRoomFor(*newcomer);
  }
};

TEST_F(SharingSequencesTest, ANewcomerNeedsNoBlocksForWhatOthersHold) {
  AddComputed(1, 4 * 10);
  // Of the other 10 one is to grow into.
  EXPECT_TRUE(MakeRoomAlike("a", 4 * 19));
  EXPECT_FALSE(MakeRoomAlike("a", 4 * 20));
  EXPECT_FALSE(MakeRoom("a", 4 * 10)) << "of another scope";
  Sequence& second = AddComputed(2, 4 * 15);
  EXPECT_EQ(second.blocks[9], (*running_.begin())->blocks[9]);
  EXPECT_EQ(running_.blocks().num_held(), 15);
}

TEST_F(SharingSequencesTest, ANewcomerHasTheMemoryOfWhatIsKeptForIt) {
  running_.Free(*running_.Take(AddComputed(1, 4 * 10)));
  EXPECT_EQ(running_.blocks().num_kept(), 10);
  may_hold_ = 2;
  EXPECT_TRUE(MakeRoomAlike("a", 4 * 12)) << "10 are there, 2 are asked for";
  EXPECT_FALSE(MakeRoomAlike("a", 4 * 13));
  EXPECT_EQ(running_.blocks().num_kept(), 10);
}

TEST_F(SharingSequencesTest, APeerLosesOnlyWhatItHoldsAlone) {
  AddComputed(1, 4 * 8);
  AddComputed(2, 4 * 9);
  Add(3, "b", 4 * 6);
  EXPECT_EQ(running_.blocks().num_held(), 9 + 6);
  // Of the 5 that are free three may take one each. Without the second there
  // are 6, and two may.
  EXPECT_FALSE(MakeRoom("c", 4 * 5)) << "it would take the second's 9 blocks";
  EXPECT_EQ(running_.num_preempted(), 0);
  EXPECT_TRUE(MakeRoom("c", 4 * 4));
  EXPECT_EQ(running_.num_preempted(), 1);
  EXPECT_EQ(running_.blocks().num_held(), 8 + 6);
}

}  // namespace
}  // namespace ounce::server
