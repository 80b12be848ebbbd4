#include "model/files/byte_source.h"

#include <sys/resource.h>
#include <sys/stat.h>

#include <filesystem>
#include <string>

#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_folder.h"

namespace ounce::model {
namespace {

using ::ounce::testing::StatusIs;
using ::testing::HasSubstr;

TEST(ByteSourceTest, ReadsRangesOfAFile) {
  const testing::TempFolder folder;
  ASSERT_OK_AND_ASSIGN(const auto file,
                       OpenFile(folder.WriteFile("x.bin", "0123456789")));
  EXPECT_EQ(file->size(), 10);
  std::string text(4, ' ');
  ASSERT_OK(file->Read(3, 4, text.data()));
  EXPECT_EQ(text, "3456");
  EXPECT_OK(file->Read(10, 0, text.data()));
}

TEST(ByteSourceTest, RefusesRangesOutsideTheFile) {
  const auto bytes = BytesInMemory("x.bin", "0123456789");
  char out[16];
  for (const auto& [offset, length] : {std::pair<int64_t, int64_t>{0, 11},
                                       {10, 1},
                                       {11, 0},
                                       {-1, 1},
                                       {1, -1},
                                       {INT64_MAX, INT64_MAX},
                                       {5, INT64_MAX}}) {
    EXPECT_THAT(bytes->Read(offset, length, out),
                StatusIs(absl::StatusCode::kInvalidArgument,
                         HasSubstr("x.bin: has 10 bytes, too few to read ")));
  }
}

TEST(ByteSourceTest, ReportsAFileThatShrankMeanwhile) {
  const testing::TempFolder folder;
  const std::string path = folder.WriteFile("x.bin", std::string(100'000, 'x'));
  ASSERT_OK_AND_ASSIGN(const auto file, OpenFile(path));
  std::filesystem::resize_file(path, 50'000);
  std::string out(100'000, ' ');
  EXPECT_THAT(file->Read(0, 100'000, out.data()),
              StatusIs(absl::StatusCode::kDataLoss,
                       HasSubstr("ends at byte 50000, but had 100000")));
}

TEST(ByteSourceTest, RefusesWhatIsNoRegularFile) {
  const testing::TempFolder folder;
  EXPECT_THAT(
      OpenFile(folder.path().string()),
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("is a folder")));
  const std::string pipe = folder.Path("pipe");
  ASSERT_EQ(mkfifo(pipe.c_str(), 0600), 0);
  EXPECT_THAT(OpenFile(pipe), StatusIs(absl::StatusCode::kInvalidArgument,
                                       HasSubstr("is not a file")));
  EXPECT_THAT(OpenFile(folder.Path("absent")),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("absent")));
}

TEST(ByteSourceTest, SaysWhatLiesInAFilesPlace) {
  const testing::TempFolder folder;
  const std::string link = folder.Path("link");
  std::filesystem::create_symlink("blobs/gone", link);
  EXPECT_THAT(OpenFile(link), StatusIs(absl::StatusCode::kInvalidArgument,
                                       HasSubstr("link: the link leads nowhere"
                                                 "; download the file again")));
  const std::string pointer = folder.WriteFile(
      "pointer",
      "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 7\n");
  EXPECT_THAT(OpenFile(pointer),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("is a Git LFS pointer, not the file itself; "
                                 "fetch it with `git lfs pull`")));
}

TEST(ByteSourceTest, RunningOutOfDescriptorsIsNoFaultOfTheFile) {
  const testing::TempFolder folder;
  const std::string path = folder.WriteFile("x.bin", "0123456789");
  rlimit before = {};
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &before), 0);
  const rlimit none = {0, before.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &none), 0);
  const absl::Status status = OpenFile(path).status();
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &before), 0);
  EXPECT_THAT(status, StatusIs(absl::StatusCode::kResourceExhausted,
                               HasSubstr("Too many open files")));
}

TEST(ByteSourceTest, QuotesWhatIsLongOrUnprintable) {
  EXPECT_EQ(Quoted("lm_head.weight"), "'lm_head.weight'");
  EXPECT_EQ(Quoted("a\n\x01'"), R"('a\n\x01\'')");
  EXPECT_EQ(Quoted(std::string(1000, 'x')),
            "'" + std::string(120, 'x') + "...'");
}

}  // namespace
}  // namespace ounce::model
