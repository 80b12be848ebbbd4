#include "hub/files.h"

#include <filesystem>
#include <string>

#include "base/read_file.h"
#include "hub/parallel.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_folder.h"

namespace ounce::hub {
namespace {

namespace fs = std::filesystem;

using ::ounce::testing::StatusIs;
using ::testing::AnyOf;

constexpr int kThreads = 4;
constexpr int kTimes = 1000;

int NumFiles(const std::string& folder) {
  int count = 0;
  for ([[maybe_unused]] const auto& entry : fs::directory_iterator(folder)) {
    ++count;
  }
  return count;
}

TEST(ReplaceFile, MayBeDoneByManyAtOnce) {
  const testing::TempFolder folder;
  const std::string path = folder.Path("refs/main");
  EXPECT_OK(InParallel(kThreads, kTimes, [&](int, int i) {
    return ReplaceFile(path, std::string(40, i % 2 == 0 ? 'a' : 'b'));
  }));
  EXPECT_THAT(ReadFile(path).value(),
              AnyOf(std::string(40, 'a'), std::string(40, 'b')));
  EXPECT_EQ(NumFiles(folder.Path("refs")), 1);
}

TEST(ReplaceFile, LeavesNothingWhereItFails) {
  const testing::TempFolder folder;
  folder.WriteFile("refs/main/x", "");
  EXPECT_THAT(ReplaceFile(folder.Path("refs/main"), "a"),
              StatusIs(absl::StatusCode::kFailedPrecondition));
  EXPECT_EQ(NumFiles(folder.Path("refs")), 1);
}

TEST(ReplaceLink, MayBeDoneByManyAtOnce) {
  const testing::TempFolder folder;
  const std::string path = folder.Path("a/link");
  EXPECT_OK(InParallel(kThreads, kTimes, [&](int, int) {
    return ReplaceLink(path, "../blobs/b");
  }));
  EXPECT_EQ(fs::read_symlink(path), "../blobs/b");
  EXPECT_EQ(NumFiles(folder.Path("a")), 1);
}

}  // namespace
}  // namespace ounce::hub
