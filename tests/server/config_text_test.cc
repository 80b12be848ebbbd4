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

ModelInfo Served(const std::string& name, const std::string& method) {
  ModelInfo info;
  info.name = name;
  info.path = "folder/" + name;
  info.method = method;
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
  config.models = {{"a", "folder/a", "", false}};
  ModelInfo a = Served("a", "linear:bits=4");
  a.version = 2;
  a.convolutions = true;
  const std::string text = ConfigText(config, {a, Served("b", "float16")});
  const v1::ServerConfig read = Parsed(text);
  ASSERT_EQ(read.models_size(), 2);
  EXPECT_EQ(read.models(0).method(), "linear:bits=4");
  EXPECT_TRUE(read.models(0).convolutions());
  EXPECT_EQ(read.models(1).path(), "folder/b");
  EXPECT_FALSE(read.models(1).convolutions());
  EXPECT_THAT(text, Not(HasSubstr("Quantized by a call")));
}

TEST(ConfigTextTest, SaysWhereRelativePathsBegin) {
  ModelInfo whole = Served("a", "float16");
  whole.path = "/folder/a";
  EXPECT_THAT(ConfigText(Config(), {whole}), Not(HasSubstr("relative")));
  EXPECT_THAT(ConfigText(Config(), {whole, Served("b", "float16")}),
              HasSubstr("# Paths of folders are relative to '" +
                        std::filesystem::current_path().string() + "'.\n"));
}

TEST(ConfigTextTest, RepeatsWhatTheStartSaidOfAModelThatIsAsItWas) {
  Config config;
  config.models = {{"a", "folder/a", "", false}};
  // Not "float16": the checkpoint may change its dtype.
  EXPECT_EQ(
      Parsed(ConfigText(config, {Served("a", "float16")})).models(0).method(),
      "");
}

TEST(ConfigTextTest, NamesGlobsThatTheFileHasNoFieldFor) {
  ModelInfo a = Served("a", "linear");
  a.include = {"*.mlp.*", "new\nline"};
  a.exclude = {"lm_head"};
  const std::string text = ConfigText(Config(), {a});
  EXPECT_THAT(text, HasSubstr("# Quantized by a call, include '*.mlp.*', "
                              "'new\\nline', exclude 'lm_head': repeat the "
                              "call after a start.\n"));
  EXPECT_EQ(Parsed(text).models_size(), 1);
}

}  // namespace
}  // namespace ounce::server
