// 127.0.0.1, for sockets that tests make by hand.
#ifndef OUNCE_TESTS_TESTING_LOOPBACK_H_
#define OUNCE_TESTS_TESTING_LOOPBACK_H_

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <cstdint>
#include <cstdlib>
#include <string>

namespace ounce::testing {

inline sockaddr_in Loopback(int port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(static_cast<uint16_t>(port));
  return address;
}

// Connects `fd`, an IPv4 socket, to the port of `address` (HOST:PORT) here.
inline bool ConnectTo(int fd, const std::string& address) {
  const sockaddr_in to =
      Loopback(std::atoi(address.substr(address.rfind(':') + 1).c_str()));
  return connect(fd, reinterpret_cast<const sockaddr*>(&to), sizeof(to)) == 0;
}

}  // namespace ounce::testing

#endif  // OUNCE_TESTS_TESTING_LOOPBACK_H_
