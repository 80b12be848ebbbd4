// The TCP socket behind a setting of the form HOST:PORT.
//
// HOST is an IPv4 address, an IPv6 address in brackets, or the name of a host.
// [::] takes IPv4 as well. Of a name with several addresses the first IPv4 one
// is taken, else the first. PORT 0 is a free one.
#ifndef OUNCE_SERVER_NET_LISTEN_SOCKET_H_
#define OUNCE_SERVER_NET_LISTEN_SOCKET_H_

#include <string>

#include "absl/status/statusor.h"
#include "server/net/file_descriptor.h"

namespace ounce::server {

struct ListenSocket {
  FileDescriptor fd;    // listens; does not block; closed on exec
  std::string address;  // HOST as it was given, the port that is bound
};

// `setting` is its name, for messages.
// Errors: kInvalidArgument, in one sentence with the system's own words:
//   "metrics_listen: cannot listen on 127.0.0.1:80: permission denied".
absl::StatusOr<ListenSocket> ListenOn(const std::string& setting,
                                      const std::string& address);

}  // namespace ounce::server

#endif  // OUNCE_SERVER_NET_LISTEN_SOCKET_H_
