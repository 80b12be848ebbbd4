#include "server/net/peer.h"

#include <arpa/inet.h>
#include <netinet/in.h>

#include "gmock/gmock.h"
#include "tests/testing/status_matchers.h"

namespace ounce::server {
namespace {

using ounce::testing::StatusIs;
using ::testing::HasSubstr;

TEST(PeerTest, IsTheAddressWithoutItsPort) {
  EXPECT_EQ(PeerOf("ipv4:192.0.2.7:4711", "", {}), "192.0.2.7");
  EXPECT_EQ(PeerOf("ipv6:%5B::ffff:192.0.2.7%5D:4711", "", {}), "192.0.2.7");
  EXPECT_EQ(AddressOfUri("ipv6:[2001:db8::1]:80"), "2001:db8::1");
}

TEST(PeerTest, IsTheFirstHalfOfAnIpv6Address) {
  EXPECT_EQ(PeerOf("ipv6:[2001:db8:1:2:3:4:5:6]:80", "", {}),
            "2001:db8:1:2::/64");
  EXPECT_EQ(PeerOfAddress("2001:db8:1:2:ffff::1"), "2001:db8:1:2::/64");
  EXPECT_EQ(PeerOfAddress("fe80::1%eth0"), "fe80::/64");
}

TEST(PeerTest, IsReadFromTheNameOfARelayedConnection) {
  EXPECT_EQ(AddressOfUri("unix-abstract:ounce%2F12%2F3%2F192.0.2.7"),
            "192.0.2.7");
  EXPECT_EQ(AddressOfUri("unix-abstract:" + RelayName("2001:db8::1", "12-3")),
            "2001:db8::1");
}

TEST(PeerTest, IsUnknownWhereNothingIsSaid) {
  for (const char* uri : {"", "unix:", "unix-abstract:other/1.2.3.4", "ipv4:",
                          "unix-abstract:ounce/", "ipv6:[:80", "ipv4:%zz"}) {
    EXPECT_EQ(PeerOf(uri, "", {}), "") << uri;
  }
}

TEST(PeerTest, IsWhomATrustedProxyNamesLast) {
  ASSERT_OK_AND_ASSIGN(const PeerSet proxies, PeerSet::Parse("10.0.0.0/8"));
  EXPECT_EQ(PeerOf("ipv4:10.1.1.1:9", "1.1.1.1, 192.0.2.7", proxies),
            "192.0.2.7");
  EXPECT_EQ(PeerOf("ipv4:10.1.1.1:9", "[2001:db8::1]:80", proxies),
            "2001:db8::/64");
  EXPECT_EQ(PeerOf("ipv4:10.1.1.1:9", "192.0.2.7:80", proxies), "192.0.2.7");
  // Anybody may write the header; only a proxy is believed.
  EXPECT_EQ(PeerOf("ipv4:192.0.2.9:9", "192.0.2.7", proxies), "192.0.2.9");
  EXPECT_EQ(PeerOf("ipv4:10.1.1.1:9", "unknown", proxies), "10.1.1.1");
}

TEST(PeerSetTest, HoldsAddressesAndNetworks) {
  ASSERT_OK_AND_ASSIGN(
      const PeerSet set,
      PeerSet::Parse(" 10.0.0.0/8,192.0.2.128/25 , ::1, 2001:db8::/33"));
  for (const char* in : {"10.255.0.1", "192.0.2.129", "::1", "2001:db8:7fff::1",
                         "::ffff:10.0.0.1"}) {
    EXPECT_TRUE(set.Contains(in)) << in;
  }
  for (const char* out :
       {"11.0.0.1", "192.0.2.127", "::2", "2001:db8:8000::", "", "ten"}) {
    EXPECT_FALSE(set.Contains(out)) << out;
  }
  EXPECT_TRUE(PeerSet::Parse("")->empty());
}

TEST(PeerSetTest, NamesThePartThatIsNoAddress) {
  for (const char* text : {"10.0.0.0/8,proxy", "10.0.0.0/33", "::/129",
                           "10.0.0.0/", "10.0.0.0/x", "10.0.0.0/-1"}) {
    EXPECT_THAT(PeerSet::Parse(text),
                StatusIs(absl::StatusCode::kInvalidArgument,
                         HasSubstr("is not an IP address")))
        << text;
  }
}

}  // namespace
}  // namespace ounce::server
