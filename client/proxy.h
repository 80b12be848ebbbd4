// Which HTTP proxy a connection goes through, if any: what the environment
// says, as curl reads it, but none for this very machine.
#ifndef OUNCE_CLIENT_PROXY_H_
#define OUNCE_CLIENT_PROXY_H_

#include <functional>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "client/address.h"

namespace ounce::client {

struct Proxy {
  std::string url;       // as gRPC takes it; may hold a password
  std::string shown;     // for messages: HOST:PORT
  std::string variable;  // that named it
};

// The value of an environment variable; empty when there is none.
using Environment = std::function<std::string(const char*)>;

// The process's own.
std::string EnvironmentVariable(const char* name);

// From the first of grpc_proxy, https_proxy and http_proxy that is set. None
// for loopback, for a Unix socket, and for what the first set one of
// no_grpc_proxy, no_proxy and NO_PROXY names.
// Errors: kInvalidArgument, with the variable's name, when it names no HTTP
//   proxy.
absl::StatusOr<std::optional<Proxy>> ProxyFor(const Address& address,
                                              const Environment& environment);

// Whether `list` names the host: entries between commas or spaces, each a name,
// which stands for the names below it too ("example.com", ".example.com"), an
// IP address, a range ("10.0.0.0/8", "fd00::/8"), one of these with a port
// ("example.com:8500", "[::1]:8500"), or "*" for all.
bool NamedByNoProxy(const std::string& list, const Address& address);

}  // namespace ounce::client

#endif  // OUNCE_CLIENT_PROXY_H_
