#include "server/net/relay_connection.h"

#include <sys/epoll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "absl/strings/str_cat.h"

namespace ounce::server {
namespace {

constexpr size_t kReadBytes = 64 << 10;
constexpr int kReadsAtOnce = 4;  // then it is another connection's turn
// For what a client still has to read when the connection is closed.
constexpr absl::Duration kFarewell = absl::Seconds(2);
// Of a client that goes on sending: closing on unread bytes would take the last
// words from it.
constexpr size_t kMaxDiscarded = 1 << 20;

// A handshake costs the work of so many calls, and has so many bytes.
constexpr double kHandshakeCalls = 20;
constexpr size_t kMaxHandshakeBytes = 64 << 10;

constexpr char kTlsHandshakeRecord = 0x16;
constexpr absl::string_view kWantsNoTls =
    "the client speaks TLS, and this port does not: connect without TLS, or "
    "set tls_cert and tls_key";
constexpr absl::string_view kWantsTls =
    "this port speaks TLS, and the client does not: connect with TLS";
// What the latter hear who do not speak HTTP/2, which has words of its own.
constexpr absl::string_view kHttp1WantsTls =
    "HTTP/1.1 400 Bad Request\r\nConnection: close\r\n"
    "Content-Type: text/plain\r\nContent-Length: 52\r\n\r\n"
    "this port speaks TLS: connect with https:// instead\n";

bool WouldBlock() { return errno == EAGAIN || errno == EINTR; }

char* ReadBuffer() {
  static thread_local char buffer[kReadBytes];
  return buffer;
}

}  // namespace

RelayConnection::RelayConnection(const Options& options, std::string address,
                                 Peer& peer, Shares& shares,
                                 std::unique_ptr<TlsSession> tls,
                                 FileDescriptor client, FileDescriptor server,
                                 std::string& spare, absl::Time now)
    : options_(options),
      address_(std::move(address)),
      peer_(peer),
      begun_(now),
      tls_(std::move(tls)),
      client_(std::move(client)),
      server_(std::move(server)),
      spare_(spare),
      written_(now),
      idle_since_(now) {
  if (options.guard.has_value()) {
    guard_.emplace(*options.guard, peer, shares, now,
                   options_.complete == nullptr ? nullptr : &options_.complete);
  }
}

std::optional<absl::Time> RelayConnection::idle_since() const {
  if (guard_.has_value() && guard_->open_streams() > 0) return std::nullopt;
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
  if (guard_.has_value() && guard_->open_streams() > 0) idle_since_ = now;
}

bool RelayConnection::MayShakeHands(absl::Time now) {
  if (tls_ == nullptr || shaking_hands_) return true;
  shaking_hands_ = peer_.streams.Take(now, kHandshakeCalls);
  handshake_waits_ = !shaking_hands_;
  return shaking_hands_;
}

void RelayConnection::ReadClient(absl::Time now) {
  for (int i = 0; i < kReadsAtOnce && !done_; ++i) {
    if (!closing() && (waits() || !to_server_.empty())) return;
    if (!closing() && !MayShakeHands(now)) return;
    const ssize_t count = recv(client_.get(), ReadBuffer(), kReadBytes, 0);
    if (count < 0 && WouldBlock()) return;
    if (count <= 0) {
      ClientGone(now);
      return;
    }
    if (closing()) {  // nobody wants it any more
      discarded_ += static_cast<size_t>(count);
      if (discarded_ > kMaxDiscarded) done_ = true;
      continue;
    }
    Receive(now, absl::string_view(ReadBuffer(), static_cast<size_t>(count)));
    if (static_cast<size_t>(count) < kReadBytes) return;
  }
}

void RelayConnection::ClientGone(absl::Time now) {
  if (std::exchange(done_, true) || established() || closing()) return;
  // What it sent last may say why.
  ssize_t count = 0;
  while (!closing() && MayShakeHands(now) &&
         (count = recv(client_.get(), ReadBuffer(), kReadBytes, 0)) > 0) {
    Receive(now, absl::string_view(ReadBuffer(), static_cast<size_t>(count)));
  }
  if (closing() || established() || handshake_bytes_ == 0) return;
  reason_ = "tls";
  text_ =
      "TLS: the client left within the handshake, as those do that do not "
      "trust the certificate";
}

void RelayConnection::Receive(absl::Time now, absl::string_view bytes) {
  if (tls_ == nullptr) {
    Feed(now, bytes);
    return;
  }
  if (handshake_bytes_ == 0 && bytes[0] != kTlsHandshakeRecord) {
    RefusePlainText(now, bytes);
    return;
  }
  static thread_local std::string plain;
  plain.clear();
  absl::Status status = tls_->Decrypt(bytes, &plain, &to_client_.data);
  if (!tls_->established()) handshake_bytes_ += bytes.size();
  if (status.ok() && handshake_bytes_ > kMaxHandshakeBytes) {
    status = absl::InvalidArgumentError("the handshake is too long");
  }
  if (!to_client_.empty()) FlushToClient(now);
  if (!plain.empty() && !done_) Feed(now, plain);
  if (!status.ok()) {
    Cut(now, "tls", absl::StrCat("TLS: ", status.message()),
        Http2Guard::GoAway::kCalm);
  }
}

void RelayConnection::RefusePlainText(absl::Time now, absl::string_view bytes) {
  const bool http2 = guard_.has_value() && bytes.substr(0, 3) == "PRI";
  absl::StrAppend(
      &to_client_.data,
      http2 ? guard_->Farewell(kWantsTls, Http2Guard::GoAway::kNoError)
            : kHttp1WantsTls);
  Cut(now, "not_tls", kWantsTls, Http2Guard::GoAway::kNoError);
}

void RelayConnection::Feed(absl::Time now, absl::string_view bytes) {
  Lend(to_server_);
  size_t taken = bytes.size();
  if (guard_.has_value()) {
    taken = guard_->FromClient(bytes, now, &to_server_.data);
  } else {
    absl::StrAppend(&to_server_.data, bytes);
  }
  if (taken < bytes.size()) {
    unread_ = std::string(bytes.substr(taken));
  } else {
    unread_ = std::string();
  }
  FlushToServer();
  if (!guard_.has_value()) return;
  if (const auto fault = guard_->fault(); fault.has_value() && !closing()) {
    const bool tls_hello = *fault == Http2Guard::Fault::kNotHttp2 &&
                           tls_ == nullptr && !bytes.empty() &&
                           bytes[0] == kTlsHandshakeRecord;
    Cut(now, FaultName(*fault), tls_hello ? kWantsNoTls : FaultText(*fault),
        Http2Guard::GoAway::kCalm);
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
    const absl::string_view bytes(ReadBuffer(), static_cast<size_t>(count));
    ToClient([&](std::string* out) {
      if (guard_.has_value()) {
        guard_->FromServer(bytes, now, out);
      } else {
        absl::StrAppend(out, bytes);
      }
    });
    if (reason_.empty() && guard_.has_value() && guard_->too_many_pings()) {
      reason_ = "too_many_pings";  // the server closes it
      text_ = "the client pings too often";
    }
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

template <class Write>
void RelayConnection::ToClient(const Write& write) {
  if (tls_ == nullptr) {
    write(&to_client_.data);
    return;
  }
  static thread_local std::string plain;
  plain.clear();
  write(&plain);
  if (!plain.empty() && tls_->established()) {
    tls_->Encrypt(plain, &to_client_.data);
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
  if (tls_ != nullptr) tls_->Close(&to_client_.data);
}

void RelayConnection::Retire(absl::Time now) {
  if (done_ || closing()) return;
  if (!established()) {  // the server has nothing of it yet
    done_ = true;
    return;
  }
  if (!guard_.has_value()) return;
  ToClient([&](std::string* out) { guard_->Retire(out); });
  FlushToClient(now);
}

void RelayConnection::Cut(absl::Time now, absl::string_view reason,
                          absl::string_view text, Http2Guard::GoAway code) {
  if (closing()) return;
  reason_ = reason;
  text_ = std::string(text);
  if (guard_.has_value()) {
    ToClient([&](std::string* out) { *out += guard_->Farewell(text, code); });
  }
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
  if (!established()) {
    if (now - begun_ > options_.handshake) {
      Cut(now, "slow_start", "the TLS handshake did not end in time",
          Http2Guard::GoAway::kCalm);
    } else {
      handshake_waits_ = false;  // asks again, if there is something to read
    }
    return;
  }
  if (!guard_.has_value()) return;
  ToClient([&](std::string* out) { guard_->Tick(now, others_wait, out); });
  if (!to_client_.empty()) FlushToClient(now);
  if (done_) return;
  if (!to_server_.empty() && !guard_->fault().has_value()) return;
  // Takes up what waits, and meets a fault that the clock found.
  const std::string rest = std::exchange(unread_, std::string());
  Feed(now, rest);
}

}  // namespace ounce::server
