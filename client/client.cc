#include "client/client.h"

#include <grpc/support/time.h>
#include <grpcpp/client_context.h>

#include <optional>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/clock.h"
#include "base/mutex.h"
#include "base/status_macros.h"
#include "client/call_status.h"
#include "client/endpoint.h"
#include "grpc/health/v1/health.grpc.pb.h"
#include "ounce/v1/inference.grpc.pb.h"
#include "ounce/v1/model_admin.grpc.pb.h"

namespace ounce::client {
namespace {

// Far deadlines are none: durations must fit 64 bits of nanoseconds.
constexpr absl::Duration kLongestTimeout = absl::Hours(24 * 365 * 100);

// The calls of one client, while they are under way.
class Calls {
 public:
  // A call that is under way as long as this lives.
  class UnderWay {
   public:
    UnderWay(Calls& calls, grpc::ClientContext& context)
        : calls_(calls), context_(context) {
      const MutexLock lock(&calls_.mu_);
      calls_.contexts_.insert(&context_);
      if (calls_.cancelled_) context_.TryCancel();
    }
    ~UnderWay() {
      const MutexLock lock(&calls_.mu_);
      calls_.contexts_.erase(&context_);
    }
    UnderWay(const UnderWay&) = delete;
    UnderWay& operator=(const UnderWay&) = delete;

   private:
    Calls& calls_;
    grpc::ClientContext& context_;
  };

  bool Cancel() {
    const MutexLock lock(&mu_);
    cancelled_ = true;
    cancel_.SignalAll();
    for (grpc::ClientContext* context : contexts_) context->TryCancel();
    return !contexts_.empty() || held_open_ > 0;
  }

  void HoldOpen(int more) {
    const MutexLock lock(&mu_);
    held_open_ += more;
  }

  bool cancelled() {
    const MutexLock lock(&mu_);
    return cancelled_;
  }

  // Until `end`, by the monotonic clock, or Cancel, for one that is between two
  // tries.
  void WaitUntil(absl::Time end) {
    const MutexLock lock(&mu_);
    ++held_open_;
    while (!cancelled_ && Clock::Real().Now() < end) {
      cancel_.WaitFor(&mu_, end - Clock::Real().Now());
    }
    --held_open_;
  }

 private:
  Mutex mu_;
  CondVar cancel_;
  std::set<grpc::ClientContext*> contexts_ ABSL_GUARDED_BY(mu_);
  bool cancelled_ ABSL_GUARDED_BY(mu_) = false;
  int held_open_ ABSL_GUARDED_BY(mu_) = 0;
};

class ClientImpl final : public Client {
 public:
  ClientImpl(Endpoint server, Endpoint admin, absl::Duration timeout,
             int retries)
      : server_(std::move(server)),
        admin_(std::move(admin)),
        timeout_(timeout),
        retries_(retries) {}

  std::unique_ptr<Client> WithTimeout(absl::Duration timeout) const override {
    return std::make_unique<ClientImpl>(server_, admin_, timeout, retries_);
  }

  bool Cancel() override { return calls_.Cancel(); }
  std::shared_ptr<const void> HoldOpen() override {
    calls_.HoldOpen(1);
    return {this, [this](const void*) { calls_.HoldOpen(-1); }};
  }

  absl::Status Generate(const v1::GenerateRequest& request,
                        const std::function<bool(const v1::GenerateResponse&)>&
                            on_message) override {
    return Stream<v1::Inference, v1::GenerateResponse>(
        server_, &v1::Inference::Stub::Generate, request, on_message);
  }

  absl::StatusOr<v1::TokenizeResponse> Tokenize(
      const v1::TokenizeRequest& request) override {
    return Call<v1::Inference>(server_, &v1::Inference::Stub::Tokenize,
                               request);
  }

  absl::StatusOr<v1::DetokenizeResponse> Detokenize(
      const v1::DetokenizeRequest& request) override {
    return Call<v1::Inference>(server_, &v1::Inference::Stub::Detokenize,
                               request);
  }

