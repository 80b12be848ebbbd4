#include "server/trace/trace_context.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

namespace ounce::server {
namespace {

constexpr char kGood[] =
    "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

TEST(TraceContextTest, ReadsWhatACallerSays) {
  const auto parent = ParseTraceparent(kGood);
  ASSERT_TRUE(parent.has_value());
  EXPECT_EQ(Hex(parent->trace), "4bf92f3577b34da6a3ce929d0e0e4736");
  EXPECT_EQ(Hex(parent->span), "00f067aa0ba902b7");
  EXPECT_TRUE(parent->sampled);
}

TEST(TraceContextTest, OnlyTheLowestFlagSaysThatATraceIsKept) {
  for (const auto& [flags, sampled] : {std::pair("00", false),
                                       {"01", true},
                                       {"02", false},
                                       {"03", true},
                                       {"fe", false},
                                       {"ff", true}}) {
    std::string text = kGood;
    text.replace(53, 2, flags);
    const auto parent = ParseTraceparent(text);
    ASSERT_TRUE(parent.has_value()) << text;
    EXPECT_EQ(parent->sampled, sampled) << text;
  }
}

TEST(TraceContextTest, LaterVersionsMaySayMoreAndThisOneMayNot) {
  std::string later = kGood;
  later.replace(0, 2, "cc");
  EXPECT_TRUE(ParseTraceparent(later).has_value());
  EXPECT_TRUE(ParseTraceparent(later + "-what-the-future-brings").has_value());
  EXPECT_FALSE(ParseTraceparent(later + ".what").has_value());
  EXPECT_FALSE(ParseTraceparent(later + "0").has_value());
  EXPECT_FALSE(ParseTraceparent(absl::StrCat(kGood, "-")).has_value());
  EXPECT_FALSE(ParseTraceparent(absl::StrCat(kGood, "-01")).has_value());
  later.replace(0, 2, "ff");
  EXPECT_FALSE(ParseTraceparent(later).has_value());
}

TEST(TraceContextTest, WhatIsMalformedIsNone) {
  const std::string good = kGood;
  EXPECT_FALSE(ParseTraceparent("").has_value());
  for (size_t size = 0; size < good.size(); ++size) {
    EXPECT_FALSE(ParseTraceparent(good.substr(0, size)).has_value()) << size;
  }
  // Nothing but lowercase digits and dashes in their places.
  for (size_t i = 0; i < good.size(); ++i) {
    for (const char c : {'F', 'g', '-', ' ', '\0', '\xe9'}) {
      if (good[i] == c) continue;
      std::string text = good;
      text[i] = c;
      EXPECT_FALSE(ParseTraceparent(text).has_value()) << text;
    }
  }
  EXPECT_FALSE(ParseTraceparent(
                   "00-00000000000000000000000000000000-00f067aa0ba902b7-01")
                   .has_value());
  EXPECT_FALSE(ParseTraceparent(
                   "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01")
                   .has_value());
  EXPECT_FALSE(ParseTraceparent(" " + good).has_value());
}

TEST(TraceContextTest, KnowsWhichStateMayBePassedOn) {
  for (const char* text :
       {"", "a=1", "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE", "a=1 , b=2",
        "fw529a3039@dt=FfAgAA;00-1", "0_-*/=!~", "a=1,,b=2"}) {
    EXPECT_TRUE(IsTracestate(text)) << text;
  }
  for (const char* text :
       {"a", "=1", "a=", "A=1", "a=1=2", "a=\x7f", "a=\xc3\xa9", "a b=1",
        "a=1,a=2", "-a=1", "a=1\n,b=2\r\x01"}) {
    EXPECT_FALSE(IsTracestate(text)) << text;
  }
  std::string members = "k0=1";
  for (int i = 1; i < 32; ++i) absl::StrAppend(&members, ",k", i, "=1");
  EXPECT_TRUE(IsTracestate(members));
  EXPECT_FALSE(IsTracestate(members + ",k32=1"));
  EXPECT_TRUE(IsTracestate("a=" + std::string(256, 'v')));
  EXPECT_FALSE(IsTracestate("a=" + std::string(257, 'v')));
  EXPECT_FALSE(IsTracestate("a=" + std::string(255, 'v') +
                            ",b=" + std::string(253, 'v')));
}

}  // namespace
}  // namespace ounce::server
