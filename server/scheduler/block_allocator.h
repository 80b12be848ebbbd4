// Which KV blocks are free: numbers only, the memory is the engine's.
//
// Threads: one at a time.
#ifndef OUNCE_SERVER_SCHEDULER_BLOCK_ALLOCATOR_H_
#define OUNCE_SERVER_SCHEDULER_BLOCK_ALLOCATOR_H_

#include <cstdint>
#include <vector>

#include "absl/types/span.h"

namespace ounce::server {

class BlockAllocator {
 public:
  // Blocks 0 to num_blocks - 1, all free.
  explicit BlockAllocator(int64_t num_blocks);

  // `count` blocks, or none if there aren't that many. The block freed last
  // goes first.
  bool Allocate(int64_t count, std::vector<int32_t>* blocks);

  // Each must be held.
  void Free(absl::Span<const int32_t> blocks);

  int64_t num_blocks() const { return static_cast<int64_t>(held_.size()); }
  int64_t num_free() const { return static_cast<int64_t>(free_.size()); }
  int64_t num_held() const { return num_blocks() - num_free(); }

 private:
  std::vector<int32_t> free_;  // a stack
  std::vector<bool> held_;     // by block
};

}  // namespace ounce::server

#endif  // OUNCE_SERVER_SCHEDULER_BLOCK_ALLOCATOR_H_
