// A served model that generates text: its tokenizer, its KV cache and its
// scheduler.
#ifndef OUNCE_SERVER_ENGINE_SERVED_CAUSAL_LM_H_
#define OUNCE_SERVER_ENGINE_SERVED_CAUSAL_LM_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "model/model.h"
#include "server/engine/served_task.h"
#include "server/scheduler/memory_budget.h"

namespace ounce::server {

// A row of served_task.cc's table. Errors of Serve: kInvalidArgument for a
// tokenizer without tokens; kFailedPrecondition when the budget of the KV cache
// is too small; kResourceExhausted.
absl::StatusOr<std::shared_ptr<ServedTask>> ReadTextGeneration(
    const model::Model& model, const std::string& folder);
MemoryNeed NeedToReadTextGeneration(const std::string& folder);

}  // namespace ounce::server

#endif  // OUNCE_SERVER_ENGINE_SERVED_CAUSAL_LM_H_
