#include "server/net/relay.h"

#include <fcntl.h>
#include <malloc.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <spdlog/spdlog.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <map>
#include <optional>
#include <set>
#include <thread>
#include <unordered_map>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/mutex.h"
#include "base/status_macros.h"
#include "base/thread.h"
#include "server/net/file_descriptor.h"
#include "server/net/line_limit.h"
#include "server/net/listen_socket.h"
#include "server/net/relay_connection.h"

namespace ounce::server {
namespace {

constexpr int kAcceptsAtOnce = 64;
constexpr int kEventsAtOnce = 256;
constexpr absl::Duration kTick = absl::Milliseconds(500);
constexpr absl::Duration kShortTick = absl::Milliseconds(20);  // somebody waits
constexpr absl::Duration kAcceptPause = absl::Milliseconds(100);
// One that was quiet for so long may have to make room.
constexpr absl::Duration kQuiet = absl::Seconds(1);
// Of the log: one in five seconds.
constexpr TokenBucket::Rate kLines = {.burst = 1, .per_second = 0.2};
constexpr double kUnlimited = 1e15;

// What the heap may have kept: roughly, of gRPC's for each.
constexpr int64_t kConnectionBytes = 64 << 10;
constexpr int64_t kStreamBytes = 16 << 10;
constexpr int64_t kTrimBytes = 32 << 20;  // after so many, and some quiet
constexpr int64_t kQuietBytes = 1 << 20;  // between two ticks

// What epoll's events carry: these, or a connection's number and side.
constexpr uint64_t kWake = 0;
constexpr uint64_t kListening = 1;
constexpr uint64_t kFirstConnection = 2;
enum Side : uint64_t { kClient = 0, kServer = 1 };

class Loop final : public Relay {
 public:
  Loop(const Options& options, Callbacks callbacks, const Clock& clock,
       ListenSocket listening, FileDescriptor epoll, FileDescriptor wake)
      : options_(options),
        callbacks_(std::move(callbacks)),
        clock_(clock),
        address_(std::move(listening.address)),
        epoll_(std::move(epoll)),
        wake_(std::move(wake)),
        listening_(std::move(listening.fd)),
        spare_descriptor_(open("/dev/null", O_RDONLY | O_CLOEXEC)),
        shares_(options.shares),
        lines_(kLines, clock.Now()) {
    spare_buffer_.reserve(size_t{128} << 10);
    Watch(wake_.get(), EPOLL_CTL_ADD, EPOLLIN, kWake);
  }

  ~Loop() override {
    stop_ = true;
    Wake();
    if (thread_.joinable()) thread_.join();
    connections_.clear();
  }

  absl::Status StartLoop() {
    ASSIGN_OR_RETURN(thread_, StartThread("ounce-net", [this] { Run(); }));
    return absl::OkStatus();
  }

  const std::string& address() const override { return address_; }

  void Start() override {
    accepting_ = true;
    Wake();
  }

  void StopAccepting() override {
    MutexLock lock(&mu_);
    accepting_ = false;
    accepting_over_ = true;
    Wake();
    while (!listening_closed_) closed_.Wait(&mu_);
  }

 private:
  struct Entry {
    std::unique_ptr<RelayConnection> connection;
    FileDescriptor for_server;  // its end, until it has it
    std::string name;           // that it sees
    Peer* peer = nullptr;
    uint32_t client_events = 0;
    uint32_t server_events = 0;
    bool told = false;  // that it was cut
    int64_t request_bytes = 0;
    int64_t streams = 0;
  };
  using Connections = std::map<uint64_t, Entry>;

  void Wake() {
    const uint64_t one = 1;
    static_cast<void>(write(wake_.get(), &one, sizeof(one)));
  }

  void Watch(int fd, int operation, uint32_t events, uint64_t what) {
    epoll_event event{};
    event.events = events;
    event.data.u64 = what;
    epoll_ctl(epoll_.get(), operation, fd, &event);
  }

  void Run() {
    std::vector<epoll_event> events(kEventsAtOnce);
    while (!stop_) {
      const int count =
          epoll_wait(epoll_.get(), events.data(), kEventsAtOnce, Timeout());
      const absl::Time now = clock_.Now();
      for (int i = 0; i < count; ++i) {
        const uint64_t what = events[i].data.u64;
        if (what == kWake) {
          Obey();
        } else if (what == kListening) {
          // Closed by what came before it in the same round, perhaps.
          if (listening_.ok()) Accept(now);
        } else {
          Ready(what, events[i].events, now);
        }
      }
      const bool freed = shares_.TakeFreed();
      if (now >= next_tick_) {
        TickAll(now);
      } else if (freed || !waiting_.empty()) {
        TickWaiting(now);
      }
    }
  }

