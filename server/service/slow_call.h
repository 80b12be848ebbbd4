// One unary call whose work takes its time on a thread of its own, and that may
// end before the work does: because the client is gone, or the server stops.
//
// Threads: gRPC's call the reactor's half; any thread may call the rest.
// Ownership: shared by gRPC, until it has sent the answer, and whoever works.
#ifndef OUNCE_SERVER_SERVICE_SLOW_CALL_H_
#define OUNCE_SERVER_SERVICE_SLOW_CALL_H_

#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/server_callback.h>

#include <memory>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "base/clock.h"
#include "base/mutex.h"

namespace ounce::server {

// A call that may be ended from outside.
class EndableCall {
 public:
  virtual ~EndableCall() = default;
  // With this status, unless it has ended already.
  virtual void EndEarly(const absl::Status& status) = 0;
};

class SlowCall final : public grpc::ServerUnaryReactor, public EndableCall {
 public:
  // `response` is gRPC's; `clock` must outlive the call.
  static std::shared_ptr<SlowCall> Create(absl::Time deadline,
                                          grpc::ByteBuffer* response,
                                          const Clock& clock);

  // An error when nobody waits for the answer any more: kCancelled,
  // kDeadlineExceeded, or what EndEarly was given.
  absl::Status CheckWanted() const;

  // The answer, or why there is none; the first call counts.
  void End(const absl::Status& status, grpc::ByteBuffer answer = {});
  void EndEarly(const absl::Status& status) override { End(status); }

  void OnCancel() override;
  void OnDone() override;

 private:
  SlowCall(absl::Time deadline, grpc::ByteBuffer* response, const Clock& clock)
      : begun_(clock.Now()),
        deadline_(deadline),
        response_(response),
        clock_(clock) {}

  const absl::Time begun_;
  const absl::Time deadline_;
  grpc::ByteBuffer* const response_;
  const Clock& clock_;

  mutable Mutex mu_;
  std::shared_ptr<SlowCall> self_ ABSL_GUARDED_BY(mu_);  // until OnDone
  bool ended_ ABSL_GUARDED_BY(mu_) = false;
  absl::Status status_ ABSL_GUARDED_BY(mu_);  // of the end
};

}  // namespace ounce::server

#endif  // OUNCE_SERVER_SERVICE_SLOW_CALL_H_
