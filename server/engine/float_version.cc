#include "server/engine/float_version.h"

#include <utility>

#include "base/status_macros.h"
#include "model/checkpoint/checkpoint.h"
#include "model/loader/loader.h"
#include "server/engine/background_thread.h"
#include "server/engine/built_version.h"
#include "server/engine/checkpoint_fingerprint.h"
#include "server/scheduler/memory_budget.h"

namespace ounce::server {

absl::StatusOr<std::shared_ptr<const model::Model>> FloatVersionOf(
    const EngineContext& context, const VersionedModel& served,
    const std::string& who, const std::function<absl::Status()>& proceed) {
  if (std::shared_ptr<const model::Model> own = served.own_floats()) return own;
  // Shared with a reading thread that may be left behind.
  struct Made {
    MemoryBudget::Reservation reservation;
    BuiltVersion built;
  };
  const auto made = std::make_shared<Made>();
  model::LoadOptions options;
  options.compute = context.options.compute;
  options.threads = context.pool.num_threads();
  RETURN_IF_ERROR(RunInBackground(
      [made, options, folder = served.folder(),
       fingerprint = served.fingerprint(), task = served.served_task(),
       &context, &who](Waiter& waiter) mutable -> absl::Status {
        const auto proceed = [&] { return waiter.CheckProceed(); };
        options.progress = [&](const model::LoadProgress&) {
          return proceed();
        };
        ASSIGN_OR_RETURN(const auto checkpoint,
                         ReopenCheckpoint(folder, fingerprint, proceed));
        ASSIGN_OR_RETURN(const model::ModelPlan plan,
                         model::PlanModel(*checkpoint, options));
        RETURN_IF_ERROR(waiter.Ask([&]() -> absl::Status {
          ASSIGN_OR_RETURN(
              made->reservation,
              context.memory.Reserve(
                  task->NeedOfVersion(context, *plan.outline, plan.report),
                  who));
          return absl::OkStatus();
        }));
        ASSIGN_OR_RETURN(made->built,
                         RebuildVersion(folder, fingerprint, options,
                                        std::move(made->reservation), proceed));
        return absl::OkStatus();
      },
      proceed));
  return std::move(made->built.model);
}

}  // namespace ounce::server
