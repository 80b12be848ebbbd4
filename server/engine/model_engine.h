// The scheduler's engine on a model: one version of its weights, and the KV
// cache that it shares with the other versions.
#ifndef OUNCE_SERVER_ENGINE_MODEL_ENGINE_H_
#define OUNCE_SERVER_ENGINE_MODEL_ENGINE_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "base/clock.h"
#include "base/thread_pool.h"
#include "model/causal_lm.h"
#include "model/layers/kv_cache.h"
#include "model/model.h"
#include "server/engine/step_turns.h"
#include "server/scheduler/engine.h"

namespace ounce::server {

struct ModelEngineOptions {
  int64_t version = 1;
  std::string method;           // spec, for EngineInfo
  int64_t max_step_tokens = 0;  // at least 1
  int64_t max_step_logits = 0;  // at least 1
};

// Floats from row to row of logits: rows begin at multiples of 64 bytes.
int64_t LogitStride(int64_t vocab_size);

// Bytes of working memory that an engine of these options sets aside.
size_t EngineScratchBytes(const ModelEngineOptions& options,
                          const model::CausalLm& causal_lm, int threads);

// Memory for the largest step is set aside here; a step allocates nothing. One
// with tokens of prompts lets other engines have turns in its midst
// (sliced_turn.h).
//
// Ownership: shares of the model and of the cache; `pool`, `turns` and `clock`
//   must outlive it.
// Requires a causal language model whose KV shape is the cache's.
// Errors: kResourceExhausted.
absl::StatusOr<std::unique_ptr<Engine>> CreateModelEngine(
    const ModelEngineOptions& options,
    std::shared_ptr<const model::Model> model,
    std::shared_ptr<model::KvCache> cache, ThreadPool& pool, StepTurns& turns,
    const Clock& clock);

}  // namespace ounce::server

#endif  // OUNCE_SERVER_ENGINE_MODEL_ENGINE_H_
