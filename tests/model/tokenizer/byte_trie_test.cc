#include "model/tokenizer/byte_trie.h"

#include <algorithm>
#include <map>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/testing/status_matchers.h"

namespace ounce::model {
namespace {

using ::ounce::testing::StatusIs;
using ::testing::HasSubstr;

int32_t IdOf(const ByteTrie& trie, std::string_view token) {
  const ByteTrie::Node node = trie.Walk(ByteTrie::kRoot, token);
  return node == ByteTrie::kRoot ? -1 : trie.Id(node);
}

TEST(ByteTrieTest, FindsEachTokenAndNothingElse) {
  std::mt19937 random(5);
  for (int round = 0; round < 200; ++round) {
    std::map<std::string, int32_t> tokens;
    std::vector<std::pair<std::string, int32_t>> in_order;
    for (int i = static_cast<int>(random() % 60); i > 0; --i) {
      std::string token;
      for (uint32_t n = random() % 5 + 1; n > 0; --n) {
        token += "ab\xff\x01"[random() % 4];
      }
      tokens[token] = i;
      in_order.emplace_back(token, i);
    }
    ASSERT_OK_AND_ASSIGN(const ByteTrie trie,
                         ByteTrie::Create({in_order.begin(), in_order.end()}));
    for (int i = 0; i < 500; ++i) {
      std::string text;
      for (uint32_t n = random() % 6; n > 0; --n) {
        text += "ab\xff\x01"[random() % 4];
      }
      const auto found = tokens.find(text);
      EXPECT_EQ(IdOf(trie, text), found == tokens.end() ? -1 : found->second);
      const bool begins = std::any_of(
          tokens.begin(), tokens.end(),
          [&](const auto& token) { return token.first.starts_with(text); });
      EXPECT_EQ(trie.Walk(ByteTrie::kRoot, text) != ByteTrie::kRoot,
                begins && !text.empty());
    }
  }
}

TEST(ByteTrieTest, HasABranchForEveryByte) {
  std::vector<std::string> tokens;
  for (int byte = 0; byte < 256; ++byte) {
    tokens.push_back(std::string("x") + static_cast<char>(byte));
  }
  std::vector<std::pair<std::string_view, int32_t>> ids;
  for (int byte = 0; byte < 256; ++byte) ids.emplace_back(tokens[byte], byte);
  ASSERT_OK_AND_ASSIGN(const ByteTrie trie, ByteTrie::Create(ids));
  for (int byte = 0; byte < 256; ++byte) {
    EXPECT_EQ(IdOf(trie, tokens[byte]), byte);
  }
}

TEST(ByteTrieTest, TakesNoEmptyTokenAndNoEndlessOne) {
  ASSERT_OK_AND_ASSIGN(const ByteTrie trie, ByteTrie::Create({{"", 3}}));
  EXPECT_EQ(trie.Id(ByteTrie::kRoot), -1);
  const std::string longest(ByteTrie::kMaxTokenBytes, 'a');
  ASSERT_OK_AND_ASSIGN(const ByteTrie long_trie,
                       ByteTrie::Create({{longest, 7}}));
  EXPECT_EQ(IdOf(long_trie, longest), 7);
  EXPECT_THAT(ByteTrie::Create({{longest + "a", 0}}),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("at most 1024 bytes, has 1025")));
}

}  // namespace
}  // namespace ounce::model
