#include "server/scheduler/block_allocator.h"

#include <algorithm>
#include <utility>

#include "base/check.h"

namespace ounce::server {

BlockAllocator::BlockAllocator(int64_t num_blocks, MayHold may_hold)
    : may_hold_(std::move(may_hold)), held_(num_blocks, false) {
  free_.reserve(num_blocks);
  for (int64_t block = num_blocks - 1; block >= 0; --block) {
    free_.push_back(static_cast<int32_t>(block));
  }
}

bool BlockAllocator::Allocate(int64_t count, std::vector<int32_t>* blocks) {
  if (count > num_free()) return false;
  if (may_hold_ && !may_hold_(num_held() + count)) return false;
  blocks->reserve(blocks->size() + count);
  for (int64_t i = 0; i < count; ++i) {
    const int32_t block = free_.back();
    free_.pop_back();
    held_[block] = true;
    blocks->push_back(block);
  }
  return true;
}

void BlockAllocator::Free(absl::Span<const int32_t> blocks) {
  for (auto block = blocks.rbegin(); block != blocks.rend(); ++block) {
    OUNCE_CHECK(*block >= 0 && *block < num_blocks() && held_[*block],
                "a block is freed that nobody holds");
    held_[*block] = false;
    free_.push_back(*block);
  }
  if (may_hold_) (void)may_hold_(num_held());
}

std::vector<int32_t> BlockAllocator::FreeAround(
    absl::Span<const int32_t> blocks, int64_t reach) const {
  std::vector<int32_t> ascending(blocks.begin(), blocks.end());
  std::sort(ascending.begin(), ascending.end());
  std::vector<int32_t> found;
  int64_t next = 0;  // the first that has not been looked at
  for (const int32_t block : ascending) {
    const int64_t end = std::min(block + reach + 1, num_blocks());
    for (next = std::max(next, block - reach); next < end; ++next) {
      const auto near = static_cast<int32_t>(next);
      if (!IsHeld(near)) found.push_back(near);
    }
  }
  return found;
}

}  // namespace ounce::server
