#include "server/engine/loaded_models.h"

#include <sys/resource.h>
#include <sys/stat.h>

#include <algorithm>
#include <atomic>
#include <deque>
#include <filesystem>
#include <fstream>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <tuple>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/thread_pool.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/scheduler/model_history.h"
#include "tests/server/engine/recording_catalog_observer.h"
#include "tests/testing/fake_engine.h"
#include "tests/testing/hung_file.h"
#include "tests/testing/no_threads.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_folder.h"
#include "tests/testing/tiny_model.h"

namespace ounce::server {
namespace {

using ::ounce::testing::Golden;
using ::ounce::testing::HungFile;
using ::ounce::testing::IsOk;
using ::ounce::testing::kOtherTinyModelFolder;
using ::ounce::testing::kTinyModelFolder;
using ::ounce::testing::NoThreads;
using ::ounce::testing::ReadGolden;
using ::ounce::testing::RecordingSink;
using ::ounce::testing::StatusIs;
using ::ounce::testing::TempFolder;
using ::testing::AllOf;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::SizeIs;

using absl::StatusCode;

constexpr int64_t kVocab = 304;
constexpr int32_t kTokens = 299;

class LoadedModelsTest : public ::testing::Test {
 protected:
  ~LoadedModelsTest() override { catalog_->Drain(absl::Now()); }

  using Progress = std::function<absl::Status(const QuantizeUpdate&)>;
  static absl::Status Ignore(const QuantizeUpdate&) { return absl::OkStatus(); }

  absl::StatusOr<QuantizeReport> Quantize(const std::string& model,
                                          const std::string& plan,
                                          const Progress& progress = Ignore) {
    QuantizeParams params;
    params.model = model;
    params.plan = *model::ParseMethodPlan(plan);
    return catalog_->Quantize(params, progress);
  }
  ModelInfo InfoOf(const std::string& name) {
    for (ModelInfo& info : catalog_->List()) {
      if (info.name == name) return info;
    }
    ADD_FAILURE() << "no model " << name;
    return {};
  }
  std::vector<std::string> Names() {
    std::vector<std::string> names;
    for (const ModelInfo& info : catalog_->List()) names.push_back(info.name);
    return names;
  }

  // The reader has room for `room` tokens.
  RecordingSink& Start(const std::string& model, std::vector<int32_t> prompt,
                       int64_t max_new, size_t room = SIZE_MAX) {
    RecordingSink& sink = sinks_.emplace_back();
    sink.set_room(room);
    auto served = catalog_->Find(model);
    EXPECT_OK(served);
    if (!served.ok()) return sink;
    held_.push_back(*served);
    GenerateParams params;
    params.prompt = std::move(prompt);
    params.max_new_tokens = max_new;
    params.arrival = absl::Now();
    EXPECT_OK(TaskOf<TextGeneration>(*served).value()->scheduler->Submit(
        std::move(params), &sink));
    return sink;
  }
  // Greedy tokens of a model that serves.
  std::vector<int32_t> Generate(const std::string& model,
                                std::vector<int32_t> prompt, int64_t max_new) {
    RecordingSink& sink = Start(model, std::move(prompt), max_new);
    EXPECT_TRUE(sink.AwaitDone());
    EXPECT_OK(sink.status());
    return sink.token_ids();
  }
  // A copy of the tiny model that the test may spoil.
  static std::string CopyTinyModel(const TempFolder& folder) {
    const std::string copy = folder.Path("model");
    std::filesystem::copy(kTinyModelFolder, copy,
                          std::filesystem::copy_options::recursive);
    return copy;
  }
  void ExpectStillServesVersion1(const std::string& model,
                                 const std::vector<int32_t>& tokens) {
    EXPECT_EQ(InfoOf(model).version, 1);
    EXPECT_EQ(InfoOf(model).state, ModelState::kReady);
    EXPECT_EQ(Generate(model, prompt_, 20), tokens);
  }

