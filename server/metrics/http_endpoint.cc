#include "server/metrics/http_endpoint.h"

#include <arpa/inet.h>
#include <microhttpd.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <map>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "base/mutex.h"
#include "base/status_macros.h"
#include "base/thread.h"
#include "server/net/peer.h"

namespace ounce::server {
namespace {

constexpr size_t kMaxHeaderBytes = 16 << 10;
// Connections taken between two looks at those that are there, so that a
// request which has come is answered before a flood pushes it out.
constexpr int kAcceptAtOnce = 8;
// After the descriptors ran out.
constexpr absl::Duration kAcceptPause = absl::Milliseconds(100);
constexpr int kLookEveryMs = 250;

// Of every reply: what browsers are to make of it. Nothing is kept, nothing is
// taken from or given to another origin, no script or style but our own files.
constexpr std::pair<const char*, const char*> kHeaders[] = {
    {"Connection", "close"},
    {"Cache-Control", "no-store"},
    {"Content-Security-Policy",
     "default-src 'none'; script-src 'self'; style-src 'self'; "
     "img-src 'self'; connect-src 'self'; base-uri 'none'; "
     "form-action 'none'; frame-ancestors 'none'; "
     "require-trusted-types-for 'script'"},
    {"Cross-Origin-Resource-Policy", "same-origin"},
    {"Referrer-Policy", "no-referrer"},
    {"X-Content-Type-Options", "nosniff"},
    {"X-Frame-Options", "DENY"},
};

// Whether a header Host, NAME[:PORT], is none that a stranger could have had
// lead here.
bool IsOwn(absl::string_view host, const std::vector<std::string>& names) {
  const bool bracketed = absl::ConsumePrefix(&host, "[");
  std::string name =
      absl::AsciiStrToLower(host.substr(0, host.find(bracketed ? ']' : ':')));
  if (!name.empty() && name.back() == '.') name.pop_back();
  in6_addr address;
  return inet_pton(bracketed ? AF_INET6 : AF_INET, name.c_str(), &address) ==
             1 ||
         name == "localhost" || absl::EndsWith(name, ".localhost") ||
         std::any_of(names.begin(), names.end(), [&](const auto& known) {
           return absl::EqualsIgnoreCase(known, name);
         });
}

class Endpoint final : public HttpEndpoint {
 public:
  Endpoint(ListenSocket socket, const Options& options, const Clock& clock,
           std::function<HttpReply(const std::string&)> answer)
      : options_(options),
        clock_(clock),
        answer_(std::move(answer)),
        listen_(std::move(socket.fd)) {}

