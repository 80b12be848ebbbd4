// Fetches a page from a server of this machine, for tests of /metrics and its
// neighbours.
#ifndef OUNCE_TESTS_TESTING_HTTP_GET_H_
#define OUNCE_TESTS_TESTING_HTTP_GET_H_

#include <sys/socket.h>
#include <unistd.h>

#include <string>

#include "base/check.h"
#include "tests/testing/loopback.h"

namespace ounce::testing {

// Everything that `address` (127.0.0.1:PORT) answers to `request`, until it
// hangs up; empty when it does not answer.
inline std::string HttpAsk(const std::string& address,
                           const std::string& request) {
  const int connection = socket(AF_INET, SOCK_STREAM, 0);
  OUNCE_CHECK(connection >= 0, "a socket");
  std::string answer;
  if (ConnectTo(connection, address) &&
      send(connection, request.data(), request.size(), MSG_NOSIGNAL) ==
          static_cast<ssize_t>(request.size())) {
    char buffer[4096];
    ssize_t size;
    while ((size = recv(connection, buffer, sizeof(buffer), 0)) > 0) {
      answer.append(buffer, static_cast<size_t>(size));
    }
  }
  close(connection);
  return answer;
}

inline std::string HttpRequest(const std::string& verb,
                               const std::string& path) {
  return verb + " " + path +
         " HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
}

// The body of http://`address``path`; empty when the server doesn't answer 200.
inline std::string HttpGet(const std::string& address,
                           const std::string& path) {
  const std::string answer = HttpAsk(address, HttpRequest("GET", path));
  const size_t body = answer.find("\r\n\r\n");
  if (!answer.starts_with("HTTP/1.1 200") || body == std::string::npos) {
    return "";
  }
  return answer.substr(body + 4);
}

}  // namespace ounce::testing

#endif  // OUNCE_TESTS_TESTING_HTTP_GET_H_
