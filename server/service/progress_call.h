// A call that tells of its progress (Quantize, Evaluate): a job on a thread of
// its own on one side, a gRPC stream on the other. Progress that the client is
// too slow to read, or that comes less than 50 ms after the last, is replaced
// by newer progress; the message that ends it is always sent.
//
// Threads: gRPC's call the reactor's half, the job's calls Report and End, any
//   thread EndEarly.
// Ownership: shared by gRPC, until it has sent the end, and the job.
#ifndef OUNCE_SERVER_SERVICE_PROGRESS_CALL_H_
#define OUNCE_SERVER_SERVICE_PROGRESS_CALL_H_

#include <google/protobuf/message.h>
#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/server_callback.h>

#include <memory>
#include <utility>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "base/clock.h"
#include "base/mutex.h"
#include "server/service/call_record.h"
#include "server/service/slow_call.h"

namespace ounce::server {

class ProgressCall final : public grpc::ServerWriteReactor<grpc::ByteBuffer>,
                           public EndableCall {
 public:
  // `clock` must outlive the call.
  static std::shared_ptr<ProgressCall> Create(
      std::shared_ptr<CallRecord> record, absl::Time deadline,
      const Clock& clock);

  CallRecord& record() { return *record_; }

  // An error when nobody waits for more: kCancelled, kDeadlineExceeded, or what
  // EndEarly was given.
  template <class Progress>
  absl::Status Report(Progress progress) {
    return Replace(std::make_unique<Progress>(std::move(progress)));
  }

  using Message = std::unique_ptr<const google::protobuf::Message>;
  struct Ending {
    Message last;  // or null
    absl::Status status;
  };
  template <class Progress>
  static Ending With(Progress last, absl::Status status) {
    return {std::make_unique<Progress>(std::move(last)), std::move(status)};
  }

  // Last: the last message, with how it ended; or why there is none. The first
  // call counts.
  void End(Ending ending);
  void EndEarly(const absl::Status& status) override { End({nullptr, status}); }

  void OnWriteDone(bool ok) override;
  void OnCancel() override;
  void OnDone() override;

 private:
  ProgressCall(std::shared_ptr<CallRecord> record, absl::Time deadline,
               const Clock& clock)
      : record_(std::move(record)),
        begun_(clock.Now()),
        deadline_(deadline),
        clock_(clock) {}
  absl::Status Replace(Message progress);
  void Pump();

  const std::shared_ptr<CallRecord> record_;
  const absl::Time begun_;
  const absl::Time deadline_;
  const Clock& clock_;

  Mutex mu_;
  Message pending_ ABSL_GUARDED_BY(mu_);  // or null
  absl::Time last_write_ ABSL_GUARDED_BY(mu_) = absl::InfinitePast();
  bool writing_ ABSL_GUARDED_BY(mu_) = false;
  std::shared_ptr<ProgressCall> self_ ABSL_GUARDED_BY(mu_);  // until OnDone
  bool ended_ ABSL_GUARDED_BY(mu_) = false;
  bool finished_ ABSL_GUARDED_BY(mu_) = false;
  absl::Status status_ ABSL_GUARDED_BY(mu_);

  grpc::ByteBuffer outgoing_;  // gRPC's from StartWrite until OnWriteDone
};

}  // namespace ounce::server

#endif  // OUNCE_SERVER_SERVICE_PROGRESS_CALL_H_