  const std::vector<int32_t> prompt_ = {5, 17, 99, 3};
  std::deque<RecordingSink> sinks_;
  RecordingCatalogObserver observer_;
  ThreadPool pool_{2};
  CatalogOptions options_;
  std::unique_ptr<ModelCatalog> catalog_ =
      CreateModelCatalog(options_, pool_, Clock::Real(), observer_);
  std::vector<std::shared_ptr<ServedModel>> held_;  // as services do
};

// Up to where transformers gives an id that is no token: the vocabulary's
// padding, which a server must not produce.
TEST_F(LoadedModelsTest, GeneratesWhatTransformersDoes) {
  ASSERT_OK(catalog_->Load({"tiny", kTinyModelFolder}));
  const Golden golden = ReadGolden(kTinyModelFolder, kVocab);
  for (size_t i = 0; i < golden.prompts.size(); ++i) {
    RecordingSink& sink = Start("tiny", golden.prompts[i],
                                static_cast<int64_t>(golden.greedy[i].size()));
    ASSERT_TRUE(sink.AwaitDone());
    std::vector<int32_t> wanted = golden.greedy[i];
    std::vector<int32_t> found = sink.token_ids();
    const auto padding = std::find_if(wanted.begin(), wanted.end(),
                                      [](int32_t id) { return id >= kTokens; });
    if (padding != wanted.end()) {
      wanted.erase(padding, wanted.end());
      ASSERT_GE(found.size(), wanted.size());
      found.resize(wanted.size());
    }
    EXPECT_THAT(wanted, SizeIs(::testing::Gt(20u)));
    EXPECT_EQ(found, wanted) << i;
    EXPECT_THAT(sink.token_ids(), ::testing::Each(::testing::Lt(kTokens)));
  }
}

TEST_F(LoadedModelsTest, GivesTheSameTokensInABatchAsAlone) {
  ASSERT_OK(catalog_->Load(
      {"tiny", kTinyModelFolder, *model::ParseMethodPlan("linear")}));
  std::vector<std::vector<int32_t>> prompts, alone;
  for (int i = 0; i < 12; ++i) {
    auto& prompt = prompts.emplace_back();
    for (int j = 0; j < 1 + i * 7; ++j)
      prompt.push_back((i * 31 + j * 13) % 290);
    alone.push_back(Generate("tiny", prompt, 30));
  }
  std::vector<RecordingSink*> sinks;
  for (const auto& prompt : prompts)
    sinks.push_back(&Start("tiny", prompt, 30));
  for (size_t i = 0; i < sinks.size(); ++i) {
    ASSERT_TRUE(sinks[i]->AwaitDone());
    EXPECT_EQ(sinks[i]->token_ids(), alone[i]) << i;
  }
}

TEST_F(LoadedModelsTest, KeepsKeysAndValuesInTheTypeThatItIsTold) {
  // Keys and values of two layers, four heads and 16 positions, of 16 each.
  constexpr int64_t kVectorsPerBlock = 2 * 4 * 2 * 16;
  for (const auto& [type, compute, name, block_bytes] :
       std::vector<std::tuple<std::optional<model::KvType>, quant::Compute,
                              std::string, int64_t>>{
           {std::nullopt, quant::Compute::kFloat32, "float32",
            kVectorsPerBlock * 64},
           {std::nullopt, quant::Compute::kBFloat16, "bfloat16",
            kVectorsPerBlock * 32},
           {model::KvType::kFloat32, quant::Compute::kBFloat16, "float32",
            kVectorsPerBlock * 64},
           {model::KvType::kBFloat16, quant::Compute::kFloat32, "bfloat16",
            kVectorsPerBlock * 32},
           {model::KvType::kInt8, quant::Compute::kFloat32, "int8",
            kVectorsPerBlock * (16 + 4)}}) {
    SCOPED_TRACE(name);
    catalog_->Drain(absl::Now());
    options_.kv_type = type;
    options_.compute = compute;
    held_.clear();  // the catalog outlives what it gave out
    catalog_ = CreateModelCatalog(options_, pool_, Clock::Real(), observer_);
    ASSERT_OK(catalog_->Load({"tiny", kTinyModelFolder}));
    EXPECT_EQ(InfoOf("tiny").kv_cache_dtype, name);
    // A block for each 16 of 128 positions of all requests that may run.
    EXPECT_EQ(InfoOf("tiny").stats.kv_capacity_bytes,
              options_.scheduler.max_running * 8 * block_bytes);
    std::vector<std::vector<int32_t>> prompts, alone;
    for (int i = 0; i < 5; ++i) {
      auto& prompt = prompts.emplace_back();
      for (int j = 0; j < 1 + i * 9; ++j) {
        prompt.push_back((i * 31 + j * 13) % 290);
      }
      alone.push_back(Generate("tiny", prompt, 30));
    }
    std::vector<RecordingSink*> sinks;
    for (const auto& prompt : prompts) {
      sinks.push_back(&Start("tiny", prompt, 30));
    }
    for (size_t i = 0; i < sinks.size(); ++i) {
      ASSERT_TRUE(sinks[i]->AwaitDone());
      EXPECT_EQ(sinks[i]->token_ids(), alone[i]) << i;
    }
  }
}

TEST_F(LoadedModelsTest, GivesTheSameTokensWhenTheirBlocksGoToOthers) {
  std::vector<std::vector<int32_t>> prompts;
  for (int i = 0; i < 6; ++i) {
    auto& prompt = prompts.emplace_back();
    for (int j = 0; j < 5 + i * 7; ++j)
      prompt.push_back((i * 31 + j * 13) % 290);
  }
  // With room for all of them, then for little more than the longest.
  std::vector<std::vector<int32_t>> roomy;
  for (const bool tight : {false, true}) {
    if (tight) {
      const int64_t block_bytes =
          InfoOf("tiny").stats.kv_capacity_bytes /
          (options_.scheduler.max_running * ((128 + 15) / 16));
      catalog_->Drain(absl::Now());
      options_.kv_cache_bytes = 9 * block_bytes;
      held_.clear();  // the catalog outlives what it gave out
      catalog_ = CreateModelCatalog(options_, pool_, Clock::Real(), observer_);
    }
    ASSERT_OK(catalog_->Load(
        {"tiny", kTinyModelFolder, *model::ParseMethodPlan("linear")}));
    const int64_t before = observer_.preempted();
    std::vector<RecordingSink*> sinks;
    for (const auto& prompt : prompts)
      sinks.push_back(&Start("tiny", prompt, 70));
    for (size_t i = 0; i < sinks.size(); ++i) {
      ASSERT_TRUE(sinks[i]->AwaitDone());
      EXPECT_OK(sinks[i]->status());
      if (tight) {
        EXPECT_EQ(sinks[i]->token_ids(), roomy[i]) << i;
      } else {
        roomy.push_back(sinks[i]->token_ids());
      }
    }
    EXPECT_EQ(observer_.preempted() > before, tight);
  }
}

TEST_F(LoadedModelsTest, TellsWhatItServes) {
  ASSERT_OK_AND_ASSIGN(const ModelInfo info,
                       catalog_->Load({"tiny", kTinyModelFolder}));
  EXPECT_EQ(info.name, "tiny");
  EXPECT_EQ(info.path, kTinyModelFolder);
  EXPECT_EQ(info.architecture, "codegen");
  EXPECT_EQ(info.state, ModelState::kReady);
  EXPECT_EQ(info.version, 1);
  EXPECT_EQ(info.method, "bfloat16");
  EXPECT_EQ(info.max_positions, 128);
  EXPECT_EQ(info.vocabulary_size, kVocab);
  EXPECT_EQ(info.checkpoint_bytes, 2 * info.parameters);
  EXPECT_EQ(info.stored_bytes, info.checkpoint_bytes);
  EXPECT_GE(info.resident_bytes, info.stored_bytes);
  int64_t sum = 0;
  for (const auto& [element, bytes] : info.resident_bytes_by_element) {
    sum += bytes;
  }
  EXPECT_EQ(sum, info.resident_bytes);
  // 32 requests of 128 positions, well below 1 GiB.
  EXPECT_GT(info.stats.kv_capacity_bytes, 0);
  EXPECT_EQ(info.stats.kv_used_bytes, 0);
  ASSERT_OK_AND_ASSIGN(const auto served, catalog_->Find("tiny"));
  EXPECT_EQ(TaskOf<TextGeneration>(served).value()->tokenizer->size(), 299);
  EXPECT_EQ(served->info().name, "tiny");
}

TEST_F(LoadedModelsTest, QuantizesAndGoesBackWhileSequencesRun) {
  ASSERT_OK(catalog_->Load({"tiny", kTinyModelFolder}));
  const std::vector<int32_t> before = Generate("tiny", prompt_, 60);
  const ModelInfo info = InfoOf("tiny");

  RecordingSink& running = Start("tiny", prompt_, 60, 1);  // outlives the swap
  ASSERT_TRUE(running.AwaitTokens(1));
  ASSERT_OK_AND_ASSIGN(const QuantizeReport report, Quantize("tiny", "linear"));
  EXPECT_EQ(report.model, "tiny");
  EXPECT_EQ(report.version, 2);
  EXPECT_EQ(report.method, "linear");
  EXPECT_EQ(report.method_before, "bfloat16");
  EXPECT_EQ(report.stored_bytes_before, info.stored_bytes);
  EXPECT_EQ(report.resident_bytes_before, info.resident_bytes);
  EXPECT_LT(report.stored_bytes_after, report.stored_bytes_before);
  EXPECT_EQ(report.checkpoint_bytes, info.checkpoint_bytes);
  EXPECT_DOUBLE_EQ(report.saved_ratio,
                   1 - static_cast<double>(report.stored_bytes_after) /
                           static_cast<double>(report.checkpoint_bytes));
  EXPECT_GT(report.seconds, 0);
  int64_t quantized = 0;
  for (const TensorOutcome& tensor : report.tensors) {
    if (tensor.method == report.method) {
      ++quantized;
      EXPECT_LT(tensor.bytes_after, tensor.bytes_before) << tensor.name;
      ASSERT_TRUE(tensor.relative_l2_error.has_value()) << tensor.name;
      EXPECT_GT(*tensor.relative_l2_error, 0);
      EXPECT_LT(*tensor.relative_l2_error, 0.02);
      EXPECT_GT(*tensor.snr_db, 34);
      EXPECT_THAT(tensor.left_alone, IsEmpty());
    } else {
      EXPECT_FALSE(tensor.relative_l2_error.has_value()) << tensor.name;
      EXPECT_THAT(tensor.left_alone, Not(IsEmpty())) << tensor.name;
    }
  }
  EXPECT_GT(quantized, 0);

  RecordingSink& second = Start("tiny", prompt_, 60);
  ASSERT_TRUE(second.AwaitDone());
  EXPECT_EQ(second.result().model_version, 2);
  EXPECT_EQ(second.result().method, report.method);
  EXPECT_EQ(InfoOf("tiny").version, 2);
  EXPECT_EQ(InfoOf("tiny").resident_bytes, report.resident_bytes_after);

  ASSERT_OK_AND_ASSIGN(const QuantizeReport back, Quantize("tiny", "bfloat16"));
  EXPECT_EQ(back.version, 3);
  EXPECT_EQ(back.saved_ratio, 0);
  EXPECT_EQ(Generate("tiny", prompt_, 60), before);

  running.set_has_room(true);
  TaskOf<TextGeneration>(held_.front()).value()->scheduler->Wake();
  ASSERT_TRUE(running.AwaitDone());
  EXPECT_EQ(running.result().model_version, 1);
  EXPECT_EQ(running.token_ids(), before);
}

TEST_F(LoadedModelsTest, RemembersTheVersionsThatServedAndTheLastReport) {
  const absl::Time start = Clock::Real().Now();
  ASSERT_OK(catalog_->Load({"tiny", kTinyModelFolder}));
  const std::shared_ptr<const ModelHistory> first = InfoOf("tiny").history;
  ASSERT_NE(first, nullptr);
  ASSERT_THAT(first->versions, SizeIs(1));
  const ModelInfo info = InfoOf("tiny");
  EXPECT_EQ(first->versions[0].version, 1);
  EXPECT_GE(first->versions[0].since, start);
  EXPECT_GT(first->versions[0].seconds, 0);
  EXPECT_EQ(first->versions[0].plan, info.plan);
  EXPECT_EQ(first->versions[0].method, "bfloat16");
  EXPECT_EQ(first->versions[0].stored_bytes, info.stored_bytes);
  EXPECT_EQ(first->report, nullptr);

  ASSERT_OK_AND_ASSIGN(const QuantizeReport report, Quantize("tiny", "linear"));
  QuantizeParams params;
  params.model = "tiny";
  params.plan = *model::ParseMethodPlan("linear:bits=4");
  params.dry_run = true;
  std::shared_ptr<const ModelHistory> history = InfoOf("tiny").history;
  EXPECT_FALSE(history->dry_run);
  EXPECT_EQ(history->report->version, 2);
  EXPECT_EQ(history->report->tensors.size(), report.tensors.size());
  EXPECT_EQ(history->report->seconds, report.seconds);
  ASSERT_OK(catalog_->Quantize(params, Ignore));
  // What others hold stays as it was.
  EXPECT_EQ(history->report->method, "linear");
  history = InfoOf("tiny").history;
  EXPECT_TRUE(history->dry_run);
  EXPECT_EQ(history->report->method, "linear:bits=4");
  ASSERT_THAT(history->versions, SizeIs(2));
  EXPECT_EQ(history->versions[1].version, 2);
  EXPECT_EQ(history->versions[1].plan, "linear");
  EXPECT_EQ(history->versions[1].stored_bytes, report.stored_bytes_after);
  EXPECT_EQ(history->versions[1].resident_bytes, report.resident_bytes_after);
  EXPECT_GE(history->versions[1].since, history->versions[0].since);
  EXPECT_THAT(first->versions, SizeIs(1));

  // The plan of a version is the way back to it.
  ASSERT_OK(Quantize("tiny", history->versions[0].plan));
  EXPECT_EQ(InfoOf("tiny").method, "bfloat16");
  EXPECT_EQ(InfoOf("tiny").stored_bytes, info.stored_bytes);

  // A version beside has a history of its own.
  params.as = "beside";
  params.dry_run = false;
  ASSERT_OK(catalog_->Quantize(params, Ignore));
  ASSERT_THAT(InfoOf("beside").history->versions, SizeIs(1));
  EXPECT_EQ(InfoOf("beside").history->versions[0].plan, "linear:bits=4");
  EXPECT_EQ(InfoOf("beside").history->report->model, "beside");
  EXPECT_THAT(InfoOf("tiny").history->versions, SizeIs(3));
}

TEST_F(LoadedModelsTest, RemembersNoMoreThanSoManyVersions) {
  ASSERT_OK(catalog_->Load({"tiny", kTinyModelFolder}));
  const int64_t more = ModelHistory::kMaxVersions + 2;
  for (int64_t i = 1; i < more; ++i) {
    ASSERT_OK(Quantize("tiny", i % 2 == 0 ? "keep" : "linear"));
  }
  const auto history = InfoOf("tiny").history;
  ASSERT_THAT(history->versions, SizeIs(ModelHistory::kMaxVersions));
  EXPECT_EQ(history->versions.front().version, 3);
  EXPECT_EQ(history->versions.back().version, more);
}

TEST_F(LoadedModelsTest, TellsProgressInOrder) {
  ASSERT_OK(catalog_->Load({"tiny", kTinyModelFolder}));
  std::vector<QuantizeUpdate> updates;
  ASSERT_OK_AND_ASSIGN(const QuantizeReport report,
                       Quantize("tiny", "linear", [&](const auto& update) {
                         // The last is told again when nothing happens.
                         if (updates.empty() ||
                             updates.back().stage != update.stage ||
                             updates.back().tensor != update.tensor) {
                           updates.push_back(update);
                         }
                         return absl::OkStatus();
                       }));
  ASSERT_GE(updates.size(), 3u);
  EXPECT_EQ(updates.front().stage, QuantizeStage::kReading);
  EXPECT_EQ(updates.back().stage, QuantizeStage::kSwapping);
  for (size_t i = 1; i + 1 < updates.size(); ++i) {
    EXPECT_EQ(updates[i].stage, QuantizeStage::kQuantizing);
    EXPECT_EQ(updates[i].tensors_done, static_cast<int64_t>(i));
    EXPECT_EQ(updates[i].tensors_total, updates.front().tensors_total);
    EXPECT_THAT(updates[i].tensor, Not(IsEmpty()));
  }
  EXPECT_EQ(updates.back().tensors_done, updates.back().tensors_total);
  EXPECT_THAT(observer_.events(),
              ElementsAre("tiny loading v0", "observe tiny", "tiny ready v1",
                          "tiny quantizing v1", "tiny reading",
                          "tiny quantizing tensors", "tiny swapping",
                          "tiny ready v2", "tiny linear done OK"));
}

TEST_F(LoadedModelsTest, RefusesASecondChangeWhileOneRuns) {
  ASSERT_OK(catalog_->Load({"tiny", kTinyModelFolder}));
  bool tried = false;
  ASSERT_OK(Quantize("tiny", "linear", [&](const QuantizeUpdate& update) {
    if (update.tensors_done == 3) {
      tried = true;
      EXPECT_EQ(InfoOf("tiny").state, ModelState::kQuantizing);
      EXPECT_THAT(Quantize("tiny", "float32"),
                  StatusIs(StatusCode::kAborted,
                           HasSubstr("'tiny' is being quantized")));
      EXPECT_THAT(catalog_->Unload("tiny"),
                  StatusIs(StatusCode::kAborted, HasSubstr("being quantized")));
      EXPECT_THAT(
          catalog_->Load({"tiny", kTinyModelFolder}),
          StatusIs(StatusCode::kAlreadyExists, HasSubstr("being quantized")));
      EXPECT_THAT(Generate("tiny", prompt_, 5), SizeIs(5));
    }
    return absl::OkStatus();
  }));
  EXPECT_TRUE(tried);
  EXPECT_EQ(InfoOf("tiny").version, 2);
}

TEST_F(LoadedModelsTest, ACancelledQuantizationLeavesAllAsItWas) {
  ASSERT_OK(catalog_->Load({"tiny", kTinyModelFolder}));
  const std::vector<int32_t> tokens = Generate("tiny", prompt_, 20);
  for (const QuantizeStage stage :
       {QuantizeStage::kReading, QuantizeStage::kQuantizing,
        QuantizeStage::kSwapping}) {
    QuantizeParams params;
    params.model = "tiny";
    params.plan = *model::ParseMethodPlan("linear");
    for (const std::string as : {"", "other"}) {
      params.as = as;
      EXPECT_THAT(
          catalog_->Quantize(params,
                             [&](const QuantizeUpdate& update) {
                               return update.stage == stage
                                          ? absl::CancelledError("no more")
                                          : absl::OkStatus();
                             }),
          StatusIs(StatusCode::kCancelled, "no more"));
      EXPECT_THAT(Names(), ElementsAre("tiny"));
      ExpectStillServesVersion1("tiny", tokens);
    }
  }
  EXPECT_THAT(observer_.events(),
              Contains("tiny linear done CANCELLED").Times(6));
}

TEST_F(LoadedModelsTest, AVanishedCheckpointLeavesTheOldVersionServing) {
  TempFolder folder;
  const std::string copy = CopyTinyModel(folder);
  ASSERT_OK(catalog_->Load({"tiny", copy}));
  const std::vector<int32_t> tokens = Generate("tiny", prompt_, 20);
  std::filesystem::remove_all(copy);
  EXPECT_THAT(Quantize("tiny", "linear"),
              StatusIs(StatusCode::kFailedPrecondition, HasSubstr(copy)));
  ExpectStillServesVersion1("tiny", tokens);
}

TEST_F(LoadedModelsTest, AMovedWeightFileLeavesTheOldVersionServing) {
  TempFolder folder;
  const std::string copy = CopyTinyModel(folder);
  ASSERT_OK(catalog_->Load({"tiny", copy}));
  const std::vector<int32_t> tokens = Generate("tiny", prompt_, 20);
  std::filesystem::rename(copy + "/model.safetensors",
                          folder.Path("elsewhere.safetensors"));
  EXPECT_THAT(Quantize("tiny", "linear"),
              StatusIs(StatusCode::kFailedPrecondition,
                       AllOf(HasSubstr("no longer the one that was loaded"),
                             HasSubstr("model.safetensors"))));
  ExpectStillServesVersion1("tiny", tokens);
}

TEST_F(LoadedModelsTest, OtherBytesOfTheSameSizeAndTimeAreSeen) {
  TempFolder folder;
  const std::string copy = CopyTinyModel(folder);
  ASSERT_OK(catalog_->Load({"tiny", copy}));
  const std::string weights = copy + "/model.safetensors";
  const auto time = std::filesystem::last_write_time(weights);
  // In place: the same inode.
  {
    std::fstream file(weights, std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(-2, std::ios::end);
    file.put('\x3c');
  }
  // Not within the same tick of the file system's clock as the copy.
  const auto changed = [&] {
    struct stat info = {};
    EXPECT_EQ(stat(weights.c_str(), &info), 0);
    return std::pair(info.st_ctim.tv_sec, info.st_ctim.tv_nsec);
  };
  const auto copied = changed();
  do {
    std::filesystem::last_write_time(weights, time);
  } while (changed() == copied);
  EXPECT_THAT(
      Quantize("tiny", "linear"),
      StatusIs(StatusCode::kFailedPrecondition, HasSubstr("weight file")));
  EXPECT_EQ(InfoOf("tiny").version, 1);
}

TEST_F(LoadedModelsTest, RunningOutOfDescriptorsIsNoFaultOfTheCheckpoint) {
  ASSERT_OK(catalog_->Load({"tiny", kTinyModelFolder}));
  rlimit before = {};
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &before), 0);
  const rlimit none = {0, before.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &none), 0);
  const absl::Status loaded =
      catalog_->Load({"other", kOtherTinyModelFolder}).status();
  const absl::Status quantized = Quantize("tiny", "linear").status();
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &before), 0);
  EXPECT_THAT(loaded, StatusIs(StatusCode::kResourceExhausted));
  EXPECT_THAT(quantized, StatusIs(StatusCode::kResourceExhausted));
  EXPECT_OK(Quantize("tiny", "linear"));
}

