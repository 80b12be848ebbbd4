#include "client/client.h"

#include <grpc/support/time.h>
#include <grpcpp/channel.h>
#include <grpcpp/client_context.h>
#include <grpcpp/create_channel.h>
#include <grpcpp/security/credentials.h>
#include <grpcpp/support/error_details.h>

#include <algorithm>
#include <optional>
#include <set>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "base/clock.h"
#include "base/mutex.h"
#include "base/read_file.h"
#include "base/status_macros.h"
#include "client/address.h"
#include "client/proxy.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"
#include "grpc/health/v1/health.grpc.pb.h"
#include "ounce/v1/inference.grpc.pb.h"
#include "ounce/v1/model_admin.grpc.pb.h"

namespace ounce::client {
namespace {

constexpr int kMaxReceiveBytes = 64 << 20;  // a report of very many tensors

// Far deadlines are none: durations must fit 64 bits of nanoseconds.
constexpr absl::Duration kLongestTimeout = absl::Hours(24 * 365 * 100);

// A listener to call, and the way there.
struct Endpoint {
  std::string address;  // for messages
  std::string setting;  // what sets it, for messages
  std::string host;     // without the port
  std::optional<Proxy> proxy;
  bool tls = false;
  std::string trusted;        // who is, for messages
  std::string authorization;  // the header; empty: none
  absl::Status usable;        // why `channel` is none
  std::shared_ptr<grpc::Channel> channel;
};

// Where Debian and many others keep the certificates that they trust.
constexpr char kSystemCas[] = "/etc/ssl/certs/ca-certificates.crt";

using Credentials = absl::StatusOr<std::shared_ptr<grpc::ChannelCredentials>>;

Credentials MakeCredentials(const Client::Options& options) {
  if (!options.tls) return grpc::InsecureChannelCredentials();
  grpc::SslCredentialsOptions ssl;
  const auto read = [](const char* flag, const std::string& path,
                       std::string* to) -> absl::Status {
    if (path.empty()) return absl::OkStatus();
    absl::StatusOr<std::string> bytes = ReadFile(path);
    RETURN_IF_ERROR(WithContext(bytes.status(), flag));
    *to = *std::move(bytes);
    return absl::OkStatus();
  };
  RETURN_IF_ERROR(read("--ca", options.ca_file, &ssl.pem_root_certs));
  RETURN_IF_ERROR(read("--cert", options.cert_file, &ssl.pem_cert_chain));
  RETURN_IF_ERROR(read("--key", options.key_file, &ssl.pem_private_key));
  if (ssl.pem_cert_chain.empty() != ssl.pem_private_key.empty()) {
    return absl::InvalidArgumentError("--cert and --key go together");
  }
  if (options.ca_file.empty()) {
    // Without such a file gRPC has a list of its own.
    ssl.pem_root_certs = ReadFile(kSystemCas).value_or("");
  }
  return grpc::SslCredentials(ssl);
}

// The header that carries the token to `host`.
absl::StatusOr<std::string> Authorization(const Client::Options& options,
                                          const std::string& host) {
  if (options.token.empty()) return "";
  if (!std::all_of(options.token.begin(), options.token.end(), [](char c) {
        return absl::ascii_isgraph(static_cast<unsigned char>(c));
      })) {
    return absl::InvalidArgumentError(
        "the token must be one word of visible ASCII characters, as 'ounce "
        "token new' prints it");
  }
  // A Unix socket has no host.
  if (!options.tls && !options.plaintext_token && !host.empty() &&
      !IsLoopback(host)) {
    return absl::InvalidArgumentError(
        absl::StrCat("without TLS the token would go to ", host,
                     " in plain text; connect with --tls, or allow it with "
                     "--plaintext_token"));
  }
  return absl::StrCat("Bearer ", options.token);
}

Endpoint Connect(const Client::Options& options, const Credentials& credentials,
                 const std::string& address, const char* setting) {
  Endpoint endpoint;
  endpoint.address = address;
  endpoint.setting = setting;
  const absl::StatusOr<Address> parsed = ParseAddress(address);
  if (!parsed.ok()) {
    endpoint.usable = WithContext(parsed.status(), setting);
    return endpoint;
  }
  endpoint.host = parsed->host;
  const absl::StatusOr<std::optional<Proxy>> proxy =
      ProxyFor(*parsed, EnvironmentVariable);
  if (!proxy.ok()) {
    endpoint.usable = proxy.status();
    return endpoint;
  }
  endpoint.proxy = *proxy;
  const auto authorization = Authorization(options, endpoint.host);
  endpoint.usable.Update(credentials.status());
  endpoint.usable.Update(authorization.status());
  if (!endpoint.usable.ok()) return endpoint;
  endpoint.tls = options.tls;
  endpoint.trusted =
      options.ca_file.empty() ? "the system's authorities" : options.ca_file;
  endpoint.authorization = *authorization;
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(kMaxReceiveBytes);
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, proxy->has_value());
  if (proxy->has_value()) {
    arguments.SetString(GRPC_ARG_HTTP_PROXY, (*proxy)->url);
  }
  endpoint.channel =
      grpc::CreateCustomChannel(parsed->target, *credentials, arguments);
  return endpoint;
}

// "last error: UNKNOWN: ipv4:127.0.0.1:1: Failed to connect to remote host:
// Connection refused" -> "Connection refused".
std::string LastReason(absl::string_view message) {
  const size_t colon = message.rfind(": ");
  return std::string(
      colon == absl::string_view::npos ? message : message.substr(colon + 2));
}

// What is wrong with TLS when no connection comes about.
std::optional<std::string> TlsFailure(const std::string& message,
                                      const Endpoint& endpoint) {
  if (!endpoint.tls) {
    // Its first frame is a GOAWAY; HTTP/1 is said to be that.
    if (!absl::StrContains(message, "HTTP/2") ||
        absl::StrContains(message, "http1.x")) {
      return std::nullopt;
    }
    return absl::StrCat("what answers at ", endpoint.address,
                        " takes no connection without TLS, or is no "
                        "ounce-server; connect with --tls");
  }
  if (absl::StrContains(message, "certificate verify failed")) {
    return absl::StrCat("the certificate of ", endpoint.address,
                        " is not to be trusted: it has ended, or none of ",
                        endpoint.trusted,
                        " has signed it; --ca names those that are trusted");
  }
  if (absl::StrContains(message, "is not in peer certificate") ||
      absl::StrContains(message, "Hostname Verification")) {
    return absl::StrCat("the certificate of ", endpoint.address,
                        " is for other names than '", endpoint.host, "'");
  }
  if (absl::StrContains(message, "wrong version number") ||
      absl::StrContains(message, "unexpected eof")) {
    return absl::StrCat("what answers at ", endpoint.address,
                        " speaks no TLS; leave --tls, --ca and --cert out");
  }
  if (absl::StrContains(message, "Ssl handshake failed") ||
      absl::StrContains(message, "SSL_ERROR")) {
    return absl::StrCat("the TLS handshake with ", endpoint.address,
                        " failed: ", LastReason(message));
  }
  return std::nullopt;
}

// What the gRPC library itself says about a connection, in our words; nothing
// for what a server says.
std::optional<std::string> ConnectionFailure(const grpc::Status& status,
                                             const Endpoint& endpoint) {
  if (status.error_code() != grpc::StatusCode::UNAVAILABLE) {
    return std::nullopt;
  }
  const std::string& message = status.error_message();
  const std::string reason = LastReason(message);
  const bool not_found = absl::StartsWith(message, "DNS resolution failed");
  if (!not_found && !absl::StartsWith(message, "failed to connect to all")) {
    for (const char* gone :
         {"Socket closed", "Connection reset", "Broken pipe", "recvmsg",
          "sendmsg", "Transport closed", "GOAWAY"}) {
      if (absl::StrContains(message, gone)) return "the server went away";
    }
    return std::nullopt;
  }
  if (endpoint.proxy.has_value()) {
    return absl::StrCat(
        "cannot reach ", endpoint.address, " through the proxy ",
        endpoint.proxy->shown, " (", endpoint.proxy->variable, "): ", reason,
        "; to go there directly, unset ", endpoint.proxy->variable, " or name ",
        endpoint.host, " in no_proxy");
  }
  if (not_found) {
    return absl::StrCat("no host '", endpoint.host, "' (", reason, "); check ",
                        endpoint.setting);
  }
  if (const auto failure = TlsFailure(message, endpoint); failure.has_value()) {
    return *failure;
  }
  if (absl::StrContains(message, "HTTP/2") ||
      absl::StrContains(message, "http1.x")) {
    return absl::StrCat(
        "what answers at ", endpoint.address,
        " does not speak gRPC; is it the port for metrics, which speaks HTTP? "
        "Say where the server is with ",
        endpoint.setting);
  }
  if (absl::StrContains(message, "Socket closed") ||
      absl::StrContains(message, "reset by peer") ||
      absl::StrContains(message, "Endpoint read failed")) {
    return absl::StrCat(
        "what listens at ", endpoint.address,
        " closes connections at once: it is stopping, has too many of them, ",
        endpoint.tls ? "wants a certificate that it trusts (--cert and --key), "
                     : "",
        "or is no ounce-server; say where the server is with ",
        endpoint.setting);
  }
  return absl::StrCat(
      "nothing answers at ", endpoint.address, " (", reason,
      "); start a server (ounce-server --model NAME=PATH) or say where it is "
      "with ",
      endpoint.setting);
}

// google.rpc's, if the status has any.
google::rpc::Status DetailsOf(const grpc::Status& status) {
  google::rpc::Status details;
  if (status.error_details().empty() ||
      !grpc::ExtractErrorDetails(status, &details).ok()) {
    return {};
  }
  return details;
}

absl::Duration DelayOf(const google::rpc::RetryInfo& retry) {
  return absl::Seconds(retry.retry_delay().seconds()) +
         absl::Nanoseconds(retry.retry_delay().nanos());
}

// After which the server would take the same call, if it says so.
std::optional<absl::Duration> RetryDelay(const grpc::Status& status) {
  google::rpc::RetryInfo retry;
  const google::rpc::Status details = DetailsOf(status);
  for (const google::protobuf::Any& detail : details.details()) {
    if (detail.UnpackTo(&retry)) return DelayOf(retry);
  }
  return std::nullopt;
}

// A fault of the server's, for whoever looks after it.
bool IsServersFault(const grpc::Status& status) {
  return status.error_code() == grpc::StatusCode::INTERNAL ||
         status.error_code() == grpc::StatusCode::UNKNOWN ||
         status.error_code() == grpc::StatusCode::DATA_LOSS;
}

// What google.rpc's details say that the message does not: which field is
// wrong, when to try again, and of a fault of the server's which request it
// was.
void AppendDetails(const grpc::Status& status, std::string* message) {
  const google::rpc::Status details = DetailsOf(status);
  for (const google::protobuf::Any& detail : details.details()) {
    google::rpc::BadRequest bad_request;
    google::rpc::RetryInfo retry;
    google::rpc::RequestInfo request;
    if (detail.UnpackTo(&bad_request)) {
      for (const auto& violation : bad_request.field_violations()) {
        if (absl::StrContains(*message, violation.field())) continue;
        absl::StrAppend(message, "; field ", violation.field(), ": ",
                        violation.description());
      }
    } else if (detail.UnpackTo(&retry)) {
      absl::StrAppend(message, "; try again in ",
                      absl::FormatDuration(DelayOf(retry)));
    } else if (IsServersFault(status) && detail.UnpackTo(&request)) {
      absl::StrAppend(message, "; request ", request.request_id(),
                      " in the server's log");
    }
  }
}

absl::Status ToAbslStatus(const grpc::Status& status,
                          const Endpoint& endpoint) {
  if (status.ok()) return absl::OkStatus();
  if (const auto failure = ConnectionFailure(status, endpoint);
      failure.has_value()) {
    return absl::UnavailableError(*failure);
  }
  std::string message = status.error_message();
  if (status.error_code() == grpc::StatusCode::UNIMPLEMENTED &&
      message.empty()) {
    message = absl::StrCat(
        "what answers at ", endpoint.address,
        " does not know this call; are --server (Inference) and --admin "
        "(ModelAdmin) swapped, or is the server older than this program?");
  } else if (absl::StrContains(message, "larger than max")) {
    absl::StrAppend(&message,
                    "; ounce-server's --max_message_bytes is the limit");
  } else if (status.error_code() == grpc::StatusCode::DEADLINE_EXCEEDED &&
             message == "Deadline Exceeded") {
    message = "the deadline has passed";
  }
  AppendDetails(status, &message);
  return absl::Status(static_cast<absl::StatusCode>(status.error_code()),
                      message);
}

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
