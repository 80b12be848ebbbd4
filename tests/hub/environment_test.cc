#include "hub/environment.h"

#include <cstdlib>

#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_folder.h"

namespace ounce::hub {
namespace {

using ::ounce::testing::StatusIs;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

// Nothing is set but HOME.
class EnvironmentTest : public ::testing::Test {
 protected:
  void SetUp() override {
    for (const char* name :
         {"HF_ENDPOINT", "HF_TOKEN", "HF_TOKEN_PATH", "HF_HUB_OFFLINE",
          "TRANSFORMERS_OFFLINE", "HF_HOME", "HF_HUB_CACHE",
          "HUGGINGFACE_HUB_CACHE", "XDG_CACHE_HOME"}) {
      unsetenv(name);
    }
    setenv("HOME", folder_.path().c_str(), 1);
  }

  const testing::TempFolder folder_;
};

TEST_F(EnvironmentTest, IsThePublicHubWithoutAToken) {
  ASSERT_OK_AND_ASSIGN(const Environment environment, ReadEnvironment());
  EXPECT_EQ(environment.endpoint, "https://huggingface.co");
  EXPECT_EQ(environment.token, "");
  EXPECT_FALSE(environment.offline);
  EXPECT_EQ(environment.cache, folder_.Path(".cache/huggingface/hub"));
}

TEST_F(EnvironmentTest, TakesTheVariablesOfTheHubsOwnTools) {
  setenv("HF_ENDPOINT", "http://mirror:8080/hub//", 1);
  setenv("HF_TOKEN", " hf_a\n", 1);
  setenv("HF_HUB_OFFLINE", "yes", 1);
  setenv("HF_HOME", "~/hf", 1);
  ASSERT_OK_AND_ASSIGN(const Environment environment, ReadEnvironment());
  EXPECT_EQ(environment.endpoint, "http://mirror:8080/hub");
  EXPECT_EQ(environment.token, "hf_a");
  EXPECT_EQ(environment.token_from, "HF_TOKEN");
  EXPECT_TRUE(environment.offline);
  EXPECT_EQ(environment.cache, folder_.Path("hf/hub"));
}

TEST_F(EnvironmentTest, ReadsTheTokensFile) {
  folder_.WriteFile(".cache/huggingface/token", "hf_home\n");
  EXPECT_EQ(ReadEnvironment()->token, "hf_home");
  setenv("HF_TOKEN_PATH", folder_.WriteFile("other", "hf_other").c_str(), 1);
  ASSERT_OK_AND_ASSIGN(const Environment environment, ReadEnvironment());
  EXPECT_EQ(environment.token, "hf_other");
  EXPECT_EQ(environment.token_from, folder_.Path("other"));
  setenv("HF_TOKEN", "hf_variable", 1);
  EXPECT_EQ(ReadEnvironment()->token, "hf_variable");
}

// It would end up in a header.
TEST_F(EnvironmentTest, RefusesATokenThatIsNoneWithoutSayingIt) {
  for (const char* token : {"hf_a\r\nX-Other: 1", "hf_a b", "hf_\xc3\xa9"}) {
    setenv("HF_TOKEN", token, 1);
    EXPECT_THAT(ReadEnvironment(),
                StatusIs(absl::StatusCode::kInvalidArgument,
                         AllOf(HasSubstr("HF_TOKEN: must be a token"),
                               Not(HasSubstr("hf_")))));
  }
}

TEST_F(EnvironmentTest, RefusesAnEndpointThatIsNoAddress) {
  setenv("HF_ENDPOINT", "hub.example.com", 1);
  EXPECT_THAT(ReadEnvironment(),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("must begin with https:// or http://")));
}

// Every message about the hub names it.
TEST_F(EnvironmentTest, RefusesAnEndpointWithAPasswordWithoutSayingIt) {
  for (const char* endpoint :
       {"https://user:secret@hub.example.com", "http://secret@hub/models",
        "https://user:sec/ret@hub", "user:secret@hub.example.com"}) {
    setenv("HF_ENDPOINT", endpoint, 1);
    EXPECT_THAT(
        ReadEnvironment(),
        StatusIs(absl::StatusCode::kInvalidArgument,
                 AllOf(HasSubstr("HF_ENDPOINT: must be an address without"),
                       Not(HasSubstr("sec")))));
  }
}

}  // namespace
}  // namespace ounce::hub
