// Every architecture of decoders in the real server: its goldens, quantized and
// brought back while it serves.
#include <atomic>
#include <map>
#include <string>
#include <thread>
#include <vector>

#include "gmock/gmock.h"
#include "tests/e2e/decoder_goldens.h"
#include "tests/e2e/serving.h"
#include "tests/testing/status_matchers.h"

namespace ounce {
namespace {

class FamiliesTest : public testing::ServingTest {
 protected:
  struct Case {
    std::string name;  // the model's: "llama_gqa_bin"
    std::string family;
    std::vector<int32_t> prompt;
    std::vector<int32_t> greedy;  // after it, by transformers
  };

  // Serves all goldens.
  void StartAll() {
    std::vector<std::string> flags;
    for (const testing::DecoderGolden& golden :
         testing::CopyDecoderGoldens(folder_)) {
      const auto expected = nlohmann::json::parse(
          testing::ReadFile((golden.golden / "expected.json").string()));
      cases_.push_back({golden.name, golden.family,
                        expected["prompts"][1].get<std::vector<int32_t>>(),
                        expected["greedy"][1].get<std::vector<int32_t>>()});
      flags.insert(flags.end(), {"--model", golden.flag});
    }
    Start(flags);
  }

  v1::GenerateRequest Request(const Case& c) {
    v1::GenerateRequest request;
    request.set_model(c.name);
    request.set_max_new_tokens(static_cast<uint32_t>(c.greedy.size()));
    for (const int32_t id : c.prompt) {
      request.mutable_prompt_token_ids()->add_ids(id);
    }
    return request;
  }

  std::vector<int32_t> Tokens(const Case& c) {
    std::vector<int32_t> tokens;
    const absl::Status status =
        client_->Generate(Request(c), [&](const v1::GenerateResponse& message) {
          tokens.insert(tokens.end(), message.token_ids().begin(),
                        message.token_ids().end());
          return true;
        });
    EXPECT_TRUE(status.ok()) << c.name << ": " << status;
    return tokens;
  }

  std::vector<Case> cases_;
};

TEST_F(FamiliesTest, WriteWhatTransformersWrites) {
  StartAll();
  for (const Case& c : cases_) EXPECT_EQ(Tokens(c), c.greedy) << c.name;
}

TEST_F(FamiliesTest, AreQuantizedAndBroughtBackWhileTheyServe) {
  StartAll();
  std::map<std::string, const Case*> one_of_each;
  for (const Case& c : cases_) one_of_each.emplace(c.family, &c);
  for (const auto& [family, c] : one_of_each) {
    std::atomic<bool> enough = false;
    std::atomic<int> answers = 0;
    std::thread reader([&, c = c] {
      while (!enough || answers == 0) {
        if (Tokens(*c).size() != c->greedy.size()) break;
        ++answers;
      }
    });
    v1::QuantizeRequest request;
    request.set_model(c->name);
    request.set_method("linear");
    const auto small = Quantize(request);
    if (small.ok()) request.set_method(small->method_before());
    const auto back = Quantize(request);
    enough = true;
    reader.join();
    ASSERT_TRUE(small.ok()) << family << ": " << small.status();
    ASSERT_TRUE(back.ok()) << family << ": " << back.status();
    EXPECT_GT(answers, 0) << family;
    EXPECT_LT(small->stored_bytes_after(), small->stored_bytes_before())
        << family;
    EXPECT_EQ(back->stored_bytes_after(), small->stored_bytes_before())
        << family;
    EXPECT_EQ(Tokens(*c), c->greedy) << family;
  }
}

}  // namespace
}  // namespace ounce
