#include "model/tokenizer/byte_trie.h"

#include <algorithm>

#include "base/str_cat.h"
#include "model/files/byte_source.h"

namespace ounce::model {

absl::StatusOr<ByteTrie> ByteTrie::Create(
    std::vector<std::pair<std::string_view, int32_t>> tokens) {
  for (const auto& [token, id] : tokens) {
    if (token.size() > kMaxTokenBytes) {
      return absl::InvalidArgumentError(
          StrCat("token ", Quoted(token), " must have at most ", kMaxTokenBytes,
                 " bytes, has ", token.size()));
    }
  }
  std::stable_sort(
      tokens.begin(), tokens.end(),
      [](const auto& a, const auto& b) { return a.first < b.first; });

  // Level by level. The tokens below a node are a range of the sorted ones.
  struct Range {
    size_t begin;
    size_t end;
  };
  ByteTrie trie;
  trie.bytes_.push_back('\0');
  trie.ids_.push_back(-1);
  trie.children_.emplace_back();
  std::vector<Range> level = {{0, tokens.size()}};
  Node node = kRoot;
  for (size_t depth = 0; !level.empty(); ++depth) {
    std::vector<Range> next_level;
    for (const Range& range : level) {
      size_t at = range.begin;
      // What ends here is first, equal ones side by side.
      for (; at < range.end && tokens[at].first.size() == depth; ++at) {
        if (depth > 0) trie.ids_[node] = tokens[at].second;
      }
      trie.children_[node].begin = static_cast<uint32_t>(trie.bytes_.size());
      while (at < range.end) {
        const char byte = tokens[at].first[depth];
        const size_t begin = at;
        while (at < range.end && tokens[at].first[depth] == byte) ++at;
        trie.bytes_.push_back(byte);
        trie.ids_.push_back(-1);
        next_level.push_back({begin, at});
        ++trie.children_[node].count;
      }
      trie.children_.resize(trie.bytes_.size());
      ++node;
    }
    level = std::move(next_level);
  }
  trie.bytes_.shrink_to_fit();
  trie.ids_.shrink_to_fit();
  trie.children_.shrink_to_fit();
  return trie;
}

ByteTrie::Node ByteTrie::Walk(Node node, std::string_view text) const {
  for (const char byte : text) {
    node = Next(node, byte);
    if (node == kRoot) break;
  }
  return node;
}

}  // namespace ounce::model
