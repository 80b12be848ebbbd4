#include "server/engine/save_root.h"

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/scheduler/refusal.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_folder.h"

namespace ounce::server {
namespace {

namespace fs = std::filesystem;
using ::ounce::testing::StatusIs;
using ::testing::AllOf;
using ::testing::HasSubstr;

using absl::StatusCode;
using Place = std::shared_ptr<const SaveRoot::Place>;

class SaveRootTest : public ::testing::Test {
 protected:
  SaveRootTest() {
    fs::create_directories(folder_.Path("root"));
    fs::create_directories(folder_.Path("outside"));
  }
  std::string Real(const std::string& name) {
    return absl::StrCat(fs::canonical(folder_.Path("root")).string(), "/",
                        name);
  }
  bool Exists(const std::string& name) {
    return fs::exists(folder_.Path(absl::StrCat("root/", name)));
  }
  absl::Status Refused(const std::string& folder) {
    return root_.Take(folder).status();
  }

  testing::TempFolder folder_;
  const SaveRoot root_{folder_.Path("root")};
};

TEST_F(SaveRootTest, WithoutARootNothingMayBeSaved) {
  const absl::Status refused = SaveRoot().Take("a").status();
  EXPECT_THAT(refused, StatusIs(StatusCode::kFailedPrecondition,
                                HasSubstr("start it with --save_root DIR")));
  EXPECT_EQ(ReasonOf(refused), Reason::kSavingOff);
}

TEST_F(SaveRootTest, NamesAPlaceBelowItByARelativeOrAnAbsolutePath) {
  for (const std::string& path :
       {std::string("code"), std::string("code/"), folder_.Path("root/code")}) {
    ASSERT_OK_AND_ASSIGN(const Place place, root_.Take(path));
    EXPECT_EQ(place->path(), Real("code")) << path;
    EXPECT_FALSE(Exists("code"));  // whoever saves makes it
  }
}

TEST_F(SaveRootTest, ASavedModelsFolderTakesNoOther) {
  fs::create_directories(folder_.Path("root/code"));
  folder_.WriteFile("root/code/config.json", "{}");
  const absl::Status refused = Refused("code/below/nested");
  EXPECT_THAT(refused, StatusIs(StatusCode::kInvalidArgument,
                                HasSubstr("lies in a model's folder, ")));
  EXPECT_EQ(FieldOf(refused), "folder");
}

TEST_F(SaveRootTest, NamesTooLongForAFolderAreRefusedAsSuch) {
  EXPECT_THAT(Refused(std::string(256, 'n')),
              StatusIs(StatusCode::kInvalidArgument,
                       HasSubstr("at most 200 bytes, one has 256")));
  std::string deep;
  for (int i = 0; i < 21; ++i)
    absl::StrAppend(&deep, std::string(190, 'n'), "/");
  EXPECT_THAT(Refused(absl::StrCat(deep, "a")),
              StatusIs(StatusCode::kInvalidArgument, HasSubstr("is too long")));
}

TEST_F(SaveRootTest, PathsOutOfItAreRefused) {
  for (const char* path :
       {"../outside/a", "a/../../outside/b", "a/..", "./a", "..", "."}) {
    const absl::Status refused = Refused(path);
    EXPECT_THAT(refused, StatusIs(StatusCode::kInvalidArgument,
                                  HasSubstr("neither '.' nor '..'")))
        << path;
    EXPECT_EQ(FieldOf(refused), "folder");
  }
  EXPECT_THAT(Refused(""), StatusIs(StatusCode::kInvalidArgument));
  EXPECT_THAT(
      Refused(std::string("a\0/b", 4)),
      StatusIs(StatusCode::kInvalidArgument, HasSubstr("control characters")));
  for (const std::string& path :
       {std::string("/"), std::string("/etc/ounce"), folder_.Path("outside/a"),
        folder_.Path("root"), folder_.Path("root/"),
        folder_.Path("root-private/a"), folder_.Path("nowhere/a")}) {
    const absl::Status refused = Refused(path);
    EXPECT_THAT(refused, StatusIs(StatusCode::kPermissionDenied,
                                  HasSubstr("is not below --save_root")))
        << path;
    EXPECT_EQ(ReasonOf(refused), Reason::kPathNotAllowed);
  }
}

TEST_F(SaveRootTest, LinksAreFollowed) {
  fs::create_directory_symlink(folder_.Path("outside"),
                               folder_.Path("root/out"));
  EXPECT_THAT(Refused("out/a"), StatusIs(StatusCode::kPermissionDenied));
  EXPECT_THAT(Refused("out"), StatusIs(StatusCode::kPermissionDenied));
  fs::create_directory_symlink(folder_.Path("outside/later"),
                               folder_.Path("root/nowhere"));
  EXPECT_THAT(Refused("nowhere"), StatusIs(StatusCode::kAlreadyExists));
  EXPECT_THAT(Refused("nowhere/a"), StatusIs(StatusCode::kPermissionDenied));
  EXPECT_FALSE(fs::exists(folder_.Path("outside/later")));
  // The root itself may be one.
  fs::create_directory_symlink(folder_.Path("root"), folder_.Path("link"));
  ASSERT_OK_AND_ASSIGN(const Place place,
                       SaveRoot(folder_.Path("link")).Take("a"));
  EXPECT_EQ(place->path(), Real("a"));
}

TEST_F(SaveRootTest, NamesThatHideOrAreTooLongAreRefused) {
  for (const std::string& path :
       {std::string(".a"), std::string("a/.b"), folder_.Path("root/.a"),
        std::string(201, 'a')}) {
    EXPECT_THAT(Refused(path), StatusIs(StatusCode::kInvalidArgument)) << path;
  }
}

TEST_F(SaveRootTest, WhatIsThereIsLeftAlone) {
  folder_.WriteFile("root/file", "");
  fs::create_directories(folder_.Path("root/folder"));
  for (const char* path : {"file", "folder"}) {
    const absl::Status refused = Refused(path);
    EXPECT_THAT(refused, StatusIs(StatusCode::kAlreadyExists,
                                  HasSubstr("is there already")));
    EXPECT_EQ(ReasonOf(refused), Reason::kFolderExists);
  }
  EXPECT_THAT(Refused("file/a"),
              StatusIs(StatusCode::kPermissionDenied, HasSubstr("root/file")));
}

TEST_F(SaveRootTest, OneCallAtATimeHasAPlace) {
  ASSERT_OK_AND_ASSIGN(Place place, root_.Take("a"));
  for (const char* path : {"a", "a/b"}) {
    EXPECT_THAT(Refused(path), StatusIs(StatusCode::kAlreadyExists,
                                        HasSubstr("written by another call")));
  }
  EXPECT_OK(root_.Take("b"));
  place = nullptr;
  EXPECT_OK(root_.Take("a"));
}

TEST_F(SaveRootTest, FoldersMadeForAPlaceGoWithItUnlessSomethingIsInThem) {
  ASSERT_OK_AND_ASSIGN(Place first, root_.Take("a/b/first"));
  EXPECT_TRUE(Exists("a/b"));
  ASSERT_OK_AND_ASSIGN(Place second, root_.Take("a/second"));
  first = nullptr;
  EXPECT_FALSE(Exists("a/b"));
  EXPECT_TRUE(Exists("a"));
  second = nullptr;
  EXPECT_FALSE(Exists("a"));

  ASSERT_OK_AND_ASSIGN(first, root_.Take("a/b/first"));
  fs::create_directories(first->path());
  first = nullptr;
  EXPECT_TRUE(Exists("a/b/first"));
  // What others made stays.
  fs::create_directories(folder_.Path("root/theirs"));
  ASSERT_OK_AND_ASSIGN(second, root_.Take("theirs/mine/second"));
  second = nullptr;
  EXPECT_TRUE(Exists("theirs"));
  EXPECT_FALSE(Exists("theirs/mine"));
}

TEST_F(SaveRootTest, APlaceOutlivesItsRoot) {
  std::optional<SaveRoot> root(folder_.Path("root"));
  ASSERT_OK_AND_ASSIGN(Place place, root->Take("a/b"));
  root.reset();
  place = nullptr;
  EXPECT_FALSE(Exists("a"));
}

TEST_F(SaveRootTest, ARootThatIsGoneIsNamed) {
  fs::remove_all(folder_.Path("root"));
  EXPECT_THAT(Refused("a"), StatusIs(StatusCode::kFailedPrecondition,
                                     AllOf(HasSubstr("--save_root"),
                                           HasSubstr("No such file"))));
}

}  // namespace
}  // namespace ounce::server
