// A served model that generates text: its tokenizer, its KV cache and its
// scheduler.
#ifndef OUNCE_SERVER_ENGINE_SERVED_CAUSAL_LM_H_
#define OUNCE_SERVER_ENGINE_SERVED_CAUSAL_LM_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "model/causal_lm.h"
#include "model/loader/loader.h"
#include "model/tokenizer/tokenizer.h"
#include "server/engine/versioned_model.h"
#include "server/scheduler/memory_budget.h"

namespace ounce::server {

// What a version takes; and what one request of the most positions needs of the
// KV cache, which every model has for itself.
MemoryNeed CausalLmNeed(const EngineContext& context,
                        const model::CausalLm& causal_lm,
                        const model::LoadReport& report);
int64_t KvFloorBytes(const EngineContext& context,
                     const model::CausalLm& causal_lm);

// Requires a causal language model and its tokenizer. Ownership: as Serve.
// Errors: kInvalidArgument for a tokenizer without tokens; kFailedPrecondition
//   when the budget of the KV cache is too small; kResourceExhausted.
absl::StatusOr<std::shared_ptr<VersionedModel>> ServeCausalLm(
    const EngineContext& context, const std::string& name,
    const std::string& path, BuiltVersion built,
    std::shared_ptr<const model::Tokenizer> tokenizer);

}  // namespace ounce::server

#endif  // OUNCE_SERVER_ENGINE_SERVED_CAUSAL_LM_H_
