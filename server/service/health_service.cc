#include "server/service/health_service.h"

#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/guard.h"
#include "base/status_macros.h"
#include "server/scheduler/refusal.h"
#include "server/service/grpc_status.h"
#include "server/service/reception.h"
#include "server/service/wire.h"

namespace ounce::server {
namespace {

using grpc::health::v1::HealthCheckRequest;
using grpc::health::v1::HealthCheckResponse;
using ServingStatus = HealthCheckResponse::ServingStatus;

grpc::ByteBuffer AnswerOf(ServingStatus status) {
  HealthCheckResponse response;
  response.set_status(status);
  return Serialize(response);
}

// A Watch that never was.
class RefusedWatch final : public grpc::ServerWriteReactor<grpc::ByteBuffer> {
 public:
  explicit RefusedWatch(const absl::Status& status) {
    Finish(ToGrpcStatus(status));
  }
  void OnDone() override { delete this; }
};

}  // namespace

// One Watch. The service calls it with its lock held, which OnDone waits for.
//
// Ownership: deletes itself when gRPC is done with it.
class HealthService::Watcher final
    : public grpc::ServerWriteReactor<grpc::ByteBuffer> {
 public:
  Watcher(HealthService& service, std::string peer, std::string name)
      : service_(service), peer_(std::move(peer)), name_(std::move(name)) {}

  const std::string& peer() const { return peer_; }
  const std::string& name() const { return name_; }

  // Of what changes while the client is still being told, it hears the last.
  void Tell(ServingStatus status) {
    MutexLock lock(&mu_);
    status_ = status;
    Pump();
  }
  void End() {
    MutexLock lock(&mu_);
    ending_ = true;
    Pump();
  }

  void OnWriteDone(bool ok) override {
    MutexLock lock(&mu_);
    writing_ = false;
    if (!ok) gone_ = true;
    Pump();
  }
  void OnCancel() override {
    MutexLock lock(&mu_);
    gone_ = true;
    Pump();
  }
  void OnDone() override {
    service_.Remove(*this);
    delete this;
  }

 private:
  void Pump() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    if (writing_ || finished_) return;
    if (gone_) {
      finished_ = true;
      Finish(grpc::Status::CANCELLED);
    } else if (told_ != status_) {
      writing_ = true;
      told_ = status_;
      answer_ = AnswerOf(status_);
      StartWrite(&answer_);
    } else if (ending_) {
      finished_ = true;
      Finish(ToGrpcStatus(ShuttingDown()));
    }
  }

  HealthService& service_;
  const std::string peer_;
  const std::string name_;

  Mutex mu_;
  ServingStatus status_ ABSL_GUARDED_BY(mu_) = HealthCheckResponse::UNKNOWN;
  ServingStatus told_ ABSL_GUARDED_BY(mu_) = HealthCheckResponse::UNKNOWN;
  bool writing_ ABSL_GUARDED_BY(mu_) = false;
  bool ending_ ABSL_GUARDED_BY(mu_) = false;
  bool gone_ ABSL_GUARDED_BY(mu_) = false;  // the client
  bool finished_ ABSL_GUARDED_BY(mu_) = false;
  grpc::ByteBuffer answer_;  // gRPC's while writing_
};

HealthService::HealthService(PeerSet trusted_proxies)
    : trusted_proxies_(std::move(trusted_proxies)),
      serving_({{kLiveness, true}}) {}

ServingStatus HealthService::StatusOf(const std::string& name) const {
  const auto found = serving_.find(name);
  if (found == serving_.end()) return HealthCheckResponse::SERVICE_UNKNOWN;
  return found->second ? HealthCheckResponse::SERVING
                       : HealthCheckResponse::NOT_SERVING;
}

void HealthService::Tell(const std::string& name) {
  for (const auto& [peer, watcher] : watchers_) {
    if (watcher->name() == name) watcher->Tell(StatusOf(name));
  }
}

void HealthService::SetServing(const std::string& name, bool serving) {
  MutexLock lock(&mu_);
  serving_[name] = serving && !stopped_;
  Tell(name);
}

void HealthService::Remove(const std::string& name) {
  MutexLock lock(&mu_);
  serving_.erase(name);
  Tell(name);
}

void HealthService::StopServing() {
  MutexLock lock(&mu_);
  stopped_ = true;
  for (auto& [name, serving] : serving_) {
    if (name == kLiveness) continue;
    serving = false;
    Tell(name);
  }
}

void HealthService::EndWatches() {
  MutexLock lock(&mu_);
  ended_ = true;
  for (const auto& [peer, watcher] : watchers_) watcher->End();
}

grpc::ServerUnaryReactor* HealthService::Check(
    grpc::CallbackServerContext* context, const grpc::ByteBuffer* request,
    grpc::ByteBuffer* response) {
  auto* const reactor = context->DefaultReactor();
  reactor->Finish(ToGrpcStatus(Guarded([&]() -> absl::Status {
    HealthCheckRequest asked;
    RETURN_IF_ERROR(ReadRequest(*request, &asked));
    MutexLock lock(&mu_);
    const ServingStatus status = StatusOf(asked.service());
    if (status == HealthCheckResponse::SERVICE_UNKNOWN) {
      return Refusal(Reason::kNameUnknown,
                     absl::StrCat("nothing is named '", asked.service(), "'"));
    }
    *response = AnswerOf(status);
    return absl::OkStatus();
  })));
  return reactor;
}

grpc::ServerWriteReactor<grpc::ByteBuffer>* HealthService::Watch(
    grpc::CallbackServerContext* context, const grpc::ByteBuffer* request) {
  Watcher* watcher = nullptr;
  const absl::Status status = Guarded([&]() -> absl::Status {
    HealthCheckRequest asked;
    RETURN_IF_ERROR(ReadRequest(*request, &asked));
    ASSIGN_OR_RETURN(
        watcher, Add(CallerOf(*context, trusted_proxies_), asked.service()));
    return absl::OkStatus();
  });
  if (!status.ok()) return new RefusedWatch(status);
  return watcher;
}

absl::StatusOr<HealthService::Watcher*> HealthService::Add(
    const std::string& peer, const std::string& name) {
  auto watcher = std::make_unique<Watcher>(*this, peer, name);
  MutexLock lock(&mu_);
  if (watchers_.count(peer) >= kMaxWatchesPerPeer) {
    return Refusal(
        Reason::kTooManyWatches,
        absl::StrCat(
            "a caller may have ", kMaxWatchesPerPeer,
            " calls of Health.Watch at a time; try again when one has ended"));
  }
  watchers_.emplace(peer, watcher.get());
  watcher->Tell(StatusOf(name));
  if (ended_) watcher->End();
  return watcher.release();
}

void HealthService::Remove(const Watcher& watcher) {
  MutexLock lock(&mu_);
  const auto [first, last] = watchers_.equal_range(watcher.peer());
  for (auto it = first; it != last; ++it) {
    if (it->second != &watcher) continue;
    watchers_.erase(it);
    return;
  }
}

}  // namespace ounce::server
