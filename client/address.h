// Where a server is: HOST:PORT as people type it.
#ifndef OUNCE_CLIENT_ADDRESS_H_
#define OUNCE_CLIENT_ADDRESS_H_

#include <array>
#include <cstdint>
#include <optional>
#include <string>

#include "absl/status/statusor.h"

namespace ounce::client {

struct Address {
  // A name or an IP address, without brackets; empty for a Unix socket.
  std::string host;
  int port = 0;
  // As gRPC takes it: "host:8500", "[::1]:8500", "unix:/path".
  std::string target;
};

// "host:8500", "127.0.0.1:8500", "[::1]:8500" or "unix:/path"; "http://" and a
// final slash are dropped.
// Errors: kInvalidArgument says what the text must be, without naming the flag
//   that it came from.
absl::StatusOr<Address> ParseAddress(const std::string& text);

// Of an IPv4 address as an IPv6 one maps it (::ffff:a.b.c.d).
using IpBytes = std::array<uint8_t, 16>;

// Nothing for a name.
std::optional<IpBytes> ParseIp(const std::string& host);

// Names and addresses of this very machine, those of "every interface"
// (0.0.0.0, [::]) too.
bool IsLoopback(const std::string& host);

}  // namespace ounce::client

#endif  // OUNCE_CLIENT_ADDRESS_H_
