#include "server/net/relay_connection.h"

#include <sys/epoll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <utility>

namespace ounce::server {
namespace {

constexpr size_t kReadBytes = 64 << 10;
constexpr int kReadsAtOnce = 4;  // then it is another connection's turn
// For what a client still has to read when the connection is closed.
constexpr absl::Duration kFarewell = absl::Seconds(2);
// Of a client that goes on sending: closing on unread bytes would take the last
// words from it.
constexpr size_t kMaxDiscarded = 1 << 20;

bool WouldBlock() { return errno == EAGAIN || errno == EINTR; }

char* ReadBuffer() {
  static thread_local char buffer[kReadBytes];
  return buffer;
}

}  // namespace

RelayConnection::RelayConnection(const Options& options, std::string address,
                                 Peer& peer, Shares& shares,
                                 FileDescriptor client, FileDescriptor server,
                                 std::string& spare, absl::Time now)
    : options_(options),
      address_(std::move(address)),
      guard_(options.guard, peer, shares, now),
      client_(std::move(client)),
      server_(std::move(server)),
      spare_(spare),
      written_(now),
      idle_since_(now) {}

std::optional<absl::Time> RelayConnection::idle_since() const {
  if (guard_.open_streams() > 0) return std::nullopt;
  return idle_since_;
}

uint32_t RelayConnection::client_events() const {
  uint32_t events = 0;
  if (closing() || (!waits() && to_server_.empty())) events |= EPOLLIN;
  if (!to_client_.empty()) events |= EPOLLOUT;
  return events;
}

uint32_t RelayConnection::server_events() const {
  uint32_t events = 0;
  if (to_client_.empty()) events |= EPOLLIN;
  if (!to_server_.empty()) events |= EPOLLOUT;
  return events;
}

void RelayConnection::Pump(absl::Time now, bool client_ready,
                           bool server_ready) {
  if (!to_client_.empty()) FlushToClient(now);
  if (!to_server_.empty()) FlushToServer();
  if (client_ready && !done_) ReadClient(now);
  if (server_ready && !done_) ReadServer(now, false);
  if (guard_.open_streams() > 0) idle_since_ = now;
}

void RelayConnection::ReadClient(absl::Time now) {
  for (int i = 0; i < kReadsAtOnce && !done_; ++i) {
    if (!closing() && (waits() || !to_server_.empty())) return;
    const ssize_t count = recv(client_.get(), ReadBuffer(), kReadBytes, 0);
    if (count < 0 && WouldBlock()) return;
    if (count <= 0) {  // the client is gone
      done_ = true;
      return;
    }
    if (closing()) {  // nobody wants it any more
      discarded_ += static_cast<size_t>(count);
      if (discarded_ > kMaxDiscarded) done_ = true;
      continue;
    }
    Feed(now, absl::string_view(ReadBuffer(), static_cast<size_t>(count)));
    if (static_cast<size_t>(count) < kReadBytes) return;
  }
}

void RelayConnection::Feed(absl::Time now, absl::string_view bytes) {
  Lend(to_server_);
  const size_t taken = guard_.FromClient(bytes, now, &to_server_.data);
  if (taken < bytes.size()) {
    unread_ = std::string(bytes.substr(taken));
  } else {
    unread_ = std::string();
  }
  FlushToServer();
  if (const auto fault = guard_.fault(); fault.has_value() && !closing()) {
    Cut(now, FaultName(*fault), FaultText(*fault), Http2Guard::GoAway::kCalm);
  }
}

void RelayConnection::ServerGone(absl::Time now) {
  if (!done_) ReadServer(now, true);
}

void RelayConnection::ReadServer(absl::Time now, bool to_the_end) {
  for (int i = 0;
       server_.ok() && (to_the_end || (i < kReadsAtOnce && to_client_.empty()));
       ++i) {
    const ssize_t count = recv(server_.get(), ReadBuffer(), kReadBytes, 0);
    if (count < 0 && WouldBlock()) return;
    if (count <= 0) {  // the server has ended it
      CloseServer(now);
      FlushToClient(now);
      return;
    }
    Lend(to_client_);
    written_ = now;
    guard_.FromServer(
        absl::string_view(ReadBuffer(), static_cast<size_t>(count)), now,
        &to_client_.data);
    FlushToClient(now);
    if (done_) return;
    if (!to_the_end && static_cast<size_t>(count) < kReadBytes) return;
  }
}

void RelayConnection::Lend(Outbox& outbox) {
  if (outbox.data.capacity() < spare_.capacity() && outbox.data.empty()) {
    outbox.data.swap(spare_);
  }
}

bool RelayConnection::Flush(Outbox& outbox, int fd) {
  while (!outbox.empty()) {
    const ssize_t count =
        send(fd, outbox.data.data() + outbox.sent,
             outbox.data.size() - outbox.sent, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (count < 0) return WouldBlock();
    outbox.sent += static_cast<size_t>(count);
  }
  outbox.data.clear();
  outbox.sent = 0;
  if (spare_.capacity() < outbox.data.capacity()) outbox.data.swap(spare_);
  outbox.data = std::string();
  return true;
}

void RelayConnection::FlushToServer() {
  if (!server_.ok()) {
    to_server_ = Outbox();
  } else if (!Flush(to_server_, server_.get())) {
    // Its last words may still be there to read.
    to_server_ = Outbox();
  }
}

void RelayConnection::FlushToClient(absl::Time now) {
  const size_t before = to_client_.sent;
  if (!Flush(to_client_, client_.get())) {
    done_ = true;
    return;
  }
  if (to_client_.empty() || to_client_.sent != before) written_ = now;
  if (closing() && to_client_.empty() && !shut_) {
    shut_ = true;
    shutdown(client_.get(), SHUT_WR);
  }
}

void RelayConnection::CloseServer(absl::Time now) {
  server_ = FileDescriptor();
  to_server_ = Outbox();
  unread_ = std::string();
  close_at_ = std::min(close_at_, now + kFarewell);
}

void RelayConnection::Retire(absl::Time now) {
  if (done_ || closing()) return;
  guard_.Retire(&to_client_.data);
  FlushToClient(now);
}

void RelayConnection::Cut(absl::Time now, absl::string_view reason,
                          absl::string_view text, Http2Guard::GoAway code) {
  if (closing()) return;
  reason_ = reason;
  text_ = text;
  to_client_.data += guard_.Farewell(text, code);
  CloseServer(now);
  FlushToClient(now);
}

void RelayConnection::Tick(absl::Time now, bool others_wait) {
  if (done_) return;
  if (closing()) {
    done_ = now >= close_at_;
    return;
  }
  if (!to_client_.empty() && now - written_ > options_.unread) {
    reason_ = "unread";
    text_ = "the client takes nothing of what waits for it";
    done_ = true;
    return;
  }
  guard_.Tick(now, others_wait, &to_client_.data);
  if (!to_client_.empty()) FlushToClient(now);
  if (done_) return;
  if (!to_server_.empty() && !guard_.fault().has_value()) return;
  // Takes up what waits, and meets a fault that the clock found.
  const std::string rest = std::exchange(unread_, std::string());
  Feed(now, rest);
}

}  // namespace ounce::server
