#include "server/service/listeners.h"

#include <sys/resource.h>

#include <algorithm>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"

namespace ounce::server {
namespace {

// Of the admin's listener: few people run the place.
constexpr int kAdminConnections = 64;
// Of the process's descriptors, those for everything but connections.
constexpr int64_t kOtherDescriptors = 256;
constexpr int64_t kMinConnections = 8;

// How many connections the descriptors of the process are enough for.
int64_t ConnectionsOfDescriptors() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0 ||
      limit.rlim_cur == RLIM_INFINITY) {
    return std::numeric_limits<int>::max();
  }
  const auto descriptors = static_cast<int64_t>(
      std::min<rlim_t>(limit.rlim_cur, std::numeric_limits<int>::max()));
  return std::max(kMinConnections, (descriptors - kOtherDescriptors) /
                                       kDescriptorsPerConnection);
}

std::string HealthName(const std::string& model) {
  return absl::StrCat("models/", model);
}

}  // namespace

absl::StatusOr<std::unique_ptr<Listeners>> Listeners::Start(
    const Options& options, const std::vector<NamedService>& inference,
    const std::vector<NamedService>& admin) {
  const int64_t allowed = ConnectionsOfDescriptors();
  const int64_t admin_allowed =
      std::min<int64_t>(kAdminConnections, allowed / 4);
  const auto start = [&](const std::string& setting, const std::string& address,
                         const NewTlsSession& new_tls, Callers callers,
                         Scope scope, int64_t max_connections,
                         const std::vector<NamedService>& services)
      -> absl::StatusOr<Listener> {
    GuardedServer::Options server;
    server.setting = setting;
    server.address = address;
    server.max_message_bytes = options.max_message_bytes;
    server.max_connections = static_cast<int>(max_connections);
    server.max_connections_per_peer = static_cast<int>(
        std::min(max_connections, options.max_connections_per_peer));
    server.idle_connection = options.idle_connection;
    server.connection_age = options.connection_age;
    server.trusted_proxies = options.trusted_proxies;
    server.new_tls = new_tls;
    server.identities = options.identities;
    server.token_check = {options.tokens, scope, setting, options.figures,
                          options.reception};
    server.figures = options.figures;
    server.reception = options.reception;
    server.callers = callers;
    Listener listener;
    for (const NamedService& service : services) {
      listener.names.push_back(service.name);
    }
    ASSIGN_OR_RETURN(listener.server, GuardedServer::Start(server, services));
    return listener;
  };
  std::unique_ptr<Listeners> listeners(new Listeners(options));
  ASSIGN_OR_RETURN(
      listeners->inference_,
      start("listen", options.inference, options.inference_tls,
            Callers::kStrangers, Scope::kInfer,
            std::min(options.max_connections, allowed - admin_allowed),
            inference));
  ASSIGN_OR_RETURN(
      listeners->admin_,
      start("admin_listen", options.admin, options.admin_tls,
            Callers::kOperators, Scope::kAdmin, admin_allowed, admin));
  MutexLock lock(&listeners->mu_);
  listeners->TellServing();
  return listeners;
}

Listeners::~Listeners() { Shutdown(absl::ZeroDuration()); }

void Listeners::TellServing() {
  if (stopped_) return;
  const bool serving = started_ && missing_.empty();
  for (const Listener* listener : {&inference_, &admin_}) {
    HealthService& health = listener->server->health();
    health.SetServing("", serving);
    for (const std::string& name : listener->names) {
      health.SetServing(name, serving);
    }
  }
  on_serving_(serving, missing_);
}

void Listeners::StartServing() {
  MutexLock lock(&mu_);
  started_ = true;
  TellServing();
}

void Listeners::SetMissing(const std::string& missing) {
  MutexLock lock(&mu_);
  missing_ = missing;
  TellServing();
}

void Listeners::StopServing() {
  MutexLock lock(&mu_);
  stopped_ = true;
  inference_.server->health().StopServing();
  admin_.server->health().StopServing();
  on_serving_(false, "");
}

void Listeners::SetModelServing(const std::string& model, bool serving) {
  inference_.server->health().SetServing(HealthName(model), serving);
}

void Listeners::RemoveModel(const std::string& model) {
  inference_.server->health().Remove(HealthName(model));
}

void Listeners::Shutdown(absl::Duration patience) {
  for (const Listener* listener : {&inference_, &admin_}) {
    if (listener->server != nullptr) listener->server->Shutdown(patience);
  }
}

std::unique_ptr<SchedulerObserver> ModelHealth::ObserveScheduler(
    const std::string& model) {
  return next_.ObserveScheduler(model);
}

std::unique_ptr<DetectObserver> ModelHealth::ObserveDetection(
    const std::string& model) {
  return next_.ObserveDetection(model);
}

void ModelHealth::SetListeners(Listeners* listeners) {
  MutexLock lock(&mu_);
  listeners_ = listeners;
  if (listeners_ == nullptr) return;
  for (const auto& [model, serving] : serving_) {
    listeners_->SetModelServing(model, serving);
  }
  TellMissing();
}

void ModelHealth::TellMissing() {
  if (!all_needed_ || listeners_ == nullptr) return;
  for (const std::string& model : kept_) {
    const auto found = serving_.find(model);
    if (found != serving_.end() && found->second) continue;
    listeners_->SetMissing(absl::StrCat("model ", model, " does not serve"));
    return;
  }
  listeners_->SetMissing("");
}

void ModelHealth::OnModelChanged(const ModelInfo& info) {
  {
    const bool serving = Serves(info.state);
    MutexLock lock(&mu_);
    serving_[info.name] = serving;
    if (listeners_ != nullptr) listeners_->SetModelServing(info.name, serving);
    TellMissing();
  }
  next_.OnModelChanged(info);
}

void ModelHealth::OnModelRemoved(const std::string& model) {
  {
    MutexLock lock(&mu_);
    if (kept_.contains(model)) {
      serving_[model] = false;
      if (listeners_ != nullptr) listeners_->SetModelServing(model, false);
      TellMissing();
    } else {
      serving_.erase(model);
      if (listeners_ != nullptr) listeners_->RemoveModel(model);
    }
  }
  next_.OnModelRemoved(model);
}

void ModelHealth::OnQuantizeStage(const std::string& model,
                                  const std::string& method,
                                  QuantizeStage stage) {
  next_.OnQuantizeStage(model, method, stage);
}

void ModelHealth::OnQuantizeDone(const std::string& model,
                                 const std::string& method,
                                 const absl::Status& status,
                                 absl::Duration duration) {
  next_.OnQuantizeDone(model, method, status, duration);
}

void ModelHealth::OnSaveDone(const std::string& model,
                             const absl::Status& status, int64_t weight_bytes,
                             absl::Duration duration) {
  next_.OnSaveDone(model, status, weight_bytes, duration);
}

void ModelHealth::OnEvaluated(const std::string& model,
                              const TextQuality& quality) {
  next_.OnEvaluated(model, quality);
}

void ModelHealth::OnDetectionEvaluated(const std::string& model,
                                       const DetectionQuality& quality) {
  next_.OnDetectionEvaluated(model, quality);
}

}  // namespace ounce::server
