#include "server/config_text.h"

#include <google/protobuf/text_format.h>

#include <filesystem>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "ounce/v1/server_config.pb.h"

namespace ounce::server {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

ModelInfo Served(const std::string& name, const std::string& plan) {
  ModelInfo info;
  info.name = name;
  info.path = "folder/" + name;
  info.plan = plan;
  info.state = ModelState::kReady;
  info.version = 1;
  return info;
}

v1::ServerConfig Parsed(const std::string& text) {
  v1::ServerConfig config;
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(text, &config))
      << text;
  return config;
}

TEST(ConfigTextTest, SaysWhatServesNowWhateverTheStartWas) {
  Config config;
  config.models = {{"a", "folder/a"}};
  ModelInfo a = Served("a", "lm_head=keep *.mlp.*=bfloat16 linear:bits=4");
  a.version = 2;
  const v1::ServerConfig read =
      Parsed(ConfigText(config, {a, Served("b", "float16")}));
  ASSERT_EQ(read.models_size(), 2);
  EXPECT_EQ(read.models(0).plan(),
            "lm_head=keep *.mlp.*=bfloat16 linear:bits=4");
  EXPECT_EQ(read.models(0).method(), "");
  EXPECT_EQ(read.models(1).path(), "folder/b");
  EXPECT_EQ(read.models(1).plan(), "float16");
}

TEST(ConfigTextTest, SaysWhereRelativePathsBegin) {
  ModelInfo whole = Served("a", "float16");
  whole.path = "/folder/a";
  EXPECT_THAT(ConfigText(Config(), {whole}), Not(HasSubstr("relative")));
  EXPECT_THAT(ConfigText(Config(), {whole, Served("b", "float16")}),
              HasSubstr("# Paths of folders are relative to '" +
                        std::filesystem::current_path().string() + "'.\n"));
}

TEST(ConfigTextTest, RepeatsWhatTheStartSaidOfAModelThatLoads) {
  Config config;
  config.models = {
      {"a", "folder/a", *model::ParseMethodPlan("lm_head=keep linear")}};
  EXPECT_EQ(Parsed(ConfigText(config, {Served("a", "")})).models(0).plan(),
            "lm_head=keep linear");
}

TEST(ConfigTextTest, SaysNothingOfWhatIsAsInTheCheckpoint) {
  // Not "float16": the checkpoint may change its dtype.
  ModelInfo a = Served("a", "keep");
  a.method = "float16";
  const std::string text = ConfigText(Config(), {a, Served("loading", "")});
  EXPECT_EQ(Parsed(text).models(0).plan(), "");
  EXPECT_EQ(Parsed(text).models(1).plan(), "");
}

}  // namespace
}  // namespace ounce::server
