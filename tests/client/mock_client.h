// A Client for tests of commands.
#ifndef OUNCE_TESTS_CLIENT_MOCK_CLIENT_H_
#define OUNCE_TESTS_CLIENT_MOCK_CLIENT_H_

#include <functional>
#include <memory>
#include <string>

#include "absl/time/time.h"
#include "client/client.h"
#include "gmock/gmock.h"

namespace ounce::client {

class MockClient : public Client {
 public:
  MOCK_METHOD(std::unique_ptr<Client>, WithTimeout, (absl::Duration),
              (const, override));
  MOCK_METHOD(bool, Cancel, (), (override));
  MOCK_METHOD(std::shared_ptr<const void>, HoldOpen, (), (override));
  MOCK_METHOD(absl::Status, Generate,
              (const v1::GenerateRequest&,
               const std::function<bool(const v1::GenerateResponse&)>&),
              (override));
  MOCK_METHOD(absl::StatusOr<v1::TokenizeResponse>, Tokenize,
              (const v1::TokenizeRequest&), (override));
  MOCK_METHOD(absl::StatusOr<v1::DetokenizeResponse>, Detokenize,
              (const v1::DetokenizeRequest&), (override));
  MOCK_METHOD(absl::StatusOr<v1::DetectObjectsResponse>, DetectObjects,
              (const v1::DetectObjectsRequest&), (override));
  MOCK_METHOD(absl::StatusOr<v1::ListServedModelsResponse>, ListServedModels,
              (), (override));
  MOCK_METHOD(absl::StatusOr<v1::ListModelsResponse>, ListModels, (),
              (override));
  MOCK_METHOD(absl::StatusOr<v1::Model>, GetModel, (const v1::GetModelRequest&),
              (override));
  MOCK_METHOD(absl::StatusOr<v1::Model>, LoadModel,
              (const v1::LoadModelRequest&), (override));
  MOCK_METHOD(absl::StatusOr<v1::UnloadModelResponse>, UnloadModel,
              (const v1::UnloadModelRequest&), (override));
  MOCK_METHOD(absl::Status, Quantize,
              (const v1::QuantizeRequest&,
               const std::function<bool(const v1::QuantizeProgress&)>&),
              (override));
  MOCK_METHOD(absl::Status, Evaluate,
              (const v1::EvaluateRequest&,
               const std::function<bool(const v1::EvaluateProgress&)>&),
              (override));
  MOCK_METHOD(absl::Status, SaveModel,
              (const v1::SaveModelRequest&,
               const std::function<bool(const v1::SaveModelProgress&)>&),
              (override));
  MOCK_METHOD(absl::StatusOr<v1::InspectResponse>, Inspect,
              (const v1::InspectRequest&), (override));
  MOCK_METHOD(absl::StatusOr<v1::ListMethodsResponse>, ListMethods, (),
              (override));
  MOCK_METHOD(absl::StatusOr<v1::Server>, GetServer, (), (override));
  MOCK_METHOD(absl::StatusOr<bool>, IsServing, (const std::string&),
              (override));
};

}  // namespace ounce::client

#endif  // OUNCE_TESTS_CLIENT_MOCK_CLIENT_H_
