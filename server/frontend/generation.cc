#include "server/frontend/generation.h"

#include <utility>

#include "base/guard.h"
#include "server/frontend/gave_up.h"

namespace ounce::server {

absl::Status Generation::Submit(
    const std::shared_ptr<const TextGeneration>& model, GenerateParams params) {
  const std::shared_ptr<Generation> self = shared_from_this();
  GenerateScheduler& scheduler = *model->scheduler;
  {
    MutexLock lock(&mu_);
    model_ = model;
    arrival_ = params.arrival;
    deadline_ = params.deadline;
    outcome_.sampling = params.sampling;
    outcome_.max_new_tokens = params.max_new_tokens;
    self_ = self;
  }
  const absl::StatusOr<GenerateScheduler::RequestId> id =
      Guarded([&] { return scheduler.Submit(std::move(params), this); });
  absl::Status gone;
  {
    MutexLock lock(&mu_);
    if (id.ok()) {
      id_ = *id;
      if (cancelled_) gone = WhyGivenUp(arrival_, deadline_, clock_.Now());
    } else {
      self_ = nullptr;
    }
  }
  if (!gone.ok()) scheduler.Cancel(*id, gone);
  return id.status();
}

void Generation::Refuse(const absl::Status& status) {
  {
    MutexLock lock(&mu_);
    done_ = true;
  }
  std::exchange(sink_, nullptr)->OnDone(status, GenerateOutcome());
}

void Generation::OnDone(const absl::Status& status,
                        const GenerateResult& result) {
  GenerateOutcome outcome;
  std::shared_ptr<Generation> self;
  {
    MutexLock lock(&mu_);
    done_ = true;
    outcome = std::move(outcome_);
    self = std::move(self_);
  }
  outcome.result = result;
  std::exchange(sink_, nullptr)->OnDone(status, outcome);
}

void Generation::Cancel() {
  std::shared_ptr<const TextGeneration> model;
  std::optional<GenerateScheduler::RequestId> id;
  absl::Status why;
  {
    MutexLock lock(&mu_);
    cancelled_ = true;
    model = model_;
    id = id_;
    why = WhyGivenUp(arrival_, deadline_, clock_.Now());
  }
  if (id.has_value() && model != nullptr) model->scheduler->Cancel(*id, why);
}

void Generation::Wake() {
  std::shared_ptr<const TextGeneration> model;
  {
    MutexLock lock(&mu_);
    model = model_;
  }
  if (model != nullptr) model->scheduler->Wake();
}

void Generation::Release() {
  std::shared_ptr<const TextGeneration> model;
  std::optional<GenerateScheduler::RequestId> running;
  {
    MutexLock lock(&mu_);
    cancelled_ = true;
    model = std::move(model_);
    if (!done_) running = id_;
  }
  if (running.has_value()) {
    model->scheduler->Cancel(*running,
                             absl::CancelledError("nobody reads any more"));
  }
  open_.Remove();
}

}  // namespace ounce::server
