#include "server/frontend/front_end.h"

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/synchronization/notification.h"
#include "base/mutex.h"
#include "gmock/gmock.h"
#include "server/scheduler/refusal.h"
#include "tests/server/service/fake_catalog.h"
#include "tests/testing/png_file.h"
#include "tests/testing/status_matchers.h"

namespace ounce::server {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;

// Whoever asks, without any protocol.
class Reader final : public GenerateSink, public DetectSink {
 public:
  bool HasRoom() const override { return true; }
  void OnChunk(GenerateChunk chunk) override { text += chunk.text; }
  void OnDone(const absl::Status& how, const GenerateOutcome& result) override {
    status = how;
    outcome = result;
    done.Notify();
  }
  void OnDone(const absl::Status& how, DetectResult result) override {
    status = how;
    objects = std::move(result.objects);
    done.Notify();
  }

  absl::Notification done;
  // To be read when it is done.
  std::string text;
  absl::Status status;
  GenerateOutcome outcome;
  std::vector<DetectedObject> objects;
};

class FrontEndTest : public ::testing::Test {
 protected:
  std::shared_ptr<Reader> Generate(absl::StatusOr<GenerateRequest> request,
                                   CallContext call = {}) {
    auto reader = std::make_shared<Reader>();
    const auto generation = front_end_.BeginGenerate(reader);
    front_end_.Generate(std::move(call), std::move(request), generation);
    reader->done.WaitForNotification();
    generation->Release();
    return reader;
  }

