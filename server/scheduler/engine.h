// The computing side that a scheduler drives, without a model in sight, so that
// scheduling is tested with a fake.
#ifndef OUNCE_SERVER_SCHEDULER_ENGINE_H_
#define OUNCE_SERVER_SCHEDULER_ENGINE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"

namespace ounce::server {

// One sequence's part of a step (model::SequenceSlice says more).
struct StepSlice {
  absl::Span<const int32_t> token_ids;
  int64_t position = 0;
  absl::Span<const int32_t> kv_blocks;
  bool wants_logits = false;  // of its last token
};

struct EngineInfo {
  int64_t model_version = 0;
  std::string method;
  int64_t vocab_size = 0;
  int64_t max_positions = 0;
  std::vector<int32_t> eos_ids;
  std::vector<int32_t> suppressed_ids;  // never drawn; each below vocab_size
  int64_t kv_block_tokens = 0;
  int64_t kv_block_bytes = 0;
  int64_t num_kv_blocks = 0;
  int64_t max_step_tokens = 0;  // rows it has scratch for
  int64_t max_step_logits = 0;
};

// One version of a model together with the KV cache that it shares with the
// other versions.
//
// Threads: Step and ReleaseBlocks on one thread; info from any.
class Engine {
 public:
  virtual ~Engine() = default;
  virtual const EngineInfo& info() const = 0;

  // Computes one step; `logits` then holds, for each slice that wants them, its
  // row of vocab_size floats, until the next call. Errors are kInternal or
  // kResourceExhausted and concern all slices of the step.
  virtual absl::Status Step(absl::Span<const StepSlice> slices,
                            std::vector<absl::Span<const float>>* logits) = 0;

  // The blocks are free: their memory may go back to the system.
  virtual void ReleaseBlocks(absl::Span<const int32_t> blocks) = 0;
};

}  // namespace ounce::server

#endif  // OUNCE_SERVER_SCHEDULER_ENGINE_H_
