// A version of a catalog's model as a folder that is loaded again.
#include "server/engine/saving.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/mutex.h"
#include "base/thread_pool.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/engine/loaded_models.h"
#include "server/scheduler/refusal.h"
#include "tests/server/engine/recording_catalog_observer.h"
#include "tests/testing/fake_engine.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_folder.h"
#include "tests/testing/tiny_model.h"

namespace ounce::server {
namespace {

namespace fs = std::filesystem;
using ::ounce::testing::IsOk;
using ::ounce::testing::kTinyModelFolder;
using ::ounce::testing::RecordingSink;
using ::ounce::testing::StatusIs;
using ::ounce::testing::TempFolder;
using ::testing::AllOf;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

using absl::StatusCode;
using Progress = std::function<absl::Status(const SaveUpdate&)>;

class SavingTest : public ::testing::Test {
 protected:
  SavingTest() {
    fs::create_directories(folder_.Path("root"));
    CatalogOptions options;
    options.save_root = folder_.Path("root");
    catalog_ = CreateModelCatalog(options, pool_, Clock::Real(), observer_);
  }
  ~SavingTest() override { catalog_->Drain(absl::Now()); }

  static absl::Status Ignore(const SaveUpdate&) { return absl::OkStatus(); }
  absl::StatusOr<SaveReport> Save(const SaveParams& params,
                                  const Progress& progress = Ignore) {
    return catalog_->Save(params, progress);
  }
  absl::Status Load(const std::string& name, const std::string& path,
                    const std::string& plan = "") {
    LoadParams params = {.name = name, .path = path};
    if (!plan.empty()) params.plan = *model::ParseMethodPlan(plan);
    return catalog_->Load(params).status();
  }
  ModelInfo InfoOf(const std::string& name) {
    return catalog_->Find(name).value()->info();
  }
  std::vector<int32_t> Generate(const std::string& name) {
    RecordingSink sink;
    const std::shared_ptr<ServedModel> served = *catalog_->Find(name);
    GenerateParams params;
    params.prompt = {5, 17, 99, 3};
    params.max_new_tokens = 20;
    params.arrival = absl::Now();
    EXPECT_OK(TaskOf<TextGeneration>(served).value()->scheduler->Submit(
        std::move(params), &sink));
    EXPECT_TRUE(sink.AwaitDone());
    EXPECT_OK(sink.status());
    return sink.token_ids();
  }
  std::vector<std::string> InRoot() {
    std::vector<std::string> names;
    for (const auto& entry : fs::directory_iterator(folder_.Path("root"))) {
      names.push_back(entry.path().filename().string());
    }
    return names;
  }
  std::string CopyTinyModel() {
    const std::string copy = folder_.Path("model");
    fs::copy(kTinyModelFolder, copy, fs::copy_options::recursive);
    return copy;
  }
  static std::string Text(const std::string& path) {
    std::ifstream file(path);
    return {std::istreambuf_iterator<char>(file), {}};
  }