  testing::FakeCatalog catalog_;
  PictureMemory memory_{8 << 20};
  const PictureReader pictures_{{}, memory_};
  std::vector<std::string> rejected_;
  FrontEnd front_end_{
      {.draw_seed = [] { return uint64_t{42}; },
       .on_rejected = [this](
                          const std::string& model,
                          const absl::Status&) { rejected_.push_back(model); },
       .on_detect_rejected =
           [this](const std::string& model, const absl::Status&) {
             rejected_.push_back("picture " + model);
           }},
      catalog_,
      pictures_,
      Clock::Real()};
};

TEST_F(FrontEndTest, ContinuesATextOrIdsForItsPeer) {
  const auto text = Generate(
      GenerateRequest{.model = "tiny", .prompt = "ab", .max_new_tokens = 4},
      {.peer = "me"});
  EXPECT_OK(text->status);
  EXPECT_EQ(text->text, "abca");
  EXPECT_EQ(text->outcome.result.prompt_tokens, 2);
  EXPECT_EQ(text->outcome.max_new_tokens, 4);
  EXPECT_EQ(text->outcome.sampling.seed, 42u);
  const auto ids = Generate(GenerateRequest{
      .model = "tiny", .prompt = std::vector<int32_t>{7}, .max_new_tokens = 1});
  EXPECT_EQ(ids->text, "a");
  const auto submitted = catalog_.scheduler("tiny").submitted();
  ASSERT_THAT(submitted, SizeIs(2));
  EXPECT_EQ(submitted[0].peer, "me");
  EXPECT_THAT(submitted[0].prompt, ElementsAre('a', 'b'));
  EXPECT_THAT(submitted[1].prompt, ElementsAre(7));
  EXPECT_THAT(rejected_, IsEmpty());
}

TEST_F(FrontEndTest, TellsTheSinkWhichFieldIsWrong) {
  GenerateRequest request{.model = "tiny", .prompt = "ab"};
  request.sampling.top_p = 2;
  const absl::Status top_p = Generate(request)->status;
  EXPECT_EQ(FieldOf(top_p), "sampling.top_p");
  EXPECT_EQ(top_p.message(), "sampling.top_p: must be from 0 to 1, is 2");
  request.sampling = {.top_k = -1};
  EXPECT_EQ(Generate(request)->status.message(),
            "sampling.top_k: must be at least 0, is -1");
  EXPECT_EQ(FieldOf(Generate(GenerateRequest{.model = "tiny"})->status),
            "prompt");
  EXPECT_THAT(rejected_, ElementsAre("tiny", "tiny", "tiny"));
}

TEST_F(FrontEndTest, TellsEverybodyOfWhatItNeverSaw) {
  const absl::Status why = absl::InvalidArgumentError("not a message");
  EXPECT_EQ(Generate(why)->status, why);
  EXPECT_TRUE(absl::IsNotFound(
      Generate(GenerateRequest{.model = "none", .prompt = "a"})->status));
  EXPECT_THAT(rejected_, ElementsAre("", ""));
}

TEST_F(FrontEndTest, LeavesWhatNobodyWaitsForAnyMore) {
  const GenerateRequest request{.model = "tiny", .prompt = "a"};
  EXPECT_TRUE(absl::IsCancelled(
      Generate(request, {.cancelled = [] { return true; }})->status));
  EXPECT_TRUE(absl::IsDeadlineExceeded(
      Generate(request, {.deadline = absl::Now()})->status));
  EXPECT_THAT(catalog_.scheduler("tiny").submitted(), IsEmpty());
}

TEST_F(FrontEndTest, HoldsEachRequestToTheServersLimits) {
  const auto ignore = [](const std::string&, const absl::Status&) {};
  FrontEnd limited({.max_prompt_tokens = 3,
                    .max_request = absl::Seconds(5),
                    .draw_seed = [] { return uint64_t{42}; },
                    .on_rejected = ignore,
                    .on_detect_rejected = ignore},
                   catalog_, pictures_, Clock::Real());
  const auto ask = [&](const std::string& prompt, CallContext call) {
    auto reader = std::make_shared<Reader>();
    const auto generation = limited.BeginGenerate(reader);
    limited.Generate(
        std::move(call),
        GenerateRequest{.model = "tiny", .prompt = prompt, .max_new_tokens = 1},
        generation);
    reader->done.WaitForNotification();
    generation->Release();
    return reader->status;
  };
  const absl::Time now = Clock::Real().Now();
  EXPECT_OK(ask("abc", {.arrival = now}));
  EXPECT_OK(ask("abc", {.arrival = now, .deadline = now + absl::Seconds(4)}));
  const absl::Status too_long = ask("abcd", {.arrival = now});
  EXPECT_EQ(FieldOf(too_long), "prompt");
  EXPECT_EQ(too_long.message(),
            "prompt: must be at most 3 tokens, is 4; the server takes no more");
  const absl::Status late = ask("a", {.arrival = now - absl::Seconds(5)});
  EXPECT_EQ(ReasonOf(late), Reason::kRequestTooLong) << late;

  const auto submitted = catalog_.scheduler("tiny").submitted();
  ASSERT_THAT(submitted, SizeIs(2));
  EXPECT_EQ(submitted[0].deadline, now + absl::Seconds(5));
  EXPECT_TRUE(submitted[0].servers_deadline);
  EXPECT_EQ(submitted[1].deadline, now + absl::Seconds(4));
  EXPECT_FALSE(submitted[1].servers_deadline);
}

TEST_F(FrontEndTest, TellsWhosePicturesThoseAreThatWait) {
  DetectScheduler& scheduler =
      *(*TaskOf<ObjectDetection>(*catalog_.Find("detr")))->scheduler;
  std::vector<std::shared_ptr<Reader>> readers;
  std::vector<std::shared_ptr<Detection>> detections;
  const auto detect = [&](const std::string& peer) {
    readers.push_back(std::make_shared<Reader>());
    detections.push_back(front_end_.BeginDetect(readers.back()));
    front_end_.Detect(
        {.peer = peer, .arrival = Clock::Real().Now()},
        DetectRequest{.model = "detr", .image = testing::MakePng(64, 80)},
        detections.back());
  };
  catalog_.detect_engine().Hold();
  detect("one");
  catalog_.detect_engine().AwaitBatch();
  for (int64_t i = 1; i <= 2; ++i) {  // the queue's places
    detect("one");
    while (scheduler.stats().queued < i) absl::SleepFor(absl::Milliseconds(1));
  }
  detect("other");
  while (!readers[2]->done.HasBeenNotified() &&
         !readers[3]->done.HasBeenNotified()) {
    absl::SleepFor(absl::Milliseconds(1));
  }
  catalog_.detect_engine().Free();
  readers[2]->done.WaitForNotification();
  EXPECT_EQ(ReasonOf(readers[2]->status), Reason::kCallerShareFull)
      << readers[2]->status;
  for (const int i : {0, 1, 3}) {
    readers[i]->done.WaitForNotification();
    EXPECT_OK(readers[i]->status) << i;
  }
  for (const auto& detection : detections) detection->Release();
}

TEST_F(FrontEndTest, SaysWhatIsWrongWithAPicture) {
  const auto reader = std::make_shared<Reader>();
  const auto detection = front_end_.BeginDetect(reader);
  front_end_.Detect({}, DetectRequest{.model = "detr", .image = "no picture"},
                    detection);
  reader->done.WaitForNotification();
  detection->Release();
  EXPECT_EQ(FieldOf(reader->status), "image") << reader->status;
  EXPECT_THAT(rejected_, ElementsAre("picture detr"));
}

}  // namespace
}  // namespace ounce::server
