// Prompts that begin like earlier ones, in the real server: found, and answered
// to the bit as if they had been computed.
#include <map>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "tests/e2e/decoder_goldens.h"
#include "tests/e2e/serving.h"
#include "tests/testing/status_matchers.h"

namespace ounce {
namespace {

using ::testing::HasSubstr;

class PrefixCacheTest : public testing::ServingTest {
 protected:
  // Every architecture of decoders, and the ways to multiply.
  std::vector<std::string> Models() {
    std::vector<std::string> flags;
    for (const testing::DecoderGolden& golden :
         testing::CopyDecoderGoldens(folder_)) {
      flags.insert(flags.end(), {"--model", golden.flag});
    }
    for (const std::string method :
         {"float16", "linear", "linear:bits=4,granularity=group", "bnb-int8",
          "bnb-nf4", "gguf-q4_k", "linear:activations=8"}) {
      flags.insert(
          flags.end(),
          {"--model", absl::StrCat("tiny-", flags.size(), "=",
                                   testing::kTinyModel, ",method=", method)});
    }
    return flags;
  }

  static v1::GenerateRequest Ask(const std::string& model,
                                 const std::vector<int32_t>& prompt) {
    v1::GenerateRequest request;
    request.set_model(model);
    request.mutable_prompt_token_ids()->mutable_ids()->Add(prompt.begin(),
                                                           prompt.end());
    request.set_max_new_tokens(6);
    request.set_logprobs(5);
    request.mutable_sampling()->set_temperature(0);
    return request;
  }
  // What a server says of a request, all messages as one, and without what
  // depends on the clock and the cache.
  struct Answer {
    std::vector<int32_t> tokens;
    std::string bytes;
    int64_t cached = 0;
  };
  Answer Of(const v1::GenerateRequest& request) {
    v1::GenerateResponse all;
    const absl::Status status =
        client_->Generate(request, [&](const v1::GenerateResponse& message) {
          const std::string text = all.text() + message.text();
          all.MergeFrom(message);
          all.set_text(text);
          return true;
        });
    EXPECT_THAT(status, testing::IsOk()) << request.model();
    Answer answer{{all.token_ids().begin(), all.token_ids().end()},
                  "",
                  all.usage().cached_tokens()};
    all.clear_usage();
    answer.bytes = all.SerializeAsString();
    return answer;
  }
};

// The models' positions leave room for two blocks, their vocabularies for these
// ids.
std::vector<int32_t> Prompt(int64_t size) {
  std::vector<int32_t> prompt;
  for (int64_t i = 0; i < size; ++i) {
    prompt.push_back(static_cast<int32_t>(1 + i * i % 45));
  }
  return prompt;
}

// Whatever keys and values are kept in.
class KvTypeTest : public PrefixCacheTest,
                   public ::testing::WithParamInterface<const char*> {};

TEST_P(KvTypeTest, AnswersAreTheSameToTheBit) {
  // Each finds more or less of those before it.
  std::vector<std::vector<int32_t>> prompts = {Prompt(40), Prompt(40),
                                               Prompt(32), Prompt(21)};
  prompts.push_back(Prompt(40));
  prompts.back()[20] = 7;
  const std::vector<int64_t> cached = {0, 32, 16, 16, 16};

  std::vector<std::string> models = Models();
  models.insert(models.end(), {"--kv_cache_dtype", GetParam()});
  std::vector<std::string> flags = models;
  // Cut differently, too.
  flags.insert(flags.end(), {"--prefix_cache_bytes", "0", "--max_step_tokens",
                             "32", "--threads", "2"});
  Start(flags);
  std::map<std::string, std::vector<Answer>> wanted;
  const auto list = client_->ListServedModels();
  ASSERT_THAT(list.status(), testing::IsOk());
  for (const v1::ServedModel& model : list->models()) {
    ASSERT_GE(model.max_positions(), 52) << model.name();
    EXPECT_EQ(Model(model.name()).kv_cache_dtype(), GetParam());
    for (const auto& prompt : prompts) {
      wanted[model.name()].push_back(Of(Ask(model.name(), prompt)));
      EXPECT_EQ(wanted[model.name()].back().cached, 0);
    }
  }
  Stop();

  Start(models);
  for (const auto& [model, answers] : wanted) {
    for (size_t i = 0; i < prompts.size(); ++i) {
      const Answer found = Of(Ask(model, prompts[i]));
      EXPECT_EQ(found.bytes, answers[i].bytes) << model << " " << i;
      EXPECT_EQ(found.tokens.size(), 6u);
      EXPECT_EQ(found.cached, cached[i]) << model << " " << i;
    }
    // What was generated, one token at a time, is found as well.
    std::vector<int32_t> next = Prompt(43);
    const Answer first = Of(Ask(model, next));
    next.insert(next.end(), first.tokens.begin(), first.tokens.end() - 1);
    const Answer second = Of(Ask(model, next));
    EXPECT_EQ(second.cached, 32) << model;
    next.push_back(first.tokens.back());
    EXPECT_EQ(Of(Ask(model, next)).cached, 48) << model;
  }
}

INSTANTIATE_TEST_SUITE_P(AllTypes, KvTypeTest,
                         ::testing::Values("float32", "bfloat16", "int8"),
                         [](const auto& info) {
                           return std::string(info.param);
                         });

TEST_F(PrefixCacheTest, IsToldWhereverTokensAre) {
  Start({"--model", absl::StrCat("tiny=", testing::kTinyModel), "--request_log",
         "all"});
  const std::string prompt =
      "def add(first, second):\n    return first + second\n\ndef subtract(";
  const auto first = Generate(Request(prompt, 4));
  ASSERT_THAT(first.status(), testing::IsOk());
  EXPECT_EQ(first->second.usage().cached_tokens(), 0);
  const int64_t tokens = first->second.usage().prompt_tokens();
  const int64_t found = (tokens - 1) / 16 * 16;
  ASSERT_GT(found, 0);

  const auto second =
      Cli({"generate", "tiny", prompt, "--max_new_tokens", "4", "--json"});
  ASSERT_EQ(second.code, 0) << second.err;
  const std::vector<std::string> lines =
      absl::StrSplit(second.out, '\n', absl::SkipEmpty());
  EXPECT_EQ(nlohmann::json::parse(lines.back())["usage"]["cached_tokens"],
            found);
  EXPECT_THAT(server_->err(),
              HasSubstr(absl::StrCat("\"tokens_in\":", tokens,
                                     ",\"tokens_cached\":", found, ",")));
  EXPECT_EQ(Metric("ounce_prefix_cache_queried_tokens_total"), 2 * tokens);
  EXPECT_EQ(Metric("ounce_prefix_cache_hit_tokens_total"), found);
  EXPECT_EQ(Metric("ounce_prompt_tokens_total"), 2 * tokens - found);
  const double kept = Metric("ounce_prefix_cache_bytes");
  EXPECT_GT(kept, 0);
  EXPECT_EQ(Model("tiny").kv_cached_bytes(), kept);
  EXPECT_EQ(Model("tiny").kv_used_bytes(), 0);
  const auto status =
      nlohmann::json::parse(testing::HttpGet(metrics_, "/status.json"));
  EXPECT_EQ(status["models"][0]["kv_cache_cached_bytes"], kept);
}

TEST_F(PrefixCacheTest, ANewVersionBeginsWithoutOne) {
  Start();
  const v1::GenerateRequest request = Request(std::string(200, 'x'), 2);
  ASSERT_THAT(Generate(request).status(), testing::IsOk());
  EXPECT_GT(Generate(request)->second.usage().cached_tokens(), 0);
  ASSERT_THAT(Quantize(ToInt8()).status(), testing::IsOk());
  EXPECT_TRUE(
      WaitUntil([&] { return Metric("ounce_prefix_cache_bytes") == 0; }));
  EXPECT_EQ(Generate(request)->second.usage().cached_tokens(), 0);
  EXPECT_GT(Generate(request)->second.usage().cached_tokens(), 0);
}

TEST_F(PrefixCacheTest, CallersFindTheirOwnUnlessAllShare) {
  std::vector<std::string> tokens;
  std::string file;
  for (const std::string name : {"one", "other"}) {
    const auto made =
        testing::RunToEnd({OUNCE_CLI_BINARY, "token", "new", "--name", name,
                           "--scope", "infer", "--json"});
    ASSERT_EQ(made.code, 0) << made.err;
    const auto json = nlohmann::json::parse(made.out);
    tokens.push_back(json["token"]);
    absl::StrAppend(&file, json["line"].get<std::string>(), "\n");
  }
  const std::vector<std::string> flags = {
      "--model", absl::StrCat("tiny=", testing::kTinyModel), "--token_file",
      folder_.WriteFile("tokens", file)};
  const auto cached = [&](size_t caller) {
    client_ = client::Client::Create(
        {.server = inference_, .admin = admin_, .token = tokens[caller]});
    return Of(Ask("tiny", Prompt(40))).cached;
  };
  Start(flags);
  EXPECT_EQ(cached(0), 0);
  EXPECT_EQ(cached(1), 0);
  EXPECT_EQ(cached(1), 32);
  EXPECT_EQ(cached(0), 32);
  Stop();
  std::vector<std::string> sharing = flags;
  sharing.insert(sharing.end(), {"--prefix_cache_scope", "all"});
  Start(sharing);
  EXPECT_EQ(cached(0), 0);
  EXPECT_EQ(cached(1), 32);
}

}  // namespace
}  // namespace ounce
