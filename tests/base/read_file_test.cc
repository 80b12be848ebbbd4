#include "base/read_file.h"

#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_folder.h"

namespace ounce {
namespace {

using ::testing::HasSubstr;
using testing::StatusIs;

TEST(ReadFileTest, ReadsAFileOrItsBeginning) {
  const testing::TempFolder folder;
  const std::string bytes = std::string(100'000, 'a') + '\0' + "b\n";
  const std::string path = folder.WriteFile("file", bytes);
  ASSERT_OK_AND_ASSIGN(const std::string all, ReadFile(path));
  EXPECT_EQ(all, bytes);
  ASSERT_OK_AND_ASSIGN(const std::string just, ReadFile(path, bytes.size()));
  EXPECT_EQ(just, bytes);
  ASSERT_OK_AND_ASSIGN(const std::string most, ReadFile(path, 70'000));
  EXPECT_EQ(most, bytes.substr(0, 70'000));
  ASSERT_OK_AND_ASSIGN(const std::string none,
                       ReadFile(folder.WriteFile("empty", "")));
  EXPECT_EQ(none, "");
}

TEST(ReadFileTest, SaysWhatCannotBeRead) {
  const testing::TempFolder folder;
  const std::string nothing = folder.Path("nothing");
  EXPECT_THAT(ReadFile(nothing), StatusIs(absl::StatusCode::kInvalidArgument,
                                          "cannot read '" + nothing +
                                              "': No such file or directory"));
  EXPECT_THAT(ReadFile(folder.path().string()),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("Is a directory")));
}

}  // namespace
}  // namespace ounce