  absl::StatusOr<v1::DetectObjectsResponse> DetectObjects(
      const v1::DetectObjectsRequest& request) override {
    return Call<v1::Inference>(server_, &v1::Inference::Stub::DetectObjects,
                               request);
  }

  absl::StatusOr<v1::ListServedModelsResponse> ListServedModels() override {
    return Call<v1::Inference>(server_, &v1::Inference::Stub::ListModels,
                               v1::ListServedModelsRequest());
  }

  absl::StatusOr<v1::ListModelsResponse> ListModels() override {
    return Call<v1::ModelAdmin>(admin_, &v1::ModelAdmin::Stub::ListModels,
                                v1::ListModelsRequest());
  }

  absl::StatusOr<v1::Model> GetModel(
      const v1::GetModelRequest& request) override {
    return Call<v1::ModelAdmin>(admin_, &v1::ModelAdmin::Stub::GetModel,
                                request);
  }

  absl::StatusOr<v1::Model> LoadModel(
      const v1::LoadModelRequest& request) override {
    return Call<v1::ModelAdmin>(admin_, &v1::ModelAdmin::Stub::LoadModel,
                                request);
  }

  absl::StatusOr<v1::UnloadModelResponse> UnloadModel(
      const v1::UnloadModelRequest& request) override {
    return Call<v1::ModelAdmin>(admin_, &v1::ModelAdmin::Stub::UnloadModel,
                                request);
  }

  absl::Status Quantize(const v1::QuantizeRequest& request,
                        const std::function<bool(const v1::QuantizeProgress&)>&
                            on_message) override {
    return Stream<v1::ModelAdmin, v1::QuantizeProgress>(
        admin_, &v1::ModelAdmin::Stub::Quantize, request, on_message);
  }

  absl::Status Evaluate(const v1::EvaluateRequest& request,
                        const std::function<bool(const v1::EvaluateProgress&)>&
                            on_message) override {
    return Stream<v1::ModelAdmin, v1::EvaluateProgress>(
        admin_, &v1::ModelAdmin::Stub::Evaluate, request, on_message);
  }

  absl::Status SaveModel(
      const v1::SaveModelRequest& request,
      const std::function<bool(const v1::SaveModelProgress&)>& on_message)
      override {
    return Stream<v1::ModelAdmin, v1::SaveModelProgress>(
        admin_, &v1::ModelAdmin::Stub::SaveModel, request, on_message);
  }

  absl::StatusOr<v1::InspectResponse> Inspect(
      const v1::InspectRequest& request) override {
    return Call<v1::ModelAdmin>(admin_, &v1::ModelAdmin::Stub::Inspect,
                                request);
  }

  absl::StatusOr<v1::ListMethodsResponse> ListMethods() override {
    return Call<v1::ModelAdmin>(admin_, &v1::ModelAdmin::Stub::ListMethods,
                                v1::ListMethodsRequest());
  }

  absl::StatusOr<v1::Server> GetServer() override {
    return Call<v1::ModelAdmin>(admin_, &v1::ModelAdmin::Stub::GetServer,
                                v1::GetServerRequest());
  }

  absl::StatusOr<bool> IsServing(const std::string& service) override {
    grpc::health::v1::HealthCheckRequest request;
    request.set_service(service);
    // Each listener knows the service that it has.
    const Endpoint& endpoint =
        service == v1::ModelAdmin::service_full_name() ? admin_ : server_;
    const absl::StatusOr<grpc::health::v1::HealthCheckResponse> response =
        Call<grpc::health::v1::Health>(
            endpoint, &grpc::health::v1::Health::Stub::Check, request);
    if (absl::IsNotFound(response.status())) {
      return absl::NotFoundError(absl::StrCat(
          "nothing is named '", service,
          "'; ask for liveness, ounce.v1.Inference or ounce.v1.ModelAdmin, for "
          "models/NAME of a served model, or, with no name, for the whole "
          "server"));
    }
    if (!response.ok()) return response.status();
    return response->status() == grpc::health::v1::HealthCheckResponse::SERVING;
  }

