// Which KV blocks are free, which are held, and which are kept for sequences
// that begin like earlier ones: numbers only, the memory is the engine's.
//
//   free <---- Free ----- held: by one, or by several that begin alike
//     |                  ^ ^  |
//     +---- Allocate ----+ |  +-- Free, if listed --> kept --> free
//                          +-------- Adopt ------------+
//
// Kept blocks count as free: Allocate takes them when no other is left, those
// that have been kept for longest first.
//
// Threads: one at a time; what is marked so, any.
#ifndef OUNCE_SERVER_SCHEDULER_BLOCK_ALLOCATOR_H_
#define OUNCE_SERVER_SCHEDULER_BLOCK_ALLOCATOR_H_

#include <cstdint>
#include <functional>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/types/span.h"
#include "base/mutex.h"
#include "server/scheduler/prefix_cache.h"

namespace ounce::server {

class BlockAllocator {
 public:
  struct Options {
    int64_t num_blocks = 0;
    int64_t block_tokens = 1;
    // Whether so many blocks may be held in all: their memory may be wanted
    // elsewhere. Told of each number before it is held, and after fewer are.
    // Empty: always.
    std::function<bool(int64_t num_held)> may_hold = nullptr;
    // Blocks that are kept, at most. 0: nobody gets another's blocks.
    int64_t max_kept = 0;
    // Told how many more are kept, or fewer, but for what GiveUp takes.
    std::function<void(int64_t num_more)> on_kept = nullptr;
  };

  explicit BlockAllocator(Options options);  // all free

  // What `may_hold` says.
  bool CanHold(int64_t num_held) const {
    return !options_.may_hold || options_.may_hold(num_held);
  }

  // `count` blocks, or none if there aren't that many or `may_hold` says no.
  // The block freed last goes first.
  bool Allocate(int64_t count, std::vector<int32_t>* blocks);

  // Each must be held. Returns those that nobody holds any more and that are
  // not kept, and those that are kept no more in their favour.
  std::vector<int32_t> Free(absl::Span<const int32_t> blocks);

  // Keeps blocks of this version alone from now on. Returns those that are kept
  // no more.
  std::vector<int32_t> BeginVersion(int64_t version);

  // The blocks that hold the beginning of `prefix`, as many as are listed.
  // Threads: any.
  std::vector<int32_t> Find(const Prefix& prefix) const;
  // Holds them; none if `may_hold` says no.
  std::vector<int32_t> Adopt(const Prefix& prefix);
  // Lists the full blocks of `prefix` from the first-th on, which are computed
  // and will not change; of the same tokens listed before it takes the blocks
  // and frees its own. Returns as Free.
  std::vector<int32_t> List(const Prefix& prefix, int64_t first,
                            std::vector<int32_t>* blocks);

  // Keeps `count` blocks fewer, or none, and says how many fewer. `release` is
  // told of them, and of the free ones within `reach` of them, while nobody can
  // take one. Threads: any.
  int64_t GiveUp(int64_t count, int64_t reach,
                 absl::FunctionRef<void(absl::Span<const int32_t>)> release);

  // Those that are free and not kept among `blocks` and the `reach` before and
  // after each; ascending, each once.
  std::vector<int32_t> FreeAround(absl::Span<const int32_t> blocks,
                                  int64_t reach) const;

  int64_t num_holders(int32_t block) const;
  // Of these, threads: any.
  int64_t num_blocks() const { return options_.num_blocks; }
  int64_t num_free() const { return num_blocks() - num_held(); }  // kept or not
  int64_t num_held() const;
  int64_t num_kept() const;
  // Kept no more for want of blocks or memory, ever.
  int64_t num_evicted() const;

 private:
  std::vector<int32_t> FreeAroundLocked(absl::Span<const int32_t> blocks,
                                        int64_t reach) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // One that is free or kept.
  void Hold(int32_t block) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void TellKept(int64_t num_more) const {
    if (options_.on_kept && num_more != 0) options_.on_kept(num_more);
  }

  const Options options_;
  mutable Mutex mu_;  // never locked around a call of Options
  std::vector<int32_t> free_ ABSL_GUARDED_BY(mu_);     // a stack; not the kept
  std::vector<int32_t> holders_ ABSL_GUARDED_BY(mu_);  // by block
  int64_t num_held_ ABSL_GUARDED_BY(mu_) = 0;
  PrefixCache prefixes_ ABSL_GUARDED_BY(mu_);  // those that are idle are kept
};

}  // namespace ounce::server

#endif  // OUNCE_SERVER_SCHEDULER_BLOCK_ALLOCATOR_H_
