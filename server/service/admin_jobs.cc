#include "server/service/admin_jobs.h"

#include "server/scheduler/refusal.h"

namespace ounce::server {

void AdminJobs::Stop() {
  stopping_ = true;
  std::vector<std::weak_ptr<EndableCall>> running;
  {
    MutexLock lock(&mu_);
    running.swap(running_);
  }
  for (const std::weak_ptr<EndableCall>& call : running) {
    if (const auto still = call.lock()) still->EndEarly(ShuttingDown());
  }
}

void AdminJobs::Watch(const std::shared_ptr<EndableCall>& call) {
  {
    MutexLock lock(&mu_);
    std::erase_if(running_, [](const auto& other) { return other.expired(); });
    running_.push_back(call);
  }
  // It may have come too late for Stop to see it.
  if (stopping_) call->EndEarly(ShuttingDown());
}

absl::StatusOr<ModelInfo> AdminJobs::Load(ModelCatalog& catalog,
                                          LoadParams params,
                                          const SlowCall& call,
                                          CallRecord& record) const {
  PhaseNotes phases(record, clock_);
  params.proceed = [&call] { return call.CheckWanted(); };
  params.on_stage = [&phases](LoadStage stage) {
    phases.Begin(LoadStageName(stage));
  };
  ASSIGN_OR_RETURN(ModelInfo info, catalog.Load(params));
  record.AddAttributes({{"ounce.model.method", info.method},
                        {"ounce.model.resident_bytes", info.resident_bytes}});
  return info;
}

}  // namespace ounce::server
