// One Quantize call: a job on a worker's thread on one side, a gRPC stream on
// the other. Progress that the client is too slow to read, or that comes within
// 50 ms, is replaced by newer progress; the last message always arrives.
//
// Threads: gRPC's call the reactor's half, the worker's calls Report and End.
// Ownership: deletes itself when gRPC has let go, which is after End.
#ifndef OUNCE_SERVER_SERVICE_QUANTIZE_CALL_H_
#define OUNCE_SERVER_SERVICE_QUANTIZE_CALL_H_

#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/server_callback.h>

#include <optional>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/clock.h"
#include "base/mutex.h"
#include "ounce/v1/model_admin.pb.h"

namespace ounce::server {

class QuantizeCall final : public grpc::ServerWriteReactor<grpc::ByteBuffer> {
 public:
  // `clock` must outlive the call.
  explicit QuantizeCall(const Clock& clock) : clock_(clock) {}

  // kCancelled when the client is gone.
  absl::Status Report(v1::QuantizeProgress progress);

  // Exactly once, last: the last message, or why there is none.
  void End(absl::StatusOr<v1::QuantizeProgress> last);

  void OnWriteDone(bool ok) override;
  void OnCancel() override;
  void OnDone() override { delete this; }

 private:
  ~QuantizeCall() override = default;
  void Pump();

  const Clock& clock_;

  Mutex mu_;
  std::optional<v1::QuantizeProgress> pending_ ABSL_GUARDED_BY(mu_);
  absl::Time last_write_ ABSL_GUARDED_BY(mu_) = absl::InfinitePast();
  bool writing_ ABSL_GUARDED_BY(mu_) = false;
  bool gone_ ABSL_GUARDED_BY(mu_) = false;
  bool ended_ ABSL_GUARDED_BY(mu_) = false;
  bool finished_ ABSL_GUARDED_BY(mu_) = false;
  absl::Status status_ ABSL_GUARDED_BY(mu_);

  grpc::ByteBuffer outgoing_;  // gRPC's from StartWrite until OnWriteDone
};

}  // namespace ounce::server

#endif  // OUNCE_SERVER_SERVICE_QUANTIZE_CALL_H_
