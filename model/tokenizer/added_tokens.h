// Finds added tokens in raw text, before any rule about words sees it.
//
// Threads: const after it was made, so any thread may call anything.
#ifndef OUNCE_MODEL_TOKENIZER_ADDED_TOKENS_H_
#define OUNCE_MODEL_TOKENIZER_ADDED_TOKENS_H_

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/types/span.h"
#include "model/tokenizer/word_splitter.h"

namespace ounce::model {

// Bytes. The search may look this far ahead at each byte of the text.
inline constexpr size_t kMaxAddedTokenBytes = 256;

struct AddedToken {
  std::string content;  // UTF-8, at most kMaxAddedTokenBytes
  int32_t id = -1;
  bool special = false;      // Decode may leave it out
  bool normalized = false;   // sought after those that aren't
  bool single_word = false;  // only where no word character touches it
  bool lstrip = false;       // takes the white space before it along
  bool rstrip = false;       // and after it
};

// What they take of the heap.
int64_t ResidentBytes(const std::vector<AddedToken>& tokens);

// A part of a text: an added token, or what lies between two.
struct TextPiece {
  std::string_view text;
  int32_t added_id = -1;  // -1 for what lies between
};

class AddedTokenFinder {
 public:
  AddedTokenFinder() = default;
  explicit AddedTokenFinder(std::vector<AddedToken> tokens);

  // Appends the parts of `text`, valid UTF-8: of two tokens that overlap the
  // one that begins first, then the longer one. Time: at most text times the
  // longest token.
  void Cut(std::string_view text, const WordSplitter& words,
           std::vector<TextPiece>& pieces) const;

  // What it takes of the heap.
  int64_t resident_bytes() const;

 private:
  struct Node {
    int32_t token = -1;  // index in tokens_ of what ends here
  };

  // The token that begins at `text`'s first byte, the longest; null if none.
  const AddedToken* LongestAtStart(std::string_view text) const;

  std::vector<AddedToken> tokens_;
  // A trie over bytes: node 0 is the root, children_ is keyed by node << 8 |
  // byte. roots_ is children_ of the root, 0 for none, because most bytes of a
  // text begin no token.
  std::vector<Node> nodes_;
  absl::flat_hash_map<uint64_t, uint32_t> children_;
  std::array<uint32_t, 256> roots_ = {};
};

}  // namespace ounce::model

#endif  // OUNCE_MODEL_TOKENIZER_ADDED_TOKENS_H_
