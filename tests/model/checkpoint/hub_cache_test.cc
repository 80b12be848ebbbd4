#include "model/checkpoint/hub_cache.h"

#include <cstdlib>
#include <string>

#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_folder.h"

namespace ounce::model {
namespace {

using ::ounce::testing::IsOk;
using ::ounce::testing::StatusIs;
using ::testing::AllOf;
using ::testing::EndsWith;
using ::testing::HasSubstr;

constexpr char kMain[] = "0123456789abcdef0123456789abcdef01234567";
constexpr char kOther[] = "89abcdef0123456789abcdef0123456789abcdef";

// A cache with org/model at two commits, in place of the user's.
class HubCacheTest : public ::testing::Test {
 protected:
  void SetUp() override {
    for (const char* name : {"HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HOME",
                             "XDG_CACHE_HOME", "HOME"}) {
      unsetenv(name);
    }
    Fill("cache");
    setenv("HF_HUB_CACHE", folder_.Path("cache").c_str(), 1);
  }

  void Fill(const std::string& cache) const {
    const std::string model = cache + "/models--org--model/";
    folder_.WriteFile(model + "refs/main", kMain);
    folder_.WriteFile(model + "refs/refs/pr/1", std::string(kOther) + "\n");
    folder_.WriteFile(model + "snapshots/" + kMain + "/config.json", "{}");
    folder_.WriteFile(model + "snapshots/" + kOther + "/config.json", "{}");
  }

  const testing::TempFolder folder_;
};

TEST_F(HubCacheTest, TakesAFolderAsItIs) {
  EXPECT_EQ(FindModelFolder(folder_.path().string()).value(),
            folder_.path().string());
}

TEST_F(HubCacheTest, FindsTheSnapshotOfARevision) {
  EXPECT_EQ(FindModelFolder("org/model").value(),
            folder_.Path("cache") + "/models--org--model/snapshots/" + kMain);
  EXPECT_THAT(FindModelFolder("org/model@main").value(), EndsWith(kMain));
  EXPECT_THAT(FindModelFolder("org/model@refs/pr/1").value(), EndsWith(kOther));
  EXPECT_THAT(FindModelFolder(std::string("org/model@") + kOther).value(),
              EndsWith(kOther));
}

TEST_F(HubCacheTest, LooksWhereTheVariablesSay) {
  unsetenv("HF_HUB_CACHE");
  Fill("home/hub");
  setenv("HF_HOME", folder_.Path("home").c_str(), 1);
  EXPECT_THAT(FindModelFolder("org/model").value(), HasSubstr("/home/hub/"));
  unsetenv("HF_HOME");
  Fill("xdg/huggingface/hub");
  setenv("XDG_CACHE_HOME", folder_.Path("xdg").c_str(), 1);
  EXPECT_THAT(FindModelFolder("org/model").value(), HasSubstr("/xdg/"));
  unsetenv("XDG_CACHE_HOME");
  Fill("user/.cache/huggingface/hub");
  setenv("HOME", folder_.Path("user").c_str(), 1);
  EXPECT_THAT(FindModelFolder("org/model").value(), HasSubstr("/user/.cache/"));
  setenv("HF_HUB_CACHE", "~/.cache/huggingface/hub", 1);
  EXPECT_THAT(FindModelFolder("org/model").value(), HasSubstr("/user/.cache/"));
  unsetenv("HF_HUB_CACHE");
  Fill("older");
  setenv("HUGGINGFACE_HUB_CACHE", folder_.Path("older").c_str(), 1);
  EXPECT_THAT(FindModelFolder("org/model").value(), HasSubstr("/older/"));
}

TEST_F(HubCacheTest, ReplacesVariablesInPathsAsPythonDoes) {
  setenv("CACHE_ROOT", folder_.path().c_str(), 1);
  for (const char* path : {"$CACHE_ROOT/cache", "${CACHE_ROOT}/cache"}) {
    setenv("HF_HUB_CACHE", path, 1);
    EXPECT_THAT(FindModelFolder("org/model"), IsOk()) << path;
  }
  unsetenv("HF_HUB_CACHE");
  Fill("home/hub");
  setenv("HF_HOME", "$CACHE_ROOT/home", 1);
  EXPECT_THAT(FindModelFolder("org/model"), IsOk());
  setenv("HF_HOME", "$NOT_SET/${NOT_SET}/$/${", 1);
  EXPECT_THAT(FindModelFolder("org/model"),
              StatusIs(absl::StatusCode::kNotFound,
                       HasSubstr("$NOT_SET/${NOT_SET}/$/${/hub")));
  unsetenv("CACHE_ROOT");
}

TEST_F(HubCacheTest, SaysWhatAFileIs) {
  const std::string gguf = folder_.WriteFile("m.gguf", "GGUF\3");
  EXPECT_EQ(FindModelFolder(gguf).value(), gguf);
  EXPECT_THAT(FindModelFolder(folder_.WriteFile("m.GGML", "GGUF\3")),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("m.GGML' is a GGUF file, whose name must end "
                                 "with .gguf")));
  EXPECT_THAT(FindModelFolder(folder_.WriteFile("m.bin", "x")),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("m.bin' is a file; name a GGUF file, or a "
                                 "folder")));
  EXPECT_THAT(
      FindModelFolder("~/model"),
      StatusIs(absl::StatusCode::kNotFound, HasSubstr("~ is the shell's")));
}

