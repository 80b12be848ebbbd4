#include "client/address.h"

#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/testing/status_matchers.h"

namespace ounce::client {
namespace {

using ::testing::HasSubstr;
using testing::StatusIs;

TEST(AddressTest, ReadsHostAndPort) {
  struct Case {
    const char* text;
    const char* host;
    const char* target;
  };
  for (const Case& c :
       {Case{"localhost:8500", "localhost", "localhost:8500"},
        Case{"127.0.0.1:1", "127.0.0.1", "127.0.0.1:1"},
        Case{"[::1]:8500", "::1", "[::1]:8500"},
        Case{"http://host.example:8500", "host.example", "host.example:8500"},
        Case{"http://host.example:8500/", "host.example", "host.example:8500"},
        Case{"unix:/run/ounce.sock", "", "unix:/run/ounce.sock"}}) {
    ASSERT_OK_AND_ASSIGN(const Address address, ParseAddress(c.text));
    EXPECT_EQ(address.host, c.host);
    EXPECT_EQ(address.target, c.target);
  }
}

TEST(AddressTest, SaysWhatIsWrong) {
  const auto refused = [](const char* text, const char* why) {
    EXPECT_THAT(ParseAddress(text),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(why)))
        << text;
  };
  refused("", "must be HOST:PORT, is empty");
  refused("host", "must be HOST:PORT, is 'host', which has no port");
  refused("[::1]", "has no port");
  refused("::1", "must be [IPv6 ADDRESS]:PORT, with the brackets, is '::1'");
  refused("[::1:8500", "must be [IPv6 ADDRESS]:PORT");
  refused("host:", "a port from 1 to 65535");
  refused("host:0", "a port from 1 to 65535");
  refused("host:65536", "a port from 1 to 65535");
  refused("host:port", "a port from 1 to 65535, is 'host:port'");
  refused("http://host:8500/path", "must be HOST:PORT");
  refused("https://host:8500", "and --tls for TLS");
  refused(":8500", "must be HOST:PORT, is ':8500'");
  refused("a host:8500", "must be HOST:PORT");
  refused("user@host:8500", "must be HOST:PORT");
  refused("[::1]x:8500", "must be HOST:PORT");
}

TEST(AddressTest, KnowsLoopback) {
  for (const char* host :
       {"localhost", "LocalHost", "localhost.", "a.localhost", "127.0.0.1",
        "127.255.1.2", "::1", "0:0:0:0:0:0:0:1", "::ffff:127.0.0.1", "0.0.0.0",
        "::"}) {
    EXPECT_TRUE(IsLoopback(host)) << host;
  }
  for (const char* host :
       {"localhost.example", "notlocalhost", "128.0.0.1", "10.0.0.1", "::2",
        "fe80::1", "127.0.0.1.example", "0.0.0.1", ""}) {
    EXPECT_FALSE(IsLoopback(host)) << host;
  }
}

}  // namespace
}  // namespace ounce::client
