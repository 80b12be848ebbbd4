#include "client/client.h"

#include <grpc/support/time.h>
#include <grpcpp/channel.h>
#include <grpcpp/client_context.h>
#include <grpcpp/create_channel.h>
#include <grpcpp/security/credentials.h>
#include <grpcpp/support/error_details.h>

#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"
#include "grpc/health/v1/health.grpc.pb.h"
#include "ounce/v1/inference.grpc.pb.h"
#include "ounce/v1/model_admin.grpc.pb.h"

namespace ounce::client {
namespace {

constexpr int kMaxReceiveBytes = 64 << 20;  // a report of very many tensors

// The gRPC library's own words for a connection that could not be made.
bool IsUnreachable(const grpc::Status& status) {
  return status.error_code() == grpc::StatusCode::UNAVAILABLE &&
         (status.error_message().find("connect") != std::string::npos ||
          status.error_message().find("resolution") != std::string::npos);
}

absl::Status ToAbslStatus(const grpc::Status& status,
                          const std::string& address) {
  if (status.ok()) return absl::OkStatus();
  if (IsUnreachable(status)) {
    return absl::UnavailableError(absl::StrCat(
        "nothing answers at ", address,
        "; start a server (ounce-server --model NAME=PATH) or say where it is "
        "(--server, --admin, OUNCE_SERVER, OUNCE_ADMIN)"));
  }
  std::string message = status.error_message();
  if (status.error_code() == grpc::StatusCode::UNIMPLEMENTED &&
      message.empty()) {
    message = absl::StrCat("what answers at ", address,
                           " does not know this call; are --server (Inference) "
                           "and --admin (ModelAdmin) the right way round?");
  } else if (absl::StrContains(message, "larger than max")) {
    absl::StrAppend(&message,
                    "; ounce-server's --max_message_bytes is the limit");
  }
  google::rpc::Status details;
  if (!status.error_details().empty() &&
      grpc::ExtractErrorDetails(status, &details).ok()) {
    for (const google::protobuf::Any& detail : details.details()) {
      google::rpc::RetryInfo retry;
      if (detail.UnpackTo(&retry)) {
        absl::StrAppend(&message, "; try again in ",
                        absl::FormatDuration(
                            absl::Seconds(retry.retry_delay().seconds()) +
                            absl::Nanoseconds(retry.retry_delay().nanos())));
      }
    }
  }
  return absl::Status(static_cast<absl::StatusCode>(status.error_code()),
                      message);
}

class ClientImpl final : public Client {
 public:
  explicit ClientImpl(Options options) : options_(std::move(options)) {
    grpc::ChannelArguments arguments;
    arguments.SetMaxReceiveMessageSize(kMaxReceiveBytes);
    const auto channel = [&](const std::string& address) {
      return grpc::CreateCustomChannel(
          address, grpc::InsecureChannelCredentials(), arguments);
    };
    const std::shared_ptr<grpc::Channel> server = channel(options_.server);
    inference_ = v1::Inference::NewStub(server);
    health_ = grpc::health::v1::Health::NewStub(server);
    admin_ = v1::ModelAdmin::NewStub(channel(options_.admin));
  }

  absl::Status Generate(const v1::GenerateRequest& request,
                        const std::function<bool(const v1::GenerateResponse&)>&
                            on_message) override {
    grpc::ClientContext context;
    SetDeadline(&context);
    return ReadAll(inference_->Generate(&context, request), &context,
                   on_message, options_.server);
  }

  absl::StatusOr<v1::TokenizeResponse> Tokenize(
      const v1::TokenizeRequest& request) override {
    return Call(*inference_, &v1::Inference::Stub::Tokenize, request,
                options_.server);
  }

  absl::StatusOr<v1::DetokenizeResponse> Detokenize(
      const v1::DetokenizeRequest& request) override {
    return Call(*inference_, &v1::Inference::Stub::Detokenize, request,
                options_.server);
  }

  absl::StatusOr<v1::DetectObjectsResponse> DetectObjects(
      const v1::DetectObjectsRequest& request) override {
    return Call(*inference_, &v1::Inference::Stub::DetectObjects, request,
                options_.server);
  }

