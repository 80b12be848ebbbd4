// Listens, and relays each connection between its client and a server that
// takes connected descriptors: gRPC's accept loop ends for good at the first
// error, and its HTTP/2 believes what clients send. In between stands a guard
// (http2_guard.h).
//
//   client --TCP--> [ relay, TLS, guard ] --Unix socket--> the server
//
// - With TLS the server gets a connection once its handshake is over; each
//   costs its peer as much as some calls.
// - All connections and those of one peer are bounded. One too many is closed
//   at once; but when all places are taken, the connection that has been
//   without a call for longest makes room.
// - Without descriptors, accepting goes on as soon as there are some again.
// - A client that takes nothing of what waits for it is closed after a while.
// - After a burst the heap's free memory goes back to the system.
//
// The server sees as its peer the socket name of peer.h, with the client's
// address in it; whom a client's certificate names, it asks Identities.
//
// Threads: one of its own does everything, the callbacks too. Any thread may
//   call the methods.
// Ownership: the callbacks' targets must outlive it.
#ifndef OUNCE_SERVER_NET_RELAY_H_
#define OUNCE_SERVER_NET_RELAY_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "base/clock.h"
#include "server/net/bare_trailers.h"
#include "server/net/http2_guard.h"
#include "server/net/identities.h"
#include "server/net/peer.h"
#include "server/net/shares.h"
#include "server/net/tls.h"
#include "server/net/token_bucket.h"

namespace ounce::server {

// Of this process, for each connection: the client's socket, and both ends of
// the one to the server.
inline constexpr int64_t kDescriptorsPerConnection = 3;

// Why a connection is refused or cut off: FaultName's words, and the relay's.
inline constexpr const char* kCutReasons[] = {
    "connections",      "descriptors", "flow_control", "frame",
    "header_block",     "made_room",   "not_http2",    "not_tls",
    "peer_connections", "rate",        "share",        "slow_headers",
    "slow_start",       "slow_upload", "streams",      "tls",
    "too_many_pings",   "unread"};

class Relay {
 public:
  struct Options {
    std::string name;     // the setting's, for errors and the log
    std::string address;  // HOST:PORT, see ListenOn
    int max_connections = 1024;
    int max_connections_per_peer = 256;
    PeerSet trusted_proxies = {};  // have no limits as a peer
    // Absent: what clients say is passed on as it is.
    std::optional<Http2Guard::Limits> guard = Http2Guard::Limits();
    NewTlsSession new_tls = nullptr;   // null: without TLS
    Identities* identities = nullptr;  // null: nobody asks; must outlive it
    absl::Duration handshake = absl::Seconds(10);  // of TLS
    CompleteTrailers complete = nullptr;           // the guard's; null: none is
    Shares::Limits shares;
    TokenBucket::Rate streams{8000, 4000};      // of one peer
    TokenBucket::Rate resets{1000, 100};        // of one peer
    absl::Duration unread = absl::Seconds(60);  // what waits for the client
  };

  struct Callbacks {
    // A connection for the server, which owns `fd` from then on.
    std::function<void(int fd)> on_connection;
    // How many connections there are; after each change.
    std::function<void(int connections)> on_count;
    // A connection was refused or cut off; `reason` is one of kCutReasons.
    std::function<void(absl::string_view reason)> on_cut;
  };

  // Listens, but takes no connection before Start.
  // Errors: kInvalidArgument as ListenOn's; kResourceExhausted without a thread
  //   or descriptors.
  static absl::StatusOr<std::unique_ptr<Relay>> Create(const Options& options,
                                                       Callbacks callbacks,
                                                       const Clock& clock);
  virtual ~Relay() = default;  // closes what is open

  virtual const std::string& address() const = 0;  // HOST:PORT as bound
  virtual void Start() = 0;                        // once
  // Closes the listening sockets, and asks the clients of open connections for
  // no more calls (GOAWAY); calls that there are go on, and those that a client
  // makes before it has heard of it. Returns when no more connection will come.
  virtual void StopAccepting() = 0;
};

}  // namespace ounce::server

#endif  // OUNCE_SERVER_NET_RELAY_H_
