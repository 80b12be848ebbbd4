// Checkpoints that other tools have quantized, in the real server: served from
// their files, quantized further when that is asked for, and brought back.
#include <filesystem>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "tests/e2e/serving.h"
#include "tests/testing/quantized_fixtures.h"
#include "tests/testing/status_matchers.h"

namespace ounce {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

class QuantizedCheckpointsTest : public testing::ServingTest {
 protected:
  // Serves all fixtures, folders of them with some tokenizer and without an end
  // of text.
  void StartAll() {
    std::vector<std::string> flags;
    for (const testing::QuantizedFixture& fixture :
         testing::QuantizedFixtures()) {
      std::string path = fs::absolute(fixture.location);
      if (!fixture.is_gguf()) {
        path = folder_.Path(fixture.name);
        fs::copy(fixture.folder, path);
        fs::copy("tests/golden/codegen/bfloat16/tokenizer.json", path);
        folder_.WriteFile(fixture.name + "/generation_config.json",
                          R"({"eos_token_id": -1})");
      }
      flags.insert(flags.end(),
                   {"--model", absl::StrCat(fixture.name, "=", path)});
      names_.push_back(fixture.name);
    }
    Start(flags);
  }

  std::vector<int32_t> Tokens(const std::string& model) {
    v1::GenerateRequest request;
    request.set_model(model);
    request.set_max_new_tokens(24);
    for (const int32_t id : {5, 40, 17, 33}) {
      request.mutable_prompt_token_ids()->add_ids(id);
    }
    std::vector<int32_t> tokens;
    const absl::Status status =
        client_->Generate(request, [&](const v1::GenerateResponse& message) {
          tokens.insert(tokens.end(), message.token_ids().begin(),
                        message.token_ids().end());
          return true;
        });
    EXPECT_TRUE(status.ok()) << model << ": " << status;
    return tokens;
  }

  std::vector<std::string> names_;
};

TEST_F(QuantizedCheckpointsTest, AreQuantizedFurtherWhenAskedAndBroughtBack) {
  StartAll();
  for (const std::string& name : names_) {
    const std::vector<int32_t> tokens = Tokens(name);
    EXPECT_FALSE(tokens.empty()) << name;
    v1::QuantizeRequest request;
    request.set_model(name);
    request.set_plan("*=linear:bits=4,requantize=true");
    const auto further = Quantize(request);
    ASSERT_TRUE(further.ok()) << name << ": " << further.status();
    EXPECT_FALSE(Tokens(name).empty()) << name;
    request.set_plan("keep");
    const auto back = Quantize(request);
    ASSERT_TRUE(back.ok()) << name << ": " << back.status();
    EXPECT_EQ(back->stored_bytes_after(), further->stored_bytes_before())
        << name;
    EXPECT_EQ(Tokens(name), tokens) << name;
  }
}

TEST_F(QuantizedCheckpointsTest, StayAsTheyAreWhenItWasNotAsked) {
  const std::string gguf =
      fs::absolute("tests/golden/gguf_models/qwen2/model.gguf");
  Start({"--model", absl::StrCat("qwen=", gguf)});
  const std::vector<int32_t> tokens = Tokens("qwen");
  const testing::Finished refused = Cli({"quantize", "qwen", "linear"});
  EXPECT_NE(refused.code, 0);
  EXPECT_THAT(refused.err,
              HasSubstr("is stored as gguf-q8_0 already, and linear would add "
                        "its error to that; give the rule requantize=true"));
  EXPECT_EQ(Tokens("qwen"), tokens);
  const testing::Finished seen = Cli({"inspect", "qwen"});
  EXPECT_EQ(seen.code, 0) << seen.err;
  EXPECT_THAT(seen.out, HasSubstr("gguf-q8_0"));
  // A text of the file's own tokenizer.
  const testing::Finished written =
      Cli({"generate", "qwen", "the theory of", "-n", "4"});
  EXPECT_EQ(written.code, 0) << written.err;
}

}  // namespace
}  // namespace ounce
