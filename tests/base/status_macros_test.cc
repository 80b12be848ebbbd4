#include "base/status_macros.h"

#include <memory>

#include "base/str_cat.h"
#include "gtest/gtest.h"

namespace ounce {
namespace {

absl::StatusOr<std::unique_ptr<int>> MakeIfPositive(int value) {
  if (value <= 0) return absl::InvalidArgumentError("not positive");
  return std::make_unique<int>(value);
}

absl::StatusOr<int> Twice(int value) {
  ASSIGN_OR_RETURN(const std::unique_ptr<int> made, MakeIfPositive(value));
  return 2 * *made;
}

absl::Status Check(int value) {
  RETURN_IF_ERROR(Twice(value).status());
  return absl::OkStatus();
}

TEST(StatusMacrosTest, ReturnEarlyWithTheErrorAndElseGoOn) {
  EXPECT_EQ(6, *Twice(3));
  EXPECT_EQ(absl::InvalidArgumentError("not positive"), Twice(0).status());
  EXPECT_TRUE(Check(1).ok());
  EXPECT_EQ(absl::InvalidArgumentError("not positive"), Check(-1));
}

TEST(StatusMacrosTest, ContextGoesBeforeTheMessageAndKeepsTheCode) {
  EXPECT_EQ(absl::DataLossError("a.bin: short"),
            WithContext(absl::DataLossError("short"), "a.bin"));
  EXPECT_TRUE(WithContext(absl::OkStatus(), "a.bin").ok());
}

TEST(StrCatTest, TakesBothKindsOfStringView) {
  const std::string_view standard = "a";
  const absl::string_view packaged = "b";
  std::string text = StrCat(standard, packaged, "c", std::string("d"), 5);
  StrAppend(&text, standard);
  EXPECT_EQ("abcd5a", text);
}

}  // namespace
}  // namespace ounce
