// A stretch of network that a test owns: between a client and a server, it
// forwards until it has had enough, and then holds all back, or hangs up.
#ifndef OUNCE_TESTS_TESTING_RELAY_H_
#define OUNCE_TESTS_TESTING_RELAY_H_

#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <string>
#include <thread>

#include "base/check.h"
#include "tests/testing/loopback.h"

namespace ounce::testing {

// One connection, to 127.0.0.1:PORT.
class Relay {
 public:
  // Forwards `max_bytes` of the server's to the client, no more; what the
  // client sends goes on.
  Relay(const std::string& server, int64_t max_bytes) : left_(max_bytes) {
    listener_ = socket(AF_INET, SOCK_STREAM, 0);
    sockaddr_in address = Loopback(0);
    bind(listener_, reinterpret_cast<sockaddr*>(&address), sizeof(address));
    OUNCE_CHECK(listen(listener_, 1) == 0, "a relay can listen");
    socklen_t size = sizeof(address);
    getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &size);
    address_ = "127.0.0.1:" + std::to_string(ntohs(address.sin_port));
    server_ = server;
    thread_ = std::thread([this] { Forward(); });
  }
  ~Relay() {
    HangUp();
    thread_.join();
    close(listener_);
  }
  Relay(const Relay&) = delete;
  Relay& operator=(const Relay&) = delete;

  const std::string& address() const { return address_; }

  // Whether it holds something back.
  bool holding() const { return left_ == 0; }

  void HangUp() { ended_ = true; }

 private:
  static constexpr int64_t kChunk = 4096;

  // Until something can be read from it; false when this has ended.
  bool Readable(pollfd* files, int num_files) const {
    while (!ended_) {
      if (poll(files, num_files, 10) > 0) return true;
    }
    return false;
  }

  void Forward() {
    pollfd waiting = {.fd = listener_, .events = POLLIN, .revents = 0};
    if (!Readable(&waiting, 1)) return;
    const int client = accept(listener_, nullptr, nullptr);
    const int server = socket(AF_INET, SOCK_STREAM, 0);
    OUNCE_CHECK(ConnectTo(server, server_), "the server listens");
    pollfd files[2] = {{.fd = client, .events = POLLIN, .revents = 0},
                       {.fd = server, .events = POLLIN, .revents = 0}};
    while (Readable(files, 2)) {
      if (files[0].revents != 0 && Move(client, server, kChunk) <= 0) break;
      if (files[1].revents == 0) continue;
      const int64_t moved =
          Move(server, client, std::min<int64_t>(left_, kChunk));
      if (moved <= 0) break;
      left_ -= moved;
      if (left_ == 0) files[1].fd = -1;  // poll then passes it by
    }
    close(client);
    close(server);
  }

  // Returns the bytes that were moved.
  static int64_t Move(int from, int to, int64_t most) {
    char bytes[kChunk];
    const ssize_t num_read = read(from, bytes, static_cast<size_t>(most));
    if (num_read <= 0) return num_read;
    return send(to, bytes, num_read, MSG_NOSIGNAL);
  }

  std::atomic<int64_t> left_;
  std::atomic<bool> ended_ = false;
  int listener_ = -1;
  std::string server_;  // HOST:PORT
  std::string address_;
  std::thread thread_;
};

}  // namespace ounce::testing

#endif  // OUNCE_TESTS_TESTING_RELAY_H_
