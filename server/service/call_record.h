// What is known of one call, for the log: the watch over all calls makes it
// (call_watch.h), whoever serves the call adds what it learns.
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

#include "absl/time/time.h"
#include "base/mutex.h"
#include "server/scheduler/detect_request.h"
#include "server/scheduler/request.h"

namespace ounce::server {

// Empty or absent: not known, or no such thing in this call.
struct CallFacts {
  std::string model;  // as the request names it
  std::optional<int64_t> version;
  std::optional<absl::Duration> queued;
  std::optional<absl::Duration> first_token;
  std::optional<int64_t> tokens_in;
  std::optional<int64_t> tokens_out;
};

// What a scheduler tells at the end; nothing where it never began.
void Note(const GenerateResult& result, CallFacts& facts);
void Note(const DetectResult& result, CallFacts& facts);

class CallRecord {
 public:
  // `method`: "ounce.v1.Inference/Generate".
  CallRecord(std::string request_id, std::string method)
      : request_id_(std::move(request_id)), method_(std::move(method)) {}

  const std::string& request_id() const { return request_id_; }
  const std::string& method() const { return method_; }

  // `note(facts)` adds to what is known. After the end of the call nobody
  // reads it.
  template <class Note>
  void Add(Note note) {
    MutexLock lock(&mu_);
    note(facts_);
  }
  CallFacts facts() const {
    MutexLock lock(&mu_);
    return facts_;
  }

 private:
  const std::string request_id_;
  const std::string method_;
  mutable Mutex mu_;
  CallFacts facts_ ABSL_GUARDED_BY(mu_);
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
    static const auto* const kNobodys =
        new std::shared_ptr<CallRecord>(std::make_shared<CallRecord>("", ""));
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
