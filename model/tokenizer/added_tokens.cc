#include "model/tokenizer/added_tokens.h"

#include <algorithm>
#include <utility>

#include "base/heap_bytes.h"
#include "model/tokenizer/utf8.h"

namespace ounce::model {

int64_t ResidentBytes(const std::vector<AddedToken>& tokens) {
  int64_t bytes = HeapBytes(tokens);
  for (const AddedToken& token : tokens) bytes += HeapBytes(token.content);
  return bytes;
}

AddedTokenFinder::AddedTokenFinder(std::vector<AddedToken> tokens)
    : tokens_(std::move(tokens)), nodes_(1) {
  for (size_t i = 0; i < tokens_.size(); ++i) {
    uint32_t node = 0;
    for (const char c : tokens_[i].content) {
      const uint8_t byte = static_cast<uint8_t>(c);
      const uint32_t next = static_cast<uint32_t>(nodes_.size());
      const auto [child, added] =
          children_.try_emplace(uint64_t{node} << 8 | byte, next);
      if (added) nodes_.emplace_back();
      if (node == 0) roots_[byte] = child->second;
      node = child->second;
    }
    // Of two that are the same when normalized the first one counts.
    if (nodes_[node].token < 0) nodes_[node].token = static_cast<int32_t>(i);
  }
}

int64_t AddedTokenFinder::resident_bytes() const {
  return ResidentBytes(tokens_) + HeapBytes(nodes_) + HashTableBytes(children_);
}

const AddedToken* AddedTokenFinder::LongestAtStart(
    std::string_view text) const {
  uint32_t node = roots_[static_cast<uint8_t>(text[0])];
  int32_t longest = -1;
  for (size_t i = 1; node != 0; ++i) {
    if (nodes_[node].token >= 0) longest = nodes_[node].token;
    if (i == text.size()) break;
    const auto child =
        children_.find(uint64_t{node} << 8 | static_cast<uint8_t>(text[i]));
    if (child == children_.end()) break;
    node = child->second;
  }
  return longest < 0 ? nullptr : &tokens_[longest];
}

void AddedTokenFinder::Cut(std::string_view text, const WordSplitter& words,
                           std::vector<TextPiece>& pieces) const {
  const auto add = [&](size_t begin, size_t end, int32_t id) {
    if (begin < end) pieces.push_back({text.substr(begin, end - begin), id});
  };
  size_t done = 0;  // what comes before is in `pieces`
  // text[stripped_begin, stripped_end) is white space that an rstrip found:
  // remembered, so that many such tokens in one run cost one scan.
  size_t stripped_begin = 0;
  size_t stripped_end = 0;
  for (size_t at = 0; at < text.size();) {
    const AddedToken* token = LongestAtStart(text.substr(at));
    if (token == nullptr) {
      ++at;
      continue;
    }
    size_t begin = at;
    size_t end = at + token->content.size();
    // The search goes on behind the token itself even when it strips more.
    at = end;
    if (token->single_word &&
        (words.EndsWithWordCharacter(text.substr(0, begin)) ||
         words.StartsWithWordCharacter(text.substr(end)))) {
      continue;
    }
    if (token->lstrip) {
      while (begin > done) {
        const size_t space = TrailingSpaceBytes(text.substr(0, begin));
        if (space == 0) break;
        begin -= space;
      }
      begin = std::max(begin, done);
    }
    if (token->rstrip) {
      if (end < stripped_begin || end > stripped_end) {
        stripped_begin = end;
        stripped_end = end;
        while (const size_t space =
                   LeadingSpaceBytes(text.substr(stripped_end))) {
          stripped_end += space;
        }
      }
      end = stripped_end;
    }
    add(done, begin, -1);
    // An rstrip may have taken what a token in that white space takes again;
    // both count, as in the reference, but for one whose lstrip leaves nothing.
    add(begin, end, token->id);
    if (begin <= end) done = end;
  }
  add(done, text.size(), -1);
}

}  // namespace ounce::model
