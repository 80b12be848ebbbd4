// Messages as JSON that jq and Python read as they are.
#ifndef OUNCE_CLIENT_JSON_H_
#define OUNCE_CLIENT_JSON_H_

#include <google/protobuf/message.h>

#include <nlohmann/json.hpp>
#include <string>

#include "absl/status/status.h"

namespace ounce::client {

// Protobuf's JSON form with the names of the .proto files, but whole numbers
// are numbers as long as a double holds them (below 2^53; larger ones are
// strings), and fields that are zero or empty are there: only what the .proto
// file calls optional, and messages that are not set, are absent.
nlohmann::ordered_json ToJson(const google::protobuf::Message& message);

// {"code": "NOT_FOUND", "message": "..."}
nlohmann::ordered_json ToJson(const absl::Status& error);

// On one line, with its end. What is no UTF-8 becomes U+FFFD.
std::string JsonLine(const nlohmann::ordered_json& json);

}  // namespace ounce::client

#endif  // OUNCE_CLIENT_JSON_H_
