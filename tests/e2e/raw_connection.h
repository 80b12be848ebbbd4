// A TCP connection on which a test writes HTTP/2 frames by hand, well made or
// not, from any address of loopback.
#ifndef OUNCE_TESTS_E2E_RAW_CONNECTION_H_
#define OUNCE_TESTS_E2E_RAW_CONNECTION_H_

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <string>
#include <utility>

#include "absl/time/clock.h"
#include "absl/time/time.h"

namespace ounce::testing {

class RawConnection {
 public:
  // To HOST:PORT (IPv4); `from` is the address it comes from.
  explicit RawConnection(const std::string& to,
                         const std::string& from = "127.0.0.1") {
    fd_ = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in source = Address(from, 0);
    const size_t colon = to.rfind(':');
    sockaddr_in target =
        Address(to.substr(0, colon), std::stoi(to.substr(colon + 1)));
    timeval patience{.tv_sec = 1, .tv_usec = 0};
    setsockopt(fd_, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
    open_ =
        fd_ >= 0 &&
        bind(fd_, reinterpret_cast<sockaddr*>(&source), sizeof(source)) == 0 &&
        connect(fd_, reinterpret_cast<sockaddr*>(&target), sizeof(target)) == 0;
  }
  RawConnection(RawConnection&& other) noexcept
      : fd_(std::exchange(other.fd_, -1)), open_(other.open_) {}
  ~RawConnection() {
    if (fd_ >= 0) close(fd_);
  }

  bool open() const { return open_; }

  // False when not all of it went out: the server reads no more, or closed.
  bool Write(const std::string& bytes) {
    size_t sent = 0;
    while (open_ && sent < bytes.size()) {
      const ssize_t n =
          send(fd_, bytes.data() + sent, bytes.size() - sent, MSG_NOSIGNAL);
      if (n <= 0) {
        if (errno != EAGAIN) open_ = false;
        return false;
      }
      sent += static_cast<size_t>(n);
    }
    return open_;
  }

  // What has come, waiting up to `patience` for some. Empty when there is
  // nothing, or when it was closed (see open()).
  std::string Read(absl::Duration patience = absl::ZeroDuration()) {
    pollfd wait{fd_, POLLIN, 0};
    if (!open_ ||
        poll(&wait, 1, static_cast<int>(absl::ToInt64Milliseconds(patience))) <=
            0) {
      return "";
    }
    char buffer[65'536];
    const ssize_t n = recv(fd_, buffer, sizeof(buffer), MSG_DONTWAIT);
    if (n <= 0) {
      if (n == 0 || errno != EAGAIN) open_ = false;
      return "";
    }
    return std::string(buffer, static_cast<size_t>(n));
  }

  // Reads until the server closes; false if it doesn't in time.
  bool WaitClosed(absl::Duration patience) {
    const absl::Time deadline = absl::Now() + patience;
    while (open_ && absl::Now() < deadline) {
      last_words_ += Read(absl::Milliseconds(50));
    }
    return !open_;
  }
  const std::string& last_words() const { return last_words_; }

 private:
  static sockaddr_in Address(const std::string& host, int port) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    inet_pton(AF_INET, host.c_str(), &address.sin_addr);
    address.sin_port = htons(static_cast<uint16_t>(port));
    return address;
  }

  int fd_ = -1;
  bool open_ = false;
  std::string last_words_;
};

}  // namespace ounce::testing

#endif  // OUNCE_TESTS_E2E_RAW_CONNECTION_H_
