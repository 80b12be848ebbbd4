// A new bearer token for an ounce-server, and what the server keeps of it.
#ifndef OUNCE_CLIENT_NEW_TOKEN_H_
#define OUNCE_CLIENT_NEW_TOKEN_H_

#include <string>

#include "absl/status/statusor.h"

namespace ounce::client {

struct NewToken {
  std::string token;  // "ounce_" and 256 random bits
  std::string line;   // of the server's --token_file: NAME SCOPES SHA-256
};

// `scopes`: "infer", "admin" or "infer,admin".
// Errors: kInvalidArgument for a name or scopes that the server does not take;
//   kInternal when the system has no random bits.
absl::StatusOr<NewToken> MakeToken(const std::string& name,
                                   const std::string& scopes);

}  // namespace ounce::client

#endif  // OUNCE_CLIENT_NEW_TOKEN_H_
