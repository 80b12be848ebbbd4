// What a saved GGUF file says, and what is refused because none can say it.
// That it loads as the same model is in save_formats_test.

#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "model/checkpoint/checkpoint.h"
#include "model/files/gguf_file.h"
#include "model/saver/saver.h"
#include "model/tokenizer/tokenizer.h"
#include "nlohmann/json.hpp"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_folder.h"

namespace ounce::model {
namespace {

using nlohmann::json;
using ::ounce::testing::StatusIs;
using ::ounce::testing::TempFolder;
using ::testing::AllOf;
using ::testing::HasSubstr;
namespace fs = std::filesystem;

constexpr char kDecoder[] = "tests/golden/decoder/";

absl::StatusOr<SaveReport> Save(const std::string& source,
                                const std::string& plan,
                                const std::string& folder) {
  const auto checkpoint = Checkpoint::Open(source);
  if (!checkpoint.ok()) return checkpoint.status();
  SaveOptions options;
  if (plan != "keep") options.plan = *ParseMethodPlan(plan);
  options.format = "gguf";
  options.folder = folder;
  options.name = "Tiny";
  return SaveModel(**checkpoint, options);
}

absl::StatusOr<GgufFile> Read(const std::string& path) {
  const auto file = OpenFile(path);
  if (!file.ok()) return file.status();
  return ReadGguf(**file, [](std::string_view) { return true; });
}

// A copy of a golden model, its config changed, perhaps with a tokenizer.
std::string CopyOf(const TempFolder& folder, const std::string& golden,
                   const json& changes, const std::string& tokenizer = "") {
  const fs::path copy = folder.Path("source");
  fs::copy(kDecoder + golden, copy);
  json config = json::parse(std::ifstream(copy / "config.json"));
  for (const auto& [key, value] : changes.items()) {
    if (value == "absent") {
      config.erase(key);
    } else {
      config[key] = value;
    }
  }
  std::ofstream(copy / "config.json") << config;
  if (!tokenizer.empty()) {
    for (const auto& file : fs::directory_iterator(tokenizer)) {
      fs::copy(file.path(), copy / file.path().filename());
    }
  }
  return copy.string();
}

TEST(GgufFormatTest, AFileDescribesItself) {
  const TempFolder folder;
  ASSERT_OK_AND_ASSIGN(const SaveReport saved,
                       Save(std::string(kDecoder) + "llama/gqa_bin",
                            "gguf-q4_0", folder.Path("saved")));
  ASSERT_EQ(saved.files.size(), 2u);
  EXPECT_EQ(saved.files[0].name, "README.md");
  EXPECT_EQ(saved.files[1].name, "model.gguf");
  EXPECT_EQ(saved.files[1].bytes, saved.weight_bytes);
  ASSERT_OK_AND_ASSIGN(const GgufFile file,
                       Read(folder.Path("saved/model.gguf")));
  const json& metadata = file.metadata;
  EXPECT_EQ(metadata["general.architecture"], "llama");
  EXPECT_EQ(metadata["general.name"], "Tiny");
  EXPECT_EQ(metadata["general.quantization_version"], 2);
  // Most bytes are the embedding's and the head's.
  EXPECT_EQ(metadata["general.file_type"], 1);
  EXPECT_EQ(metadata["llama.attention.head_count_kv"], 2);
  EXPECT_EQ(metadata["llama.rope.dimension_count"], 8);
  EXPECT_EQ(metadata["llama.rope.freq_base"], 10000.0);
  EXPECT_TRUE(metadata["llama.rope.freq_base"].is_number_float());
  EXPECT_EQ(metadata["llama.vocab_size"], 96);
  EXPECT_EQ(metadata["tokenizer.ggml.model"], "no_vocab");
  EXPECT_EQ(metadata["tokenizer.ggml.eos_token_id"], 2);
  EXPECT_EQ(metadata["tokenizer.ggml.padding_token_id"], 0);
  EXPECT_EQ(file.tensors.at("blk.1.attn_q.weight").type, 2u);
  EXPECT_EQ(file.tensors.at("blk.1.attn_norm.weight").type, 0u);
  // Its 52 columns are no blocks of 32.
  EXPECT_EQ(file.tensors.at("blk.0.ffn_down.weight").type, 1u);
}

TEST(GgufFormatTest, SeveralTokensThatEndATextAreAllKept) {
  const TempFolder folder;
  const std::string source =
      CopyOf(folder, "llama/gqa_bin", {{"eos_token_id", {7, 5, 9}}});
  ASSERT_OK(Save(source, "keep", folder.Path("saved")).status());
  ASSERT_OK_AND_ASSIGN(const auto again,
                       Checkpoint::Open(folder.Path("saved")));
  EXPECT_EQ(again->config()["eos_token_id"], json({7, 5, 9}));
}

TEST(GgufFormatTest, RefusesByNameWhatNoFileSays) {
  const struct {
    std::string golden;
    json changes;
    std::string plan;
    std::string message;
  } faults[] = {
      {"opt/bare",
       {},
       "keep",
       "a model of type 'opt': it holds gemma, gpt2, gptneox, llama, "},
      {"llama/gqa_bin",
       {},
       "linear",
       "which is stored as linear: these are no codes of a gguf-* method"},
      {"gpt_neox/parallel_bin",
       {},
       "gguf-q4_0:activations=8",
       "no file says that inputs are rounded to 8 bits"},
      {"llama/gqa_bin",
       {{"hidden_act", "gelu"}},
       "keep",
       "config.json has 'hidden_act' = \"gelu\", and llama stands for "
       "\"silu\""},
      {"llama/gqa_bin",
       {{"rms_norm_eps", "absent"}},
       "keep",
       "no key 'rms_norm_eps'"},
      {"llama/gqa_bin",
       {{"eos_token_id", {1, 2, 3, 4}}},
       "keep",
       "more than 3 tokens end its texts"},
      {"llama/gqa_bin",
       {{"rope_scaling",
         {{"rope_type", "yarn"},
          {"factor", 4.0},
          {"beta_fast", 2.0},
          {"original_max_position_embeddings", 4096}}}},
       "keep",
       "gives other angles than config.json's 'rope_scaling' and "
       "'rope_theta'"},
      {"llama/gqa_bin",
       {{"rope_scaling", {{"rope_type", "dynamic"}, {"factor", 4.0}}}},
       "keep",
       "no file of llama says that rotary positions are scaled as "
       "'dynamic'"},
      {"llama/llama3_tied", {}, "keep", "gives other angles"},
      {"gpt2/by_layer",
       {{"activation_function", "gelu_new"}},
       "keep",
       "'scale_attn_by_inverse_layer_idx' = true, and gpt2 stands for false"},
      {"gpt_neox/sequential", {}, "keep", "'hidden_act' = \"gelu_new\""},
      {"gpt_neox/linear_tied", {}, "keep", "whose head is its embedding"},
      {"mistral/window",
       {},
       "keep",
       "'sliding_window' = 8, and llama has no key for it"},
      {"mistral/no_window_shards_bin",
       {{"sliding_window", "absent"}},
       "keep",
       "config.json must say 'sliding_window': null"},
      {"qwen2/upper_windows",
       {{"hidden_act", "silu"}},
       "keep",
       "'use_sliding_window' = true"},
      {"phi/norms", {}, "keep", "phi2 has no name for it in GGUF"},
  };
  for (const auto& fault : faults) {
    const TempFolder folder;
    EXPECT_THAT(Save(CopyOf(folder, fault.golden, fault.changes), fault.plan,
                     folder.Path("saved"))
                    .status(),
                StatusIs(absl::StatusCode::kFailedPrecondition,
                         AllOf(HasSubstr("format 'gguf' cannot hold"),
                               HasSubstr(fault.message))))
        << fault.golden;
    EXPECT_FALSE(fs::exists(folder.Path("saved")));
  }
}

TEST(GgufFormatTest, ATokenizerWithMoreTokensThanRowsIsRefused) {
  const TempFolder folder;
  const std::string source =
      CopyOf(folder, "qwen2/tied", {}, "tests/golden/tokenizer/families/gpt2");
  EXPECT_THAT(Save(source, "keep", folder.Path("saved")).status(),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       HasSubstr("ids, and the embedding 96 rows")));
}

TEST(GgufFormatTest, AFilesTokenizerIsCopied) {
  const TempFolder folder;
  constexpr char kSource[] = "tests/golden/gguf_models/llama3/model.gguf";
  ASSERT_OK(
      Save(kSource, "float16:requantize=true", folder.Path("saved")).status());
  ASSERT_OK_AND_ASSIGN(const GgufFile before, Read(kSource));
  ASSERT_OK_AND_ASSIGN(const GgufFile after,
                       Read(folder.Path("saved/model.gguf")));
  int keys = 0;
  for (const auto& [key, value] : before.metadata.items()) {
    if (!key.starts_with("tokenizer.")) continue;
    EXPECT_EQ(after.metadata[key], value) << key;
    ++keys;
  }
  EXPECT_GE(keys, 7);
  EXPECT_TRUE(after.tensors.contains("rope_freqs.weight"));
  EXPECT_EQ(after.metadata["general.file_type"], 1);
}

}  // namespace
}  // namespace ounce::model