 private:
  // By the monotonic clock, which nobody sets.
  static void SetDeadline(absl::Duration timeout,
                          grpc::ClientContext* context) {
    if (timeout > kLongestTimeout) return;
    context->set_deadline(gpr_time_add(
        gpr_now(GPR_CLOCK_MONOTONIC),
        gpr_time_from_nanos(absl::ToInt64Nanoseconds(timeout), GPR_TIMESPAN)));
  }

  absl::Status Ended(const grpc::Status& status, const Endpoint& endpoint) {
    if (status.error_code() == grpc::StatusCode::CANCELLED &&
        calls_.cancelled()) {
      return absl::CancelledError("cancelled");
    }
    return ToAbslStatus(status, endpoint);
  }

  // Makes the call by `attempt`, which returns how it ended and sets `answered`
  // once something of the answer has come; and again, as Options say.
  absl::Status Try(const Endpoint& endpoint,
                   const std::function<grpc::Status(grpc::ClientContext&,
                                                    bool* answered)>& attempt) {
    RETURN_IF_ERROR(endpoint.usable);
    const Clock& clock = Clock::Real();
    const absl::Time end = clock.Now() + timeout_;
    for (int retries = retries_;; --retries) {
      bool answered = false;
      grpc::Status status;
      {
        grpc::ClientContext context;
        SetDeadline(end - clock.Now(), &context);
        if (!endpoint.authorization.empty()) {
          context.AddMetadata("authorization", endpoint.authorization);
        }
        const Calls::UnderWay under_way(calls_, context);
        status = attempt(context, &answered);
      }
      const std::optional<absl::Duration> delay = RetryDelay(status);
      if (answered || retries <= 0 || !delay.has_value() ||
          clock.Now() + *delay >= end) {
        return Ended(status, endpoint);
      }
      calls_.WaitUntil(clock.Now() + *delay);
      if (calls_.cancelled()) return absl::CancelledError("cancelled");
    }
  }

  template <class Service, class Request, class Response>
  absl::StatusOr<Response> Call(
      const Endpoint& endpoint,
      grpc::Status (Service::Stub::*method)(grpc::ClientContext*,
                                            const Request&, Response*),
      const Request& request) {
    Response response;
    RETURN_IF_ERROR(Try(endpoint, [&](grpc::ClientContext& context, bool*) {
      const auto stub = Service::NewStub(endpoint.channel);
      return (*stub.*method)(&context, request, &response);
    }));
    return response;
  }

  template <class Service, class Message, class Request>
  absl::Status Stream(const Endpoint& endpoint,
                      std::unique_ptr<grpc::ClientReader<Message>> (
                          Service::Stub::*method)(grpc::ClientContext*,
                                                  const Request&),
                      const Request& request,
                      const std::function<bool(const Message&)>& on_message) {
    return Try(endpoint, [&](grpc::ClientContext& context, bool* answered) {
      const auto stub = Service::NewStub(endpoint.channel);
      const auto reader = (*stub.*method)(&context, request);
      Message message;
      bool wanted =
          true;  // what was under way still comes after a cancellation
      while (reader->Read(&message)) {
        *answered = true;
        if (wanted && !on_message(message)) {
          wanted = false;
          context.TryCancel();
        }
      }
      return reader->Finish();
    });
  }

  const Endpoint server_;
  const Endpoint admin_;
  const absl::Duration timeout_;
  const int retries_;
  Calls calls_;
};

}  // namespace

std::unique_ptr<Client> Client::Create(const Options& options) {
  const Credentials credentials = MakeCredentials(options);
  return std::make_unique<ClientImpl>(
      Connect(options, credentials, options.server, "--server or OUNCE_SERVER"),
      Connect(options, credentials, options.admin, "--admin or OUNCE_ADMIN"),
      options.timeout, options.retries);
}

}  // namespace ounce::client