TEST_F(LoadedModelsTest, AThreadThatCannotBeHadLeavesAllAsItWas) {
  ASSERT_OK(catalog_->Load({"tiny", kTinyModelFolder}));
  {
    const NoThreads none;
    EXPECT_THAT(
        Quantize("tiny", "linear"),
        StatusIs(StatusCode::kResourceExhausted, HasSubstr("no thread")));
    EXPECT_THAT(
        catalog_->Load({"other", kOtherTinyModelFolder}),
        StatusIs(StatusCode::kResourceExhausted, HasSubstr("no thread")));
  }
  EXPECT_THAT(Names(), ElementsAre("tiny"));
  EXPECT_EQ(InfoOf("tiny").state, ModelState::kReady);
  EXPECT_OK(Quantize("tiny", "linear"));
}

TEST_F(LoadedModelsTest, RefusesAQuantizationThatDoesNothingBeforeTheWork) {
  ASSERT_OK(catalog_->Load({"tiny", kTinyModelFolder}));
  const auto refusal = [&](model::MethodPlan plan) {
    return catalog_
        ->Quantize({.model = "tiny", .plan = std::move(plan), .pictures = {}},
                   [](const QuantizeUpdate& update) {
                     EXPECT_EQ(update.stage, QuantizeStage::kReading);
                     EXPECT_EQ(update.tensors_done, 0);
                     return absl::OkStatus();
                   })
        .status();
  };
  EXPECT_THAT(
      refusal(*model::PlanOf(
          "", {.method = "linear", .include = {"lm_head"}, .exclude = {"*"}})),
      StatusIs(StatusCode::kInvalidArgument,
               HasSubstr("nothing is left to store as linear")));
  EXPECT_THAT(refusal(*model::ParseMethodPlan("@convolution=linear linear")),
              StatusIs(StatusCode::kInvalidArgument,
                       HasSubstr("'@convolution=linear' matches no matrix")));
  EXPECT_THAT(refusal(*model::ParseMethodPlan("*=linear lm_head=keep")),
              StatusIs(StatusCode::kInvalidArgument,
                       HasSubstr("'lm_head=keep' is left with nothing")));
  EXPECT_EQ(InfoOf("tiny").version, 1);
}

