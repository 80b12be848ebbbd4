#include "server/service/slow_call.h"

#include <utility>

#include "server/frontend/gave_up.h"
#include "server/service/grpc_status.h"

namespace ounce::server {

std::shared_ptr<SlowCall> SlowCall::Create(absl::Time deadline,
                                           grpc::ByteBuffer* response,
                                           const Clock& clock) {
  std::shared_ptr<SlowCall> call(new SlowCall(deadline, response, clock));
  MutexLock lock(&call->mu_);
  call->self_ = call;
  return call;
}

absl::Status SlowCall::CheckWanted() const {
  MutexLock lock(&mu_);
  return ended_ ? status_ : absl::OkStatus();
}

void SlowCall::End(const absl::Status& status, grpc::ByteBuffer answer) {
  {
    MutexLock lock(&mu_);
    if (std::exchange(ended_, true)) return;
    status_ = status;
  }
  response_->Swap(&answer);
  Finish(ToGrpcStatus(status));
}

void SlowCall::OnCancel() {
  EndEarly(WhyGivenUp(begun_, deadline_, clock_.Now()));
}

void SlowCall::OnDone() {
  std::shared_ptr<SlowCall> self;  // freed after the lock is
  MutexLock lock(&mu_);
  self = std::move(self_);
}

}  // namespace ounce::server
