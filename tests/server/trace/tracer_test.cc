#include "server/trace/tracer.h"

#include <random>
#include <string>

#include "gtest/gtest.h"

namespace ounce::server {
namespace {

Tracer MakeTracer(double sample, std::function<uint64_t()> draw) {
  return Tracer({.sample = sample, .draw = std::move(draw), .record = nullptr});
}

std::string Parent(const std::string& flags) {
  return "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-" + flags;
}

TEST(TracerTest, ACallersTraceGoesOnAndItSaysWhetherItIsKept) {
  uint64_t drawn = 6;
  for (const double sample : {0.0, 1.0}) {
    const Tracer tracer = MakeTracer(sample, [&] { return ++drawn; });
    const TraceContext kept = tracer.Begin(Parent("01"), "a=1");
    EXPECT_EQ(Hex(kept.trace), "4bf92f3577b34da6a3ce929d0e0e4736");
    EXPECT_EQ(Hex(kept.parent), "00f067aa0ba902b7");
    EXPECT_EQ(kept.span, drawn);
    EXPECT_TRUE(kept.sampled);
    EXPECT_EQ(kept.state, "a=1");
    EXPECT_FALSE(tracer.Begin(Parent("00")).sampled);
  }
}

TEST(TracerTest, ABadStateIsLeftOutAndABadParentBeginsATrace) {
  const Tracer tracer = MakeTracer(1, [] { return uint64_t{5}; });
  EXPECT_EQ(tracer.Begin(Parent("01"), "a").state, "");
  EXPECT_EQ(Hex(tracer.Begin(Parent("01"), "a").parent), "00f067aa0ba902b7");
  const TraceContext begun = tracer.Begin("nonsense", "a=1");
  EXPECT_EQ(begun.trace, (TraceId{5, 5}));
  EXPECT_EQ(begun.parent, 0);
  EXPECT_EQ(begun.state, "");
  EXPECT_TRUE(begun.sampled);
}

TEST(TracerTest, NothingOfAStateIsKeptWhereNothingIsRecorded) {
  const Tracer tracer = MakeTracer(1, [] { return uint64_t{5}; });
  EXPECT_EQ(tracer.Begin(Parent("00"), "a=1").state, "");
}

TEST(TracerTest, WhatItRecordsHasShortTextsOfWholeCharacters) {
  Work told;
  const Tracer tracer({.draw = [] { return uint64_t{5}; },
                       .record = [&](Work work) { told = std::move(work); }});
  const std::string a(1'000, 'a');
  const auto cut_to = [](const Attribute& attribute) {
    const auto& text = std::get<std::string>(attribute.value);
    EXPECT_LE(text.capacity(), 256);
    return text;
  };
  std::string roomy = "b";
  roomy.reserve(16'384);
  Work work;
  work.attributes = {{"long", a},
                     {"two", a.substr(0, 255) + "\u00e9" + a},
                     {"four", a.substr(0, 253) + "\U0001f600" + a},
                     {"whole", a.substr(0, 252) + "\U0001f600" + a},
                     {"none", std::string(1'000, '\x80')},
                     {"roomy", ""},
                     {"list", std::vector<std::string>{a}}};
  std::get<std::string>(work.attributes[5].value) = std::move(roomy);
  work.phases = {{"queue", {}, {}, {{"long", a}}}};
  tracer.Record(std::move(work));
  EXPECT_EQ(cut_to(told.attributes[0]), a.substr(0, 256));
  EXPECT_EQ(cut_to(told.attributes[1]), a.substr(0, 255));
  EXPECT_EQ(cut_to(told.attributes[2]), a.substr(0, 253));
  EXPECT_EQ(cut_to(told.attributes[3]), a.substr(0, 252) + "\U0001f600");
  EXPECT_EQ(cut_to(told.attributes[4]).size(), 253);
  EXPECT_EQ(cut_to(told.attributes[5]), "b");
  EXPECT_EQ(std::get<std::vector<std::string>>(told.attributes[6].value)[0],
            a.substr(0, 256));
  EXPECT_EQ(cut_to(told.phases[0].attributes[0]), a.substr(0, 256));
}

TEST(TracerTest, IdsAreNeverZero) {
  const Tracer tracer = MakeTracer(1, [] { return uint64_t{0}; });
  const TraceContext context = tracer.Begin();
  EXPECT_NE(context.span, 0);
  EXPECT_NE(context.trace, TraceId());
}

TEST(TracerTest, KeepsAsManyTracesAsItIsTold) {
  std::mt19937_64 random(1);
  for (const double sample : {0.0, 0.001, 0.25, 0.5, 1.0}) {
    const Tracer tracer = MakeTracer(sample, [&] { return random(); });
    int kept = 0;
    constexpr int kTraces = 40'000;
    for (int i = 0; i < kTraces; ++i) kept += tracer.Begin().sampled ? 1 : 0;
    // Six standard deviations of a binomial distribution.
    const double expected = sample * kTraces;
    EXPECT_NEAR(kept, expected, 6 * std::sqrt(expected * (1 - sample)));
  }
}

TEST(TracerTest, ThoseWhoShareATraceAndARatioDecideAlike) {
  // As other SDKs: by the last 63 bits of the id.
  uint64_t id = uint64_t{1} << 62;
  const Tracer tracer = MakeTracer(0.25, [&] { return id; });
  EXPECT_FALSE(tracer.Begin().sampled);
  --id;
  EXPECT_TRUE(tracer.Begin().sampled);
}

}  // namespace
}  // namespace ounce::server