TEST_F(LoadedModelsTest, AVersionSaysItsPlanAndAnotherLoadRepeatsIt) {
  ASSERT_OK(catalog_->Load({"tiny", kTinyModelFolder}));
  EXPECT_EQ(InfoOf("tiny").plan, "keep");
  const std::string dtype = InfoOf("tiny").method;
  const std::string plan = "*.h.1.*=keep lm_head=linear *.mlp.*=float32 linear";
  ASSERT_OK_AND_ASSIGN(const QuantizeReport report, Quantize("tiny", plan));
  EXPECT_EQ(report.plan, plan);
  EXPECT_EQ(report.method, plan);
  EXPECT_EQ(InfoOf("tiny").plan, plan);
  EXPECT_EQ(InfoOf("tiny").method, plan);
  ASSERT_OK_AND_ASSIGN(const ModelInfo again,
                       catalog_->Load({"again", kTinyModelFolder,
                                       *model::ParseMethodPlan(report.plan)}));
  EXPECT_EQ(again.plan, plan);
  EXPECT_EQ(again.stored_bytes, report.stored_bytes_after);
  EXPECT_EQ(again.resident_bytes, report.resident_bytes_after);
  ASSERT_OK_AND_ASSIGN(const QuantizeReport back, Quantize("tiny", "keep"));
  EXPECT_EQ(back.plan, "keep");
  EXPECT_EQ(back.method, dtype);
  EXPECT_EQ(InfoOf("tiny").method, dtype);
}

