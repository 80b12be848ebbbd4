#include "model/tokenizer/utf8.h"

#include "gtest/gtest.h"

namespace ounce::model {
namespace {

TEST(Utf8Test, FindsWhiteSpaceAtBothEnds) {
  EXPECT_EQ(LeadingSpaceBytes(" a"), 1u);
  EXPECT_EQ(TrailingSpaceBytes("a\u3000"), 3u);
  EXPECT_EQ(TrailingSpaceBytes("\u0085"), 2u);
  EXPECT_EQ(LeadingSpaceBytes("\u200b"), 0u);
  EXPECT_EQ(LeadingSpaceBytes(""), 0u);
  EXPECT_EQ(TrailingSpaceBytes(""), 0u);
  EXPECT_EQ(LastCharacter("a\u3000"), 1u);
  EXPECT_EQ(LastCharacter("a"), 0u);
}

}  // namespace
}  // namespace ounce::model
