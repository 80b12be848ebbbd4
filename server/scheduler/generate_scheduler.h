// Continuous batching for one served model: sequences join and leave between
// two steps; prompts are prefilled in chunks among the decoding of others.
//
//   Submit() --> [ queue, bounded ] --> running --> Engine::Step() --> sink
//                        ^                 |
//                        +-- pushed out <--+
//
// One thread per scheduler (the engine's thread) runs everything below Submit.
// Peers take turns to start; each one's requests start in the order they came.
// KV blocks are taken as tokens come (running_sequences.h says from whom when
// none is free); a sequence that lost its blocks goes on later, from its tokens
// so far and to the very tokens that it would have had.
//
// A prompt that begins like tokens computed before, by the same version for the
// same scope, starts with their full KV blocks (prefix_cache.h), and gets the
// very bits that it would have had without.
//
// Peers share: when the queue is full, a newcomer takes the place of the last
// request of the peer that has most in it, if its own has fewer; when places or
// blocks lack, it may push out sequences of peers that have more than twice its
// own peer's share.
//
// Threads: Submit, Cancel, Wake, SetEngine, Drain, GiveUpCached, stats: any
//   thread; none waits for a step except Drain and the destructor.
// Ownership: engine versions are shared; a sequence finishes on the version it
//   began on, and the last one to leave frees it.
// A request with a deadline is refused when its first token can't come before
// it at the speed of late (work_speed.h): those of its peer that wait for room,
// and as many of each other one, leave the queue before it, as often as
// requests did while some waited; then its prompt takes steps, at best full
// ones. Whoever has nobody waiting is taken to start at once.
//
// Errors of Submit: kResourceExhausted when the queue is full (refusal.h; also
//   told to sinks of requests that have to leave it), when the deadline is too
//   soon, or the request could never fit the KV cache (never retry; the message
//   says so); kUnavailable after Drain; kInvalidArgument when the prompt leaves
//   no room for a new token in the model's positions. `sink` is not called
//   then.
// A deadline that passes, or Cancel, ends a request within one step wherever it
// is: queued, in prefill or decoding; its blocks are free before OnDone.
// So does a sink that had no room for Options::max_pause, looked at between
// steps (kDeadlineExceeded). Long before, after Options::stall_after, others
// may take its place and its blocks.
#ifndef OUNCE_SERVER_SCHEDULER_GENERATE_SCHEDULER_H_
#define OUNCE_SERVER_SCHEDULER_GENERATE_SCHEDULER_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "base/clock.h"
#include "model/tokenizer/tokenizer.h"
#include "server/scheduler/engine.h"
#include "server/scheduler/request.h"
#include "server/scheduler/stats.h"

namespace ounce::server {

// KV blocks that outlive their sequences, for later ones that begin alike. They
// go before anybody lacks a block or its memory.
struct PrefixCacheOptions {
  int64_t max_bytes = 0;  // of blocks that nobody uses; 0: there is no cache
  // Whether peers share; else each has only what it computed itself, so that no
  // one sees by the time it takes what others ask. Of a peer without a name
  // nothing is kept then.
  bool all_peers = false;
  // Told, on the engine's thread, how many more bytes are kept, or fewer, but
  // for what GiveUpCached takes.
  std::function<void(int64_t more_bytes)> on_bytes = nullptr;
};

class GenerateScheduler {
 public:
  struct Options {
    int64_t max_queued = 256;       // requests, about to start included
    int64_t max_running = 32;       // requests in a step, at most
    int64_t max_step_tokens = 512;  // prompt and new tokens of one step
    // Prompt tokens of one step while other sequences decode, and how long it
    // then takes, or a little more (step_pace.h; infinite: as long as it does):
    // bounds how long a long prompt makes them wait.
    int64_t max_prefill_tokens_beside_decode = 128;
    absl::Duration max_step_beside_decode = absl::Milliseconds(50);
    // A started request whose reader had no room for so long has stalled: it
    // counts in max_running no more, and its KV blocks are the first to go when
    // others need some.
    absl::Duration stall_after = absl::Seconds(1);
    // Of those, the one that has been for longest ends when there are more, of
    // the peer that has most (kResourceExhausted).
    int64_t max_stalled = 64;
    // How long a started request waits for a reader without room, at a stretch.
    absl::Duration max_pause = absl::Seconds(60);
    // Whether sequences may hold so many bytes of KV cache in all, for others
    // may have the memory; asked before they do and told when it is less, on
    // the engine's thread. Never false for less than before, nor for what one
    // request of the most positions needs. Empty: always.
    std::function<bool(int64_t bytes)> may_hold_kv_bytes = nullptr;
    PrefixCacheOptions prefix_cache = {};
  };

  using RequestId = uint64_t;

  // `tokenizer`, `clock` and `observer` must outlive it.
  // Errors: kResourceExhausted when there is no thread to be had.
  static absl::StatusOr<std::unique_ptr<GenerateScheduler>> Create(
      const Options& options, std::shared_ptr<Engine> engine,
      const model::Tokenizer& tokenizer, const Clock& clock,
      SchedulerObserver& observer);

  virtual ~GenerateScheduler() = default;  // ends what runs: kUnavailable

  virtual absl::StatusOr<RequestId> Submit(GenerateParams params,
                                           ResponseSink* sink) = 0;

  // `why` is how it ends: kCancelled, or kDeadlineExceeded of a client that
  // knows so first. Unknown and finished ids are fine.
  virtual void Cancel(RequestId id, const absl::Status& why) = 0;

  // Some sink has room again.
  virtual void Wake() = 0;

  // New sequences begin on `engine` from the next step on; it must have the
  // same KvShape and vocabulary. Returns at once.
  virtual void SetEngine(std::shared_ptr<Engine> engine) = 0;

  // Refuses new requests, waits until running and queued ones are done or
  // `deadline` passes (looked at when something happens, Wake included), then
  // ends the rest with kUnavailable. After it no engine is held any more.
  // Several may drain: the earliest deadline counts for all. False if some were
  // ended.
  virtual bool Drain(absl::Time deadline) = 0;

  // Takes so many bytes of KV blocks out of the prefix cache, rounded up to
  // blocks, or all that it has, and says how many. `release` is told of blocks
  // whose memory may go back to the system, while nobody can take them. Waits
  // for nothing, and calls nothing of Options.
  virtual int64_t GiveUpCached(
      int64_t bytes,
      absl::FunctionRef<void(absl::Span<const int32_t>)> release) = 0;

  virtual SchedulerStats stats() const = 0;
};

}  // namespace ounce::server

#endif  // OUNCE_SERVER_SCHEDULER_GENERATE_SCHEDULER_H_
