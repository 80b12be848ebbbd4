// What is asked of a model, as plain values: what every protocol turns its own
// messages into. Nothing here has been checked.
#ifndef OUNCE_SERVER_FRONTEND_REQUESTS_H_
#define OUNCE_SERVER_FRONTEND_REQUESTS_H_

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "absl/time/time.h"

namespace ounce::server {

// Who asks, and for how long.
struct CallContext {
  std::string peer = {};        // whose share of the server it counts as
  std::string request_id = {};  // empty: none
  absl::Time arrival = {};
  absl::Time deadline = absl::InfiniteFuture();
  bool servers_deadline = false;  // FrontEnd::Options::max_request's
  // Whether the caller has cancelled it. Called on any thread, until the
  // request has ended or a scheduler has it.
  std::function<bool()> cancelled = [] { return false; };
};

// Ranges and meaning as in inference.proto; what is absent, the model says.
struct SamplingRequest {
  std::optional<float> temperature = {};
  std::optional<int64_t> top_k = {};
  std::optional<float> top_p = {};
  std::optional<float> min_p = {};
  std::optional<float> repetition_penalty = {};
  std::optional<uint64_t> seed = {};
};

// Text, ids, or neither, which is refused.
using Prompt = std::variant<std::monostate, std::string, std::vector<int32_t>>;

struct GenerateRequest {
  std::string model = {};
  Prompt prompt = {};
  std::optional<int64_t> max_new_tokens = {};
  SamplingRequest sampling = {};
  std::vector<std::string> stop = {};
  int64_t logprobs = 0;
};

struct DetectRequest {
  std::string model = {};
  std::string image = {};  // a file
  std::optional<float> threshold = {};
  int64_t max_detections = 0;
};

}  // namespace ounce::server

#endif  // OUNCE_SERVER_FRONTEND_REQUESTS_H_
