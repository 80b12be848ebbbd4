// Memory of a checkpoint that is large enough to be seen among everything else
// that a process holds.
#include <deque>
#include <filesystem>
#include <fstream>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <tuple>
#include <vector>

#include "absl/time/clock.h"
#include "base/clock.h"
#include "base/mapped_memory.h"
#include "base/mutex.h"
#include "base/thread_pool.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "model/tokenizer/tokenizer.h"
#include "server/engine/loaded_models.h"
#include "server/scheduler/memory_budget.h"
#include "server/scheduler/refusal.h"
#include "tests/server/engine/recording_catalog_observer.h"
#include "tests/testing/fake_engine.h"
#include "tests/testing/random_codegen.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_folder.h"
#include "tests/testing/tiny_model.h"

namespace ounce::server {
namespace {

using ::ounce::testing::IsOk;
using ::ounce::testing::kTinyModelFolder;
using ::ounce::testing::RecordingSink;
using ::ounce::testing::StatusIs;
using ::ounce::testing::TempFolder;
using ::ounce::testing::WriteRandomCodeGen;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Pair;

using absl::StatusCode;

constexpr int64_t kWidth = 1024;
constexpr int64_t kLayers = 3;
// 12 matrices of kWidth^2 per layer, in 16 bits.
constexpr int64_t kLinearBytes = kLayers * 12 * kWidth * kWidth * 2;
constexpr int64_t kMiB = int64_t{1} << 20;

// Stands still for whoever asks while it is held: a load asks between taking
// the model's name and opening its checkpoint.
class HeldClock final : public Clock {
 public:
  absl::Time Now() const override {
    MutexLock lock(&mu_);
    while (held_) released_.Wait(&mu_);
    return absl::Now();
  }
  void Release() {
    MutexLock lock(&mu_);
    held_ = false;
    released_.SignalAll();
  }

 private:
  mutable Mutex mu_;
  mutable CondVar released_;
  bool held_ ABSL_GUARDED_BY(mu_) = true;
};

class LoadedModelsMemoryTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    // 38 M parameters.
    folder_ = new TempFolder;
    WriteRandomCodeGen(folder_->path().string(), kTinyModelFolder,
                       {.width = kWidth, .layers = kLayers, .positions = 256});
  }
  static void TearDownTestSuite() {
    delete folder_;
    folder_ = nullptr;
  }

  std::unique_ptr<ModelCatalog> MakeCatalog(
      const Clock& clock = Clock::Real()) {
    return CreateModelCatalog(options_, pool_, clock, observer_);
  }
  static std::string folder() { return folder_->path().string(); }

  static void Generate(ModelCatalog& catalog) {
    RecordingSink sink;
    ASSERT_OK_AND_ASSIGN(const auto served, catalog.Find("m"));
    GenerateParams params;
    params.prompt = std::vector<int32_t>(100, 7);
    params.max_new_tokens = 20;
    params.arrival = absl::Now();
    ASSERT_OK(TaskOf<TextGeneration>(served).value()->scheduler->Submit(
        std::move(params), &sink));
    ASSERT_TRUE(sink.AwaitDone());
    ASSERT_OK(sink.status());
  }
  static absl::StatusOr<QuantizeReport> Quantize(ModelCatalog& catalog,
                                                 const std::string& method) {
    QuantizeParams params;
    params.model = "m";
    params.plan = *model::ParseMethodPlan(method);
    return catalog.Quantize(
        params, [](const QuantizeUpdate&) { return absl::OkStatus(); });
  }

  static TempFolder* folder_;
  CatalogOptions options_;
  RecordingCatalogObserver observer_;
  ThreadPool pool_{2};
};

TempFolder* LoadedModelsMemoryTest::folder_ = nullptr;

class LoadedModelsResidentBytesTest : public LoadedModelsMemoryTest {
 protected:
#ifdef __SANITIZE_ADDRESS__
  void SetUp() override {
    GTEST_SKIP() << "AddressSanitizer holds back freed memory and adds its own,"
                    " so resident bytes are not the server's";
  }
#endif
};

