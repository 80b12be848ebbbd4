#include "client/proxy.h"

#include <map>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/testing/status_matchers.h"

namespace ounce::client {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;
using testing::StatusIs;

using Variables = std::map<std::string, std::string>;

absl::StatusOr<std::optional<Proxy>> Ask(const std::string& address,
                                         const Variables& variables) {
  return ProxyFor(*ParseAddress(address), [&](const char* name) {
    const auto found = variables.find(name);
    return found == variables.end() ? "" : found->second;
  });
}

// "" for none.
std::string ProxyOf(const std::string& address, const Variables& variables) {
  const auto proxy = Ask(address, variables);
  EXPECT_TRUE(proxy.ok()) << proxy.status();
  return proxy.ok() && proxy->has_value() ? (*proxy)->url : "";
}

TEST(ProxyTest, TakesTheFirstVariableThatIsSet) {
  EXPECT_EQ(ProxyOf("host:1", {}), "");
  EXPECT_EQ(ProxyOf("host:1", {{"http_proxy", "http://h:1/"}}), "http://h:1");
  EXPECT_EQ(ProxyOf("host:1", {{"http_proxy", "http://h:1"},
                               {"https_proxy", "http://s:1"}}),
            "http://s:1");
  EXPECT_EQ(
      ProxyOf("host:1", {{"https_proxy", "http://s:1"}, {"grpc_proxy", "g:1"}}),
      "http://g:1");
  EXPECT_EQ(ProxyOf("unix:/socket", {{"http_proxy", "http://h:1"}}), "");
}

TEST(ProxyTest, IsNotAskedForThisMachine) {
  for (const char* address :
       {"localhost:1", "127.0.0.1:1", "[::1]:1", "0.0.0.0:1"}) {
    EXPECT_EQ(ProxyOf(address, {{"http_proxy", "http://h:1"}}), "") << address;
  }
}

TEST(ProxyTest, LeavesOutWhatTheFirstListThatIsSetNames) {
  Variables variables = {{"http_proxy", "http://h:1"}, {"NO_PROXY", "host"}};
  EXPECT_EQ(ProxyOf("host:1", variables), "");
  variables["no_proxy"] = "other";
  EXPECT_EQ(ProxyOf("host:1", variables), "http://h:1");
  EXPECT_EQ(ProxyOf("other:1", variables), "");
  variables["no_grpc_proxy"] = "third";
  EXPECT_EQ(ProxyOf("other:1", variables), "http://h:1");
  EXPECT_EQ(ProxyOf("third:1", variables), "");
}

TEST(ProxyTest, ReadsNamesAddressesRangesAndPorts) {
  const auto named = [](const std::string& list, const std::string& address) {
    return NamedByNoProxy(list, *ParseAddress(address));
  };
  EXPECT_TRUE(named("*", "host:1"));
  EXPECT_TRUE(named("a, host ,b", "host:1"));
  EXPECT_TRUE(named("a host", "host:1"));
  EXPECT_TRUE(named("EXAMPLE.com", "ounce.example.COM:1"));
  EXPECT_TRUE(named(".example.com", "ounce.example.com.:1"));
  EXPECT_TRUE(named("*.example.com", "ounce.example.com:1"));
  EXPECT_FALSE(named("ample.com", "example.com:1"));
  EXPECT_FALSE(named("example.com.au", "example.com:1"));
  EXPECT_FALSE(named("", "host:1"));
  EXPECT_FALSE(named(" , ", "host:1"));

  EXPECT_TRUE(named("host:8500", "host:8500"));
  EXPECT_FALSE(named("host:8501", "host:8500"));
  EXPECT_TRUE(named("[fd00::1]:8500", "[fd00::1]:8500"));
  EXPECT_FALSE(named("[fd00::1]:8501", "[fd00::1]:8500"));

  EXPECT_TRUE(named("10.1.2.3", "10.1.2.3:1"));
  EXPECT_FALSE(named("1.2.3", "10.1.2.3:1"));
  EXPECT_FALSE(named("2.3", "10.1.2.3:1"));
  EXPECT_TRUE(named("FD00::1", "[fd00:0::1]:1"));
  EXPECT_TRUE(named("[fd00::1]", "[fd00::1]:1"));

  EXPECT_TRUE(named("10.0.0.0/8", "10.255.0.1:1"));
  EXPECT_FALSE(named("10.0.0.0/8", "11.0.0.1:1"));
  EXPECT_TRUE(named("192.168.4.0/22", "192.168.7.255:1"));
  EXPECT_FALSE(named("192.168.4.0/22", "192.168.8.0:1"));
  EXPECT_TRUE(named("0.0.0.0/0", "8.8.8.8:1"));
  EXPECT_FALSE(named("0.0.0.0/0", "[fd00::1]:1"));
  EXPECT_TRUE(named("fd00::/8", "[fdff::1]:1"));
  EXPECT_FALSE(named("fd00::/8", "[fe00::1]:1"));
  EXPECT_FALSE(named("10.0.0.0/33", "10.0.0.0:1"));
  EXPECT_FALSE(named("10.0.0.0/x", "10.0.0.0:1"));
  EXPECT_FALSE(named("10.0.0.0/8", "host:1"));
}

TEST(ProxyTest, ShowsNoPassword) {
  const auto proxy =
      Ask("host:1", {{"http_proxy", "http://user:secret@proxy:3128"}});
  ASSERT_TRUE(proxy.ok() && proxy->has_value());
  EXPECT_EQ((*proxy)->url, "http://user:secret@proxy:3128");
  EXPECT_EQ((*proxy)->shown, "proxy:3128");
  EXPECT_EQ((*proxy)->variable, "http_proxy");
}

TEST(ProxyTest, RefusesWhatIsNoHttpProxy) {
  for (const char* value :
       {"socks5://user:secret@h:1", "https://h:1", "http://", "h:1/path"}) {
    EXPECT_THAT(Ask("host:1", {{"https_proxy", value}}),
                StatusIs(absl::StatusCode::kInvalidArgument,
                         AllOf(HasSubstr("https_proxy: must be the "
                                         "http://HOST:PORT of a proxy"),
                               Not(HasSubstr("secret")))))
        << value;
  }
}

}  // namespace
}  // namespace ounce::client
