#include "server/scheduler/block_allocator.h"

#include <algorithm>
#include <utility>

#include "base/check.h"

namespace ounce::server {

BlockAllocator::BlockAllocator(Options options)
    : options_(std::move(options)),
      holders_(options_.num_blocks, 0),
      prefixes_(options_.num_blocks, options_.block_tokens, options_.max_kept) {
  free_.reserve(num_blocks());
  for (int64_t block = num_blocks() - 1; block >= 0; --block) {
    free_.push_back(static_cast<int32_t>(block));
  }
}

void BlockAllocator::Hold(int32_t block) {
  if (holders_[block]++ > 0) return;
  ++num_held_;
  if (prefixes_.IsListed(block)) prefixes_.SetInUse(block);
}

bool BlockAllocator::Allocate(int64_t count, std::vector<int32_t>* blocks) {
  if (count > num_free() || !CanHold(num_held() + count)) return false;
  blocks->reserve(blocks->size() + count);
  int64_t num_evicted = 0;
  {
    MutexLock lock(&mu_);
    for (int64_t i = 0; i < count; ++i) {
      if (free_.empty()) {
        free_.push_back(prefixes_.Evict());
        ++num_evicted;
      }
      blocks->push_back(free_.back());
      free_.pop_back();
      Hold(blocks->back());
    }
  }
  TellKept(-num_evicted);
  return true;
}

std::vector<int32_t> BlockAllocator::Free(absl::Span<const int32_t> blocks) {
  std::vector<int32_t> freed;
  int64_t num_more = 0;
  {
    MutexLock lock(&mu_);
    num_more = -prefixes_.num_idle();
    for (auto block = blocks.rbegin(); block != blocks.rend(); ++block) {
      OUNCE_CHECK(*block >= 0 && *block < num_blocks() && holders_[*block] > 0,
                  "a block is freed that nobody holds");
      if (--holders_[*block] > 0) continue;
      --num_held_;
      if (prefixes_.IsListed(*block)) {
        prefixes_.SetIdle(*block);
      } else {
        freed.push_back(*block);
      }
    }
    while (prefixes_.has_too_many()) freed.push_back(prefixes_.Evict());
    free_.insert(free_.end(), freed.begin(), freed.end());
    num_more += prefixes_.num_idle();
  }
  (void)CanHold(num_held());
  TellKept(num_more);
  return freed;
}

std::vector<int32_t> BlockAllocator::BeginVersion(int64_t version) {
  std::vector<int32_t> freed;
  {
    MutexLock lock(&mu_);
    freed = prefixes_.BeginVersion(version);
    free_.insert(free_.end(), freed.begin(), freed.end());
  }
  TellKept(-static_cast<int64_t>(freed.size()));
  return freed;
}

std::vector<int32_t> BlockAllocator::Find(const Prefix& prefix) const {
  MutexLock lock(&mu_);
  return prefixes_.Find(prefix);
}

std::vector<int32_t> BlockAllocator::Adopt(const Prefix& prefix) {
  std::vector<int32_t> blocks;
  int64_t num_more = 0;
  {
    MutexLock lock(&mu_);
    blocks = prefixes_.Find(prefix);
    num_more = -prefixes_.num_idle();
    for (const int32_t block : blocks) Hold(block);
    num_more += prefixes_.num_idle();
  }
  TellKept(num_more);
  if (num_more != 0 && !CanHold(num_held())) {
    (void)Free(blocks);
    blocks.clear();
  }
  return blocks;
}

std::vector<int32_t> BlockAllocator::List(const Prefix& prefix, int64_t first,
                                          std::vector<int32_t>* blocks) {
  const int64_t full =
      static_cast<int64_t>(prefix.tokens.size()) / options_.block_tokens;
  std::vector<int32_t> doubles;
  int64_t num_more = 0;
  {
    MutexLock lock(&mu_);
    num_more = -prefixes_.num_idle();
    for (int64_t i = first; i < full; ++i) {
      int32_t& block = (*blocks)[i];
      const int32_t listed =
          prefixes_.List(prefix, i, i == 0 ? -1 : (*blocks)[i - 1], block);
      if (listed < 0) break;
      if (listed == block) continue;
      Hold(listed);
      doubles.push_back(std::exchange(block, listed));
    }
    num_more += prefixes_.num_idle();
  }
  TellKept(num_more);
  return doubles.empty() ? doubles : Free(doubles);
}

int64_t BlockAllocator::GiveUp(
    int64_t count, int64_t reach,
    absl::FunctionRef<void(absl::Span<const int32_t>)> release) {
  MutexLock lock(&mu_);
  std::vector<int32_t> freed;
  while (static_cast<int64_t>(freed.size()) < count &&
         prefixes_.num_idle() > 0) {
    freed.push_back(prefixes_.Evict());
  }
  free_.insert(free_.end(), freed.begin(), freed.end());
  if (!freed.empty()) release(FreeAroundLocked(freed, reach));
  return static_cast<int64_t>(freed.size());
}

std::vector<int32_t> BlockAllocator::FreeAround(
    absl::Span<const int32_t> blocks, int64_t reach) const {
  MutexLock lock(&mu_);
  return FreeAroundLocked(blocks, reach);
}

std::vector<int32_t> BlockAllocator::FreeAroundLocked(
    absl::Span<const int32_t> blocks, int64_t reach) const {
  std::vector<int32_t> ascending(blocks.begin(), blocks.end());
  std::sort(ascending.begin(), ascending.end());
  std::vector<int32_t> found;
  int64_t next = 0;  // the first that has not been looked at
  for (const int32_t block : ascending) {
    const int64_t end = std::min(block + reach + 1, num_blocks());
    for (next = std::max(next, block - reach); next < end; ++next) {
      const auto near = static_cast<int32_t>(next);
      if (holders_[near] == 0 && !prefixes_.IsListed(near)) {
        found.push_back(near);
      }
    }
  }
  return found;
}

int64_t BlockAllocator::num_holders(int32_t block) const {
  MutexLock lock(&mu_);
  return holders_[block];
}

int64_t BlockAllocator::num_held() const {
  MutexLock lock(&mu_);
  return num_held_;
}

int64_t BlockAllocator::num_kept() const {
  MutexLock lock(&mu_);
  return prefixes_.num_idle();
}

int64_t BlockAllocator::num_evicted() const {
  MutexLock lock(&mu_);
  return prefixes_.num_evicted();
}

}  // namespace ounce::server
