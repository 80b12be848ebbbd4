// What a saved folder has beside its weights, and what is left where saving
// fails: nothing.

#include "model/saver/saver.h"

#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "base/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "model/checkpoint/checkpoint.h"
#include "nlohmann/json.hpp"
#include "tests/testing/quantized_fixtures.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_folder.h"
#include "tests/testing/tiny_model.h"

namespace ounce::model {
namespace {

using ::ounce::testing::kTinyModelFolder;
using ::ounce::testing::StatusIs;
using ::ounce::testing::TempFolder;
using ::testing::AllOf;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

class SaverTest : public ::testing::Test {
 protected:
  SaverTest() : source_(*Checkpoint::Open(kTinyModelFolder)) {}

  SaveOptions With(const std::string& plan, const std::string& format = "") {
    SaveOptions options;
    if (!plan.empty()) options.plan = *ParseMethodPlan(plan);
    options.format = format;
    options.folder = folder_.Path("saved");
    options.name = "tiny";
    return options;
  }

  std::vector<std::string> Left() const {
    std::vector<std::string> names;
    for (const auto& entry :
         std::filesystem::directory_iterator(folder_.path())) {
      names.push_back(entry.path().filename().string());
    }
    return names;
  }

  std::string Text(const std::string& name) const {
    std::ifstream file(folder_.Path("saved/" + name));
    return {std::istreambuf_iterator<char>(file), {}};
  }

  TempFolder folder_;
  std::unique_ptr<Checkpoint> source_;
};

TEST_F(SaverTest, CarriesConfigAndTokenizerAlongAndWritesACard) {
  ASSERT_OK_AND_ASSIGN(const SaveReport report,
                       SaveModel(*source_, With("ks4")));
  EXPECT_EQ(report.format, "ounce");
  std::vector<std::string> names;
  int64_t weights = 0;
  for (const SavedFile& file : report.files) {
    names.push_back(file.name);
    if (file.name == "model.safetensors") weights = file.bytes;
    EXPECT_EQ(file.bytes,
              std::filesystem::file_size(folder_.Path("saved/" + file.name)));
  }
  EXPECT_EQ(report.weight_bytes, weights);
  EXPECT_THAT(names,
              ::testing::IsSupersetOf({"README.md", "config.json",
                                       "model.safetensors", "tokenizer.json"}));
  EXPECT_THAT(Left(), ElementsAre("saved"));
  const auto config = nlohmann::json::parse(Text("config.json"));
  EXPECT_EQ(config["model_type"], "codegen");
  EXPECT_EQ(config["quantization_config"]["plan"], "ks4");
  EXPECT_THAT(Text("README.md"),
              AllOf(HasSubstr("# tiny, stored as `ks4`"),
                    HasSubstr("| linear | `ks4` | "),
                    HasSubstr("ounce load NAME CHECKPOINT --plan 'ks4'"),
                    HasSubstr("\n- quantized\n"),
                    HasSubstr(StrCat("take ", report.weight_bytes, " bytes"))));
}

TEST_F(SaverTest, TakesTheFirstFormatThatHoldsTheModel) {
  ASSERT_OK_AND_ASSIGN(const SaveReport floats,
                       SaveModel(*source_, With("float16")));
  EXPECT_EQ(floats.format, "safetensors");
  const auto config = nlohmann::json::parse(Text("config.json"));
  EXPECT_EQ(config["torch_dtype"], "float16");
  EXPECT_FALSE(config.contains("dtype"));
}

TEST_F(SaverTest, CutsLargeModelsIntoShardsWithAnIndex) {
  SaveOptions options = With("");
  options.max_shard_bytes = 100'000;
  ASSERT_OK_AND_ASSIGN(const SaveReport report, SaveModel(*source_, options));
  const auto index =
      nlohmann::json::parse(Text("model.safetensors.index.json"));
  int64_t shards = 0;
  for (const SavedFile& file : report.files) {
    shards += file.name.ends_with(".safetensors") ? 1 : 0;
  }
  EXPECT_GT(shards, 1);
  EXPECT_EQ(index["weight_map"].size(), source_->tensors().size());
  ASSERT_OK_AND_ASSIGN(const auto copy, Checkpoint::Open(options.folder));
  EXPECT_EQ(copy->files().size(), static_cast<size_t>(shards));
  EXPECT_EQ(copy->tensors().size(), source_->tensors().size());
}

TEST_F(SaverTest, AFormatThatCannotHoldItIsRefusedByTheTensor) {
  EXPECT_THAT(
      SaveModel(*source_, With("ks4", "safetensors")),
      StatusIs(absl::StatusCode::kFailedPrecondition,
               AllOf(HasSubstr("format 'safetensors' cannot hold tensor "
                               "'transformer.h.0."),
                     HasSubstr("stored as ks4"),
                     HasSubstr("or none, for the first"))));
  EXPECT_THAT(SaveModel(*source_, With("ks4", "parquet")),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("must be one of safetensors, ")));
  EXPECT_THAT(Left(), IsEmpty());
}

TEST_F(SaverTest, AFolderThatIsThereIsLeftAlone) {
  std::filesystem::create_directory(folder_.Path("saved"));
  EXPECT_THAT(SaveModel(*source_, With("linear")),
              StatusIs(absl::StatusCode::kAlreadyExists,
                       HasSubstr("is there already")));
  EXPECT_TRUE(std::filesystem::is_empty(folder_.Path("saved")));
  EXPECT_THAT(Left(), ElementsAre("saved"));
}

TEST_F(SaverTest, AParentThatIsNotThereIsNamed) {
  SaveOptions options = With("linear");
  options.folder = folder_.Path("no/such/folder");
  EXPECT_THAT(SaveModel(*source_, options),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("no/such")));
}

