// What travels from the service to the scheduler and back: plain values, no
// protobuf, no tensors.
#ifndef OUNCE_SERVER_SCHEDULER_REQUEST_H_
#define OUNCE_SERVER_SCHEDULER_REQUEST_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"

namespace ounce::server {

// Checked by the service; ranges and meaning as in inference.proto.
struct SamplingParams {
  float temperature = 0;  // 0: greedy
  int64_t top_k = 0;      // 0: all
  float top_p = 1;        // in (0, 1]
  float min_p = 0;
  float repetition_penalty = 1;
  uint64_t seed = 0;  // always set (drawn by the service if absent)
};

struct GenerateParams {
  std::string peer;             // who asks, for fair shares; "" is one too
  std::vector<int32_t> prompt;  // at least one id, each below the vocabulary
  int64_t max_new_tokens = 0;   // at least 1
  SamplingParams sampling;
  std::vector<std::string> stop;
  // Special tokens, which have no text that a stop string could meet.
  std::vector<int32_t> stop_token_ids;
  int num_logprobs = 0;
  absl::Time arrival;
  absl::Time deadline = absl::InfiniteFuture();
  bool servers_deadline = false;  // and not the caller's
};

struct TopLogprob {
  int32_t id = 0;
  float logprob = 0;
  std::string token;  // its bytes
};
struct TokenLogprobs {
  float logprob = 0;
  std::vector<TopLogprob> top;  // best first
};

enum class FinishReason { kEos, kLength, kStop };

// New output since the last one.
struct GenerateChunk {
  std::string text;  // valid UTF-8
  std::vector<int32_t> token_ids;
  std::vector<TokenLogprobs> logprobs;  // one per id, or none
};

struct GenerateResult {
  FinishReason reason = FinishReason::kLength;
  int64_t prompt_tokens = 0;
  int64_t cached_tokens = 0;  // of the prompt: found in the prefix cache
  int64_t new_tokens = 0;
  absl::Duration queued;
  absl::Duration time_to_first_token;
  absl::Duration total;
  int64_t model_version = 0;
  std::string method;
};

// The reader of one request's output.
//
// Threads: called on the engine's thread, never two calls at a time; must not
//   block or call the scheduler.
// Ownership: must live until OnDone returns.
class ResponseSink {
 public:
  virtual ~ResponseSink() = default;

  // False while the reader is behind: the sequence then pauses until
  // GenerateScheduler::Wake() is called and this is true again, or
  // GenerateScheduler::Options::max_pause has passed.
  virtual bool HasRoom() const = 0;

  virtual void OnChunk(GenerateChunk chunk) = 0;

  // Exactly once, last. `result` says how far it came; where that is not to its
  // end, status is kCancelled, kDeadlineExceeded, kResourceExhausted,
  // kUnavailable, kFailedPrecondition (not_finite.h) or kInternal.
  virtual void OnDone(const absl::Status& status,
                      const GenerateResult& result) = 0;
};

}  // namespace ounce::server

#endif  // OUNCE_SERVER_SCHEDULER_REQUEST_H_
