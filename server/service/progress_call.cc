#include "server/service/progress_call.h"

#include <utility>

#include "base/guard.h"
#include "server/frontend/gave_up.h"
#include "server/service/grpc_status.h"
#include "server/service/wire.h"

namespace ounce::server {
namespace {

constexpr absl::Duration kMinInterval = absl::Milliseconds(50);

}  // namespace

std::shared_ptr<ProgressCall> ProgressCall::Create(
    std::shared_ptr<CallRecord> record, absl::Time deadline,
    const Clock& clock) {
  std::shared_ptr<ProgressCall> call(
      new ProgressCall(std::move(record), deadline, clock));
  MutexLock lock(&call->mu_);
  call->self_ = call;
  return call;
}

absl::Status ProgressCall::Replace(Message progress) {
  {
    MutexLock lock(&mu_);
    if (ended_) return status_;
    pending_ = std::move(progress);
  }
  Pump();
  return absl::OkStatus();
}

void ProgressCall::End(Ending ending) {
  {
    MutexLock lock(&mu_);
    if (std::exchange(ended_, true)) return;
    status_ = std::move(ending.status);
    pending_ = std::move(ending.last);
  }
  Pump();
}

void ProgressCall::OnWriteDone(bool) {
  {
    MutexLock lock(&mu_);
    writing_ = false;
  }
  Pump();
}

void ProgressCall::OnCancel() {
  EndEarly(WhyGivenUp(begun_, deadline_, clock_.Now()));
}

void ProgressCall::OnDone() {
  std::shared_ptr<ProgressCall> self;  // freed after the lock is
  MutexLock lock(&mu_);
  self = std::move(self_);
}

void ProgressCall::Pump() {
  enum { kWrite, kWriteAndFinish, kFinish } action;
  grpc::Status status;
  {
    MutexLock lock(&mu_);
    if (writing_ || finished_) return;
    if (ended_) {
      finished_ = true;
      action = pending_ != nullptr ? kWriteAndFinish : kFinish;
      status = ToGrpcStatus(status_);
    } else {
      const absl::Time now = clock_.Now();
      if (pending_ == nullptr || now < last_write_ + kMinInterval) return;
      last_write_ = now;
      writing_ = true;
      action = kWrite;
    }
    const absl::Status made = Guarded([&]() ABSL_NO_THREAD_SAFETY_ANALYSIS {
      if (pending_ != nullptr) outgoing_ = Serialize(*pending_);
      return absl::OkStatus();
    });
    pending_.reset();
    if (!made.ok()) {
      // Without memory for a message the call ends all the same.
      ended_ = finished_ = true;
      writing_ = false;
      status_ = made;
      action = kFinish;
      status = ToGrpcStatus(made);
    }
  }
  switch (action) {
    case kWrite:
      StartWrite(&outgoing_);
      return;
    case kWriteAndFinish:
      StartWriteAndFinish(&outgoing_, grpc::WriteOptions(), status);
      return;
    case kFinish:
      Finish(status);
      return;
  }
}

}  // namespace ounce::server
