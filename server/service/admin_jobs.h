// Calls of whoever runs the place that take their time, each on a thread of its
// own. A call ends at once when it is cancelled or the server stops; its thread
// follows as soon as it can.
//
// Threads: any thread may call anything. The destructor waits for the threads.
#ifndef OUNCE_SERVER_SERVICE_ADMIN_JOBS_H_
#define OUNCE_SERVER_SERVICE_ADMIN_JOBS_H_

#include <atomic>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/clock.h"
#include "base/guard.h"
#include "base/mutex.h"
#include "base/status_macros.h"
#include "server/scheduler/model_catalog.h"
#include "server/service/call_record.h"
#include "server/service/deadline.h"
#include "server/service/job_threads.h"
#include "server/service/reception.h"
#include "server/service/slow_call.h"
#include "server/service/wire.h"

namespace ounce::server {

class AdminJobs {
 public:
  // Both must outlive it.
  AdminJobs(Reception& reception, const Clock& clock)
      : reception_(reception), clock_(clock) {}

  // Ends what runs, and what comes from now on (kUnavailable).
  void Stop();
  bool stopping() const { return stopping_; }

  // Stop is to end it.
  void Watch(const std::shared_ptr<EndableCall>& call);

  // Reads a request and does `work(request, call)` on a thread of `threads`;
  // its result, a StatusOr<Response>, is the answer.
  template <class Request, class Response, class Work>
  grpc::ServerUnaryReactor* Begin(const UnaryCall& call, JobThreads& threads,
                                  Work work);

  // For as long as the call is wanted; its trace has the stages, and what was
  // loaded. Errors: as ModelCatalog::Load.
  absl::StatusOr<ModelInfo> Load(ModelCatalog& catalog, LoadParams params,
                                 const SlowCall& call,
                                 CallRecord& record) const;

  // Of every protocol together.
  JobThreads& loads() { return loads_; }
  JobThreads& unloads() { return unloads_; }

 private:
  // At the same time. Loads are bounded by memory besides; unloads wait for the
  // last readers of their models and cost nothing.
  static constexpr int kMaxLoads = 16;
  static constexpr int kMaxUnloads = 64;

  Reception& reception_;
  const Clock& clock_;
  std::atomic<bool> stopping_ = false;  // set once, read by every job
  Mutex mu_;
  std::vector<std::weak_ptr<EndableCall>> running_ ABSL_GUARDED_BY(mu_);
  JobThreads loads_{kMaxLoads, "loads"};
  JobThreads unloads_{kMaxUnloads, "unloads"};
};

template <class Request, class Response, class Work>
grpc::ServerUnaryReactor* AdminJobs::Begin(const UnaryCall& call,
                                           JobThreads& threads, Work work) {
  struct Job {
    Request request;
    std::shared_ptr<SlowCall> call;
  };
  struct Ending {
    absl::Status status;
    grpc::ByteBuffer answer;
  };
  const auto slow = SlowCall::Create(
      FromGrpcDeadline(call.context->raw_deadline(), clock_), call.out, clock_);
  const absl::Status status = Guarded([&]() -> absl::Status {
    const auto job = std::make_shared<Job>(Job{Request(), slow});
    RETURN_IF_ERROR(reception_.Read(*call.context, *call.in, &job->request));
    Watch(slow);
    const auto ending = std::make_shared<Ending>();
    return threads.Start(
        [job, work, ending] {
          ending->status = Guarded([&]() -> absl::Status {
            RETURN_IF_ERROR(job->call->CheckWanted());
            ASSIGN_OR_RETURN(const Response response,
                             work(job->request, *job->call));
            ending->answer = Serialize(response);
            return absl::OkStatus();
          });
        },
        [slow, ending] {
          slow->End(ending->status, std::move(ending->answer));
        });
  });
  if (!status.ok()) slow->End(status);
  return slow.get();
}

}  // namespace ounce::server

#endif  // OUNCE_SERVER_SERVICE_ADMIN_JOBS_H_
