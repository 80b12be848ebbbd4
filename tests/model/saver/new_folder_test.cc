#include "model/saver/new_folder.h"

#include <fcntl.h>

#include <filesystem>
#include <memory>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_folder.h"

namespace ounce::model {
namespace {

using ::ounce::testing::StatusIs;
using ::ounce::testing::TempFolder;
using ::testing::AllOf;
using ::testing::HasSubstr;

TEST(NewFolderTest, AppearsWholeAtTheEnd) {
  const TempFolder root;
  ASSERT_OK_AND_ASSIGN(auto folder, NewFolder::Make(root.Path("new"), 10));
  ASSERT_OK_AND_ASSIGN(auto file, folder->Create("below/weights", 6));
  EXPECT_OK(file->WriteAt(3, "def", 3));
  EXPECT_OK(file->WriteAt(0, "abc", 3));
  EXPECT_OK(file->Finish());
  EXPECT_OK(folder->Write("card", "text"));
  EXPECT_FALSE(std::filesystem::exists(root.path() / "new"));
  EXPECT_OK(folder->Finish());
  folder.reset();
  EXPECT_EQ(std::filesystem::file_size(root.path() / "new/below/weights"), 6u);
  EXPECT_EQ(std::filesystem::file_size(root.path() / "new/card"), 4u);
}

TEST(NewFolderTest, LeavesNothingUnlessItWasFinished) {
  const TempFolder root;
  ASSERT_OK_AND_ASSIGN(auto folder, NewFolder::Make(root.Path("new"), 10));
  EXPECT_OK(folder->Write("card", "text"));
  folder.reset();
  EXPECT_TRUE(std::filesystem::is_empty(root.path()));
}

TEST(NewFolderTest, DoesNotReplaceWhatTookItsNameMeanwhile) {
  const TempFolder root;
  ASSERT_OK_AND_ASSIGN(auto folder, NewFolder::Make(root.Path("new"), 10));
  std::filesystem::create_directory(root.path() / "new");
  EXPECT_THAT(folder->Finish(), StatusIs(absl::StatusCode::kAlreadyExists));
  folder.reset();
  EXPECT_TRUE(std::filesystem::is_empty(root.path() / "new"));
}

TEST(NewFolderTest, ADiskWithoutRoomIsSaidBeforeTheWork) {
  const TempFolder root;
  EXPECT_THAT(NewFolder::Make(root.Path("new"), int64_t{1} << 60),
              StatusIs(absl::StatusCode::kResourceExhausted,
                       AllOf(HasSubstr("the disk has "),
                             HasSubstr("saving takes 1048576 TiB"))));
  EXPECT_TRUE(std::filesystem::is_empty(root.path()));
}

TEST(NewFolderTest, ADiskThatFillsUpIsSaidOnTheWay) {
  NewFile file(open("/dev/full", O_WRONLY | O_CLOEXEC), "weights");
  EXPECT_THAT(
      file.WriteAt(0, "abc", 3),
      StatusIs(absl::StatusCode::kResourceExhausted,
               HasSubstr("cannot write weights: No space left on device")));
}

TEST(NewFolderTest, CopiesStopWhenNobodyWantsThem) {
  const TempFolder root;
  const std::string source = root.WriteFile("source", "abc");
  ASSERT_OK_AND_ASSIGN(auto folder, NewFolder::Make(root.Path("new"), 10));
  EXPECT_THAT(folder->Copy("copy", source,
                           [] { return absl::CancelledError("enough"); }),
              StatusIs(absl::StatusCode::kCancelled));
  EXPECT_OK(folder->Copy("other", source));
  EXPECT_OK(folder->Finish());
  EXPECT_EQ(std::filesystem::file_size(root.path() / "new/other"), 3u);
}

TEST(NewFolderTest, ErrorsSayWhoseTheyAre) {
  NewFile full(open("/dev/full", O_WRONLY | O_CLOEXEC), "weights");
  const absl::Status of_disk = full.WriteAt(0, "abc", 3);
  EXPECT_TRUE(IsOfFullDisk(of_disk) && IsOfNewFolder(of_disk));
  const TempFolder root;
  const absl::Status of_folder =
      NewFolder::Make(root.Path(std::string(5000, 'x')), 10).status();
  EXPECT_TRUE(IsOfNewFolder(of_folder) && !IsOfFullDisk(of_folder))
      << of_folder;
  ASSERT_OK_AND_ASSIGN(auto folder, NewFolder::Make(root.Path("new"), 10));
  const absl::Status of_source = folder->Copy("copy", root.Path("not there"));
  EXPECT_FALSE(of_source.ok() || IsOfNewFolder(of_source));
}

}  // namespace
}  // namespace ounce::model
