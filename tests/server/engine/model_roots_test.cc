#include "server/engine/model_roots.h"

#include <cstdlib>
#include <filesystem>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/scheduler/refusal.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_folder.h"

namespace ounce::server {
namespace {

namespace fs = std::filesystem;
using ::ounce::testing::StatusIs;
using ::testing::HasSubstr;

class ModelRootsTest : public ::testing::Test {
 protected:
  ModelRootsTest() {
    for (const char* name : {"models/good", "models/other", "outside"}) {
      fs::create_directories(folder_.Path(name));
      folder_.WriteFile(std::string(name) + "/config.json", "{}");
    }
  }
  std::string Path(const std::string& name) { return folder_.Path(name); }
  // Without links, as the temporary folder's own path may have some.
  std::string Real(const std::string& name) {
    return fs::canonical(Path(name)).string();
  }
  void Link(const std::string& to, const std::string& name) {
    fs::create_symlink(to, Path(name));
  }
  static std::string Resolved(const ModelRoots& roots,
                              const std::string& location) {
    const absl::StatusOr<std::string> folder = roots.Resolve(location);
    return folder.ok() ? *folder : folder.status().ToString();
  }
  static auto IsDenied() {
    return StatusIs(absl::StatusCode::kPermissionDenied,
                    HasSubstr("--model_roots"));
  }

  testing::TempFolder folder_;
  const ModelRoots roots_{{folder_.Path("models")}};
};

TEST_F(ModelRootsTest, WithoutRootsAnythingMayBeLoaded) {
  EXPECT_EQ(Resolved(ModelRoots(), "/no/where/../x"), "/no/where/../x");
}

TEST_F(ModelRootsTest, HoldFoldersThatAreNotThereYet) {
  EXPECT_TRUE(ModelRoots().Holds("/no/where"));
  EXPECT_TRUE(roots_.Holds(Path("models/new/hub")));
  EXPECT_FALSE(roots_.Holds(Path("outside/hub")));
  EXPECT_FALSE(roots_.Holds(Path("models/../outside")));
  Link(Path("outside"), "models/away");
  EXPECT_FALSE(roots_.Holds(Path("models/away/hub")));
}

TEST_F(ModelRootsTest, WhatIsNotThereIsToldWhereToLoadFrom) {
  EXPECT_THAT(roots_.Resolve("good"),
              StatusIs(absl::StatusCode::kNotFound,
                       HasSubstr("; calls load from under --model_roots " +
                                 Path("models"))));
}

TEST_F(ModelRootsTest, UnderARootIsResolvedAndOutsideIsDenied) {
  EXPECT_EQ(Resolved(roots_, Path("models/good")), Real("models/good"));
  EXPECT_EQ(Resolved(roots_, Path("models/../models/./good/")),
            Real("models/good"));
  EXPECT_THAT(roots_.Resolve(Path("outside")), IsDenied());
  EXPECT_THAT(roots_.Resolve(Path("models/../outside")), IsDenied());
  const auto denied = roots_.Resolve("/");
  EXPECT_THAT(denied, IsDenied());
  EXPECT_EQ(ReasonOf(denied.status()), Reason::kPathNotAllowed);
  EXPECT_EQ(FieldOf(denied.status()), "path");
  const ModelRoots both({Path("models"), Path("outside")});
  EXPECT_EQ(Resolved(both, Path("outside")), Real("outside"));
}

TEST_F(ModelRootsTest, AFolderWhoseNameBeginsLikeARootIsNotUnderIt) {
  fs::create_directories(Path("models-private"));
  EXPECT_THAT(roots_.Resolve(Path("models-private")), IsDenied());
}

TEST_F(ModelRootsTest, LinksAreFollowed) {
  Link(Path("outside"), "models/sly");
  EXPECT_THAT(roots_.Resolve(Path("models/sly")), IsDenied());
  EXPECT_THAT(roots_.Resolve(Path("models/sly/../good")), IsDenied());
  Link(Path("models/good"), "models/alias");
  EXPECT_EQ(Resolved(roots_, Path("models/alias")), Real("models/good"));
  Link(Path("models"), "entry");
  EXPECT_EQ(Resolved(roots_, Path("entry/good")), Real("models/good"));
  EXPECT_EQ(Resolved(ModelRoots({Path("entry")}), Path("models/good")),
            Real("models/good"));
}

TEST_F(ModelRootsTest, FilesThatAreLinksToElsewhereAreDenied) {
  Link(Path("models/other/config.json"), "models/good/tokenizer.json");
  EXPECT_EQ(Resolved(roots_, Path("models/good")), Real("models/good"));
  Link(Path("outside/config.json"), "models/good/model.safetensors");
  EXPECT_THAT(roots_.Resolve(Path("models/good")), IsDenied());
}

TEST_F(ModelRootsTest, AGgufFileIsAModelByItself) {
  folder_.WriteFile("models/one.gguf", "");
  folder_.WriteFile("outside/other.gguf", "");
  EXPECT_EQ(Resolved(roots_, Path("models/one.gguf")), Real("models/one.gguf"));
  EXPECT_THAT(roots_.Resolve(Path("outside/other.gguf")), IsDenied());
  // Under the name that says what it is, whatever that is a link to.
  folder_.WriteFile("models/blob", "");
  Link(Path("models/blob"), "models/two.gguf");
  EXPECT_EQ(Resolved(roots_, Path("models/two.gguf")),
            Real("models") + "/two.gguf");
  // Parts of a file are read with it.
  Link(Path("outside/other.gguf"), "models/two-00002-of-00002.gguf");
  EXPECT_THAT(roots_.Resolve(Path("models/one.gguf")), IsDenied());
}

TEST_F(ModelRootsTest, DoesNotTellWhatThereIsOutside) {
  const std::string there = Path("outside/config.json");
  const std::string not_there = Path("outside/nothing.json");
  EXPECT_THAT(roots_.Resolve(there), IsDenied());
  EXPECT_THAT(roots_.Resolve(not_there), IsDenied());
  EXPECT_THAT(roots_.Resolve("../../../../../../etc/passwd"), IsDenied());
  EXPECT_THAT(roots_.Resolve("../no-such-folder-anywhere"), IsDenied());
  // Inside it says what is wrong.
  EXPECT_THAT(roots_.Resolve(Path("models/nothing")),
              StatusIs(absl::StatusCode::kNotFound));
  EXPECT_THAT(roots_.Resolve(Path("models/good/config.json")),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("name a GGUF file, or a folder")));
}

TEST_F(ModelRootsTest, TheHubsCacheIsARootLikeAnyOther) {
  const std::string commit(40, 'a');
  const std::string model = "hub/models--org--name";
  fs::create_directories(Path(model + "/snapshots/" + commit));
  fs::create_directories(Path(model + "/refs"));
  fs::create_directories(Path(model + "/blobs"));
  folder_.WriteFile(model + "/refs/main", commit);
  folder_.WriteFile(model + "/blobs/1", "{}");
  Link("../../blobs/1", model + "/snapshots/" + commit + "/config.json");
  ASSERT_EQ(setenv("HF_HUB_CACHE", Path("hub").c_str(), /*overwrite=*/1), 0);
  EXPECT_THAT(roots_.Resolve("org/name"), IsDenied());
  EXPECT_EQ(Resolved(ModelRoots({Path("hub")}), "org/name"),
            Real(model + "/snapshots/" + commit));
  unsetenv("HF_HUB_CACHE");
}

}  // namespace
}  // namespace ounce::server