  absl::Status Begin() {
    wake_ = FileDescriptor(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    if (!wake_.ok()) {
      return absl::ResourceExhaustedError(
          absl::StrCat("metrics_listen: ", std::strerror(errno)));
    }
    daemon_ = MHD_start_daemon(
        MHD_USE_EPOLL | MHD_USE_NO_LISTEN_SOCKET, 0, nullptr, nullptr,
        &Endpoint::Handle, this,  //
        MHD_OPTION_CONNECTION_MEMORY_LIMIT, kMaxHeaderBytes,
        // Never met: those that are shut down go at the next look.
        MHD_OPTION_CONNECTION_LIMIT,
        static_cast<unsigned>(options_.max_connections * 4 + kAcceptAtOnce),
        MHD_OPTION_NOTIFY_CONNECTION, &Endpoint::Notify, this,  //
        MHD_OPTION_END);
    if (daemon_ == nullptr) {
      return absl::ResourceExhaustedError(
          "metrics_listen: no descriptors for the HTTP port");
    }
    ASSIGN_OR_RETURN(thread_, StartThread("ounce-metrics", [this] { Loop(); }));
    return absl::OkStatus();
  }

  ~Endpoint() override {
    if (thread_.joinable()) {
      stop_ = true;
      eventfd_write(wake_.get(), 1);
      thread_.join();
    }
    if (daemon_ != nullptr) MHD_stop_daemon(daemon_);
  }

  void Add(FileDescriptor connection) override {
    {
      MutexLock lock(&mu_);
      added_.push_back(std::move(connection));
    }
    eventfd_write(wake_.get(), 1);
  }

 private:
  struct Connection {
    std::string peer;
    absl::Time deadline;
    bool closing = false;  // shut down; the library has not noticed yet
  };

  void Loop() {
    const int events =
        MHD_get_daemon_info(daemon_, MHD_DAEMON_INFO_EPOLL_FD)->epoll_fd;
    absl::Time accept_from = absl::InfinitePast();
    while (true) {
      MHD_UNSIGNED_LONG_LONG wait_ms = kLookEveryMs;
      if (MHD_get_timeout(daemon_, &wait_ms) != MHD_YES) wait_ms = kLookEveryMs;
      const bool accepts = clock_.Now() >= accept_from;
      pollfd fds[] = {{wake_.get(), POLLIN, 0},
                      {events, POLLIN, 0},
                      {accepts ? listen_.get() : -1, POLLIN, 0}};
      poll(fds, std::size(fds),
           static_cast<int>(std::min<MHD_UNSIGNED_LONG_LONG>(
               wait_ms, accepts ? kLookEveryMs : 20)));
      if (fds[0].revents != 0) {
        if (stop_) return;
        TakeAdded();
      }
      if (fds[2].revents != 0 && !Accept()) {
        accept_from = clock_.Now() + kAcceptPause;
      }
      MHD_run(daemon_);
      HangUpOnTheLate();
    }
  }

  // False when there are no descriptors or no memory for a connection.
  bool Accept() {
    for (int i = 0; i < kAcceptAtOnce; ++i) {
      sockaddr_storage address{};
      socklen_t size = sizeof(address);
      const int fd =
          accept4(listen_.get(), reinterpret_cast<sockaddr*>(&address), &size,
                  SOCK_NONBLOCK | SOCK_CLOEXEC);
      if (fd < 0) {
        return errno != EMFILE && errno != ENFILE && errno != ENOBUFS &&
               errno != ENOMEM;
      }
      Take(fd, address, size);
    }
    return true;
  }

  void TakeAdded() {
    eventfd_t count = 0;
    eventfd_read(wake_.get(), &count);
    std::vector<FileDescriptor> added;
    {
      MutexLock lock(&mu_);
      added.swap(added_);
    }
    for (FileDescriptor& connection : added) {
      sockaddr_storage address{};
      socklen_t size = sizeof(address);
      getpeername(connection.get(), reinterpret_cast<sockaddr*>(&address),
                  &size);
      Take(connection.Release(), address, size);
    }
  }

  void Take(int fd, const sockaddr_storage& address, socklen_t size) {
    const std::string peer = PeerOfAddress(AddressText(address));
    MakeRoomFor(peer);
    connections_[fd] = {peer, clock_.Now() + options_.request_time};
    if (MHD_add_connection(daemon_, fd,
                           reinterpret_cast<const sockaddr*>(&address),
                           size) != MHD_YES) {
      connections_.erase(fd);  // closed by the library
    }
  }

  // Hangs up on the oldest connection of this peer if it has as many as it may,
  // else, if all together are, of the peer that has most.
  void MakeRoomFor(const std::string& peer) {
    std::map<std::string_view, size_t> open;
    size_t all = 0;
    for (const auto& [fd, connection] : connections_) {
      if (connection.closing) continue;
      ++open[connection.peer];
      ++all;
    }
    std::string_view hog;
    if (open[peer] >= options_.max_connections_of_peer) {
      hog = peer;
    } else if (all >= options_.max_connections) {
      hog = std::max_element(open.begin(), open.end(),
                             [](const auto& a, const auto& b) {
                               return a.second < b.second;
                             })
                ->first;
    } else {
      return;
    }
    auto oldest = connections_.end();
    for (auto it = connections_.begin(); it != connections_.end(); ++it) {
      if (it->second.closing || it->second.peer != hog) continue;
      if (oldest == connections_.end() ||
          it->second.deadline < oldest->second.deadline) {
        oldest = it;
      }
    }
    HangUp(oldest->first, &oldest->second);
  }

  void HangUpOnTheLate() {
    const absl::Time now = clock_.Now();
    for (auto& [fd, connection] : connections_) {
      if (!connection.closing && connection.deadline <= now) {
        HangUp(fd, &connection);
      }
    }
  }

  static void HangUp(int fd, Connection* connection) {
    connection->closing = true;
    shutdown(fd, SHUT_RDWR);
  }

  // Every browser says which host it asks; others need not.
  bool MayAsk(MHD_Connection* connection) const {
    if (!options_.hosts.has_value()) return true;
    const char* const host = MHD_lookup_connection_value(
        connection, MHD_HEADER_KIND, MHD_HTTP_HEADER_HOST);
    return host == nullptr || IsOwn(host, *options_.hosts);
  }

  static int FdOf(MHD_Connection* connection) {
    return MHD_get_connection_info(connection,
                                   MHD_CONNECTION_INFO_CONNECTION_FD)
        ->connect_fd;
  }

  static void Notify(void* self, MHD_Connection* connection, void**,
                     MHD_ConnectionNotificationCode code) {
    if (code == MHD_CONNECTION_NOTIFY_CLOSED) {
      static_cast<Endpoint*>(self)->connections_.erase(FdOf(connection));
    }
  }

  static MHD_Result Handle(void* self, MHD_Connection* connection,
                           const char* path, const char* method,
                           const char* /*version*/, const char* /*body*/,
                           size_t* /*body_size*/, void** /*request*/) {
    auto* const endpoint = static_cast<Endpoint*>(self);
    const std::string_view verb = method;
    const bool known = verb == "GET" || verb == "HEAD";
    const HttpReply reply =
        !endpoint->MayAsk(connection)
            ? HttpReply{421,
                        "not by this name: ask by an IP address or as "
                        "localhost, or have --metrics_hosts name it\n"}
        : known ? endpoint->answer_(path)
                : HttpReply{405, "only GET and HEAD are answered here\n"};
    const auto found = endpoint->connections_.find(FdOf(connection));
    if (found != endpoint->connections_.end()) {
      found->second.deadline =
          endpoint->clock_.Now() + endpoint->options_.reply_time;
    }
    MHD_Response* const response = MHD_create_response_from_buffer(
        reply.body.size(), const_cast<char*>(reply.body.data()),
        MHD_RESPMEM_MUST_COPY);
    if (response == nullptr) return MHD_NO;
    MHD_add_response_header(response, "Content-Type",
                            reply.content_type.c_str());
    for (const auto& [name, value] : kHeaders) {
      MHD_add_response_header(response, name, value);
    }
    if (!known) MHD_add_response_header(response, "Allow", "GET, HEAD");
    const MHD_Result result = MHD_queue_response(
        connection, static_cast<unsigned>(reply.code), response);
    MHD_destroy_response(response);
    return result;
  }

  const Options options_;
  const Clock& clock_;
  const std::function<HttpReply(const std::string&)> answer_;
  const FileDescriptor listen_;
  FileDescriptor wake_;
  std::atomic<bool> stop_ = false;
  Mutex mu_;
  std::vector<FileDescriptor> added_ ABSL_GUARDED_BY(mu_);
  MHD_Daemon* daemon_ = nullptr;
  std::map<int, Connection> connections_;  // by descriptor; the loop's
  std::thread thread_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<HttpEndpoint>> HttpEndpoint::Start(
    ListenSocket socket, const Options& options, const Clock& clock,
    std::function<HttpReply(const std::string& path)> answer) {
  auto endpoint = std::make_unique<Endpoint>(std::move(socket), options, clock,
                                             std::move(answer));
  RETURN_IF_ERROR(endpoint->Begin());
  return endpoint;
}

}  // namespace ounce::server