TEST_F(LoadedModelsResidentBytesTest, ComparingWithFloatsTakesALayerOfThem) {
  const auto catalog = MakeCatalog();
  ASSERT_OK(catalog->Load({"m", folder(), *model::ParseMethodPlan("linear")}));
  ASSERT_OK_AND_ASSIGN(const auto served, catalog->Find("m"));
  ASSERT_OK_AND_ASSIGN(const auto generation, TaskOf<TextGeneration>(served));
  std::string text;
  for (int i = 0; i < 400; ++i) absl::StrAppend(&text, "line ", i, "\n");
  const auto evaluate = [&](bool compare, int64_t* most) {
    *most = 0;
    return generation->evaluator->Evaluate(
        {text, 256, 256, compare}, [&](const EvaluateUpdate&) {
          *most = std::max(*most, ResidentBytes());
          return absl::OkStatus();
        });
  };
  int64_t alone = 0;
  ASSERT_OK(evaluate(false, &alone));  // with all that comes at first
  ASSERT_OK(evaluate(false, &alone));
  int64_t compared = 0;
  ASSERT_OK(evaluate(true, &compared));
  // A layer, 16 MiB of hidden states, the logits of a step: 304 tokens are few.
  EXPECT_LT(compared - alone, kLinearBytes / kLayers + 16 * kMiB + 4 * kMiB);
  EXPECT_GT(compared - alone, kLinearBytes / kLayers / 2);
}

TEST_F(LoadedModelsResidentBytesTest, AfterASwapMemoryIsThatOfAFreshLoad) {
  const int64_t empty = ResidentBytes();
  int64_t fresh = 0;
  {
    const auto catalog = MakeCatalog();
    ASSERT_OK(
        catalog->Load({"m", folder(), *model::ParseMethodPlan("linear")}));
    Generate(*catalog);
    fresh = ResidentBytes();
    ASSERT_GT(fresh - empty, kLinearBytes / 2);
    ASSERT_OK(catalog->Unload("m"));
    // Unloading gives it all back.
    EXPECT_LT(ResidentBytes() - empty, 20 * kMiB);
  }
  const auto catalog = MakeCatalog();
  ASSERT_OK(catalog->Load({"m", folder()}));
  Generate(*catalog);
  EXPECT_GT(ResidentBytes(), fresh + kLinearBytes / 3);
  ASSERT_OK_AND_ASSIGN(const QuantizeReport report,
                       Quantize(*catalog, "linear"));
  Generate(*catalog);
  const int64_t swapped = ResidentBytes();
  EXPECT_LE(swapped, fresh * 105 / 100 + 30 * kMiB)
      << "fresh load: " << fresh << ", report: " << report.resident_bytes_before
      << " -> " << report.resident_bytes_after;
  // Quantizing again and again leaves nothing behind either.
  for (const char* method : {"bfloat16", "linear"}) {
    ASSERT_OK(Quantize(*catalog, method));
  }
  Generate(*catalog);
  EXPECT_LE(ResidentBytes(), swapped + 10 * kMiB);
  ASSERT_OK(catalog->Unload("m"));
}

TEST_F(LoadedModelsResidentBytesTest,
       FreesTheOldVersionWhenItsLastSequenceLeaves) {
  const auto catalog = MakeCatalog();
  ASSERT_OK(catalog->Load({"m", folder()}));
  ASSERT_OK_AND_ASSIGN(const auto served, catalog->Find("m"));
  RecordingSink sink;
  sink.set_room(1);
  GenerateParams params;
  params.prompt = {1, 2, 3};
  params.max_new_tokens = 30;
  params.arrival = absl::Now();
  ASSERT_OK(TaskOf<TextGeneration>(served).value()->scheduler->Submit(
      std::move(params), &sink));
  ASSERT_TRUE(sink.AwaitTokens(1));
  ASSERT_OK(Quantize(*catalog, "linear"));
  const int64_t both = ResidentBytes();
  sink.set_has_room(true);
  TaskOf<TextGeneration>(served).value()->scheduler->Wake();
  ASSERT_TRUE(sink.AwaitDone());
  EXPECT_OK(sink.status());
  EXPECT_EQ(sink.result().model_version, 1);
  Generate(*catalog);  // the loop has gone round since
  EXPECT_LT(ResidentBytes(), both - kLinearBytes * 9 / 10);
}

