#include "model/tokenizer/unicode.h"

#include <chrono>
#include <functional>
#include <map>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "model/tokenizer/regex.h"
#include "model/tokenizer/utf8.h"
#include "tests/model/tokenizer/golden_files.h"
#include "tests/testing/encode_utf8.h"
#include "tests/testing/status_matchers.h"

namespace ounce::model {
namespace {

using ::ounce::testing::EncodeUtf8;
using CodePoints = std::vector<bool>;

constexpr char32_t kPastUnicode = 0x110000;

bool IsSurrogate(char32_t c) { return c >= 0xd800 && c < 0xe000; }

// What tools/make_unicode_tables.py asked the reference.
struct Golden {
  std::map<std::string, CodePoints> properties;
  std::map<char32_t, std::string> lower;
};

const Golden& Reference() {
  static const Golden* const kGolden = [] {
    auto* golden = new Golden;
    for (const std::string& line : GoldenLines("unicode_properties.txt")) {
      if (line[0] == '#') continue;
      std::istringstream in(line);
      std::string name;
      char32_t first = 0;
      uint32_t number = 0;
      in >> name >> std::hex >> number;
      first = number;
      if (name == "lower") {
        while (in >> number) golden->lower[first] += EncodeUtf8(number);
        continue;
      }
      in >> number;
      CodePoints& has = golden->properties[name];
      has.resize(kPastUnicode);
      for (char32_t c = first; c <= number; ++c) has[c] = true;
    }
    return golden;
  }();
  return *kGolden;
}

TEST(UnicodeTest, ClassifiesEveryCodePointAsTheReference) {
  const std::map<std::string, bool (*)(char32_t)> classes = {
      {"Mark", &IsMark},       {"NonspacingMark", &IsNonspacingMark},
      {"Control", &IsControl}, {"Punctuation", &IsPunctuation},
      {"Number", &IsNumber},   {"s", &IsWhiteSpace}};
  for (const auto& [name, has] : classes) {
    const CodePoints& golden = Reference().properties.at(name);
    for (char32_t c = 0; c < kPastUnicode; ++c) {
      if (IsSurrogate(c)) continue;
      ASSERT_EQ(has(c), golden[c])
          << name << " " << std::hex << static_cast<uint32_t>(c);
    }
  }
}

TEST(UnicodeTest, LowersEveryCodePointAsTheReference) {
  for (char32_t c = 0; c < kPastUnicode; ++c) {
    if (IsSurrogate(c)) continue;
    std::string lower;
    AppendLowerCase(c, lower);
    const auto golden = Reference().lower.find(c);
    ASSERT_EQ(lower, golden == Reference().lower.end() ? EncodeUtf8(c)
                                                       : golden->second)
        << std::hex << static_cast<uint32_t>(c);
  }
}

// Regular expressions: each category and script that a pattern may name, alone
// and in a set.
TEST(UnicodeTest, MatchesEveryCodePointAsTheReference) {
  std::string all;
  for (char32_t c = 0; c < kPastUnicode; ++c) {
    if (!IsSurrogate(c)) all += EncodeUtf8(c);
  }
  int num_patterns = 0;
  for (const auto& [name, golden] : Reference().properties) {
    const bool own = name.size() > 2 && name != "[w]" &&
                     (name == "Mark" || name == "Control" || name == "Number" ||
                      name == "Punctuation" || name == "NonspacingMark");
    if (own) continue;
    std::vector<std::string> patterns;
    if (name == "w" || name == "s") {
      patterns = {"\\" + name};
    } else if (name == "[w]") {
      patterns = {"[\\w]", "[^\\W]"};
    } else {
      patterns = {"\\p{" + name + "}", "[^\\P{" + name + "}]"};
    }
    for (const std::string& pattern : patterns) {
      ASSERT_OK_AND_ASSIGN(const Regex regex, Regex::CompileOnig(pattern));
      std::string found;
      EXPECT_OK(regex.ForEachMatch(all, [&](size_t begin, size_t end) {
        found.append(all, begin, end - begin);
        return absl::OkStatus();
      }));
      std::string wanted;
      for (char32_t c = 0; c < kPastUnicode; ++c) {
        if (golden[c] && !IsSurrogate(c)) wanted += EncodeUtf8(c);
      }
      EXPECT_TRUE(found == wanted) << pattern;
      ++num_patterns;
    }
  }
  EXPECT_GT(num_patterns, 90);
}

TEST(UnicodeTest, NormalizesAsTheStandardSays) {
  struct Case {
    std::string text, nfc, nfd, nfkc, nfkd;
  };
  const Case cases[] = {
      {"", "", "", "", ""},
      {"abc", "abc", "abc", "abc", "abc"},
      {"e\u0301", "\u00e9", "e\u0301", "\u00e9", "e\u0301"},
      {"\u00e9x", "\u00e9x", "e\u0301x", "\u00e9x", "e\u0301x"},
      {"\ufb01\u00bd", "\ufb01\u00bd", "\ufb01\u00bd", "fi1\u20442",
       "fi1\u20442"},
      // Marks come in the order of their classes.
      {"a\u0301\u0316", "\u00e1\u0316", "a\u0316\u0301", "\u00e1\u0316",
       "a\u0316\u0301"},
      {"\u1100\u1161\u11a8", "\uac01", "\u1100\u1161\u11a8", "\uac01",
       "\u1100\u1161\u11a8"},
      {"\u212b\u1e9b\u0323", "\u00c5\u1e9b\u0323", "A\u030a\u017f\u0323\u0307",
       "\u00c5\u1e69", "A\u030as\u0323\u0307"},
      // Later than the reference's normal forms: neither ordered nor mapped.
      {"a\u0345\u08ca", "a\u0345\u08ca", "a\u0345\u08ca", "a\u03b9\u08ca",
       "a\u03b9\u08ca"},
      {"\u32ff", "\u32ff", "\u32ff", "\u32ff", "\u32ff"}};
  for (const Case& c : cases) {
    EXPECT_EQ(Normalized(c.text, NormalForm::kNfc), c.nfc) << c.text;
    EXPECT_EQ(Normalized(c.text, NormalForm::kNfd), c.nfd) << c.text;
    if (c.text.find("\u0345") != c.text.npos) continue;
    EXPECT_EQ(Normalized(c.text, NormalForm::kNfkc), c.nfkc) << c.text;
    EXPECT_EQ(Normalized(c.text, NormalForm::kNfkd), c.nfkd) << c.text;
  }
}

// utf8proc orders marks by exchanging neighbours, which takes hours here.
TEST(UnicodeTest, OrdersALongRunOfMarksInLittleTime) {
  std::string text = "a";
  while (text.size() < 4'000'000) text += "\u0301\u0316";
  const auto start = std::chrono::steady_clock::now();
  const std::string normalized = Normalized(text, NormalForm::kNfd);
  EXPECT_EQ(normalized.size(), text.size());
  EXPECT_EQ(normalized.substr(0, 5), "a\u0316\u0316");
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(30));
}

TEST(UnicodeTest, FindsGraphemeClusters) {
  const std::vector<std::pair<std::string, size_t>> cases = {
      {"a", 1},
      {"ab", 1},
      {"e\u0301x", 3},
      {"\r\n", 2},
      {"\n\r", 1},
      {"\u1100\u1161\u11a8a", 9},
      {"\U0001f469\u200d\U0001f469x", 11},
      {"\U0001f1e9\U0001f1ea\U0001f1eb\U0001f1f7", 8},
      {"\u0915\u094d", 6}};
  for (const auto& [text, length] : cases) {
    EXPECT_EQ(GraphemeBytes(text), length) << text;
  }
}

}  // namespace
}  // namespace ounce::model