TEST_F(LoadedModelsTest, WhatHangsInAFileSystemEndsWhenNobodyWantsItAnyMore) {
  TempFolder folder;
  const std::string copy = CopyTinyModel(folder);
  ASSERT_OK(catalog_->Load({"tiny", copy}));
  auto hung = HungFile::Create(copy + "/model.safetensors");
  if (hung == nullptr) GTEST_SKIP() << "no file can be made to hang here";
  int asked = 0;
  LoadParams params = {"other", copy};
  params.proceed = [&] {
    return ++asked < 3 ? absl::OkStatus() : absl::CancelledError("gone");
  };
  EXPECT_THAT(catalog_->Load(params), StatusIs(StatusCode::kCancelled, "gone"));
  EXPECT_THAT(Names(), ElementsAre("tiny"));
  EXPECT_THAT(Generate("tiny", prompt_, 20), SizeIs(20));
  std::thread quantize([&] {
    EXPECT_THAT(Quantize("tiny", "linear"),
                StatusIs(StatusCode::kUnavailable, HasSubstr("shutting down")));
  });
  while (InfoOf("tiny").state == ModelState::kReady) std::this_thread::yield();
  catalog_->Drain(absl::Now());
  quantize.join();
}

TEST_F(LoadedModelsTest, ALoadEndsWhenItsCallerGivesUp) {
  int asked = 0;
  LoadParams params = {"tiny", kTinyModelFolder};
  params.proceed = [&] {
    ++asked;
    return absl::CancelledError("the client is gone");
  };
  EXPECT_THAT(catalog_->Load(params),
              StatusIs(StatusCode::kCancelled, "the client is gone"));
  EXPECT_GT(asked, 0);
  EXPECT_THAT(Names(), IsEmpty());
  params.proceed = [] { return absl::OkStatus(); };
  EXPECT_OK(catalog_->Load(params));
}

