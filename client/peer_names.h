// The names in the certificate of a server that is not the one called, for
// messages: gRPC says only that none of them fits.
#ifndef OUNCE_CLIENT_PEER_NAMES_H_
#define OUNCE_CLIENT_PEER_NAMES_H_

#include <string>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace ounce::client {

// "elsewhere.example, 10.0.0.7 and 3 more": the DNS names and IP addresses, or
// else the common name, of whatever certificate answers at `host` and `port`,
// believed or not; five at most, of 64 characters each at most. Connects for
// that, without a proxy, for `patience` at most once the host's addresses are
// known. Empty when it can't tell.
std::string NamesOfPeer(const std::string& host, int port,
                        absl::Duration patience);

// The same of a certificate in PEM format.
std::string NamesInCertificate(absl::string_view pem);

}  // namespace ounce::client

#endif  // OUNCE_CLIENT_PEER_NAMES_H_
