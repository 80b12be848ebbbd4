// What one request may take of a real server.
#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "tests/e2e/serving.h"
#include "tests/testing/status_matchers.h"

namespace ounce::testing {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

class FairnessTest : public ServingTest {};

TEST_F(FairnessTest, ARequestEndsAfterTheTimeThatOneMayTake) {
  Start({"--model", absl::StrCat("tiny=", LongModel()), "--max_request_seconds",
         "0.2"});
  int messages = 0;
  const absl::Status status = client_->Generate(
      Request("def f(x):", 4000), [&](const v1::GenerateResponse&) {
        ++messages;
        return true;
      });
  EXPECT_THAT(status,
              StatusIs(absl::StatusCode::kDeadlineExceeded,
                       HasSubstr("the time that a request may take here "
                                 "passed after")));
  EXPECT_GT(messages, 0);
  EXPECT_TRUE(
      WaitUntil([&] { return Metric("ounce_kv_cache_used_bytes") == 0; }));
}

TEST_F(FairnessTest, APromptHasAtMostTheTokensThatTheServerTakes) {
  Start({"--model", absl::StrCat("tiny=", kTinyModel), "--max_prompt_tokens",
         "3"});
  EXPECT_THAT(Generate(Request("def f(x): return x + 1", 1)).status(),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("prompt: must be at most 3 tokens, is")));
  EXPECT_THAT(Generate(Request("a", 1)).status(), IsOk());
}

// The prompt's time is measured first, on this machine as it is now, so that
// the deadline is a fourth of what halves the prediction, however fast it is.
TEST_F(FairnessTest, ADeadlineThatCannotBeMetIsRefusedAtOnce) {
  // Nor is the prompt found when it comes again.
  Start({"--model", absl::StrCat("tiny=", LongModel()), "--max_step_tokens",
         "1", "--prefix_cache_bytes", "0"});
  std::string prompt;
  for (int i = 0; i < 1300; ++i) absl::StrAppend(&prompt, " import os\n");
  const v1::GenerateRequest request = Request(prompt, 1);
  const absl::Time start = absl::Now();
  ASSERT_OK(Generate(request).status());
  const absl::Duration took = absl::Now() - start;
  const auto hurried = client_->WithTimeout(took / 8);
  const absl::Status status = hurried->Generate(
      request, [](const v1::GenerateResponse&) { return true; });
  EXPECT_THAT(status,
              StatusIs(absl::StatusCode::kResourceExhausted,
                       AllOf(HasSubstr("the first token would come in about "),
                             HasSubstr(", and the deadline is in "))))
      << "the prompt took " << took;
  EXPECT_EQ(Metric("ounce_refused_requests_total",
                   {R"(model="tiny")", R"(reason="DEADLINE_TOO_SOON")"}),
            1);
}

}  // namespace
}  // namespace ounce::testing
