#include "hub/wanted_files.h"

#include "tests/testing/status_matchers.h"

namespace ounce::hub {
namespace {

using ::ounce::testing::StatusIs;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::UnorderedElementsAre;

const std::vector<std::string> kPublished = {
    ".gitattributes",
    "README.md",
    "additional_chat_templates/tools.jinja",
    "chat_template.jinja",
    "config.json",
    "flax_model.msgpack",
    "generation_config.json",
    "merges.txt",
    "model-00001-of-00002.safetensors",
    "model-00002-of-00002.safetensors",
    "model.safetensors.index.json",
    "onnx/config.json",
    "onnx/model.safetensors",
    "original/consolidated.00.pth",
    "preprocessor_config.json",
    "pytorch_model-00001-of-00001.bin",
    "pytorch_model.bin.index.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "trainer_state.json",
    "vocab.json"};

TEST(WantedFilesTest, TakesWhatServesTheModelAndNoMore) {
  EXPECT_THAT(
      WantedFiles(kPublished, {}).value(),
      ElementsAre("additional_chat_templates/tools.jinja",
                  "chat_template.jinja", "config.json",
                  "generation_config.json", "merges.txt",
                  "model-00001-of-00002.safetensors",
                  "model-00002-of-00002.safetensors",
                  "model.safetensors.index.json", "preprocessor_config.json",
                  "tokenizer.json", "tokenizer_config.json", "vocab.json"));
}

TEST(WantedFilesTest, PrefersSafetensors) {
  EXPECT_THAT(
      WantedFiles({"config.json", "pytorch_model.bin", "training_args.bin"}, {})
          .value(),
      ElementsAre("config.json", "pytorch_model.bin"));
  EXPECT_THAT(
      WantedFiles({"config.json", "output-00001-of-00002.safetensors",
                   "output-00002-of-00002.safetensors", "pytorch_model.bin"},
                  {})
          .value(),
      ElementsAre("config.json", "output-00001-of-00002.safetensors",
                  "output-00002-of-00002.safetensors"));
  EXPECT_THAT(WantedFiles({"model.safetensors", "consolidated.safetensors"}, {})
                  .value(),
              ElementsAre("model.safetensors"));
}

TEST(WantedFilesTest, LetsPatternsAddFilesAndChooseWeights) {
  EXPECT_THAT(
      WantedFiles({"config.json", "model.safetensors", "NOTICE"}, {"NOTICE"})
          .value(),
      ElementsAre("NOTICE", "config.json", "model.safetensors"));
  const std::vector<std::string> quantized = {
      "config.json", "model.safetensors", "q/m-Q4_K_M.gguf", "q/m-Q8_0.gguf"};
  EXPECT_THAT(WantedFiles(quantized, {"*Q4_K_M.gguf"}).value(),
              ElementsAre("config.json", "q/m-Q4_K_M.gguf"));
  EXPECT_THAT(WantedFiles(quantized, {"*"}).value(),
              UnorderedElementsAre("config.json", "model.safetensors",
                                   "q/m-Q4_K_M.gguf", "q/m-Q8_0.gguf"));
  EXPECT_THAT(WantedFiles(quantized, {"*.onnx"}),
              StatusIs(absl::StatusCode::kNotFound,
                       HasSubstr("--include: no file that could be taken fits "
                                 "'*.onnx'")));
}

TEST(WantedFilesTest, SaysWhatThereIsWhereThereAreNoWeights) {
  EXPECT_THAT(WantedFiles({"README.md", "a.Q4_0.gguf", "a.Q8_0.gguf"}, {}),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       HasSubstr("choose one by --include: a.Q4_0.gguf, "
                                 "a.Q8_0.gguf")));
  EXPECT_THAT(WantedFiles({"config.json", "tf_model.h5"}, {}),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       HasSubstr("neither .safetensors files nor")));
}

TEST(WantedFilesTest, NeverTakesPathsThatCouldLeaveTheFolder) {
  const std::string long_name(300, 'a');
  EXPECT_THAT(
      WantedFiles({"model.safetensors", "../config.json", "/etc/config.json",
                   "a/../../config.json", "a//config.json", "a\\config.json",
                   "con\nfig.json", ".git/hooks/post-checkout", "-rf.json",
                   "caf\xc3\xa9.json", "", "a/", long_name + ".json"},
                  {"*"})
          .value(),
      ElementsAre("model.safetensors"));
}

}  // namespace
}  // namespace ounce::hub
