#include "base/text_table.h"

#include "gtest/gtest.h"

namespace ounce {
namespace {

TEST(TextTableTest, AlignsColumnsAndLeavesNoBlanksAtTheEnd) {
  TextTable table({"NAME", "-BYTES", "NOTE"});
  table.Add({"a", "1", ""});
  table.Add({"long name", "12345678", "x"});
  EXPECT_EQ(table.Text(),
            "NAME          BYTES  NOTE\n"
            "a                 1\n"
            "long name  12345678  x\n");
}

TEST(TextTableTest, CountsCharactersNotBytes) {
  TextTable table({"A", "B"});
  table.Add({"\xc3\xa4\xc3\xb6", "x"});
  table.Add({"ab", "y"});
  EXPECT_EQ(table.Text(), "A   B\n\xc3\xa4\xc3\xb6  x\nab  y\n");
}

}  // namespace
}  // namespace ounce
