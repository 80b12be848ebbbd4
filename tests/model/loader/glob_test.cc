#include "model/loader/glob.h"

#include <string>

#include "tests/testing/status_matchers.h"

namespace ounce::model {
namespace {

using ::ounce::testing::StatusIs;
using ::testing::HasSubstr;

TEST(GlobTest, StarIsAnyRunAndQuestionMarkAnyCharacter) {
  EXPECT_TRUE(GlobMatches("*", ""));
  EXPECT_TRUE(GlobMatches("a*c", "abbc"));
  EXPECT_TRUE(GlobMatches("*.h.*.mlp.*", "transformer.h.12.mlp.fc_in"));
  EXPECT_TRUE(GlobMatches("a?c", "abc"));
  EXPECT_TRUE(GlobMatches("*ab", "aab"));
  EXPECT_TRUE(GlobMatches("a**b*", "axb"));
  EXPECT_FALSE(GlobMatches("a?c", "ac"));
  EXPECT_FALSE(GlobMatches("a", "ab"));
  EXPECT_FALSE(GlobMatches("", "a"));
  EXPECT_FALSE(GlobMatches("*.h.1.*", "transformer.h.11.mlp"));
}

TEST(GlobTest, BracketsAreOneOfTheirCharacters) {
  EXPECT_TRUE(GlobMatches("h.[0-2].mlp", "h.1.mlp"));
  EXPECT_FALSE(GlobMatches("h.[0-2].mlp", "h.3.mlp"));
  EXPECT_FALSE(GlobMatches("h.[0-2].mlp", "h.12.mlp"));
  EXPECT_TRUE(GlobMatches("*.[a-c_x]", "h.x"));
  EXPECT_TRUE(GlobMatches("*.[a-c_x]", "h._"));
  EXPECT_FALSE(GlobMatches("*.[a-c_x]", "h.d"));
  EXPECT_FALSE(GlobMatches("[ab]", ""));
  EXPECT_FALSE(GlobMatches("[ab]", "ab"));
  EXPECT_TRUE(GlobMatches("*[0-9]", "a1b2"));
  EXPECT_TRUE(GlobMatches("[a-a]", "a"));
  // Bytes, not signed characters.
  EXPECT_TRUE(GlobMatches("[\x80-\xff]", "\xc3"));
  EXPECT_FALSE(GlobMatches("[\x80-\xff]", "a"));
}

TEST(GlobTest, BracketsMayExclude) {
  for (const char* glob : {"h.[!01]", "h.[^01]"}) {
    EXPECT_TRUE(GlobMatches(glob, "h.2")) << glob;
    EXPECT_FALSE(GlobMatches(glob, "h.1")) << glob;
    EXPECT_FALSE(GlobMatches(glob, "h.")) << glob;
  }
}

TEST(GlobTest, WhatStandsAtTheEdgeOfBracketsStandsForItself) {
  EXPECT_TRUE(GlobMatches("[]a]", "]"));
  EXPECT_TRUE(GlobMatches("[]a]", "a"));
  EXPECT_FALSE(GlobMatches("[!]a]", "]"));
  EXPECT_TRUE(GlobMatches("[-a]", "-"));
  EXPECT_TRUE(GlobMatches("[a-]", "-"));
  EXPECT_FALSE(GlobMatches("[a-]", "b"));
  EXPECT_TRUE(GlobMatches("[a!]", "!"));
  EXPECT_TRUE(GlobMatches("[[]", "["));
  EXPECT_TRUE(GlobMatches("a]", "a]"));
}

TEST(GlobTest, MalformedOnesAreRefusedAndMatchNothing) {
  for (const char* glob : {"[", "[!", "h.[0-2", "[]", "[^]", "a[b]["}) {
    EXPECT_THAT(CheckGlob(glob), StatusIs(absl::StatusCode::kInvalidArgument,
                                          HasSubstr("without its ']'")))
        << glob;
    EXPECT_FALSE(GlobMatches(glob, "h.0")) << glob;
  }
  EXPECT_THAT(CheckGlob("h.[2-0].*"),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       "glob 'h.[2-0].*' has a range that goes down: [2-0]"));
  for (const char* glob : {"", "*", "h.[0-2].*", "[]]", "[!]-a]", "a]b"}) {
    EXPECT_OK(CheckGlob(glob)) << glob;
  }
}

TEST(GlobTest, IsNotExponentialOnHostilePatterns) {
  std::string glob;
  for (int i = 0; i < 1000; ++i) glob += "[a-b]*";
  EXPECT_FALSE(GlobMatches(glob + "c", std::string(2000, 'a')));
  glob.clear();
  for (int i = 0; i < 1000; ++i) glob += "a*";
  EXPECT_FALSE(GlobMatches(glob + "b", std::string(20000, 'a')));
}

}  // namespace
}  // namespace ounce::model
