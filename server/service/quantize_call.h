// One Quantize call: a job on a thread of its own on one side, a gRPC stream on
// the other. Progress that the client is too slow to read, or that comes less
// than 50 ms after the last, is replaced by newer progress; the message that
// ends it is always sent.
//
// Threads: gRPC's call the reactor's half, the job's calls Report and End,
//   any thread EndEarly.
// Ownership: shared by gRPC, until it has sent the end, and the job.
#ifndef OUNCE_SERVER_SERVICE_QUANTIZE_CALL_H_
#define OUNCE_SERVER_SERVICE_QUANTIZE_CALL_H_

#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/server_callback.h>

#include <memory>
#include <optional>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/clock.h"
#include "base/mutex.h"
#include "ounce/v1/model_admin.pb.h"
#include "server/service/slow_call.h"

namespace ounce::server {

class QuantizeCall final : public grpc::ServerWriteReactor<grpc::ByteBuffer>,
                           public EndableCall {
 public:
  // `clock` must outlive the call.
  static std::shared_ptr<QuantizeCall> Create(absl::Time deadline,
                                              const Clock& clock);

  // An error when nobody waits for more: kCancelled, kDeadlineExceeded, or what
  // EndEarly was given.
  absl::Status Report(v1::QuantizeProgress progress);

  // Last: the last message, or why there is none. The first call counts.
  void End(absl::StatusOr<v1::QuantizeProgress> last);
  void EndEarly(const absl::Status& status) override { End(status); }

  void OnWriteDone(bool ok) override;
  void OnCancel() override;
  void OnDone() override;

 private:
  QuantizeCall(absl::Time deadline, const Clock& clock)
      : deadline_(deadline), clock_(clock) {}
  void Pump();

  const absl::Time deadline_;

  const Clock& clock_;

  Mutex mu_;
  std::optional<v1::QuantizeProgress> pending_ ABSL_GUARDED_BY(mu_);
  absl::Time last_write_ ABSL_GUARDED_BY(mu_) = absl::InfinitePast();
  bool writing_ ABSL_GUARDED_BY(mu_) = false;
  std::shared_ptr<QuantizeCall> self_ ABSL_GUARDED_BY(mu_);  // until OnDone
  bool ended_ ABSL_GUARDED_BY(mu_) = false;
  bool finished_ ABSL_GUARDED_BY(mu_) = false;
  absl::Status status_ ABSL_GUARDED_BY(mu_);

  grpc::ByteBuffer outgoing_;  // gRPC's from StartWrite until OnWriteDone
};

}  // namespace ounce::server

#endif  // OUNCE_SERVER_SERVICE_QUANTIZE_CALL_H_
