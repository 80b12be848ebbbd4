// One connection of a Relay: two sockets, what stands between them (TLS on the
// client's side, then the guard), and what was read and could not be written
// yet.
//
// Buffers are small: while something waits to be written nothing more is read
// in that direction, and an idle connection has none.
//
// Threads: one at a time.
#ifndef OUNCE_SERVER_NET_RELAY_CONNECTION_H_
#define OUNCE_SERVER_NET_RELAY_CONNECTION_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "server/net/bare_trailers.h"
#include "server/net/file_descriptor.h"
#include "server/net/http2_guard.h"
#include "server/net/shares.h"
#include "server/net/tls.h"

namespace ounce::server {

class RelayConnection {
 public:
  struct Options {
    // Absent: what the client says is passed on as it is.
    std::optional<Http2Guard::Limits> guard;
    absl::Duration unread;     // for so long may something wait for the client
    absl::Duration handshake;  // of TLS
    CompleteTrailers complete = nullptr;  // null: none is
  };

  // `tls`: null for a client that speaks without. `spare` is memory that
  // connections lend each other between calls; it must outlive this, as `peer`
  // and `shares` must.
  RelayConnection(const Options& options, std::string address, Peer& peer,
                  Shares& shares, std::unique_ptr<TlsSession> tls,
                  FileDescriptor client, FileDescriptor server,
                  std::string& spare, absl::Time now);

  // Reads and writes what can be without blocking.
  void Pump(absl::Time now, bool client_ready, bool server_ready);

  // The client has closed or reset its end. One that did so within its TLS
  // handshake counts as cut.
  void ClientGone(absl::Time now);

  // The server has closed its end: what it left goes on to the client.
  void ServerGone(absl::Time now);

  // Looks at the clock; takes up again what had to wait.
  void Tick(absl::Time now, bool others_wait);

  // Asks the client for no more calls; those that there are go on. Closes while
  // TLS is not established.
  void Retire(absl::Time now);

  // Tells the client why, if it can be told, and closes.
  void Cut(absl::Time now, absl::string_view reason, absl::string_view text,
           Http2Guard::GoAway code);

  // What epoll is to watch for, of each socket that is open.
  uint32_t client_events() const;
  uint32_t server_events() const;
  int client_fd() const { return client_.get(); }
  int server_fd() const { return server_.get(); }

  bool done() const { return done_; }
  // Why it was cut, for metrics and for people; empty if it wasn't.
  absl::string_view reason() const { return reason_; }
  absl::string_view text() const { return text_; }
  const std::string& address() const { return address_; }

  // Whether the server is to have it: once TLS, if any, is established.
  bool established() const { return tls_ == nullptr || tls_->established(); }
  // Whom the client's certificate names, if any.
  std::string identity() const {
    return tls_ == nullptr ? "" : tls_->identity();
  }

  // Whether it is to be looked at again soon.
  bool waits() const {
    return closing() || !unread_.empty() || handshake_waits_ ||
           (guard_.has_value() && guard_->waits());
  }
  bool holds_back() const {
    return guard_.has_value() && guard_->holds_back() && !closing();
  }
  // Since when it has had no call; nothing while it has one.
  std::optional<absl::Time> idle_since() const;
  // Of the guard, if there is one.
  int64_t request_bytes() const {
    return guard_.has_value() ? guard_->request_bytes() : 0;
  }
  int64_t streams_seen() const {
    return guard_.has_value() ? guard_->streams_seen() : 0;
  }

 private:
  // Bytes on their way out.
  struct Outbox {
    std::string data;
    size_t sent = 0;
    bool empty() const { return sent == data.size(); }
  };

  bool closing() const { return close_at_ < absl::InfiniteFuture(); }
  // Whether the peer may begin a handshake now.
  bool MayShakeHands(absl::Time now);
  void Receive(absl::Time now, absl::string_view bytes);
  void RefusePlainText(absl::Time now, absl::string_view bytes);
  void ReadClient(absl::Time now);
  void ReadServer(absl::Time now, bool to_the_end);
  void Feed(absl::Time now, absl::string_view bytes);
  // `write` appends to a string what the client is to read.
  template <class Write>
  void ToClient(const Write& write);
  bool Flush(Outbox& outbox, int fd);
  void FlushToClient(absl::Time now);
  void FlushToServer();
  void Lend(Outbox& outbox);
  void CloseServer(absl::Time now);

  const Options options_;
  const std::string address_;
  Peer& peer_;
  const absl::Time begun_;
  const std::unique_ptr<TlsSession> tls_;
  bool shaking_hands_ = false;    // TLS has begun
  bool handshake_waits_ = false;  // it may not begin yet
  size_t handshake_bytes_ = 0;
  std::optional<Http2Guard> guard_;
  FileDescriptor client_;
  FileDescriptor server_;
  std::string& spare_;
  Outbox to_client_;
  Outbox to_server_;
  std::string unread_;  // what the guard did not take yet
  absl::Time written_;  // to the client, last
  absl::Time idle_since_;
  absl::Time close_at_ = absl::InfiniteFuture();
  size_t discarded_ = 0;  // bytes that came after the end
  bool shut_ = false;     // no more is written to the client
  bool done_ = false;
  absl::string_view reason_;
  std::string text_;
};

}  // namespace ounce::server

#endif  // OUNCE_SERVER_NET_RELAY_CONNECTION_H_
