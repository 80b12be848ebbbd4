// What OpenGguf refuses, and how files are found. Values, rows and names are in
// quantized_format_test, whole models in decoder/quantized_golden_test.

#include "model/checkpoint/gguf_checkpoint.h"

#include <functional>
#include <memory>
#include <string>

#include "model/checkpoint/checkpoint.h"
#include "nlohmann/json.hpp"
#include "tests/testing/gguf_builder.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_folder.h"

namespace ounce::model {
namespace {

using ::ounce::testing::GgufBuilder;
using ::ounce::testing::StatusIs;
using ::ounce::testing::TempFolder;
using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr uint32_t kF32 = 0, kQ40 = 2;

// Of a Llama of two heads and 32 columns, without most of it.
GgufBuilder Llama() {
  GgufBuilder builder;
  builder.Text("general.architecture", "llama")
      .Number("llama.embedding_length", 32)
      .Number("llama.block_count", 1)
      .Number("llama.feed_forward_length", 64)
      .Number("llama.attention.head_count", 2)
      .Number("llama.context_length", 16)
      .Float("llama.attention.layer_norm_rms_epsilon", 1e-5f)
      .Tensor("token_embd.weight", {3, 32}, kQ40, std::string(3 * 18, '\1'))
      .Tensor("output_norm.weight", {32}, kF32, std::string(128, '\0'));
  return builder;
}

absl::StatusOr<std::unique_ptr<Checkpoint>> Open(const GgufBuilder& builder) {
  static const TempFolder* const folder = new TempFolder;
  return Checkpoint::Open(folder->WriteFile("m.gguf", builder.Build()));
}

TEST(GgufCheckpointTest, ConfigComesFromTheMetadata) {
  ASSERT_OK_AND_ASSIGN(const auto checkpoint, Open(Llama()));
  const nlohmann::json& config = checkpoint->config();
  EXPECT_EQ(config["model_type"], "llama");
  EXPECT_EQ(config["hidden_size"], 32);
  EXPECT_EQ(config["vocab_size"], 3);
  EXPECT_EQ(config["tie_word_embeddings"], true);
  EXPECT_EQ(config["attention_bias"], false);
  EXPECT_TRUE(checkpoint->tensors().contains("model.embed_tokens.weight"));
  EXPECT_TRUE(checkpoint->tensors().contains("model.norm.weight"));
  EXPECT_EQ(checkpoint->tensors().size(), 2u);
}

TEST(GgufCheckpointTest, NamesWhatIsWrongOrNotServed) {
  constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;
  constexpr auto kNotServed = absl::StatusCode::kUnimplemented;
  const struct {
    std::function<void(GgufBuilder&)> change;
    absl::StatusCode code;
    const char* message;
  } faults[] = {
      {[](auto& b) { b = GgufBuilder(); }, kInvalid, "general.architecture"},
      {[](auto& b) { b = GgufBuilder().Text("general.architecture", "bert"); },
       kNotServed, "must be one of gemma, gpt2, gptneox, llama, phi2, "},
      {[](auto& b) { b = GgufBuilder().Text("general.architecture", "llama"); },
       kInvalid, "no key 'llama.embedding_length'"},
      {[](auto& b) { b.Text("llama.rope.scaling.type", "longrope"); },
       kNotServed, "must be none, linear or yarn, is 'longrope'"},
      {[](auto& b) { b.Number("llama.rope.dimension_count", 8); }, kNotServed,
       "must be the width of a head, 16, is 8"},
      {[](auto& b) {
         b.TensorAt("blk.0.attn_v.weight", {32, 32}, 40, 0);
       },
       kNotServed, "'blk.0.attn_v.weight': type 40 is not read; F32, F16"},
      {[](auto& b) {
         b.TensorAt("blk.0.attn_v.weight", {32, 33}, kQ40, 256);
       },
       kInvalid, "has 33 columns, which blocks of Q4_0, 32, do not divide"},
      {[](auto& b) {
         b.TensorAt("blk.0.attn_v.weight", {32, 32}, kF32, 256);
       },
       kInvalid, "the file is too short"},
      {[](auto& b) {
         b.TensorAt("blk.0.attn_v.weight", {1, 32}, kF32, 32);
       },
       kInvalid, "overlaps 't"},
      {[](auto& b) {
         b.Tensor("rope_freqs.weight", {8}, kF32, std::string(32, '\0'));
       },
       kNotServed, "'rope_freqs.weight': element 0 must be "},
      {[](auto& b) {
         b.Tensor("blk.0.attn_sinks.weight", {2}, kF32, std::string(8, '\0'));
       },
       kNotServed,
       "'blk.0.attn_sinks.weight' is none that llama is known to have"},
      {[](auto& b) {
         b.Tensor("blk.0.attn_q.weight", {30, 32}, kQ40,
                  std::string(30 * 18, '\1'));
       },
       kInvalid, "has 30 rows, which are not 2 for each of 2 heads"},
      {[](auto& b) {
         b.Tensor("blk.0.attn_v.weight", {2, 2, 32}, kF32,
                  std::string(512, '\0'));
       },
       kInvalid, "must be a matrix, or a vector of floats"},
  };
  for (const auto& fault : faults) {
    GgufBuilder builder = Llama();
    fault.change(builder);
    EXPECT_THAT(Open(builder),
                StatusIs(fault.code,
                         AllOf(HasSubstr("m.gguf"), HasSubstr(fault.message))));
  }
}

TEST(GgufCheckpointTest, NamesTheBlockWhoseScaleIsNoNumber) {
  GgufBuilder builder = Llama();
  std::string blocks(2 * 18, '\0');
  blocks[18 + 1] = '\x7c';
  builder.Tensor("blk.0.attn_v.weight", {2, 32}, kQ40, blocks);
  ASSERT_OK_AND_ASSIGN(const auto checkpoint, Open(builder));
  float values[64];
  EXPECT_THAT(
      checkpoint->ReadFloats("model.layers.0.self_attn.v_proj.weight", 0, 64,
                             values),
      StatusIs(absl::StatusCode::kInvalidArgument,
               HasSubstr("v_proj.weight', row 1, block of column 0: d must be "
                         "a finite number, is inf")));
}

TEST(GgufCheckpointTest, PartsOfAModelMustAllBeThereUnderTheirNames) {
  const TempFolder folder;
  GgufBuilder part = Llama();
  part.Number("split.count", 2).Number("split.no", 0);
  EXPECT_THAT(Checkpoint::Open(folder.WriteFile("m.gguf", part.Build())),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("is part 1 of 2, so its name must end with "
                                 "'-00001-of-00002.gguf'")));
  EXPECT_THAT(
      Checkpoint::Open(folder.WriteFile("m-00001-of-00002.gguf", part.Build())),
      StatusIs(absl::StatusCode::kNotFound,
               AllOf(HasSubstr("m-00002-of-00002.gguf"),
                     HasSubstr("is one of 2 files"))));
}

TEST(GgufCheckpointTest, AFolderWithOneModelIsThatModel) {
  const TempFolder folder;
  const std::string file = folder.WriteFile("a.gguf", Llama().Build());
  ASSERT_OK_AND_ASSIGN(const auto checkpoint,
                       Checkpoint::Open(folder.path().string()));
  EXPECT_EQ(checkpoint->folder(), file);
  folder.WriteFile("b.gguf", Llama().Build());
  EXPECT_THAT(Checkpoint::Open(folder.path().string()),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("several GGUF files")));
  ASSERT_OK_AND_ASSIGN(
      const auto parts,
      Checkpoint::Open("tests/golden/gguf_models/llama_parts"));
  EXPECT_TRUE(parts->folder().ends_with("-00001-of-00002.gguf"));
  EXPECT_EQ(parts->files().size(), 2u);
}

}  // namespace
}  // namespace ounce::model
