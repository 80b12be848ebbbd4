#include "base/utf8.h"

#include <cstddef>
#include <cstdint>
#include <ios>
#include <string>

#include "gtest/gtest.h"
#include "tests/testing/encode_utf8.h"

namespace ounce {
namespace {

using ::ounce::testing::EncodeUtf8;

TEST(Utf8Test, ReadsEveryCodePointAndRefusesSurrogates) {
  for (uint32_t c = 0; c < 0x120000; ++c) {
    const std::string bytes = EncodeUtf8(c);
    const Utf8Sequence sequence = FirstUtf8Sequence(bytes + "x");
    const bool valid = c < 0x110000 && (c < 0xd800 || c > 0xdfff);
    ASSERT_EQ(sequence.kind == Utf8Sequence::kWhole, valid) << std::hex << c;
    if (!valid) {
      ASSERT_EQ(sequence.kind, Utf8Sequence::kBroken);
      ASSERT_EQ(ValidUtf8Prefix("ab" + bytes), 2u);
      continue;
    }
    ASSERT_EQ(sequence.length, bytes.size());
    ASSERT_EQ(uint32_t{sequence.code_point}, c);
    for (size_t cut = 1; cut < bytes.size(); ++cut) {
      const Utf8Sequence part = FirstUtf8Sequence(bytes.substr(0, cut));
      ASSERT_EQ(part.kind, Utf8Sequence::kCutShort);
      ASSERT_EQ(part.length, cut);
    }
  }
}

TEST(Utf8Test, RefusesOverlongForms) {
  for (const char* bytes : {"\xc0\xaf", "\xc1\xbf", "\xe0\x9f\xbf",
                            "\xf0\x8f\xbf\xbf", "\xf5\x80\x80\x80", "\xff"}) {
    EXPECT_EQ(FirstUtf8Sequence(bytes).kind, Utf8Sequence::kBroken);
    EXPECT_EQ(FirstUtf8Sequence(bytes).length, 1u);
    EXPECT_EQ(ValidUtf8Prefix(bytes), 0u);
  }
}

TEST(Utf8Test, BreaksASequenceWhereItCanNoLongerBecomeACharacter) {
  // The unit of replacement that Unicode recommends (table 3-8).
  EXPECT_EQ(FirstUtf8Sequence("\xf0\x9f\x98x").length, 3u);
  EXPECT_EQ(FirstUtf8Sequence("\xe2\x82\xe2").length, 2u);
  EXPECT_EQ(FirstUtf8Sequence("\xed\xa0\x80").length, 1u);
  EXPECT_EQ(FirstUtf8Sequence("\x80\x80").length, 1u);
}

TEST(Utf8Test, FindsTheFirstBrokenByteAtAnyOffset) {
  for (size_t before = 0; before < 40; ++before) {
    const std::string text(before, 'a');
    EXPECT_EQ(ValidUtf8Prefix(text), before);
    EXPECT_EQ(ValidUtf8Prefix(text + "\xff" + text), before);
    EXPECT_EQ(ValidUtf8Prefix(text + "\xc3\xa9" + text), 2 * before + 2);
    EXPECT_EQ(ValidUtf8Prefix(text + "\xc3"), before);
  }
}

}  // namespace
}  // namespace ounce