  int Timeout() const {
    if (!waiting_.empty())
      return static_cast<int>(kShortTick / absl::Milliseconds(1));
    if (connections_.empty() && peers_.empty() && !paused_ && churn_ == 0) {
      return -1;
    }
    return static_cast<int>(kTick / absl::Milliseconds(1));
  }

  // What Start and StopAccepting ask for.
  void Obey() {
    uint64_t count = 0;
    static_cast<void>(read(wake_.get(), &count, sizeof(count)));
    if (accepting_ && !watching_) WatchListening(true);
    if (accepting_over_ && listening_.ok()) {
      listening_ = FileDescriptor();
      const absl::Time now = clock_.Now();
      for (auto i = connections_.begin(); i != connections_.end();) {
        i->second.connection->Retire(now);
        i = Update(i, now);
      }
      MutexLock lock(&mu_);
      listening_closed_ = true;
      closed_.SignalAll();
    }
  }

  void WatchListening(bool watch) {
    watching_ = watch;
    Watch(listening_.get(), watch ? EPOLL_CTL_ADD : EPOLL_CTL_DEL, EPOLLIN,
          kListening);
  }

  void Accept(absl::Time now) {
    for (int i = 0; i < kAcceptsAtOnce; ++i) {
      sockaddr_storage address{};
      socklen_t size = sizeof(address);
      FileDescriptor client(accept4(listening_.get(),
                                    reinterpret_cast<sockaddr*>(&address),
                                    &size, SOCK_NONBLOCK | SOCK_CLOEXEC));
      if (client.ok()) {
        Take(std::move(client), AddressText(address), now);
        continue;
      }
      if (errno == EAGAIN) return;
      if (errno == EINTR || errno == ECONNABORTED) continue;
      if ((errno == EMFILE || errno == ENFILE) && RefuseOne()) {
        Tell("descriptors", "no file descriptors are left", "", now);
        continue;
      }
      // Nothing can be done now; the connections wait in the backlog.
      Tell("descriptors", strerror(errno), "", now);
      paused_ = true;
      resume_at_ = now + kAcceptPause;
      WatchListening(false);
      return;
    }
  }

  // Without descriptors: gives one back, so that a connection can be taken and
  // closed instead of waiting for ever.
  bool RefuseOne() {
    if (!spare_descriptor_.ok()) return false;
    spare_descriptor_ = FileDescriptor();
    {
      const FileDescriptor refused(
          accept4(listening_.get(), nullptr, nullptr, SOCK_CLOEXEC));
    }
    spare_descriptor_ = FileDescriptor(open("/dev/null", O_RDONLY | O_CLOEXEC));
    return true;
  }

  void Take(FileDescriptor client, const std::string& address, absl::Time now) {
    Peer& peer = PeerAt(address, now);
    if (peer.limited && peer.connections >= options_.max_connections_per_peer &&
        !MakeRoom(&peer, now)) {
      Tell("peer_connections", "it has too many connections", address, now);
      return;
    }
    if (static_cast<int>(connections_.size()) >= options_.max_connections &&
        !MakeRoom(nullptr, now)) {
      Tell("connections", "there are too many connections", address, now);
      return;
    }
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0,
                   pair) != 0) {
      Tell("descriptors", strerror(errno), address, now);
      return;
    }
    FileDescriptor server(pair[0]), for_server(pair[1]);
    std::unique_ptr<TlsSession> tls;
    if (options_.new_tls != nullptr && (tls = options_.new_tls()) == nullptr) {
      Tell("tls", "TLS: there is no memory for it", address, now);
      return;
    }
    const std::string name = Name(server.get(), address);
    const int yes = 1;
    setsockopt(client.get(), IPPROTO_TCP, TCP_NODELAY, &yes, sizeof(yes));

    const uint64_t id = next_id_++;
    Entry& entry = connections_[id];
    entry.peer = &peer;
    ++peer.connections;
    entry.for_server = std::move(for_server);
    entry.name = name;
    entry.connection = std::make_unique<RelayConnection>(
        RelayConnection::Options{options_.guard, options_.unread,
                                 options_.handshake, options_.complete},
        address, peer, shares_, std::move(tls), std::move(client),
        std::move(server), spare_buffer_, now);
    entry.client_events = entry.connection->client_events();
    entry.server_events = entry.connection->server_events();
    Watch(entry.connection->client_fd(), EPOLL_CTL_ADD, entry.client_events,
          id << 1 | kClient);
    Watch(entry.connection->server_fd(), EPOLL_CTL_ADD, entry.server_events,
          id << 1 | kServer);
    HandOver(entry);
    callbacks_.on_count(static_cast<int>(connections_.size()));
  }

