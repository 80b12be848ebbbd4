// What a scheduler tells of itself: states when asked, events as they happen.
#ifndef OUNCE_SERVER_SCHEDULER_STATS_H_
#define OUNCE_SERVER_SCHEDULER_STATS_H_

#include <cstdint>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "server/scheduler/request.h"

namespace ounce::server {

struct SchedulerStats {
  int64_t queued = 0;   // requests, those that were pushed out included
  int64_t running = 0;  // requests, those whose readers are behind included
  int64_t kv_capacity_bytes = 0;
  int64_t kv_used_bytes = 0;  // blocks that hold or get somebody's tokens
  // Blocks beside these, kept in the prefix cache; they tell no observer.
  int64_t kv_cached_bytes = 0;
  // Since the start; they tell no observer.
  int64_t generated_tokens = 0;
  int64_t detected_pictures = 0;
};

// Threads: called on the engine's thread, first on the one that creates the
//   scheduler; never two calls at a time, none after Drain returned; must not
//   block. Implemented by server/metrics, one per model.
class SchedulerObserver {
 public:
  virtual ~SchedulerObserver() = default;
  virtual void OnFirstToken(absl::Duration time_to_first_token) = 0;
  // Of one step, all sequences together.
  virtual void OnTokens(int64_t prompt_tokens, int64_t new_tokens) = 0;
  // With a prefix cache: requests have started, whose prompts have so many
  // tokens, of which so many were found in it; so many blocks have left it for
  // want of room.
  virtual void OnPrefixCache(int64_t prompt_tokens, int64_t found_tokens,
                             int64_t evicted_blocks) = 0;
  // So many sequences have lost their blocks to others; their tokens will be
  // computed again.
  virtual void OnPreempted(int64_t sequences) = 0;
  // Once per accepted request. status as given to the sink; if OK, reason is
  // meaningful.
  virtual void OnDone(const absl::Status& status, FinishReason reason,
                      const GenerateResult& result) = 0;
  // At the start, and whenever they change.
  virtual void OnStats(const SchedulerStats& stats) = 0;
};

}  // namespace ounce::server

#endif  // OUNCE_SERVER_SCHEDULER_STATS_H_