TEST_F(SaverTest, WhoeverStopsItFindsNothing) {
  SaveOptions options = With("linear");
  int64_t told = 0;
  options.progress = [&](const SaveProgress& progress) -> absl::Status {
    EXPECT_LE(progress.bytes_done, progress.bytes_total);
    return ++told == 5 ? absl::CancelledError("enough") : absl::OkStatus();
  };
  EXPECT_THAT(SaveModel(*source_, options),
              StatusIs(absl::StatusCode::kCancelled));
  EXPECT_THAT(Left(), IsEmpty());
}

TEST_F(SaverTest, NothingIsLeftWhereTheLastCheckFails) {
  SaveOptions options = With("linear");
  options.check = [&] {
    EXPECT_THAT(Left(), Not(Contains("saved")));
    return absl::FailedPreconditionError("changed");
  };
  EXPECT_THAT(SaveModel(*source_, options),
              StatusIs(absl::StatusCode::kFailedPrecondition, "changed"));
  EXPECT_THAT(Left(), IsEmpty());
}

TEST_F(SaverTest, ACardHasNoNameThatMeansSomethingToAShell) {
  SaveOptions options = With("linear");
  options.name = "x;$(cmd)<img>";
  ASSERT_OK(SaveModel(*source_, options).status());
  EXPECT_THAT(Text("README.md"),
              AllOf(HasSubstr("# A model, stored as"), Not(HasSubstr("cmd"))));
}

TEST_F(SaverTest, ACardKeepsTheLicenseOfTheOneBefore) {
  const std::string folder = folder_.Path("source");
  std::filesystem::copy(kTinyModelFolder, folder,
                        std::filesystem::copy_options::recursive);
  folder_.WriteFile("source/README.md",
                    "---\nlicense: apache-2.0\ntags:\n- old\nlanguage:\n- en\n"
                    "- de\nwidget: x\n---\n# Old\nlicense: none\n");
  ASSERT_OK_AND_ASSIGN(const auto source, Checkpoint::Open(folder));
  ASSERT_OK(SaveModel(*source, With("")).status());
  EXPECT_THAT(
      Text("README.md"),
      ::testing::StartsWith("---\nlicense: apache-2.0\nlanguage:\n- en\n"
                            "- de\ntags:\n- ounce\n---\n\n# tiny"));
}

TEST_F(SaverTest, AGgufFileIsSavedAsItIsOrNotAtAll) {
  std::string gguf;
  for (const auto& fixture : ounce::testing::QuantizedFixtures()) {
    if (fixture.name == "gguf_qwen2") gguf = fixture.location;
  }
  ASSERT_OK_AND_ASSIGN(const auto source, Checkpoint::Open(gguf));
  EXPECT_THAT(SaveModel(*source, With("ks4:requantize=true")),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       HasSubstr("lie in it; save it as it is")));
  EXPECT_THAT(Left(), IsEmpty());
  ASSERT_OK_AND_ASSIGN(const SaveReport report, SaveModel(*source, With("")));
  EXPECT_EQ(report.format, "checkpoint");
  ASSERT_OK_AND_ASSIGN(const auto copy,
                       Checkpoint::Open(folder_.Path("saved")));
  EXPECT_EQ(copy->tensors().size(), source->tensors().size());
}

}  // namespace
}  // namespace ounce::model