TEST_F(HubCacheTest, NamesTheCommandThatFillsTheCache) {
  EXPECT_THAT(FindModelFolder("org/other"),
              StatusIs(absl::StatusCode::kNotFound,
                       AllOf(HasSubstr("a folder is named by its whole path "
                                       "on the server's machine"),
                             HasSubstr(folder_.Path("cache")),
                             HasSubstr("`hf download org/other`"))));
  EXPECT_THAT(FindModelFolder("org/model@v2"),
              StatusIs(absl::StatusCode::kNotFound,
                       HasSubstr("`hf download org/model --revision v2`")));
  EXPECT_THAT(
      FindModelFolder("gpt2"),
      StatusIs(absl::StatusCode::kNotFound, HasSubstr("`hf download gpt2`")));
}

TEST_F(HubCacheTest, RefusesNamesThatCouldLeaveTheCache) {
  folder_.WriteFile("cache/models--org--model/snapshots/x/config.json", "{}");
  for (const char* location :
       {"", "/nowhere", "../x", "a/b/c", "org/..", "org/.hidden", "a b/c",
        "org/model@", "org/model@../main", "org/model@a//b", "org/model@/etc",
        "-h/model", "org/mo;del", "org/model@main@main", "org\\model"}) {
    EXPECT_THAT(FindModelFolder(location),
                StatusIs(absl::StatusCode::kNotFound,
                         HasSubstr("nor is that a model's name")))
        << location;
  }
}

TEST_F(HubCacheTest, RefusesARefThatNamesNoCommit) {
  const std::string ref = "cache/models--org--model/refs/main";
  for (const std::string& text :
       {std::string("../../../../etc"), std::string(39, 'a'),
        std::string(41, 'a'), std::string(40, 'g'), std::string("\n")}) {
    folder_.WriteFile(ref, text);
    EXPECT_THAT(FindModelFolder("org/model"),
                StatusIs(absl::StatusCode::kInvalidArgument,
                         HasSubstr("must be a commit of 40 digits")));
  }
  // Empty, or its snapshot is not there.
  for (const std::string& text : {std::string(), std::string(40, 'a')}) {
    folder_.WriteFile(ref, text);
    EXPECT_THAT(
        FindModelFolder("org/model"),
        StatusIs(absl::StatusCode::kNotFound, HasSubstr("hf download")));
  }
}

}  // namespace
}  // namespace ounce::model
