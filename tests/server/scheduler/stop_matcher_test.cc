#include "server/scheduler/stop_matcher.h"

#include <algorithm>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace ounce::server {
namespace {

struct Outcome {
  std::string text;
  bool stopped = false;
  friend bool operator==(const Outcome&, const Outcome&) = default;
};

std::ostream& operator<<(std::ostream& out, const Outcome& outcome) {
  return out << '"' << outcome.text << '"'
             << (outcome.stopped ? ", stopped" : ", not stopped");
}

// By the definition: the stop string that ends first, the longest of those.
Outcome Reference(const std::vector<std::string>& stops,
                  const std::string& text) {
  for (size_t end = 1; end <= text.size(); ++end) {
    size_t longest = 0;
    for (const std::string& stop : stops) {
      if (!stop.empty() && stop.size() <= end &&
          text.compare(end - stop.size(), stop.size(), stop) == 0) {
        longest = std::max(longest, stop.size());
      }
    }
    if (longest > 0) return {text.substr(0, end - longest), true};
  }
  return {text, false};
}

Outcome InPieces(const std::vector<std::string>& stops,
                 const std::vector<std::string>& pieces) {
  StopMatcher matcher(stops);
  Outcome outcome;
  for (const std::string& piece : pieces) {
    outcome.text += matcher.Push(piece);
    if (matcher.stopped()) break;
  }
  outcome.stopped = matcher.stopped();
  if (!outcome.stopped) outcome.text += matcher.Finish();
  return outcome;
}

// All 2^(n-1) ways to cut `text`.
void ExpectSameForAllSplits(const std::vector<std::string>& stops,
                            const std::string& text) {
  const Outcome wanted = Reference(stops, text);
  const uint32_t cuts = text.empty() ? 0 : text.size() - 1;
  for (uint32_t mask = 0; mask < (1u << cuts); ++mask) {
    std::vector<std::string> pieces(1);
    for (size_t i = 0; i < text.size(); ++i) {
      pieces.back() += text[i];
      if (i < cuts && (mask >> i & 1)) pieces.emplace_back();
    }
    ASSERT_EQ(InPieces(stops, pieces), wanted)
        << "text " << text << ", cuts " << mask;
  }
}

TEST(StopMatcherTest, GivesTheSameWhereverTheTextIsCut) {
  const std::vector<std::vector<std::string>> stop_sets = {
      {},        {"a"},          {"ab"},        {"aab"},
      {"abab"},  {"aaab", "ab"}, {"ba", "aba"}, {"bb", "abba", "ab"},
      {"", "b"},
  };
  for (const auto& stops : stop_sets) {
    for (int length = 0; length <= 8; ++length) {
      for (uint32_t bits = 0; bits < (1u << length); ++bits) {
        std::string text;
        for (int i = 0; i < length; ++i) text += (bits >> i & 1) ? 'b' : 'a';
        ExpectSameForAllSplits(stops, text);
      }
    }
  }
}

TEST(StopMatcherTest, AgreesWithTheReferenceOnRandomTexts) {
  std::mt19937 random(1);
  const auto random_text = [&](int max_length) {
    std::string text(random() % (max_length + 1), ' ');
    for (char& c : text) c = "abc"[random() % 3];
    return text;
  };
  for (int round = 0; round < 3000; ++round) {
    std::vector<std::string> stops(random() % 5);
    for (std::string& stop : stops) stop = random_text(6);
    std::vector<std::string> pieces(random() % 20);
    std::string text;
    for (std::string& piece : pieces) text += piece = random_text(5);
    ASSERT_EQ(InPieces(stops, pieces), Reference(stops, text)) << text;
  }
}

TEST(StopMatcherTest, HoldsBackOnlyWhatMayBecomeAStop) {
  StopMatcher matcher({"\n\nclass", "END"});
  EXPECT_EQ(matcher.Push("x = 1\n"), "x = 1");
  EXPECT_EQ(matcher.Push("y"), "\ny");
  EXPECT_EQ(matcher.Push("\n\ncl"), "");
  EXPECT_EQ(matcher.Push("ub"), "\n\nclub");
  EXPECT_EQ(matcher.Push("EN"), "");
  EXPECT_EQ(matcher.Push("EN"), "EN");
  EXPECT_EQ(matcher.Push("D and more"), "");
  EXPECT_TRUE(matcher.stopped());
  EXPECT_EQ(matcher.Push("nothing after it"), "");
}

TEST(StopMatcherTest, KeepsCharactersWhole) {
  StopMatcher matcher({"é€"});
  EXPECT_EQ(matcher.Push("aé"), "a");
  EXPECT_EQ(matcher.Push("ü"), "éü");
}

TEST(StopMatcherTest, TakesTimeLinearInTheText) {
  // A naive search would compare 256 characters at each of a million places.
  std::string stop(256, 'a');
  stop.back() = 'b';
  StopMatcher matcher({stop});
  std::string text;
  for (int i = 0; i < 1000; ++i) text += matcher.Push(std::string(1000, 'a'));
  EXPECT_EQ(text.size(), 1'000'000u - 255);
  EXPECT_EQ(matcher.Finish().size(), 255u);
}

}  // namespace
}  // namespace ounce::server