TEST_F(LoadedModelsResidentBytesTest, LoadingNeedsLittleMoreThanItKeeps) {
  const auto catalog = MakeCatalog();
  // The highest number starts again from what is resident now.
  std::ofstream reset("/proc/self/clear_refs");
  reset << "5" << std::flush;
  if (!reset) GTEST_SKIP() << "/proc/self/clear_refs takes no 5 here";
  const int64_t before = ResidentBytes();
  ASSERT_OK_AND_ASSIGN(
      const ModelInfo info,
      catalog->Load({"m", folder(), *model::ParseMethodPlan("linear")}));
  const int64_t peak = PeakResidentBytes() - before;
  ASSERT_GT(info.resident_bytes, kLinearBytes / 2);
  EXPECT_GE(peak, info.resident_bytes * 9 / 10);
  EXPECT_LE(peak, info.resident_bytes * 5 / 4 + 30 * kMiB)
      << "resident: " << info.resident_bytes;
}

TEST_F(LoadedModelsMemoryTest, RefusesAllElseWhileAModelLoads) {
  HeldClock clock;
  const auto catalog = MakeCatalog(clock);
  std::thread load([&] {
    EXPECT_OK(
        catalog->Load({"m", folder(), *model::ParseMethodPlan("linear")}));
  });
  while (catalog->List().empty()) std::this_thread::yield();
  const ModelInfo info = catalog->List().front();
  EXPECT_EQ(info.name, "m");
  EXPECT_EQ(info.state, ModelState::kLoading);
  EXPECT_EQ(info.version, 0);
  EXPECT_THAT(catalog->Find("m"), StatusIs(StatusCode::kUnavailable));
  EXPECT_THAT(catalog->Load({"m", folder()}),
              StatusIs(StatusCode::kAlreadyExists));
  EXPECT_THAT(catalog->Unload("m"), StatusIs(StatusCode::kAborted));
  EXPECT_THAT(Quantize(*catalog, "linear"), StatusIs(StatusCode::kAborted));
  clock.Release();
  load.join();
  EXPECT_OK(catalog->Find("m"));
}

TEST_F(LoadedModelsMemoryTest, DrainEndsALoad) {
  HeldClock clock;
  const auto catalog = MakeCatalog(clock);
  std::thread load([&] {
    EXPECT_THAT(catalog->Load({"m", folder()}),
                StatusIs(StatusCode::kUnavailable));
  });
  while (catalog->List().empty()) std::this_thread::yield();
  catalog->Drain(absl::Now());
  clock.Release();
  load.join();
  EXPECT_THAT(catalog->List(), IsEmpty());
}

// What of it all a limit would let through is counted before the work: the
// catalog never touches what it does not have.
class LoadedModelsBudgetTest : public LoadedModelsMemoryTest {
 protected:
  void LimitTo(int64_t bytes) {
    memory_.emplace(MemoryBudget::Options{.limit_bytes = bytes});
    options_.memory = &*memory_;
    options_.max_version_wait = absl::Milliseconds(300);
  }
  // What a model of the checkpoint takes beside its weights.
  static constexpr int64_t kBeside = 60 * kMiB;

  std::optional<MemoryBudget> memory_;
};

TEST_F(LoadedModelsBudgetTest, CountsEachShareWhileItIsThere) {
  LimitTo(1000 * kMiB);
  const auto catalog = MakeCatalog();
  ASSERT_OK_AND_ASSIGN(const ModelInfo info, catalog->Load({"m", folder()}));
  const MemoryBudget::State state = memory_->state();
  EXPECT_EQ(state.used[MemoryShare::kWeights], info.resident_bytes);
  EXPECT_GT(state.used[MemoryShare::kScratch], 0);
  // One request of 256 positions: keys and values of 3 layers in float32.
  EXPECT_EQ(state.used[MemoryShare::kKvCache], 256 * kLayers * kWidth * 2 * 4);
  EXPECT_THAT(state.versions, ElementsAre(Pair("m", 1)));
  Generate(*catalog);
  ASSERT_OK_AND_ASSIGN(const QuantizeReport report,
                       Quantize(*catalog, "linear"));
  Generate(*catalog);
  EXPECT_EQ(memory_->state().used[MemoryShare::kWeights],
            report.resident_bytes_after);
  // What a model takes that is loaded so, and nothing of the version before.
  const int64_t scratch = memory_->state().used[MemoryShare::kScratch];
  ASSERT_OK(
      catalog->Load({"other", folder(), *model::ParseMethodPlan("linear")}));
  EXPECT_EQ(memory_->state().used[MemoryShare::kScratch], 2 * scratch);
  ASSERT_OK(catalog->Unload("other"));
  ASSERT_OK(catalog->Unload("m"));
  EXPECT_EQ(memory_->state().used.total(), 0);
  EXPECT_THAT(memory_->state().versions, IsEmpty());
}

