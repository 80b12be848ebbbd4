// What is said of broken checkpoints in shards, under each family's names.

#include <filesystem>
#include <fstream>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "model/checkpoint/checkpoint.h"
#include "model/loader/loader.h"
#include "nlohmann/json.hpp"
#include "tests/model/arch/lm_runner.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_folder.h"
#include "tests/testing/tiny_model.h"

namespace ounce::model {
namespace {

using nlohmann::json;
using ::ounce::testing::GoldenCase;
using ::ounce::testing::GoldenCases;
using ::ounce::testing::LmRunner;
using ::ounce::testing::StatusIs;
using ::ounce::testing::TempFolder;
using ::testing::AllOf;
using ::testing::HasSubstr;

// The name of the index in a golden's folder; "" if it has none.
std::string IndexOf(const std::string& folder) {
  for (const std::string name :
       {"model.safetensors.index.json", "pytorch_model.bin.index.json"}) {
    if (std::filesystem::exists(folder + "/" + name)) return name;
  }
  return "";
}

std::vector<GoldenCase> Sharded() {
  std::vector<GoldenCase> sharded;
  for (const GoldenCase& c : GoldenCases()) {
    if (!IndexOf(c.folder).empty()) sharded.push_back(c);
  }
  return sharded;
}

class BrokenShardsTest : public ::testing::TestWithParam<GoldenCase> {
 protected:
  BrokenShardsTest() {
    std::filesystem::copy(GetParam().folder, folder_.path());
    index_name_ = IndexOf(GetParam().folder);
    index_ = json::parse(std::ifstream(folder_.Path(index_name_)));
    for (const auto& [name, file] : index_["weight_map"].items()) {
      shards_.insert(file.get<std::string>());
    }
  }

  void WriteIndex(const json& index) {
    folder_.WriteFile(index_name_, index.dump());
  }
  absl::StatusOr<LoadedModel> Load() {
    absl::StatusOr<std::unique_ptr<Checkpoint>> checkpoint =
        Checkpoint::Open(folder_.path().string());
    if (!checkpoint.ok()) return checkpoint.status();
    return LoadModel(**checkpoint, {});
  }
  std::vector<float> Logits() {
    const auto loaded = Load();
    EXPECT_OK(loaded.status());
    if (!loaded.ok()) return {};
    LmRunner runner(*loaded->model->causal_lm(), 1);
    return runner.AllLogits({5, 6, 7}, {3});
  }

  TempFolder folder_;
  std::string index_name_;
  json index_;
  std::set<std::string> shards_;
};

TEST_P(BrokenShardsTest, AMissingShardIsNamed) {
  for (const std::string& shard : shards_) {
    const std::string path = folder_.Path(shard);
    std::filesystem::rename(path, path + ".away");
    EXPECT_THAT(Load(), StatusIs(absl::StatusCode::kNotFound,
                                 AllOf(HasSubstr("/" + index_name_ + ": "),
                                       HasSubstr("/" + shard + ": No such"),
                                       HasSubstr("download"))));
    std::filesystem::rename(path + ".away", path);
  }
}

TEST_P(BrokenShardsTest, ATensorThatItsShardLacksIsNamedWithTheShard) {
  for (const auto& [name, file] : index_["weight_map"].items()) {
    const std::string first = *shards_.begin(), last = *shards_.rbegin();
    const std::string other = file == first ? last : first;
    json index = index_;
    index["weight_map"][name] = other;
    WriteIndex(index);
    const auto loaded = Load();
    // A head beside the embedding that it is tied to is not needed.
    if (name == "lm_head.weight" && loaded.ok()) continue;
    EXPECT_THAT(loaded.status(),
                StatusIs(absl::StatusCode::kInvalidArgument,
                         AllOf(HasSubstr("' of shape ["),
                               HasSubstr("by the index '" + name + "' is in '" +
                                         other + "', which does not"))))
        << name;
  }
}

TEST_P(BrokenShardsTest, AShardBesideItsCopyCountsOnceWhereTheIndexTellsThem) {
  const std::vector<float> usual = Logits();
  const std::string shard = *shards_.begin();
  std::filesystem::copy_file(folder_.Path(shard), folder_.Path("a_copy"));
  json index = index_;
  auto& files = index["weight_map"];
  std::string moved;
  for (const auto& [name, file] : files.items()) {
    if (file == shard) moved = name;
  }
  ASSERT_NE(moved, "");
  files[moved] = "a_copy";
  WriteIndex(index);
  EXPECT_EQ(Logits(), usual);

  files.erase(moved);
  files["promised"] = "a_copy";
  WriteIndex(index);
  EXPECT_THAT(Load(),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       AllOf(HasSubstr("'" + moved + "'"), HasSubstr("/a_copy"),
                             HasSubstr("/" + shard),
                             HasSubstr("does not say which of them counts"))));
}

INSTANTIATE_TEST_SUITE_P(AllCases, BrokenShardsTest,
                         ::testing::ValuesIn(Sharded()),
                         [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace ounce::model
