// Which KV blocks are free: numbers only, the memory is the engine's.
//
// Threads: one at a time.
#ifndef OUNCE_SERVER_SCHEDULER_BLOCK_ALLOCATOR_H_
#define OUNCE_SERVER_SCHEDULER_BLOCK_ALLOCATOR_H_

#include <cstdint>
#include <functional>
#include <vector>

#include "absl/types/span.h"

namespace ounce::server {

class BlockAllocator {
 public:
  // Whether so many blocks may be held in all: their memory may be wanted
  // elsewhere. Told of each number before it is held, and after fewer are.
  using MayHold = std::function<bool(int64_t num_held)>;

  // Blocks 0 to num_blocks - 1, all free. `may_hold` empty: always.
  explicit BlockAllocator(int64_t num_blocks, MayHold may_hold = nullptr);

  // What `may_hold` says.
  bool CanHold(int64_t num_held) const {
    return !may_hold_ || may_hold_(num_held);
  }

  // `count` blocks, or none if there aren't that many or `may_hold` says no.
  // The block freed last goes first.
  bool Allocate(int64_t count, std::vector<int32_t>* blocks);

  // Each must be held.
  void Free(absl::Span<const int32_t> blocks);

  bool IsHeld(int32_t block) const { return held_[block]; }
  // Those that are free among `blocks` and the `reach` before and after each;
  // ascending, each once.
  std::vector<int32_t> FreeAround(absl::Span<const int32_t> blocks,
                                  int64_t reach) const;
  int64_t num_blocks() const { return static_cast<int64_t>(held_.size()); }
  int64_t num_free() const { return static_cast<int64_t>(free_.size()); }
  int64_t num_held() const { return num_blocks() - num_free(); }

 private:
  MayHold may_hold_;
  std::vector<int32_t> free_;  // a stack
  std::vector<bool> held_;     // by block
};

}  // namespace ounce::server

#endif  // OUNCE_SERVER_SCHEDULER_BLOCK_ALLOCATOR_H_