  const TempFolder folder_;
  RecordingCatalogObserver observer_;
  ThreadPool pool_{2};
  std::unique_ptr<ModelCatalog> catalog_;
};

TEST_F(SavingTest, WhatIsSavedServesTheSameTokensFromItsCodes) {
  ASSERT_OK(Load("tiny", kTinyModelFolder, "linear:bits=4,granularity=group"));
  std::vector<SaveUpdate> told;
  ASSERT_OK_AND_ASSIGN(
      const SaveReport report,
      Save({.model = "tiny", .folder = "a/four", .format = "ounce"},
           [&](const SaveUpdate& update) {
             told.push_back(update);
             return absl::OkStatus();
           }));
  EXPECT_EQ(report.model, "tiny");
  EXPECT_EQ(report.version, 1);
  EXPECT_EQ(report.plan, "linear:bits=4,granularity=group");
  EXPECT_EQ(report.format, "ounce");
  EXPECT_EQ(report.folder, fs::canonical(folder_.Path("root/a/four")).string());
  EXPECT_GT(report.seconds, 0);
  int64_t weight_bytes = 0;
  for (const SavedFile& file : report.files) {
    EXPECT_EQ(file.bytes, fs::file_size(report.folder + "/" + file.name));
    if (file.name == "model.safetensors") weight_bytes = file.bytes;
  }
  EXPECT_EQ(report.weight_bytes, weight_bytes);
  ASSERT_THAT(told, Not(IsEmpty()));
  EXPECT_EQ(told.front().bytes_total, weight_bytes);
  EXPECT_LE(told.back().bytes_done, weight_bytes);
  EXPECT_THAT(told.back().tensor, Not(IsEmpty()));
  EXPECT_THAT(observer_.events(), Contains("tiny saved OK"));

  ASSERT_OK(Load("again", report.folder));
  EXPECT_EQ(InfoOf("again").method, "linear:bits=4,granularity=group");
  EXPECT_EQ(Generate("again"), Generate("tiny"));
}

TEST_F(SavingTest, WithoutARootNothingIsSaved) {
  catalog_ = CreateModelCatalog({}, pool_, Clock::Real(), observer_);
  ASSERT_OK(Load("tiny", kTinyModelFolder));
  EXPECT_THAT(
      Save({.model = "tiny", .folder = "a", .format = "ounce"}),
      StatusIs(StatusCode::kFailedPrecondition, HasSubstr("--save_root")));
}

TEST_F(SavingTest, RefusesWhatCannotBeAndSaysWhy) {
  ASSERT_OK(Load("tiny", kTinyModelFolder, "linear"));
  EXPECT_THAT(Save({.model = "other", .folder = "a"}),
              StatusIs(StatusCode::kNotFound, HasSubstr("served: tiny")));
  const absl::Status format =
      Save({.model = "tiny", .folder = "a", .format = "onnx"}).status();
  EXPECT_THAT(format,
              StatusIs(StatusCode::kInvalidArgument,
                       AllOf(HasSubstr("format: must be one of "),
                             HasSubstr("ounce"), HasSubstr("is 'onnx'"))));
  EXPECT_EQ(FieldOf(format), "format");
  const absl::Status cannot =
      Save({.model = "tiny", .folder = "a/b", .format = "safetensors"})
          .status();
  EXPECT_THAT(cannot, StatusIs(StatusCode::kFailedPrecondition));
  EXPECT_EQ(ReasonOf(cannot), Reason::kFormatCannotHold);
  EXPECT_THAT(Save({.model = "tiny", .folder = "../a"}),
              StatusIs(StatusCode::kInvalidArgument));
  EXPECT_THAT(InRoot(), IsEmpty());
  EXPECT_THAT(observer_.events(),
              Contains("tiny saved FAILED_PRECONDITION without weights"));
}

TEST_F(SavingTest, AnErrorOfTheProgressEndsItAndLeavesNothing) {
  ASSERT_OK(Load("tiny", kTinyModelFolder, "linear"));
  int calls = 0;
  EXPECT_THAT(Save({.model = "tiny", .folder = "a/b", .format = "ounce"},
                   [&](const SaveUpdate&) {
                     return ++calls == 3 ? absl::CancelledError("enough")
                                         : absl::OkStatus();
                   }),
              StatusIs(StatusCode::kCancelled, "enough"));
  EXPECT_EQ(calls, 3);
  EXPECT_THAT(InRoot(), IsEmpty());
  // The place is free again.
  EXPECT_OK(Save({.model = "tiny", .folder = "a/b", .format = "ounce"}));
}

TEST_F(SavingTest, TheModelServesOnAndMayBeQuantizedAndUnloadedMeanwhile) {
  ASSERT_OK(Load("tiny", kTinyModelFolder, "linear"));
  const std::vector<int32_t> tokens = Generate("tiny");
  bool done = false;
  const absl::StatusOr<SaveReport> report = Save(
      {.model = "tiny", .folder = "a", .format = "ounce"},
      [&](const SaveUpdate&) -> absl::Status {
        if (std::exchange(done, true)) return absl::OkStatus();
        // The second call of one thread: no lock is held.
        EXPECT_EQ(InfoOf("tiny").state, ModelState::kReady);
        EXPECT_EQ(Generate("tiny"), tokens);
        QuantizeParams params;
        params.model = "tiny";
        params.plan = *model::ParseMethodPlan("binary");
        EXPECT_OK(catalog_->Quantize(
            params, [](const QuantizeUpdate&) { return absl::OkStatus(); }));
        return catalog_->Unload("tiny");
      });
  ASSERT_OK(report);
  EXPECT_TRUE(done);
  EXPECT_EQ(report->version, 1);
  EXPECT_EQ(report->plan, "linear");
  ASSERT_OK(Load("again", report->folder));
  EXPECT_EQ(InfoOf("again").method, "linear");
  EXPECT_EQ(Generate("again"), tokens);
  EXPECT_THAT(observer_.events(), Not(Contains("tiny saved OK")));
}

TEST_F(SavingTest, RefusesAChangedCheckpointBeforeAndAfter) {
  const std::string copy = CopyTinyModel();
  ASSERT_OK(Load("tiny", copy, "linear"));
  // As it is being written; the files stay readable.
  bool touched = false;
  const absl::Status late =
      Save({.model = "tiny", .folder = "a", .format = "ounce"},
           [&](const SaveUpdate&) {
             if (!std::exchange(touched, true)) {
               EXPECT_EQ(
                   utimensat(AT_FDCWD, (copy + "/model.safetensors").c_str(),
                             nullptr, 0),
                   0);
             }
             return absl::OkStatus();
           })
          .status();
  EXPECT_TRUE(touched);
  for (const absl::Status& refused :
       {late,
        Save({.model = "tiny", .folder = "a", .format = "ounce"}).status()}) {
    EXPECT_THAT(refused, StatusIs(StatusCode::kFailedPrecondition,
                                  HasSubstr("no longer the one")));
    EXPECT_EQ(ReasonOf(refused), Reason::kCheckpointChanged);
  }
  EXPECT_THAT(InRoot(), IsEmpty());
}

TEST_F(SavingTest, TheCardTellsWhatWasMeasured) {
  ASSERT_OK(Load("tiny", kTinyModelFolder, "linear"));
  ASSERT_OK_AND_ASSIGN(const auto served, catalog_->Find("tiny"));
  ASSERT_OK_AND_ASSIGN(const auto generation, TaskOf<TextGeneration>(served));
  ASSERT_OK_AND_ASSIGN(
      const TextQuality quality,
      generation->evaluator->Evaluate(
          {.text = "import os\nimport sys\n",
           .window = 16,
           .stride = 8,
           .compare_with_floats = true,
           .text_name = "some_text.txt"},
          [](const EvaluateUpdate&) { return absl::OkStatus(); }));
  EXPECT_EQ(quality.text_name, "some_text.txt");
  ASSERT_OK_AND_ASSIGN(
      const SaveReport report,
      Save({.model = "tiny", .folder = "a", .format = "ounce"}));
  EXPECT_THAT(
      Text(report.folder + "/README.md"),
      AllOf(HasSubstr("\n# bfloat16"), HasSubstr("| Text | some\\_text.txt |"),
            HasSubstr(absl::StrCat("tokens | 16 and 8 |")),
            HasSubstr("| Perplexity | "), HasSubstr("KL divergence"),
            HasSubstr("ounce evaluate bfloat16 --text FILE --window 16 "
                      "--stride 8 --floats\n")));
}

}  // namespace
}  // namespace ounce::server
