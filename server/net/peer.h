// Who is at the other end of a connection, as one name for everything that is
// counted, limited or shared fairly between callers.
//
// A *peer* is an IP address without its port: "192.0.2.7"; of IPv6 the first 64
// bits, "2001:db8:1:2::/64", because a household or a machine owns all of such
// a network. An IPv4 address mapped into IPv6 is that IPv4 address. "" is a
// peer that is not known.
//
// Threads: functions without state; a PeerSet is const once made.
#ifndef OUNCE_SERVER_NET_PEER_H_
#define OUNCE_SERVER_NET_PEER_H_

#include <sys/socket.h>

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace ounce::server {

// Addresses and networks that are trusted to say for whom they ask.
class PeerSet {
 public:
  PeerSet() = default;

  // "10.0.0.0/8, 192.0.2.7, ::1": commas between them, spaces ignored; empty is
  // nobody.
  // Errors: kInvalidArgument with the part that is no address.
  static absl::StatusOr<PeerSet> Parse(absl::string_view text);

  bool Contains(absl::string_view address) const;
  bool empty() const { return networks_.empty(); }

 private:
  struct Network {
    std::array<uint8_t, 16> address;  // IPv4 as mapped
    int bits;
  };
  std::vector<Network> networks_;
};

// The address without its port: an IP one, or that in a RelayName; else "".
std::string AddressText(const sockaddr_storage& address);

// The peer that an address, as AddressText gives it, belongs to.
std::string PeerOfAddress(absl::string_view address);

// The address in what gRPC calls a peer ("ipv4:192.0.2.7:4711", "ipv6:...", or
// the name of a relayed connection, see RelayName).
std::string AddressOfUri(absl::string_view uri);

// The RelayName in what gRPC calls a peer, "" if there is none.
std::string RelayNameOfUri(absl::string_view uri);

// The peer of a call: of the connection's address; but where a trusted proxy
// asks, of the last address that it wrote into x-forwarded-for. `forwarded_for`
// is that header, empty if there is none.
std::string PeerOf(absl::string_view uri, absl::string_view forwarded_for,
                   const PeerSet& trusted_proxies);

// The name, in the abstract namespace of Unix sockets, of the socket that
// stands for a client's: gRPC reads it and calls it the peer. Without the
// leading zero byte.
std::string RelayName(absl::string_view address, absl::string_view unique);

}  // namespace ounce::server

#endif  // OUNCE_SERVER_NET_PEER_H_
