// Full KV blocks by the tokens that they hold, so that a sequence that begins
// like an earlier one takes its blocks instead of computing them again.
//
// A block is listed under its scope, the block before it and its own tokens, so
// it stands for all tokens from the first on. Tokens are compared, not hashed:
// nobody can make up others that give the same block.
//
//   scope -> [16 tokens: block 7] -> [16 tokens: block 3] -> ...
//                                 -> [16 others: block 9]
//
// A listed block is in use, as long as some sequence holds it, or idle. An idle
// one may be forgotten, which has been idle for longest first: SetIdle is told
// of a sequence's last block first, so that none goes before those behind it.
//
// Threads: one at a time.
#ifndef OUNCE_SERVER_SCHEDULER_PREFIX_CACHE_H_
#define OUNCE_SERVER_SCHEDULER_PREFIX_CACHE_H_

#include <compare>
#include <cstdint>
#include <list>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "absl/types/span.h"

namespace ounce::server {

// What a sequence begins with.
struct Prefix {
  int64_t version = 0;          // of the model that computes it
  std::string_view scope = {};  // who may share it; "": nobody
  absl::Span<const int32_t> tokens = {};
};

class PrefixCache {
 public:
  // Blocks 0 to num_blocks - 1, of `block_tokens` tokens each; none is listed.
  // `max_idle` 0: none ever is.
  PrefixCache(int64_t num_blocks, int64_t block_tokens, int64_t max_idle)
      : block_tokens_(block_tokens),
        max_idle_(max_idle),
        by_block_(num_blocks, listed_.end()) {}
  PrefixCache(const PrefixCache&) = delete;
  PrefixCache& operator=(const PrefixCache&) = delete;

  // Blocks are listed and found for this version alone from now on; those of
  // others are forgotten. Returns those that were idle.
  std::vector<int32_t> BeginVersion(int64_t version);

  // The listed blocks of the prefix's beginning, in order, none left out.
  std::vector<int32_t> Find(const Prefix& prefix) const;

  // Lists `block`, which is in use, as the one of the prefix's tokens from
  // index * block_tokens on. Returns the block that is listed for them: another
  // one if the same was listed before, none (-1) if they are not to be listed.
  // Requires that `before` is the listed block before it, if index > 0.
  int32_t List(const Prefix& prefix, int64_t index, int32_t before,
               int32_t block);

  bool IsListed(int32_t block) const {
    return by_block_[block] != listed_.end();
  }
  // A listed block is held again, or no more.
  void SetInUse(int32_t block);
  void SetIdle(int32_t block);

  int64_t num_idle() const { return static_cast<int64_t>(idle_.size()); }
  bool has_too_many() const { return num_idle() > max_idle_; }
  // Forgets the block that has been idle for longest, and returns it. Requires
  // one.
  int32_t Evict();
  int64_t num_evicted() const { return num_evicted_; }  // ever

 private:
  struct Key {
    uint64_t before = 0;  // id of the block before; 0: none
    std::string scope;    // of the first block; else empty
    std::vector<int32_t> tokens;
    auto operator<=>(const Key&) const = default;
  };
  struct Listed {
    int32_t block = 0;
    uint64_t id = 0;                          // never that of another
    std::list<int32_t>::iterator place = {};  // in idle_, if it is idle
  };
  using Blocks = std::map<Key, Listed>;

  bool IsServed(const Prefix& prefix) const {
    return max_idle_ > 0 && prefix.version == version_ && !prefix.scope.empty();
  }
  Key KeyOf(const Prefix& prefix, int64_t index, uint64_t before) const;

  const int64_t block_tokens_;
  const int64_t max_idle_;
  int64_t version_ = 0;
  Blocks listed_;
  std::vector<Blocks::iterator> by_block_;
  std::list<int32_t> idle_;  // idle for longest first
  uint64_t last_id_ = 0;
  int64_t num_evicted_ = 0;
};

}  // namespace ounce::server

#endif  // OUNCE_SERVER_SCHEDULER_PREFIX_CACHE_H_
