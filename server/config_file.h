// The file of --config.
#ifndef OUNCE_SERVER_CONFIG_FILE_H_
#define OUNCE_SERVER_CONFIG_FILE_H_

#include <string>

#include "absl/status/statusor.h"
#include "ounce/v1/server_config.pb.h"

namespace ounce::server {

// Reads an ounce.v1.ServerConfig in protobuf text format.
//
// Errors: kInvalidArgument with the line of a mistake and, of those that people
//   make with what flags or YAML allow, what to write instead; and for what is
//   not a file with settings: a folder, a file that sets nothing, JSON, YAML;
//   kNotFound, with the system's words, when it can't be read.
absl::StatusOr<v1::ServerConfig> ReadConfigFile(const std::string& path);

}  // namespace ounce::server

#endif  // OUNCE_SERVER_CONFIG_FILE_H_
