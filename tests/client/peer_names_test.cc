#include "client/peer_names.h"

#include <sys/socket.h>
#include <unistd.h>

#include "base/read_file.h"
#include "gtest/gtest.h"
#include "tests/testing/certificates.h"
#include "tests/testing/loopback.h"
#include "tests/testing/temp_folder.h"

namespace ounce::client {
namespace {

using testing::Certificate;
using testing::Certificates;

class PeerNamesTest : public ::testing::Test {
 protected:
  // What a certificate for `names` shows.
  std::string NamesOf(const std::string& names) {
    const Certificate made = make_.Make("server", authority_, names);
    return NamesInCertificate(ReadFile(made.cert).value());
  }

  const testing::TempFolder folder_;
  const Certificates make_{folder_.path()};
  const Certificate authority_ = make_.MakeAuthority("authority");
};

TEST_F(PeerNamesTest, AreItsHostsAndAddresses) {
  EXPECT_EQ(NamesOf("DNS:a.example,email:a@b,IP:10.0.0.7,IP:2001:db8::1"),
            "a.example, 10.0.0.7, 2001:db8::1");
  EXPECT_EQ(NamesOf(""), "server") << "the common name, for want of others";
}

TEST_F(PeerNamesTest, AreBoundedInNumberAndLength) {
  EXPECT_EQ(NamesOf("DNS:a,DNS:b,DNS:c,DNS:d,DNS:e,DNS:f,DNS:g"),
            "a, b, c, d, e and 2 more");
  EXPECT_EQ(NamesOf("DNS:" + std::string(200, 'x')),
            std::string(61, 'x') + "...");
}

TEST_F(PeerNamesTest, AreNoneOfWhatIsNoCertificateOrDoesNotAnswer) {
  EXPECT_EQ(NamesInCertificate("nothing"), "");
  const int listening = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address = testing::Loopback(0);
  socklen_t size = sizeof(address);
  ASSERT_EQ(bind(listening, reinterpret_cast<sockaddr*>(&address), size), 0);
  getsockname(listening, reinterpret_cast<sockaddr*>(&address), &size);
  const int port = ntohs(address.sin_port);
  EXPECT_EQ(NamesOfPeer("127.0.0.1", port, absl::Seconds(20)), "");
  ASSERT_EQ(listen(listening, 1), 0);  // and never says a word
  EXPECT_EQ(NamesOfPeer("127.0.0.1", port, absl::Milliseconds(50)), "");
  close(listening);
}

}  // namespace
}  // namespace ounce::client
