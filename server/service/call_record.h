// What is known of one call, for the log and for its trace: the watch over all
// calls makes it (call_watch.h), whoever serves the call adds what it learns.
//
// Threads: any thread may call anything.
#ifndef OUNCE_SERVER_SERVICE_CALL_RECORD_H_
#define OUNCE_SERVER_SERVICE_CALL_RECORD_H_

#include <grpcpp/server_context.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "base/clock.h"
#include "base/mutex.h"
#include "server/trace/trace_context.h"
#include "server/trace/work.h"

namespace ounce::server {

struct DetectResult;
struct GenerateOutcome;

// Empty or absent: not known, or no such thing in this call.
struct CallFacts {
  std::string model;  // as the request names it
  std::optional<absl::Time> arrival;
  std::optional<int64_t> version;
  std::optional<absl::Duration> queued;
  std::optional<absl::Duration> first_token;
  std::optional<int64_t> tokens_in;
  std::optional<int64_t> tokens_cached;  // of tokens_in
  std::optional<int64_t> tokens_out;
};

class CallRecord {
 public:
  // `method`: "ounce.v1.Inference/Generate". `peer`: as Reception::PeerOf has
  // it; gRPC forgets it when a call is cancelled. Without `trace` there is
  // none.
  CallRecord(std::string request_id, std::string method, std::string peer,
             std::optional<TraceContext> trace = std::nullopt)
      : request_id_(std::move(request_id)),
        method_(std::move(method)),
        peer_(std::move(peer)),
        trace_(std::move(trace)) {}

  const std::string& request_id() const { return request_id_; }
  const std::string& method() const { return method_; }
  const std::string& peer() const { return peer_; }
  const std::optional<TraceContext>& trace() const { return trace_; }
  // Whether somebody wants phases and attributes.
  bool traced() const { return trace_.has_value() && trace_->sampled; }

  // `note(facts)` adds to what is known, until gRPC is done with the call; then
  // log and tracer hear of it.
  template <class Note>
  void Add(Note note) {
    MutexLock lock(&mu_);
    note(facts_);
  }
  CallFacts facts() const {
    MutexLock lock(&mu_);
    return facts_;
  }

  // How one of the call's requests ended, as its scheduler tells it; nothing of
  // it is noted where it never began.
  void AddResult(const absl::Status& status, const GenerateOutcome& outcome);
  void AddResult(const absl::Status& status, const DetectResult& result);

  // For the trace; nothing where there is none, nor beyond 64 phases.
  void AddPhase(Phase phase);
  void AddAttributes(const std::vector<Attribute>& attributes);
  // All that were added since; the last of each key.
  std::vector<Phase> TakePhases();
  std::vector<Attribute> TakeAttributes();

 private:
  const std::string request_id_;
  const std::string method_;
  const std::string peer_;
  const std::optional<TraceContext> trace_;
  mutable Mutex mu_;
  CallFacts facts_ ABSL_GUARDED_BY(mu_);
  std::vector<Phase> phases_ ABSL_GUARDED_BY(mu_);
  std::vector<Attribute> attributes_ ABSL_GUARDED_BY(mu_);
};

// What a call does one after the other, as phases of its trace.
//
// Threads: one.
class PhaseNotes {
 public:
  // Both must outlive it.
  PhaseNotes(CallRecord& record, const Clock& clock)
      : record_(record), clock_(clock) {}
  ~PhaseNotes() { Begin(nullptr); }

  // Ends what was begun before, unless it has this name, which lives for ever.
  void Begin(const char* name);

 private:
  CallRecord& record_;
  const Clock& clock_;
  const char* name_ = nullptr;
  absl::Time start_;
};

// The records of the calls under way, by their contexts.
class CallRecords {
 public:
  void Insert(const grpc::ServerContextBase* context,
              std::shared_ptr<CallRecord> record) {
    MutexLock lock(&mu_);
    records_[context] = std::move(record);
  }
  // A later call may have the same address.
  void Remove(const grpc::ServerContextBase* context,
              const CallRecord* record) {
    MutexLock lock(&mu_);
    const auto found = records_.find(context);
    if (found != records_.end() && found->second.get() == record) {
      records_.erase(found);
    }
  }
  // Never null: calls that nobody watches share one that nobody reads.
  std::shared_ptr<CallRecord> Of(const grpc::ServerContextBase& context) {
    {
      MutexLock lock(&mu_);
      const auto found = records_.find(&context);
      if (found != records_.end()) return found->second;
    }
    static const auto* const kNobodys = new std::shared_ptr<CallRecord>(
        std::make_shared<CallRecord>("", "", ""));
    return *kNobodys;
  }

 private:
  Mutex mu_;
  std::unordered_map<const grpc::ServerContextBase*,
                     std::shared_ptr<CallRecord>>
      records_ ABSL_GUARDED_BY(mu_);
};

}  // namespace ounce::server

#endif  // OUNCE_SERVER_SERVICE_CALL_RECORD_H_