TEST_F(LoadedModelsBudgetTest, RefusesALoadBeforeItsWork) {
  LimitTo(kLinearBytes);  // and nothing for what is beside
  const auto catalog = MakeCatalog();
  const int64_t before = ResidentBytes();
  const absl::Status refused = catalog->Load({"m", folder()}).status();
  EXPECT_THAT(
      refused,
      StatusIs(StatusCode::kResourceExhausted,
               AllOf(HasSubstr("loading 'm' needs"), HasSubstr("weights 7"),
                     HasSubstr("72.0 MiB of the limit of 72.0 MiB are free"))));
  EXPECT_FALSE(RetryAfter(refused).has_value());
  EXPECT_LT(ResidentBytes() - before, kLinearBytes / 4);
  EXPECT_EQ(memory_->state().used.total(), 0);
  EXPECT_THAT(catalog->List(), IsEmpty());
  // In fewer bits it fits.
  EXPECT_OK(catalog->Load({"m", folder(), *model::ParseMethodPlan("linear")}));
}

TEST_F(LoadedModelsBudgetTest, CountsATokenizerOnceUntilItsLastModelIsGone) {
  LimitTo(1000 * kMiB);
  const auto catalog = MakeCatalog();
  ASSERT_OK(catalog->Load({"m", folder(), *model::ParseMethodPlan("linear")}));
  int64_t bytes = 0;
  {
    ASSERT_OK_AND_ASSIGN(const auto served, catalog->Find("m"));
    bytes = TaskOf<TextGeneration>(served).value()->tokenizer->resident_bytes();
  }
  ASSERT_GT(bytes, 0);
  EXPECT_EQ(memory_->state().used[MemoryShare::kTokenizers], bytes);
  QuantizeParams params;
  params.model = "m";
  params.plan = *model::ParseMethodPlan("linear");
  params.as = "other";
  ASSERT_OK(catalog->Quantize(
      params, [](const QuantizeUpdate&) { return absl::OkStatus(); }));
  EXPECT_EQ(memory_->state().used[MemoryShare::kTokenizers], bytes);
  ASSERT_OK(catalog->Unload("m"));
  EXPECT_EQ(memory_->state().used[MemoryShare::kTokenizers], bytes);
  ASSERT_OK(catalog->Unload("other"));
  EXPECT_EQ(memory_->state().used.total(), 0);
}

TEST_F(LoadedModelsBudgetTest, RefusesATokenizerBeforeItIsRead) {
  LimitTo(200 * kMiB);
  TempFolder large;
  for (const char* name : {"config.json", "model.safetensors"}) {
    std::filesystem::create_symlink(folder_->path() / name, large.Path(name));
  }
  // Not JSON: whoever reads it would say so.
  large.WriteFile("tokenizer.json", std::string(10 * kMiB, '{'));
  const auto catalog = MakeCatalog();
  const std::string path = large.path().string();
  EXPECT_THAT(
      catalog->Load({"m", path}),
      StatusIs(StatusCode::kResourceExhausted,
               AllOf(HasSubstr("loading 'm' needs 202 MiB (tokenizer 202 MiB)"),
                     HasSubstr("200 MiB of the limit of 200 MiB are free"))));
  EXPECT_EQ(memory_->state().used.total(), 0);
  // Where there is room it is read, and what was set aside is free again.
  LimitTo(300 * kMiB);
  EXPECT_THAT(MakeCatalog()->Load({"m", path}),
              StatusIs(StatusCode::kInvalidArgument));
  EXPECT_EQ(memory_->state().used.total(), 0);
}

TEST_F(LoadedModelsBudgetTest, RefusesAQuantizationBeforeItsWork) {
  LimitTo(kLinearBytes + kBeside);
  const auto catalog = MakeCatalog();
  ASSERT_OK(catalog->Load({"m", folder()}));
  const int64_t used = memory_->state().used.total();
  int tensors = 0;
  for (const char* as : {"", "other"}) {
    for (const bool dry_run : {false, true}) {
      QuantizeParams params;
      params.model = "m";
      params.plan = *model::ParseMethodPlan("float32");
      params.as = as;
      params.dry_run = dry_run;
      const absl::Status refused =
          catalog
              ->Quantize(params,
                         [&](const QuantizeUpdate& update) {
                           tensors += update.tensors_done > 0;
                           return absl::OkStatus();
                         })
              .status();
      EXPECT_THAT(refused, StatusIs(StatusCode::kResourceExhausted,
                                    HasSubstr("quantizing 'm' needs")));
      EXPECT_FALSE(RetryAfter(refused).has_value());
    }
  }
  EXPECT_EQ(tensors, 0);
  EXPECT_EQ(memory_->state().used.total(), used);
  EXPECT_EQ(catalog->List().size(), 1u);
  Generate(*catalog);
}