TEST_F(LoadedModelsTest, RefusesACheckpointThatHasChanged) {
  TempFolder folder;
  const std::string copy = CopyTinyModel(folder);
  ASSERT_OK(catalog_->Load({"tiny", copy}));
  const std::vector<int32_t> tokens = Generate("tiny", prompt_, 20);

  // Other weights of the same shapes.
  const std::string weights = copy + "/model.safetensors";
  std::string bytes(std::filesystem::file_size(weights), '\0');
  std::ifstream(weights, std::ios::binary)
      .read(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  std::string changed = bytes;
  std::swap(changed[changed.size() - 2], changed[changed.size() - 4]);
  folder.WriteFile("model/model.safetensors", changed);
  std::filesystem::last_write_time(
      weights,
      std::filesystem::file_time_type::clock::now() + std::chrono::seconds(5));
  EXPECT_THAT(Quantize("tiny", "linear"),
              StatusIs(StatusCode::kFailedPrecondition,
                       HasSubstr("time of a weight file")));
  ExpectStillServesVersion1("tiny", tokens);

  // Half a file.
  folder.WriteFile("model/model.safetensors",
                   bytes.substr(0, bytes.size() / 2));
  EXPECT_THAT(Quantize("tiny", "linear"),
              StatusIs(StatusCode::kFailedPrecondition,
                       HasSubstr("model.safetensors")));
  ExpectStillServesVersion1("tiny", tokens);

  // Another model altogether.
  std::filesystem::remove_all(copy);
  std::filesystem::copy(kOtherTinyModelFolder, copy,
                        std::filesystem::copy_options::recursive);
  EXPECT_THAT(Quantize("tiny", "linear"),
              StatusIs(StatusCode::kFailedPrecondition,
                       HasSubstr("load it under a name of its own")));
  ExpectStillServesVersion1("tiny", tokens);
}

TEST_F(LoadedModelsTest, AFileThatShrinksMeanwhileFailsTheRunOnly) {
  TempFolder folder;
  const std::string copy = CopyTinyModel(folder);
  ASSERT_OK(catalog_->Load({"tiny", copy}));
  const std::vector<int32_t> tokens = Generate("tiny", prompt_, 20);
  EXPECT_THAT(Quantize("tiny", "linear",
                       [&](const QuantizeUpdate& update) {
                         if (update.tensors_done == 2) {
                           std::filesystem::resize_file(
                               copy + "/model.safetensors", 1000);
                         }
                         return absl::OkStatus();
                       }),
              StatusIs(StatusCode::kFailedPrecondition,
                       HasSubstr("size, inode or time of a weight file")));
  ExpectStillServesVersion1("tiny", tokens);
  EXPECT_THAT(observer_.events(),
              Contains("tiny linear done FAILED_PRECONDITION"));
}

TEST_F(LoadedModelsTest, ServesTheResultBesideTheOldModel) {
  ASSERT_OK(catalog_->Load({"tiny", kTinyModelFolder}));
  const std::vector<int32_t> tokens = Generate("tiny", prompt_, 20);
  QuantizeParams params;
  params.model = "tiny";
  params.plan = *model::ParseMethodPlan("linear");
  params.as = "tiny-int8";
  ASSERT_OK_AND_ASSIGN(const QuantizeReport report,
                       catalog_->Quantize(params, Ignore));
  EXPECT_EQ(report.model, "tiny-int8");
  EXPECT_EQ(report.version, 1);
  EXPECT_THAT(Names(), ElementsAre("tiny", "tiny-int8"));
  EXPECT_EQ(InfoOf("tiny-int8").method, report.method);
  EXPECT_EQ(InfoOf("tiny-int8").path, kTinyModelFolder);
  ExpectStillServesVersion1("tiny", tokens);
  EXPECT_THAT(Generate("tiny-int8", prompt_, 20), SizeIs(20));

  EXPECT_THAT(catalog_->Quantize(params, Ignore),
              StatusIs(StatusCode::kAlreadyExists, HasSubstr("tiny-int8")));
  params.as = "tiny";
  EXPECT_THAT(catalog_->Quantize(params, Ignore),
              StatusIs(StatusCode::kAlreadyExists));
  ASSERT_OK(catalog_->Unload("tiny"));
  EXPECT_THAT(Generate("tiny-int8", prompt_, 20), SizeIs(20));
}

TEST_F(LoadedModelsTest, ADryRunReportsAndChangesNothing) {
  ASSERT_OK(catalog_->Load({"tiny", kTinyModelFolder}));
  const std::vector<int32_t> tokens = Generate("tiny", prompt_, 20);
  QuantizeParams params;
  params.model = "tiny";
  params.plan = *model::ParseMethodPlan("linear");
  params.as = "never";
  params.dry_run = true;
  ASSERT_OK_AND_ASSIGN(const QuantizeReport dry,
                       catalog_->Quantize(params, Ignore));
  EXPECT_EQ(dry.version, 0);
  EXPECT_EQ(dry.model, "tiny");
  EXPECT_THAT(Names(), ElementsAre("tiny"));
  ExpectStillServesVersion1("tiny", tokens);
  ASSERT_OK_AND_ASSIGN(const QuantizeReport real, Quantize("tiny", "linear"));
  EXPECT_EQ(dry.stored_bytes_after, real.stored_bytes_after);
  EXPECT_EQ(dry.resident_bytes_after, real.resident_bytes_after);
  EXPECT_THAT(dry.tensors, SizeIs(real.tensors.size()));
}

TEST_F(LoadedModelsTest, QuantizesTheModulesThatTheGlobsName) {
  ASSERT_OK(catalog_->Load({"tiny", kTinyModelFolder}));
  ASSERT_OK_AND_ASSIGN(
      const QuantizeReport report,
      Quantize("tiny",
               "*.h.0.*=keep transformer.h.*.mlp.*=linear lm_head=linear"));
  for (const TensorOutcome& tensor : report.tensors) {
    if (tensor.shape.size() != 2) continue;
    const bool wanted = tensor.name == "lm_head.weight" ||
                        (tensor.name.find(".mlp.") != std::string::npos &&
                         tensor.name.find(".h.0.") == std::string::npos);
    EXPECT_EQ(tensor.method == "linear", wanted) << tensor.name;
  }
  EXPECT_THAT(
      Quantize("tiny", "no.such.module=linear"),
      StatusIs(StatusCode::kInvalidArgument, HasSubstr("no.such.module")));
  EXPECT_EQ(InfoOf("tiny").version, 2);
}

TEST_F(LoadedModelsTest, RefusesBadNames) {
  ASSERT_OK(catalog_->Load({"tiny", kTinyModelFolder}));
  for (const std::string& name :
       {std::string(), std::string("a/b"), std::string("a b"),
        std::string(65, 'x'), std::string("caf\xc3\xa9"), std::string(1, 0)}) {
    EXPECT_THAT(catalog_->Load({name, kTinyModelFolder}),
                StatusIs(StatusCode::kInvalidArgument));
  }
  QuantizeParams params;
  params.model = "tiny";
  params.plan = *model::ParseMethodPlan("linear");
  params.as = "a/b";
  EXPECT_THAT(catalog_->Quantize(params, Ignore),
              StatusIs(StatusCode::kInvalidArgument, HasSubstr("'a/b'")));
  EXPECT_THAT(Quantize("nobody", "linear"),
              StatusIs(StatusCode::kNotFound,
                       AllOf(HasSubstr("'nobody'"), HasSubstr("tiny"))));
  EXPECT_THAT(catalog_->Unload("nobody"), StatusIs(StatusCode::kNotFound));
  EXPECT_THAT(catalog_->Find("nobody"),
              StatusIs(StatusCode::kNotFound, HasSubstr("tiny")));
  EXPECT_THAT(Names(), ElementsAre("tiny"));
}

TEST_F(LoadedModelsTest, AFailedLoadLeavesTheNameFree) {
  TempFolder folder;
  EXPECT_THAT(catalog_->Load({"tiny", folder.Path("nothing")}),
              StatusIs(StatusCode::kNotFound, HasSubstr("nothing")));
  const std::string copy = CopyTinyModel(folder);
  folder.WriteFile("model/config.json", R"({"model_type":"other_model"})");
  EXPECT_THAT(catalog_->Load({"tiny", copy}),
              StatusIs(StatusCode::kUnimplemented,
                       AllOf(HasSubstr("other_model"), HasSubstr("codegen"))));
  EXPECT_THAT(Names(), IsEmpty());
  EXPECT_THAT(catalog_->Find("tiny"), StatusIs(StatusCode::kNotFound));
  EXPECT_THAT(observer_.events(),
              ElementsAre("tiny loading v0", "tiny removed", "tiny loading v0",
                          "tiny removed"));
  ASSERT_OK(catalog_->Load({"tiny", kTinyModelFolder}));
  EXPECT_THAT(catalog_->Load({"tiny", kTinyModelFolder}),
              StatusIs(StatusCode::kAlreadyExists, HasSubstr("ready")));
}

TEST_F(LoadedModelsTest, TakesATokenizerWithMoreTokensThanTheModelHas) {
  TempFolder folder;
  const std::string copy = folder.Path("model");
  std::filesystem::copy(kOtherTinyModelFolder, copy,
                        std::filesystem::copy_options::recursive);
  std::string vocab = "{";
  for (int i = 0; i < 5000; ++i) {
    absl::StrAppend(&vocab, i == 0 ? "" : ",", "\"x", i, "\":", i);
  }
  std::filesystem::remove(copy + "/tokenizer.json");
  folder.WriteFile("model/vocab.json", vocab + "}");
  folder.WriteFile("model/merges.txt", "#version: 0.2\n");
  ASSERT_OK(catalog_->Load({"tiny", copy}));
  ASSERT_OK_AND_ASSIGN(const auto served, catalog_->Find("tiny"));
  EXPECT_EQ(TaskOf<TextGeneration>(served).value()->tokenizer->size(), 5000);
  EXPECT_LT(served->info().vocabulary_size, 5000);

  folder.WriteFile("model/vocab.json", "{}");
  EXPECT_THAT(
      catalog_->Load({"empty", copy}),
      StatusIs(StatusCode::kInvalidArgument, HasSubstr("has no tokens")));
}

TEST_F(LoadedModelsTest, TakesTheDefaultsOfGenerationConfigJson) {
  ASSERT_OK(catalog_->Load({"plain", kTinyModelFolder}));
  ASSERT_OK_AND_ASSIGN(const auto plain, catalog_->Find("plain"));
  EXPECT_EQ(TaskOf<TextGeneration>(plain).value()->defaults->temperature, 0);
  const std::vector<int32_t> tokens = Generate("plain", prompt_, 20);

  TempFolder folder;
  const std::string copy = CopyTinyModel(folder);
  folder.WriteFile("model/generation_config.json",
                   absl::StrCat(R"({"do_sample": true, "temperature": 0.5,
                                    "num_beams": 4, "suppress_tokens": [)",
                                tokens[0], "]}"));
  ASSERT_OK(catalog_->Load({"tiny", copy}));
  ASSERT_OK_AND_ASSIGN(const auto served, catalog_->Find("tiny"));
  EXPECT_EQ(TaskOf<TextGeneration>(served).value()->defaults->temperature,
            0.5f);
  EXPECT_EQ(TaskOf<TextGeneration>(served).value()->defaults->top_k, 50);
  EXPECT_THAT(Generate("tiny", prompt_, 20), Not(Contains(tokens[0])));
  // Of every version.
  ASSERT_OK(Quantize("tiny", "linear"));
  EXPECT_THAT(Generate("tiny", prompt_, 20), Not(Contains(tokens[0])));

  folder.WriteFile("model/generation_config.json",
                   R"({"repetition_penalty": "1.2"})");
  EXPECT_THAT(catalog_->Load({"other", copy}),
              StatusIs(StatusCode::kInvalidArgument,
                       HasSubstr("/generation_config.json: "
                                 "'repetition_penalty' must be a number")));
  std::string all = "0";
  for (int i = 1; i < 5000; ++i) absl::StrAppend(&all, ",", i);
  folder.WriteFile("model/generation_config.json",
                   R"({"suppress_tokens": [)" + all + "]}");
  EXPECT_THAT(catalog_->Load({"other", copy}),
              StatusIs(StatusCode::kInvalidArgument,
                       HasSubstr("'suppress_tokens' must leave a token")));
}

TEST_F(LoadedModelsTest, RefusesAKvBudgetBelowOneBlock) {
  catalog_->Drain(absl::Now());
  options_.kv_cache_bytes = 1000;
  catalog_ = CreateModelCatalog(options_, pool_, Clock::Real(), observer_);
  EXPECT_THAT(catalog_->Load({"tiny", kTinyModelFolder}),
              StatusIs(StatusCode::kFailedPrecondition,
                       HasSubstr("--kv_cache_bytes must be at least 16384")));
}

TEST_F(LoadedModelsTest, UnloadWaitsForRunningRequests) {
  ASSERT_OK(catalog_->Load({"tiny", kTinyModelFolder}));
  RecordingSink& running = Start("tiny", prompt_, 40, 1);
  ASSERT_TRUE(running.AwaitTokens(1));
  std::atomic<bool> unloaded = false;
  std::thread unload([&] {
    EXPECT_OK(catalog_->Unload("tiny"));
    unloaded = true;
  });
  // New requests don't find it any more.
  while (catalog_->Find("tiny").ok()) std::this_thread::yield();
  EXPECT_THAT(catalog_->Find("tiny"), StatusIs(StatusCode::kNotFound));
  EXPECT_EQ(InfoOf("tiny").state, ModelState::kUnloading);
  EXPECT_THAT(catalog_->Load({"tiny", kTinyModelFolder}),
              StatusIs(StatusCode::kAlreadyExists, HasSubstr("unloaded")));
  EXPECT_THAT(Quantize("tiny", "linear"), StatusIs(StatusCode::kAborted));
  EXPECT_THAT(catalog_->Unload("tiny"), StatusIs(StatusCode::kAborted));
  EXPECT_FALSE(unloaded);
  running.set_has_room(true);
  TaskOf<TextGeneration>(held_.front()).value()->scheduler->Wake();
  unload.join();
  EXPECT_TRUE(running.done());
  EXPECT_OK(running.status());
  EXPECT_THAT(running.token_ids(), SizeIs(40));
  EXPECT_THAT(Names(), IsEmpty());
  EXPECT_EQ(observer_.events().back(), "tiny removed");
  // Whoever found it before is told to go elsewhere.
  GenerateParams params;
  params.prompt = {1};
  params.max_new_tokens = 1;
  EXPECT_THAT(TaskOf<TextGeneration>(held_.front())
                  .value()
                  ->scheduler->Submit(params, &running),
              StatusIs(StatusCode::kUnavailable));
  ASSERT_OK(catalog_->Load({"tiny", kTinyModelFolder}));
}

TEST_F(LoadedModelsTest, AForcedUnloadEndsWhatAnotherOneWaitsFor) {
  ASSERT_OK(catalog_->Load({"tiny", kTinyModelFolder}));
  ASSERT_OK(catalog_->Load({"other", kOtherTinyModelFolder}));
  RecordingSink& stalled = Start("tiny", prompt_, 40, 1);
  RecordingSink& beside = Start("other", prompt_, 40, 1);
  ASSERT_TRUE(stalled.AwaitTokens(1));
  ASSERT_TRUE(beside.AwaitTokens(1));
  absl::Status patient;
  std::thread unload([&] { patient = catalog_->Unload("tiny"); });
  while (catalog_->Find("tiny").ok()) std::this_thread::yield();
  EXPECT_OK(catalog_->Unload("tiny", /*force=*/true));
  unload.join();
  EXPECT_OK(patient);
  EXPECT_TRUE(stalled.AwaitDone());
  EXPECT_THAT(stalled.status(), StatusIs(StatusCode::kUnavailable));
  EXPECT_THAT(Names(), ElementsAre("other"));
  EXPECT_FALSE(beside.done());
  // Without another one before it, too.
  EXPECT_OK(catalog_->Unload("other", /*force=*/true));
  EXPECT_TRUE(beside.AwaitDone());
  EXPECT_THAT(beside.status(), StatusIs(StatusCode::kUnavailable));
  EXPECT_THAT(catalog_->Unload("other", /*force=*/true),
              StatusIs(StatusCode::kNotFound));
}

TEST_F(LoadedModelsTest, DrainLetsRequestsFinishAndRefusesNewWork) {
  ASSERT_OK(catalog_->Load({"tiny", kTinyModelFolder}));
  ASSERT_OK(catalog_->Load({"other", kOtherTinyModelFolder}));
  RecordingSink& a = Start("tiny", prompt_, 60);
  RecordingSink& b = Start("other", prompt_, 60);
  catalog_->Drain(absl::Now() + absl::Seconds(60));
  EXPECT_OK(a.status());
  EXPECT_OK(b.status());
  EXPECT_TRUE(a.done());
  EXPECT_TRUE(b.done());
  EXPECT_THAT(catalog_->Find("tiny"), StatusIs(StatusCode::kUnavailable));
  EXPECT_THAT(catalog_->Load({"third", kTinyModelFolder}),
              StatusIs(StatusCode::kUnavailable));
  EXPECT_THAT(Quantize("tiny", "linear"), StatusIs(StatusCode::kUnavailable));
}

TEST_F(LoadedModelsTest, DrainEndsAQuantization) {
  ASSERT_OK(catalog_->Load({"tiny", kTinyModelFolder}));
  EXPECT_THAT(Quantize("tiny", "linear",
                       [&](const QuantizeUpdate& update) {
                         if (update.tensors_done == 2) {
                           catalog_->Drain(absl::Now());
                         }
                         return absl::OkStatus();
                       }),
              StatusIs(StatusCode::kUnavailable, HasSubstr("shutting down")));
}

TEST_F(LoadedModelsTest, ListsMethodsWithTheirParameters) {
  std::map<std::string, MethodInfo> methods;
  const MethodList list = catalog_->Methods();
  for (const MethodInfo& info : list.methods) methods[info.name] = info;
  ASSERT_TRUE(methods.contains("float32"));
  ASSERT_TRUE(methods.contains("linear"));
  EXPECT_THAT(methods["linear"].summary, Not(IsEmpty()));
  ASSERT_THAT(methods["linear"].parameters, Not(IsEmpty()));
  const MethodParameterInfo& bits = methods["linear"].parameters.front();
  EXPECT_EQ(bits.name, "bits");
  EXPECT_EQ(bits.default_value, "8");
  EXPECT_TRUE(!bits.choices.empty() ||
              (bits.min.has_value() && bits.max.has_value()));
  EXPECT_THAT(bits.help, Not(IsEmpty()));
  ASSERT_THAT(list.stages, Not(IsEmpty()));
  EXPECT_EQ(list.stages.front().name, "prune-magnitude");
  EXPECT_EQ(list.stages.front().parameters.front().lowest, 0.001);
  ASSERT_THAT(list.rule_keys, Not(IsEmpty()));
  EXPECT_EQ(list.rule_keys.front().name, "untie");
  EXPECT_EQ(list.rule_keys.front().choices.size(), 2u);
}

}  // namespace
}  // namespace ounce::server