  absl::StatusOr<v1::ListModelsResponse> ListModels() override {
    return Call(*admin_, &v1::ModelAdmin::Stub::ListModels,
                v1::ListModelsRequest(), options_.admin);
  }

  absl::StatusOr<v1::Model> GetModel(
      const v1::GetModelRequest& request) override {
    return Call(*admin_, &v1::ModelAdmin::Stub::GetModel, request,
                options_.admin);
  }

  absl::StatusOr<v1::Model> LoadModel(
      const v1::LoadModelRequest& request) override {
    return Call(*admin_, &v1::ModelAdmin::Stub::LoadModel, request,
                options_.admin);
  }

  absl::StatusOr<v1::UnloadModelResponse> UnloadModel(
      const v1::UnloadModelRequest& request) override {
    return Call(*admin_, &v1::ModelAdmin::Stub::UnloadModel, request,
                options_.admin);
  }

  absl::Status Quantize(const v1::QuantizeRequest& request,
                        const std::function<bool(const v1::QuantizeProgress&)>&
                            on_message) override {
    grpc::ClientContext context;
    SetDeadline(&context);
    return ReadAll(admin_->Quantize(&context, request), &context, on_message,
                   options_.admin);
  }

  absl::StatusOr<v1::ListMethodsResponse> ListMethods() override {
    return Call(*admin_, &v1::ModelAdmin::Stub::ListMethods,
                v1::ListMethodsRequest(), options_.admin);
  }

  absl::StatusOr<bool> IsServing(const std::string& service) override {
    grpc::health::v1::HealthCheckRequest request;
    request.set_service(service);
    const absl::StatusOr<grpc::health::v1::HealthCheckResponse> response =
        Call(*health_, &grpc::health::v1::Health::Stub::Check, request,
             options_.server);
    if (absl::IsNotFound(response.status())) {
      return absl::NotFoundError(absl::StrCat(
          "nothing named '", service,
          "'; ounce.v1.Inference, models/NAME of a served model or an empty "
          "name wanted"));
    }
    if (!response.ok()) return response.status();
    return response->status() == grpc::health::v1::HealthCheckResponse::SERVING;
  }

 private:
  void SetDeadline(grpc::ClientContext* context) const {
    if (options_.timeout == absl::InfiniteDuration()) return;
    // By the monotonic clock, which nobody sets.
    context->set_deadline(gpr_time_add(
        gpr_now(GPR_CLOCK_MONOTONIC),
        gpr_time_from_nanos(absl::ToInt64Nanoseconds(options_.timeout),
                            GPR_TIMESPAN)));
  }

  template <class Stub, class Request, class Response>
  absl::StatusOr<Response> Call(
      Stub& stub,
      grpc::Status (Stub::*method)(grpc::ClientContext*, const Request&,
                                   Response*),
      const Request& request, const std::string& address) const {
    grpc::ClientContext context;
    SetDeadline(&context);
    Response response;
    const grpc::Status status = (stub.*method)(&context, request, &response);
    if (!status.ok()) return ToAbslStatus(status, address);
    return response;
  }

  template <class Message>
  static absl::Status ReadAll(
      std::unique_ptr<grpc::ClientReader<Message>> reader,
      grpc::ClientContext* context,
      const std::function<bool(const Message&)>& on_message,
      const std::string& address) {
    Message message;
    bool wanted = true;  // what was under way still comes after a cancellation
    while (reader->Read(&message)) {
      if (wanted && !on_message(message)) {
        wanted = false;
        context->TryCancel();
      }
    }
    return ToAbslStatus(reader->Finish(), address);
  }

  const Options options_;
  std::unique_ptr<v1::Inference::Stub> inference_;
  std::unique_ptr<v1::ModelAdmin::Stub> admin_;
  std::unique_ptr<grpc::health::v1::Health::Stub> health_;
};

}  // namespace

std::unique_ptr<Client> Client::Create(const Options& options) {
  return std::make_unique<ClientImpl>(options);
}

}  // namespace ounce::client