  // To the server, as soon as it may have it.
  void HandOver(Entry& entry) {
    if (!entry.for_server.ok() || !entry.connection->established()) return;
    const std::string identity = entry.connection->identity();
    if (!identity.empty() && options_.identities != nullptr) {
      options_.identities->Set(entry.name, identity);
    }
    callbacks_.on_connection(entry.for_server.Release());
  }

  // The other end sees this name as its peer's. Empty when there is none.
  std::string Name(int fd, const std::string& address) {
    // Another program may hold a name; without one the peer is unknown.
    for (int tries = 0; tries < 8; ++tries) {
      std::string name = RelayName(
          address, absl::StrCat(getpid(), "-", wake_.get(), "-", names_++));
      sockaddr_un to{};
      to.sun_family = AF_UNIX;
      std::memcpy(to.sun_path + 1, name.data(),
                  std::min(name.size(), sizeof(to.sun_path) - 1));
      const auto size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) +
                                               1 + name.size());
      if (bind(fd, reinterpret_cast<sockaddr*>(&to), size) == 0) return name;
    }
    return "";
  }

  Peer& PeerAt(const std::string& address, absl::Time now) {
    const bool limited = !options_.trusted_proxies.Contains(address);
    const std::string name = limited ? PeerOfAddress(address) : address;
    const TokenBucket::Rate none{kUnlimited, kUnlimited};
    return peers_
        .try_emplace(
            name,
            Peer{.limited = limited,
                 .streams = TokenBucket(limited ? options_.streams : none, now),
                 .resets = TokenBucket(limited ? options_.resets : none, now)})
        .first->second;
  }

  // Closes the connection, of `peer` if given, that has been without a call for
  // longest.
  bool MakeRoom(const Peer* peer, absl::Time now) {
    auto longest = connections_.end();
    absl::Time since;
    for (auto i = connections_.begin(); i != connections_.end(); ++i) {
      if (peer != nullptr && i->second.peer != peer) continue;
      const auto idle = i->second.connection->idle_since();
      if (idle.has_value() && *idle <= now - kQuiet &&
          (longest == connections_.end() || *idle < since)) {
        longest = i;
        since = *idle;
      }
    }
    if (longest == connections_.end()) return false;
    RelayConnection& connection = *longest->second.connection;
    connection.Cut(now, "made_room", "it was idle and others wanted its place",
                   Http2Guard::GoAway::kNoError);
    Remove(longest, now);
    return true;
  }

  void Ready(uint64_t what, uint32_t events, absl::Time now) {
    const auto found = connections_.find(what >> 1);
    if (found == connections_.end()) return;
    RelayConnection& connection = *found->second.connection;
    const bool gone = (events & (EPOLLHUP | EPOLLERR)) != 0;
    const bool client = (what & 1) == kClient;
    // A socket that is gone says so again and again until it is closed.
    if (gone && client) {
      connection.ClientGone(now);
      Remove(found, now);
      return;
    }
    const bool readable = (events & EPOLLIN) != 0;
    connection.Pump(now, client && readable, !client && readable);
    if (gone) connection.ServerGone(now);
    Update(found, now);
  }

  // After anything happened to a connection. Returns the next one.
  Connections::iterator Update(Connections::iterator at, absl::Time now) {
    Entry& entry = at->second;
    RelayConnection& connection = *entry.connection;
    HandOver(entry);
    churn_ += connection.request_bytes() - entry.request_bytes +
              (connection.streams_seen() - entry.streams) * kStreamBytes;
    entry.request_bytes = connection.request_bytes();
    entry.streams = connection.streams_seen();
    if (!connection.reason().empty() && !entry.told) {
      entry.told = true;
      Tell(connection.reason(), connection.text(), connection.address(), now);
    }
    if (connection.done()) return Remove(at, now);
    if (connection.waits() || connection.holds_back()) {
      waiting_.insert(at->first);
    } else {
      waiting_.erase(at->first);
    }
    const uint32_t client = connection.client_events();
    if (client != entry.client_events) {
      entry.client_events = client;
      Watch(connection.client_fd(), EPOLL_CTL_MOD, client,
            at->first << 1 | kClient);
    }
    if (connection.server_fd() < 0) return std::next(at);
    const uint32_t server = connection.server_events();
    if (server != entry.server_events) {
      entry.server_events = server;
      Watch(connection.server_fd(), EPOLL_CTL_MOD, server,
            at->first << 1 | kServer);
    }
    return std::next(at);
  }

  Connections::iterator Remove(Connections::iterator at, absl::Time now) {
    Entry& entry = at->second;
    if (!entry.connection->reason().empty() && !entry.told) {
      Tell(entry.connection->reason(), entry.connection->text(),
           entry.connection->address(), now);
    }
    if (options_.identities != nullptr) options_.identities->Remove(entry.name);
    --entry.peer->connections;
    churn_ += kConnectionBytes;
    waiting_.erase(at->first);
    const auto next = connections_.erase(at);
    callbacks_.on_count(static_cast<int>(connections_.size()));
    return next;
  }

  void TickWaiting(absl::Time now) {
    for (const uint64_t id :
         std::vector<uint64_t>(waiting_.begin(), waiting_.end())) {
      const auto found = connections_.find(id);
      if (found == connections_.end()) continue;
      found->second.connection->Tick(now, false);
      Update(found, now);
    }
  }

  void TickAll(absl::Time now) {
    next_tick_ = now + kTick;
    const bool others_wait = std::any_of(
        connections_.begin(), connections_.end(),
        [](const auto& c) { return c.second.connection->holds_back(); });
    for (auto i = connections_.begin(); i != connections_.end();) {
      i->second.connection->Tick(now, others_wait);
      i = Update(i, now);
    }
    for (auto i = peers_.begin(); i != peers_.end();) {
      Peer& peer = i->second;
      const bool forgotten = peer.connections == 0 && peer.streams.Full(now) &&
                             peer.resets.Full(now);
      i = forgotten ? peers_.erase(i) : std::next(i);
    }
    if (paused_ && now >= resume_at_ && listening_.ok()) {
      paused_ = false;
      WatchListening(true);
    }
    if (!spare_descriptor_.ok()) {
      spare_descriptor_ =
          FileDescriptor(open("/dev/null", O_RDONLY | O_CLOEXEC));
    }
    Trim();
  }

  // Freed memory stays in the heap, more than gigabytes of it after a flood.
  void Trim() {
    const bool quiet = churn_ - churn_before_ < kQuietBytes;
    churn_before_ = churn_;
    if (!quiet) return;
    if (churn_ >= kTrimBytes) {
      malloc_trim(0);
      churn_ = 0;
    } else if (connections_.empty()) {
      churn_ = 0;
    }
    churn_before_ = churn_;
  }

  // Counts, and logs now and then.
  void Tell(absl::string_view reason, absl::string_view text,
            const std::string& address, absl::Time now) {
    callbacks_.on_cut(reason);
    const std::optional<int64_t> more = lines_.Take(now);
    if (!more.has_value()) return;
    spdlog::warn("{}: closed a connection{}{}: {}{}", options_.name,
                 address.empty() ? "" : " of ", address, std::string(text),
                 *more > 0 ? absl::StrCat(" (and ", *more,
                                          " more since the last such line)")
                           : std::string());
  }

  const Options options_;
  const Callbacks callbacks_;
  const Clock& clock_;
  const std::string address_;
  const FileDescriptor epoll_;
  const FileDescriptor wake_;

  std::atomic<bool> stop_{false};
  std::atomic<bool> accepting_{false};
  std::atomic<bool> accepting_over_{false};
  Mutex mu_;
  CondVar closed_;
  bool listening_closed_ ABSL_GUARDED_BY(mu_) = false;

  // The loop's own.
  FileDescriptor listening_;
  bool watching_ = false;
  bool paused_ = false;  // no descriptors
  absl::Time resume_at_ = absl::InfinitePast();
  absl::Time next_tick_ = absl::InfinitePast();
  FileDescriptor spare_descriptor_;
  std::string spare_buffer_;
  Shares shares_;
  LineLimit lines_;
  std::unordered_map<std::string, Peer> peers_;  // where a Peer lies is fixed
  Connections connections_;
  std::set<uint64_t> waiting_;
  uint64_t next_id_ = kFirstConnection;
  uint64_t names_ = 0;
  int64_t churn_ = 0;
  int64_t churn_before_ = 0;

  std::thread thread_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Relay>> Relay::Create(const Options& options,
                                                     Callbacks callbacks,
                                                     const Clock& clock) {
  ASSIGN_OR_RETURN(ListenSocket listening,
                   ListenOn(options.name, options.address));
  FileDescriptor epoll(epoll_create1(EPOLL_CLOEXEC));
  FileDescriptor wake(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!epoll.ok() || !wake.ok()) {
    return absl::ResourceExhaustedError(
        absl::StrCat("cannot watch connections: ", strerror(errno)));
  }
  auto loop = std::make_unique<Loop>(options, std::move(callbacks), clock,
                                     std::move(listening), std::move(epoll),
                                     std::move(wake));
  RETURN_IF_ERROR(loop->StartLoop());
  return loop;
}

}  // namespace ounce::server
