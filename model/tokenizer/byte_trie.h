// Tokens by their bytes: which of them a text begins with.
//
// Threads: const after Create.
#ifndef OUNCE_MODEL_TOKENIZER_BYTE_TRIE_H_
#define OUNCE_MODEL_TOKENIZER_BYTE_TRIE_H_

#include <cstdint>
#include <cstring>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "base/heap_bytes.h"

namespace ounce::model {

class ByteTrie {
 public:
  // Bytes of a token. A search may look this far ahead at each byte of a text.
  static constexpr size_t kMaxTokenBytes = 1024;

  // A node: what a token may begin with. 0 is the empty beginning.
  using Node = uint32_t;
  static constexpr Node kRoot = 0;

  // Of equal tokens the last one's id counts; an empty one is no token.
  // Errors: kInvalidArgument for a token of more than kMaxTokenBytes.
  static absl::StatusOr<ByteTrie> Create(
      std::vector<std::pair<std::string_view, int32_t>> tokens);

  // The beginning that is one byte longer; kRoot if no token begins so.
  Node Next(Node node, char byte) const {
    const Children& children = children_[node];
    const void* found = std::memchr(bytes_.data() + children.begin,
                                    static_cast<uint8_t>(byte), children.count);
    return found == nullptr
               ? kRoot
               : static_cast<Node>(static_cast<const char*>(found) -
                                   bytes_.data());
  }
  // The same for each byte of `text`.
  Node Walk(Node node, std::string_view text) const;

  // The token that ends at `node`; -1 if none.
  int32_t Id(Node node) const { return ids_[node]; }

  // What it takes of the heap.
  int64_t resident_bytes() const {
    return HeapBytes(bytes_) + HeapBytes(ids_) + HeapBytes(children_);
  }

 private:
  struct Children {
    uint32_t begin = 0;  // they are next to each other
    uint32_t count = 0;
  };

  // By node; bytes_ is the last byte of each.
  std::vector<char> bytes_;
  std::vector<int32_t> ids_;
  std::vector<Children> children_;
};

}  // namespace ounce::model

#endif  // OUNCE_MODEL_TOKENIZER_BYTE_TRIE_H_
