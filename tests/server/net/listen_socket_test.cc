#include "server/net/listen_socket.h"

#include <sys/socket.h>

#include <string>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/testing/loopback.h"
#include "tests/testing/status_matchers.h"

namespace ounce::server {
namespace {

using ::ounce::testing::StatusIs;
using ::testing::AnyOf;
using ::testing::HasSubstr;
using ::testing::MatchesRegex;

std::string PortOf(const std::string& address) {
  return address.substr(address.rfind(':') + 1);
}

bool HasIpv6Loopback() { return ListenOn("test", "[::1]:0").ok(); }

// Whether something on this machine takes a connection to 127.0.0.1:`port`.
bool AnswersOnIpv4(const std::string& port) {
  const FileDescriptor fd(socket(AF_INET, SOCK_STREAM, 0));
  return testing::ConnectTo(fd.get(), ":" + port);
}

TEST(ListenSocketTest, ListensOnAnAddressAndTellsTheFreePortThatItTook) {
  ASSERT_OK_AND_ASSIGN(const ListenSocket socket,
                       ListenOn("listen", "127.0.0.1:0"));
  EXPECT_THAT(socket.address, MatchesRegex("127\\.0\\.0\\.1:[1-9][0-9]*"));
  EXPECT_TRUE(AnswersOnIpv4(PortOf(socket.address)));
}

TEST(ListenSocketTest, TakesNamesAndIpv6AndAllAddresses) {
  for (const char* address : {"localhost:0", "0.0.0.0:0"}) {
    SCOPED_TRACE(address);
    ASSERT_OK_AND_ASSIGN(const ListenSocket socket,
                         ListenOn("listen", address));
    EXPECT_TRUE(AnswersOnIpv4(PortOf(socket.address)));
  }
  if (!HasIpv6Loopback()) GTEST_SKIP() << "no IPv6 on this machine";
  ASSERT_OK_AND_ASSIGN(const ListenSocket all, ListenOn("listen", "[::]:0"));
  EXPECT_THAT(all.address, MatchesRegex("\\[::\\]:[1-9][0-9]*"));
  EXPECT_TRUE(AnswersOnIpv4(PortOf(all.address))) << "[::] takes IPv4 as well";
  ASSERT_OK_AND_ASSIGN(const ListenSocket one, ListenOn("listen", "[::1]:0"));
  EXPECT_FALSE(AnswersOnIpv4(PortOf(one.address)));
}

TEST(ListenSocketTest, SaysInOneSentenceWhyItCannotListen) {
  ASSERT_OK_AND_ASSIGN(const ListenSocket first,
                       ListenOn("listen", "127.0.0.1:0"));
  EXPECT_THAT(
      ListenOn("metrics_listen", first.address),
      StatusIs(absl::StatusCode::kInvalidArgument,
               absl::StrCat("metrics_listen: cannot listen on ", first.address,
                            ": address already in use")));
  EXPECT_THAT(
      ListenOn("metrics_listen", "192.0.2.1:8502"),
      StatusIs(absl::StatusCode::kInvalidArgument,
               "metrics_listen: cannot listen on 192.0.2.1:8502: cannot assign "
               "requested address"));
  EXPECT_THAT(
      ListenOn("listen", "no-such-host.invalid:8502"),
      StatusIs(absl::StatusCode::kInvalidArgument,
               AnyOf(HasSubstr("no such host"), HasSubstr("name resolution"))));
}

TEST(ListenSocketTest, RefusesWhatIsNoHostAndPort) {
  for (const char* address :
       {"", "8502", ":8502", "127.0.0.1", "127.0.0.1:", "127.0.0.1:http",
        "a:-1", "a:+1", "http://127.0.0.1:8502", "a b:1", "[::1:1", "[]:1",
        "127.0.0.1: 80"}) {
    EXPECT_THAT(
        ListenOn("listen", address),
        StatusIs(absl::StatusCode::kInvalidArgument,
                 HasSubstr(absl::StrCat("listen: must be HOST:PORT, is '",
                                        address, "'"))));
  }
  EXPECT_THAT(ListenOn("listen", "::1:8500"),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("in brackets, as in [::1]:8500")));
  EXPECT_THAT(ListenOn("listen", "127.0.0.1:65536"),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("the port must be from 0 to 65535")));
}

}  // namespace
}  // namespace ounce::server
