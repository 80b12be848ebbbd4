#include "base/byte_size.h"

#include <limits>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/testing/status_matchers.h"

namespace ounce {
namespace {

using testing::StatusIs;

TEST(ByteSizeTest, ReadsNumbersWithAndWithoutUnits) {
  for (const auto& [text, bytes] : {std::pair<std::string, int64_t>("0", 0),
                                    {"123", 123},
                                    {"5B", 5},
                                    {"64KiB", 64 << 10},
                                    {"1.5GiB", int64_t{3} << 29},
                                    {"2TiB", int64_t{2} << 40}}) {
    ASSERT_OK_AND_ASSIGN(const int64_t read, ParseByteSize(text));
    EXPECT_EQ(read, bytes) << text;
  }
}

TEST(ByteSizeTest, RefusesAnythingElse) {
  for (const std::string text :
       {"", "B", "-1", "1e9", "12 MiB", "5MB", "1.2.3", "nan", "inf", "0x10",
        "9223372036854775808", "9999999TiB"}) {
    EXPECT_THAT(ParseByteSize(text),
                StatusIs(absl::StatusCode::kInvalidArgument,
                         ::testing::HasSubstr("is '" + text + "'")));
  }
}

TEST(ByteSizeTest, WritesThreeDigits) {
  EXPECT_EQ(FormatByteSize(0), "0 B");
  EXPECT_EQ(FormatByteSize(999), "999 B");
  EXPECT_EQ(FormatByteSize(1000), "0.98 KiB");
  EXPECT_EQ(FormatByteSize(8504320), "8.11 MiB");
  EXPECT_EQ(FormatByteSize(12 << 20), "12.0 MiB");
  EXPECT_EQ(FormatByteSize(500 << 20), "500 MiB");
  EXPECT_EQ(FormatByteSize(-1536), "-1.50 KiB");
  EXPECT_EQ(FormatByteSize(std::numeric_limits<int64_t>::max()), "8388608 TiB");
}

}  // namespace
}  // namespace ounce
