#include "client/top.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace ounce::client {
namespace {

using ::testing::HasSubstr;
using ::testing::MatchesRegex;
using ::testing::Not;

Look At(double seconds, int64_t tokens) {
  Look look;
  look.time = absl::UnixEpoch() + absl::Seconds(seconds);
  look.server.set_version("1.2.3");
  look.server.set_uptime_seconds(3723.5);
  look.server.set_memory_used_bytes(512 << 20);
  look.server.set_memory_limit_bytes(int64_t{2} << 30);
  v1::Model& code = *look.models.add_models();
  code.set_name("code");
  code.set_state(v1::MODEL_STATE_QUANTIZING);
  code.set_method("linear");
  code.add_tasks(v1::TASK_GENERATE);
  code.set_resident_bytes(8 << 20);
  code.set_kv_capacity_bytes(64 << 20);
  code.set_kv_used_bytes(16 << 20);
  code.set_running_requests(3);
  code.set_queued_requests(7);
  code.set_generated_tokens(tokens);
  v1::Model& shapes = *look.models.add_models();
  shapes.set_name("shapes");
  shapes.add_tasks(v1::TASK_DETECT_OBJECTS);
  shapes.set_detected_pictures(tokens / 20);
  return look;
}

TEST(TopTest, ShowsALinePerModel) {
  const std::string text = TopText(At(12, 300), At(10, 100));
  EXPECT_THAT(
      text,
      MatchesRegex("ounce-server 1.2.3, up 1h2m3s, memory 512 MiB of 2.00 GiB\n"
                   "\n"
                   "MODEL +STATE +METHOD +PER SECOND +IN MEMORY +KV USED "
                   "+RUNNING +QUEUED\n"
                   "code +quantizing +linear +100.0 tokens +8.00 MiB +16.0 MiB "
                   "\\(25%\\) +3 +7\n"
                   "shapes +unknown +5.0 pictures +0 B +0 +0\n"));
}

TEST(TopTest, KnowsNoSpeedAfterOneLook) {
  EXPECT_THAT(TopText(At(12, 300), std::nullopt), Not(HasSubstr("100.0")));
  EXPECT_FALSE(TopJson(At(12, 300), std::nullopt)["models"][0].contains(
      "tokens_per_second"));
}

TEST(TopTest, KnowsNoSpeedOfAModelThatBeganAnew) {
  const Look now = At(12, 50);
  EXPECT_EQ(TokensPerSecond(now.models.models(0), now, At(10, 100)),
            std::nullopt);
  Look before = At(10, 0);
  before.models.clear_models();
  EXPECT_EQ(TokensPerSecond(now.models.models(0), now, before), std::nullopt);
  EXPECT_EQ(PicturesPerSecond(now.models.models(1), now, before), std::nullopt);
}

TEST(TopTest, SaysTheSameInJson) {
  const auto json = TopJson(At(12, 300), At(10, 100));
  EXPECT_EQ(json["memory_used_bytes"], 512 << 20);
  EXPECT_EQ(json["models"][0]["tokens_per_second"], 100.0);
  EXPECT_EQ(json["models"][0]["queued_requests"], 7);
  EXPECT_FALSE(json["models"][0].contains("pictures_per_second"));
  EXPECT_EQ(json["models"][1]["pictures_per_second"], 5.0);
  EXPECT_FALSE(json["models"][1].contains("tokens_per_second"));
}

TEST(TopTest, FitsTheTerminal) {
  EXPECT_EQ(Screen("one\ntwo\n", 80, 24), "\033[Hone\033[K\ntwo\033[K\n\033[J");
  EXPECT_EQ(Screen("one\ntwo\nthree\n", 3, 3),
            "\033[Hon\033[K\ntw\033[K\n\033[J");
}

}  // namespace
}  // namespace ounce::client
