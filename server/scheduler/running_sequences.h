// The sequences that have started, and the KV blocks that they share.
//
// A sequence takes blocks as its tokens come. When none is free, blocks are
// taken from others, whose tokens are computed again later: first from those
// whose readers have stalled, then from the youngest of the peer that holds
// most. The eldest that is not paused keeps its blocks, so there is always one
// that runs to its end. All decisions depend on ids, peers and blocks alone.
//
// A sequence that begins like an earlier one, of the same scope and version,
// starts with that one's full blocks (block_allocator.h), which hold the very
// bits that it would compute; its last token it always computes itself.
//
//   Add --> running --> Erase
//            |   ^
//     pushed out |  (back to the queue, without blocks)
//
// Threads: one at a time.
#ifndef OUNCE_SERVER_SCHEDULER_RUNNING_SEQUENCES_H_
#define OUNCE_SERVER_SCHEDULER_RUNNING_SEQUENCES_H_

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/types/span.h"
#include "server/scheduler/block_allocator.h"
#include "server/scheduler/sequence.h"

namespace ounce::server {

class RunningSequences {
 public:
  using Sequences = std::vector<std::unique_ptr<Sequence>>;

  // `max_active`: started and not stalled. A request that has started fits the
  // blocks alone.
  RunningSequences(int64_t max_active, BlockAllocator::Options blocks);

  // By age, the eldest first.
  Sequences::const_iterator begin() const { return sequences_.begin(); }
  Sequences::const_iterator end() const { return sequences_.end(); }
  int64_t size() const { return static_cast<int64_t>(sequences_.size()); }
  bool empty() const { return sequences_.empty(); }
  bool Has(const std::string& peer) const;

  const BlockAllocator& blocks() const { return blocks_; }
  // Blocks for `tokens` tokens.
  int64_t BlocksFor(int64_t tokens) const {
    return (tokens + block_tokens_ - 1) / block_tokens_;
  }

  // Whether there is a place for `newcomer` and blocks for its tokens, and one
  // more for each that runs, so that it is not thrown out at once; if need be,
  // at the cost of the stalled, and of peers that have more than twice what its
  // own peer will have then. If not, nothing has changed.
  bool MakeRoomFor(const Sequence& newcomer);
  // One with an engine and without blocks, which then has those of its
  // beginning that others computed.
  Sequence& Add(std::unique_ptr<Sequence> sequence);

  // Newcomers begin on `engine` from now on: what was computed by other
  // versions is for nobody.
  void BeginOn(const std::shared_ptr<Engine>& engine);
  // Its cached tokens are there for others from now on.
  void Publish(Sequence& sequence);

  // Blocks for the sequence's first `tokens` tokens, if need be at the cost of
  // others. False if it was pushed out itself, now or before; or, and then it
  // still runs, if it may not even hold them alone.
  bool Reserve(Sequence& sequence, int64_t tokens);

  // Stalled ones whose sink has room again: they run on if they have blocks and
  // there is a place, else they are pushed out.
  void ResumeStalled();
  // Of the peer that has most stalled ones, the one that has been for longest;
  // null if there are at most `max_stalled`.
  Sequence* StalledTooMany(int64_t max_stalled) const;

  // As BlockAllocator::GiveUp, of blocks of so many bytes. Threads: any.
  int64_t GiveUpKept(
      int64_t count, int64_t block_bytes,
      absl::FunctionRef<void(absl::Span<const int32_t>)> release);

  // Those pushed out since the last call.
  Sequences TakePushedOut();
  // How many have lost their blocks, ever.
  int64_t num_preempted() const { return num_preempted_; }

  // Tells an engine that blocks that were taken from somebody, or are kept for
  // nobody any more, are free, unless they have been taken since.
  void ReleaseFreed();

  // Takes a sequence out; its blocks stay its own.
  std::unique_ptr<Sequence> Take(const Sequence& sequence);
  template <class Wanted>
  Sequences TakeIf(const Wanted& wanted);
  // Frees the blocks of one that was taken out, and tells its engine.
  void Free(Sequence& sequence);

 private:
  // How a peer's share is counted: places (running sequences that are not
  // stalled), or blocks.
  enum class Share { kPlaces, kBlocks };
  // Nothing for those that MakeRoomFor has doomed.
  int64_t PartOf(const Sequence& sequence, Share share) const;
  int64_t ShareOf(const std::string& peer, Share share) const;
  std::map<std::string_view, int64_t> Shares(Share share) const;  // by peer

  const Sequence* Eldest() const;
  // One of those that may lose their blocks: a stalled one first, then the
  // youngest of the peer that holds most. `asking` may be
  // the answer, and its peer's come before others' that hold as much. Null if
  // nobody may.
  Sequence* Victim(const Sequence& asking);
  Sequence* StalledVictim();
  // The youngest of the peer that has most, if that is more than twice what
  // `peer` has when it gets `taken` more.
  Sequence* ForTheSakeOf(const std::string& peer, Share share, int64_t taken);

  // Its tokens that others may have computed.
  Prefix Beginning(const Sequence& sequence) const;
  // How many hold each block of the doomed, apart from these.
  std::map<int32_t, int64_t> HoldersWithoutDoomed() const;

  // Takes the blocks; unless it has stalled, the place too.
  void Preempt(Sequence& sequence);
  void PushOut(Sequence& sequence);
  bool IsDoomed(const Sequence& sequence) const;
  // Tells the engine that those of `blocks` that are free are, and those around
  // them (ReachOf).
  void Release(Engine& engine, absl::Span<const int32_t> blocks) const;

  const int64_t max_active_;
  const int64_t block_tokens_;
  BlockAllocator blocks_;
  int64_t version_ = 0;  // of the engine that newcomers begin on
  Sequences sequences_;
  Sequences pushed_out_;
  std::vector<Sequence*> doomed_;   // while MakeRoomFor decides
  std::vector<int32_t> freed_;      // until ReleaseFreed
  std::shared_ptr<Engine> engine_;  // one that may release them
  int64_t num_preempted_ = 0;
};

template <class Wanted>
RunningSequences::Sequences RunningSequences::TakeIf(const Wanted& wanted) {
  Sequences taken;
  for (auto& sequence : sequences_) {
    if (!wanted(*sequence)) continue;
    sequence->running = false;
    taken.push_back(std::move(sequence));
  }
  std::erase(sequences_, nullptr);
  return taken;
}

}  // namespace ounce::server

#endif  // OUNCE_SERVER_SCHEDULER_RUNNING_SEQUENCES_H_