// Keeps a version alive that no longer serves: a request whose reader takes
// nothing.
class Stalled {
 public:
  explicit Stalled(ModelCatalog& catalog) {
    sink_.set_room(1);
    auto served = catalog.Find("m");
    EXPECT_OK(served);
    served_ = *served;
    GenerateParams params;
    params.prompt = {1, 2, 3};
    params.max_new_tokens = 30;
    params.arrival = absl::Now();
    EXPECT_OK(TaskOf<TextGeneration>(served_).value()->scheduler->Submit(
        std::move(params), &sink_));
    EXPECT_TRUE(sink_.AwaitTokens(1));
  }
  void Finish() {
    sink_.set_has_room(true);
    TaskOf<TextGeneration>(served_).value()->scheduler->Wake();
    EXPECT_TRUE(sink_.AwaitDone());
  }

 private:
  RecordingSink sink_;
  std::shared_ptr<ServedModel> served_;
};

TEST_F(LoadedModelsBudgetTest, VersionsThatDoNotEndAreBounded) {
  LimitTo(1000 * kMiB);
  const auto catalog = MakeCatalog();
  ASSERT_OK(catalog->Load({"m", folder(), *model::ParseMethodPlan("linear")}));
  Stalled on_first(*catalog);
  ASSERT_OK(Quantize(*catalog, "linear"));
  Stalled on_second(*catalog);
  ASSERT_OK(Quantize(*catalog, "linear"));
  Stalled on_third(*catalog);
  for (int i = 0; i < 2; ++i) {
    const absl::Status refused = Quantize(*catalog, "linear").status();
    EXPECT_THAT(refused, StatusIs(StatusCode::kResourceExhausted,
                                  AllOf(HasSubstr("at most 3 versions of 'm'"),
                                        HasSubstr("old versions of 'm' still "
                                                  "hold"),
                                        HasSubstr("for 2 requests"))));
    EXPECT_TRUE(RetryAfter(refused).has_value());
    EXPECT_THAT(memory_->state().versions, ElementsAre(Pair("m", 3)));
  }
  EXPECT_GT(memory_->state().ending_bytes, kLinearBytes);
  on_first.Finish();
  EXPECT_OK(Quantize(*catalog, "linear"));
  on_second.Finish();
  on_third.Finish();
}

TEST_F(LoadedModelsBudgetTest, AQuantizationWaitsForAVersionToEnd) {
  // Room for int8 and bfloat16, 55 and 92 MiB with their working memory, and
  // for no third.
  LimitTo(170 * kMiB);
  options_.max_version_wait = absl::Hours(1);
  const auto catalog = MakeCatalog();
  ASSERT_OK(catalog->Load({"m", folder(), *model::ParseMethodPlan("linear")}));
  Stalled stalled(*catalog);
  ASSERT_OK(Quantize(*catalog, "linear"));
  bool waited = false;
  QuantizeParams params;
  params.model = "m";
  params.plan = *model::ParseMethodPlan("bfloat16");
  ASSERT_OK(catalog->Quantize(params, [&](const QuantizeUpdate& update) {
    if (update.stage == QuantizeStage::kWaiting && !waited) {
      waited = true;
      stalled.Finish();
    }
    return absl::OkStatus();
  }));
  EXPECT_TRUE(waited);
  // And can be told to stop meanwhile.
  Stalled again(*catalog);
  ASSERT_OK(Quantize(*catalog, "linear"));
  EXPECT_THAT(catalog->Quantize(params,
                                [&](const QuantizeUpdate& update) {
                                  return update.stage == QuantizeStage::kWaiting
                                             ? absl::CancelledError("enough")
                                             : absl::OkStatus();
                                }),
              StatusIs(StatusCode::kCancelled, "enough"));
  again.Finish();
  Generate(*catalog);
}

