// The requests of the Open Inference Protocol (proto/inference), turned into
// what the front end takes.
//
// Errors: kInvalidArgument by FieldError, which names the tensor or the
//   parameter.
#ifndef OUNCE_SERVER_SERVICE_OIP_REQUEST_H_
#define OUNCE_SERVER_SERVICE_OIP_REQUEST_H_

#include <optional>
#include <set>
#include <string>
#include <variant>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "inference/grpc_predict_v2.pb.h"
#include "server/frontend/requests.h"
#include "server/scheduler/model_catalog.h"

namespace ounce::server {

// How a request wants to be answered.
struct OipAnswer {
  std::string model;
  std::string id;
  bool stream = false;  // text as it comes
  bool raw = false;     // contents in the form that the request's have
  std::set<std::string> outputs;  // empty: all
};

// What one ModelInferRequest asks.
struct OipRequest {
  std::variant<GenerateRequest, DetectRequest> request;
  OipAnswer answer;
  std::optional<absl::Duration> timeout;  // from its arrival
};

// `info`: of the model that it names. Moves what is long out of `message`.
absl::StatusOr<OipRequest> ReadOipRequest(inference::ModelInferRequest& message,
                                          const ModelInfo& info);

// `version` names the one that serves, or none. Errors: kNotFound.
absl::Status CheckOipVersion(const ModelInfo& info, const std::string& version);

// A FieldError with another name for its field.
absl::Status WithFieldName(const absl::Status& status, const std::string& name);

// The front end's error, its field by the name that this protocol has for it.
absl::Status InOipTerms(const absl::Status& status);

}  // namespace ounce::server

#endif  // OUNCE_SERVER_SERVICE_OIP_REQUEST_H_
