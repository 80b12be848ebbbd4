// Ounce over gRPC, for C++ programs: calls with a deadline, and statuses back
// as absl::Status, with what the server's details add in their message.
//
// Threads: any thread may call anything.
// Errors: the server's codes (inference.proto, model_admin.proto); kUnavailable
//   when nothing answers at the address, and the message says what to do.
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
    std::string server = "127.0.0.1:8500";  // HOST:PORT of Inference
    std::string admin = "127.0.0.1:8501";   // HOST:PORT of ModelAdmin
    // Of each call; infinite: none.
    absl::Duration timeout = absl::InfiniteDuration();
  };

  static std::unique_ptr<Client> Create(const Options& options);
  virtual ~Client() = default;

  // Streams call `on_message` for each message as it comes; when it returns
  // false the call is cancelled.
  virtual absl::Status Generate(
      const v1::GenerateRequest& request,
      const std::function<bool(const v1::GenerateResponse&)>& on_message) = 0;
  virtual absl::StatusOr<v1::TokenizeResponse> Tokenize(
      const v1::TokenizeRequest& request) = 0;
  virtual absl::StatusOr<v1::DetokenizeResponse> Detokenize(
      const v1::DetokenizeRequest& request) = 0;

  virtual absl::StatusOr<v1::DetectObjectsResponse> DetectObjects(
      const v1::DetectObjectsRequest& request) = 0;

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
  virtual absl::StatusOr<v1::ListMethodsResponse> ListMethods() = 0;

  // grpc.health.v1 on the public listener; `service` may be empty. kNotFound
  // for a name that the server has never heard of.
  virtual absl::StatusOr<bool> IsServing(const std::string& service) = 0;
};

}  // namespace ounce::client

#endif  // OUNCE_CLIENT_CLIENT_H_