TEST_F(LoadedModelsBudgetTest, AKvCacheIsNoLargerThanWhatItCouldGet) {
  LimitTo(kLinearBytes + kBeside);
  const auto catalog = MakeCatalog();
  ASSERT_OK_AND_ASSIGN(const ModelInfo info, catalog->Load({"m", folder()}));
  const int64_t one = 256 * kLayers * kWidth * 2 * 4;
  EXPECT_GE(info.stats.kv_capacity_bytes, one);
  EXPECT_LE(info.stats.kv_capacity_bytes, kBeside);
  // Requests are served one after the other where no more fits.
  ASSERT_OK_AND_ASSIGN(const auto served, catalog->Find("m"));
  std::deque<RecordingSink> sinks(12);
  for (RecordingSink& sink : sinks) {
    GenerateParams params;
    params.prompt = std::vector<int32_t>(200, 7);
    params.max_new_tokens = 4;
    params.arrival = absl::Now();
    ASSERT_OK(TaskOf<TextGeneration>(served).value()->scheduler->Submit(
        std::move(params), &sink));
  }
  for (RecordingSink& sink : sinks) {
    ASSERT_TRUE(sink.AwaitDone());
    EXPECT_OK(sink.status());
  }
  EXPECT_LE(memory_->state().used.total(), kLinearBytes + kBeside);
}

TEST_F(LoadedModelsBudgetTest, WhatIsKeptForLaterPromptsGivesWay) {
  constexpr int64_t kBlockBytes = 16 * kLayers * kWidth * 2 * 4;
  LimitTo(1000 * kMiB);
  options_.scheduler.prefix_cache = {.max_bytes = 100 * kMiB,
                                     .all_peers = true};
  const auto catalog = MakeCatalog();
  ASSERT_OK(catalog->Load({"m", folder()}));
  const int64_t idle = memory_->state().used.total();
  const auto ask = [&](int32_t first) {
    RecordingSink sink;
    GenerateParams params;
    params.prompt = std::vector<int32_t>(200, first);
    params.max_new_tokens = 4;
    params.num_logprobs = 5;
    params.arrival = absl::Now();
    EXPECT_OK(TaskOf<TextGeneration>(*catalog->Find("m"))
                  .value()
                  ->scheduler->Submit(std::move(params), &sink));
    EXPECT_TRUE(sink.AwaitDone());
    EXPECT_OK(sink.status());
    return std::tuple(sink.token_ids(), sink.logprobs()[0].logprob,
                      sink.result().cached_tokens);
  };
  const auto kept_blocks = [&] {
    return (*catalog->Find("m"))->info().stats.kv_cached_bytes / kBlockBytes;
  };
  std::vector<decltype(ask(0))> answers;
  for (int32_t first = 1; first <= 5; ++first) answers.push_back(ask(first));
  EXPECT_EQ(kept_blocks(), 5 * 12);
  // 16 of them fit in what is set aside for one request.
  EXPECT_EQ(memory_->state().kept.total(), (5 * 12 - 16) * kBlockBytes);
  EXPECT_EQ(memory_->state().used.total(), idle + 44 * kBlockBytes);

  const int64_t resident = ResidentBytes();
  MemoryNeed all;
  all[MemoryShare::kWeights] = memory_->state().attainable_bytes();
  ASSERT_OK_AND_ASSIGN(auto load, memory_->Reserve(all, "a load"));
  EXPECT_EQ(memory_->state().free_bytes(), 0);
  EXPECT_EQ(memory_->state().kept.total(), 0);
  EXPECT_EQ(kept_blocks(), 16);
  EXPECT_LT(ResidentBytes(), resident - 40 * kBlockBytes);
  // What is left is of use, and the rest is computed again to the same bits.
  for (int32_t first = 5; first >= 1; --first) {
    const auto& [tokens, logprob, cached] = answers[first - 1];
    const auto [again, again_logprob, again_cached] = ask(first);
    EXPECT_EQ(again, tokens);
    EXPECT_EQ(again_logprob, logprob);
    if (first == 5) {
      EXPECT_EQ(again_cached, 192);
    }
    EXPECT_EQ(memory_->state().free_bytes(), 0);
    EXPECT_LE(kept_blocks(), 16);
  }
  load = {};
  ask(6);
  ASSERT_OK(Quantize(*catalog, "linear"));
  ask(6);
  EXPECT_EQ(kept_blocks(), 12) << "the new version's";
  ASSERT_OK(catalog->Unload("m"));
  EXPECT_EQ(memory_->state().used.total(), 0);
}

}  // namespace
}  // namespace ounce::server
