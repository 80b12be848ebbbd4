#include "server/net/listen_socket.h"

#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>
#include <memory>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "base/status_macros.h"

namespace ounce::server {
namespace {

struct HostPort {
  std::string host;  // without brackets
  int port = 0;
};

absl::StatusOr<HostPort> Split(const std::string& setting,
                               const std::string& address) {
  const auto wrong = [&](const std::string& hint) {
    return absl::InvalidArgumentError(
        absl::StrCat(setting, ": must be HOST:PORT, is '", address, "'", hint));
  };
  const size_t colon = address.rfind(':');
  if (colon == std::string::npos) return wrong("");
  HostPort result{address.substr(0, colon), -1};
  const std::string port = address.substr(colon + 1);
  const bool digits = !port.empty() &&
                      port.find_first_not_of("0123456789") == std::string::npos;
  if (!digits) return wrong("");
  if (!absl::SimpleAtoi(port, &result.port) || result.port > 65535) {
    return wrong("; the port must be from 0 to 65535");
  }
  std::string& host = result.host;
  if (host.empty()) return wrong("");
  if (host.starts_with('[') && host.ends_with(']') && host.size() > 2) {
    host = host.substr(1, host.size() - 2);
  } else if (host.find(':') != std::string::npos) {
    return wrong("; an IPv6 address goes in brackets, as in [::1]:8500");
  } else if (host.find_first_of("[]/ ") != std::string::npos) {
    return wrong("");
  }
  return result;
}

// The system's words, to go into a sentence.
std::string Words(const char* text) {
  std::string words = text;
  if (words.size() > 1 && absl::ascii_islower(words[1])) {
    words[0] = absl::ascii_tolower(words[0]);
  }
  return words;
}

absl::StatusOr<FileDescriptor> Bind(const addrinfo& address) {
  const auto failed = [] {
    return absl::InvalidArgumentError(Words(std::strerror(errno)));
  };
  FileDescriptor fd(
      socket(address.ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!fd.ok()) return failed();
  // A server that starts again need not wait for its old connections.
  const int on = 1, off = 0;
  setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
  if (address.ai_family == AF_INET6) {
    setsockopt(fd.get(), IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off));
  }
  if (bind(fd.get(), address.ai_addr, address.ai_addrlen) != 0 ||
      listen(fd.get(), SOMAXCONN) != 0) {
    return failed();
  }
  return fd;
}

int BoundPort(int fd) {
  sockaddr_storage address{};
  socklen_t size = sizeof(address);
  if (getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size) != 0) {
    return 0;
  }
  return ntohs(address.ss_family == AF_INET6
                   ? reinterpret_cast<sockaddr_in6&>(address).sin6_port
                   : reinterpret_cast<sockaddr_in&>(address).sin_port);
}

absl::StatusOr<FileDescriptor> BindTo(const HostPort& where) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_NUMERICSERV;
  addrinfo* list = nullptr;
  const int error = getaddrinfo(
      where.host.c_str(), absl::StrCat(where.port).c_str(), &hints, &list);
  if (error != 0) {
    return absl::InvalidArgumentError(error == EAI_NONAME ? "no such host"
                                      : error == EAI_SYSTEM
                                          ? Words(std::strerror(errno))
                                          : Words(gai_strerror(error)));
  }
  const std::unique_ptr<addrinfo, void (*)(addrinfo*)> owner(list,
                                                             freeaddrinfo);
  for (const addrinfo* each = list; each != nullptr; each = each->ai_next) {
    if (each->ai_family == AF_INET) return Bind(*each);
  }
  return Bind(*list);
}

}  // namespace

absl::StatusOr<ListenSocket> ListenOn(const std::string& setting,
                                      const std::string& address) {
  ASSIGN_OR_RETURN(const HostPort where, Split(setting, address));
  absl::StatusOr<FileDescriptor> fd = BindTo(where);
  if (!fd.ok()) {
    return absl::InvalidArgumentError(absl::StrCat(
        setting, ": cannot listen on ", address, ": ", fd.status().message()));
  }
  const int port = BoundPort(fd->get());
  return ListenSocket{
      *std::move(fd),
      absl::StrCat(address.substr(0, address.rfind(':')), ":", port)};
}

}  // namespace ounce::server
