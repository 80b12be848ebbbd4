// Ounce over gRPC, for C++ programs: calls with a deadline, and statuses back
// as absl::Status, with what the server's details add in their message.
//
//   const auto client = ounce::client::Client::Create(
//       {.server = "127.0.0.1:8500", .timeout = absl::Seconds(30)});
//   ounce::v1::GenerateRequest request;
//   request.set_model("code");
//   request.set_prompt("import os\n");
//   const absl::Status status = client->Generate(
//       request, [](const ounce::v1::GenerateResponse& message) {
//         std::cout << message.text();
//         return true;
//       });
//
// Requests and answers are the messages of inference.proto and
// model_admin.proto, whose comments say what their fields mean.
//
// Connections are made by the first call and again whenever that is needed, go
// through the HTTP proxy that the environment names (grpc_proxy, https_proxy,
// http_proxy; not for what no_proxy names), but never to this very machine.
//
// Threads: any thread may call anything; calls wait for their answers, and run
//   `on_message` on the thread that made them.
// Ownership: a client outlives its calls and what HoldOpen returned.
// Errors: the server's codes (inference.proto, model_admin.proto);
//   kInvalidArgument for an address or a proxy that is none, a file that can't
//   be read and a token that would go out in plain text; kUnavailable when
//   nothing answers at the address, or the server went away, and the message
//   says what to do; kDeadlineExceeded after `timeout`; kCancelled,
//   "cancelled", after Cancel. What the server says in details of google.rpc
//   (docs/errors.md) is a payload each, by its type's URL:
//   status.GetPayload("type.googleapis.com/google.rpc.BadRequest").
#ifndef OUNCE_CLIENT_CLIENT_H_
#define OUNCE_CLIENT_CLIENT_H_

#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "ounce/v1/inference.pb.h"
#include "ounce/v1/model_admin.pb.h"

namespace ounce::client {

class Client {
 public:
  struct Options {
    // Of Inference and of ModelAdmin: HOST:PORT, [IPV6]:PORT or unix:/PATH.
    std::string server = "127.0.0.1:8500";
    std::string admin = "127.0.0.1:8501";
    // Of each call, retries included; infinite: none.
    absl::Duration timeout = absl::InfiniteDuration();
    // How often a call that the server refuses for now, saying when to come
    // back (RetryInfo), is made again after that time: never when something of
    // its answer has come, or its deadline is before then.
    int retries = 0;

    // Connects with TLS, to both. PEM files: who is trusted to sign the
    // server's certificate, empty: whom the system trusts; and the certificate
    // and key to show, where the server asks for one.
    bool tls = false;
    std::string ca_file = "";
    std::string cert_file = "";
    std::string key_file = "";

    // Sent with each call ("authorization: Bearer ..."); empty: none. Without
    // TLS only to this very machine, unless `plaintext_token` is set.
    std::string token = "";
    bool plaintext_token = false;
  };

  static std::unique_ptr<Client> Create(const Options& options);
  virtual ~Client() = default;

  // A client of the same server, on the same connections, whose calls may take
  // `timeout` and are not cancelled by this one's Cancel.
  virtual std::unique_ptr<Client> WithTimeout(absl::Duration timeout) const = 0;

  // Cancels the calls under way and all later ones. Returns whether any was
  // under way, or something is held open.
  virtual bool Cancel() = 0;

  // Something that has an end of its own to come to, between calls too: a
  // program that put something on the server takes it away before it ends.
  virtual std::shared_ptr<const void> HoldOpen() = 0;

  // Streams call `on_message` for each message as it comes; when it returns
  // false the call is cancelled, its work on the server stops, and it returns
  // kCancelled.
  virtual absl::Status Generate(
      const v1::GenerateRequest& request,
      const std::function<bool(const v1::GenerateResponse&)>& on_message) = 0;
  virtual absl::StatusOr<v1::TokenizeResponse> Tokenize(
      const v1::TokenizeRequest& request) = 0;
  virtual absl::StatusOr<v1::DetokenizeResponse> Detokenize(
      const v1::DetokenizeRequest& request) = 0;

  virtual absl::StatusOr<v1::DetectObjectsResponse> DetectObjects(
      const v1::DetectObjectsRequest& request) = 0;
  // What Inference tells about them; ListModels asks ModelAdmin.
  virtual absl::StatusOr<v1::ListServedModelsResponse> ListServedModels() = 0;

  virtual absl::StatusOr<v1::ListModelsResponse> ListModels() = 0;
  virtual absl::StatusOr<v1::Model> GetModel(
      const v1::GetModelRequest& request) = 0;
  virtual absl::StatusOr<v1::Model> LoadModel(
      const v1::LoadModelRequest& request) = 0;
  virtual absl::StatusOr<v1::UnloadModelResponse> UnloadModel(
      const v1::UnloadModelRequest& request) = 0;
  virtual absl::Status Quantize(
      const v1::QuantizeRequest& request,
      const std::function<bool(const v1::QuantizeProgress&)>& on_message) = 0;
  virtual absl::Status Evaluate(
      const v1::EvaluateRequest& request,
      const std::function<bool(const v1::EvaluateProgress&)>& on_message) = 0;
  virtual absl::Status SaveModel(
      const v1::SaveModelRequest& request,
      const std::function<bool(const v1::SaveModelProgress&)>& on_message) = 0;
  virtual absl::StatusOr<v1::InspectResponse> Inspect(
      const v1::InspectRequest& request) = 0;
  virtual absl::StatusOr<v1::ListMethodsResponse> ListMethods() = 0;
  virtual absl::StatusOr<v1::Server> GetServer() = 0;

  // grpc.health.v1, on the public listener except for ounce.v1.ModelAdmin;
  // `service` may be empty. kNotFound for a name that the server has never
  // heard of.
  virtual absl::StatusOr<bool> IsServing(const std::string& service) = 0;
};

}  // namespace ounce::client

#endif  // OUNCE_CLIENT_CLIENT_H_
