#include "server/net/relay.h"

#include <fcntl.h>
#include <openssl/ssl.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "absl/time/clock.h"
#include "base/mutex.h"
#include "gmock/gmock.h"
#include "server/net/file_descriptor.h"
#include "tests/server/net/http2_frames.h"
#include "tests/testing/certificates.h"
#include "tests/testing/loopback.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_folder.h"

namespace ounce::server {
namespace {

using ::testing::AllOf;
using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::EndsWith;
using testing::Frame;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;
using ::testing::StartsWith;

class RelayTest : public ::testing::Test {
 protected:
  void Start(Relay::Options options = {}) {
    options.name = "listen";
    options.address = "127.0.0.1:0";
    auto relay = Relay::Create(options,
                               {.on_connection =
                                    [this](int fd) {
                                      MutexLock lock(&mu_);
                                      server_ends_.emplace_back(fd);
                                    },
                                .on_count =
                                    [this](int count) {
                                      MutexLock lock(&mu_);
                                      count_ = count;
                                    },
                                .on_cut =
                                    [this](absl::string_view reason) {
                                      MutexLock lock(&mu_);
                                      cut_.emplace_back(reason);
                                    }},
                               Clock::Real());
    ASSERT_TRUE(relay.ok()) << relay.status();
    relay_ = *std::move(relay);
    relay_->Start();
  }

  FileDescriptor Connect(bool expected = true) {
    FileDescriptor fd(socket(AF_INET, SOCK_STREAM, 0));
    EXPECT_EQ(testing::ConnectTo(fd.get(), relay_->address()), expected);
    return fd;
  }

  // The server's end of the newest connection, which blocks.
  int ServerEnd() {
    EXPECT_TRUE(WaitUntil([&] {
      MutexLock lock(&mu_);
      return !server_ends_.empty();
    }));
    MutexLock lock(&mu_);
    const int fd = server_ends_.back().get();
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_NONBLOCK);
    return fd;
  }

  static bool WaitUntil(const std::function<bool()>& condition) {
    const absl::Time deadline = absl::Now() + absl::Seconds(20);
    while (!condition()) {
      if (absl::Now() > deadline) return false;
      absl::SleepFor(absl::Milliseconds(2));
    }
    return true;
  }

  static void Write(int fd, const std::string& bytes) {
    size_t sent = 0;
    while (sent < bytes.size()) {
      const ssize_t n =
          send(fd, bytes.data() + sent, bytes.size() - sent, MSG_NOSIGNAL);
      ASSERT_GT(n, 0);
      sent += static_cast<size_t>(n);
    }
  }
  static std::string Read(int fd, size_t bytes) {
    std::string all(bytes, '\0');
    size_t got = 0;
    while (got < bytes) {
      const ssize_t n = recv(fd, all.data() + got, bytes - got, 0);
      if (n <= 0) break;
      got += static_cast<size_t>(n);
    }
    all.resize(got);
    return all;
  }

  Mutex mu_;
  std::vector<FileDescriptor> server_ends_ ABSL_GUARDED_BY(mu_);
  std::vector<std::string> cut_ ABSL_GUARDED_BY(mu_);
  int count_ ABSL_GUARDED_BY(mu_) = 0;
  std::unique_ptr<Relay> relay_;
};

TEST_F(RelayTest, CarriesBytesBothWaysAndTheClientsAddress) {
  Start();
  const FileDescriptor client = Connect();
  const int server = ServerEnd();
  sockaddr_un name{};
  socklen_t size = sizeof(name);
  ASSERT_EQ(getpeername(server, reinterpret_cast<sockaddr*>(&name), &size), 0);
  const std::string text(name.sun_path + 1, size - 1 - sizeof(sa_family_t));
  EXPECT_EQ(PeerOf("unix-abstract:" + text, "", {}), "127.0.0.1");

  const std::string request =
      testing::Start() +
      Frame(testing::kHeaders, testing::kEndHeaders, 1, "headers") +
      Frame(testing::kData, 0, 1, std::string(10'000, 'x'));
  Write(client.get(), request);
  EXPECT_EQ(Read(server, request.size()), request);
  // More than sockets hold: what does not fit waits.
  std::string answer;
  for (int i = 0; i < 2000; ++i) {
    answer += Frame(testing::kData, 0, 1,
                    std::string(16'000, static_cast<char>('a' + i % 26)));
  }
  std::thread writer([&] { Write(server, answer); });
  EXPECT_EQ(Read(client.get(), answer.size()), answer);
  writer.join();
}

TEST_F(RelayTest, PassesOnLastWordsAndThenCloses) {
  Start();
  const FileDescriptor client = Connect();
  Write(ServerEnd(), Frame(testing::kGoAway, 0, 0, "12345678"));
  {
    MutexLock lock(&mu_);
    server_ends_.clear();
  }
  EXPECT_EQ(Read(client.get(), 1000),
            Frame(testing::kGoAway, 0, 0, "12345678"));
  EXPECT_TRUE(WaitUntil([&] {
    MutexLock lock(&mu_);
    return count_ == 0;
  }));
}

TEST_F(RelayTest, TellsTheServerThatTheClientIsGone) {
  Start();
  Connect();
  EXPECT_THAT(Read(ServerEnd(), 1), IsEmpty());
}

TEST_F(RelayTest, ClosesAClientThatTakesNothing) {
  Relay::Options options;
  options.unread = absl::Milliseconds(300);
  Start(options);
  const FileDescriptor client = Connect();
  const int server = ServerEnd();
  const std::string frame =
      Frame(testing::kData, 0, 1, std::string(16'000, 'x'));
  // Until it is cut off, and nobody reads.
  while (send(server, frame.data(), frame.size(), MSG_NOSIGNAL) > 0) {
  }
  EXPECT_TRUE(WaitUntil([&] {
    MutexLock lock(&mu_);
    return count_ == 0;
  }));
  MutexLock lock(&mu_);
  EXPECT_THAT(cut_, ElementsAre("unread"));
}

TEST_F(RelayTest, TellsOfWhoeverTheServerSendsAwayForItsPings) {
  Start();
  for (const char* why : {"max_age", "too_many_pings"}) {
    const FileDescriptor client = Connect();
    const std::string away =
        Frame(testing::kGoAway, 0, 0,
              testing::Number(0, 4) + testing::Number(0xb, 4) + why);
    const int server = ServerEnd();
    Write(server, away.substr(0, 20));
    Write(server, away.substr(20));
    {
      MutexLock lock(&mu_);
      server_ends_.clear();
    }
    EXPECT_EQ(Read(client.get(), 1000), away);
  }
  EXPECT_TRUE(WaitUntil([&] {
    MutexLock lock(&mu_);
    return count_ == 0;
  }));
  MutexLock lock(&mu_);
  EXPECT_THAT(cut_, ElementsAre("too_many_pings"));
}

TEST_F(RelayTest, KeepsWhatIsOpenWhenItAcceptsNoMore) {
  Start();
  const FileDescriptor client = Connect();
  const int server = ServerEnd();
  Write(server, Frame(testing::kSettings, 0, 0));
  EXPECT_EQ(Read(client.get(), 9), Frame(testing::kSettings, 0, 0));
  relay_->StopAccepting();
  Connect(false);
  EXPECT_EQ(Read(client.get(), 17),
            Frame(testing::kGoAway, 0, 0,
                  testing::Number(0x7fffffff, 4) + testing::Number(0, 4)));
  Write(server, Frame(testing::kPing, 0, 0, "12345678"));
  EXPECT_EQ(Read(client.get(), 17), Frame(testing::kPing, 0, 0, "12345678"));
}

class TlsRelayTest : public RelayTest {
 protected:
  TlsRelayTest() {
    const testing::Certificates make(folder_.path());
    const testing::Certificate own =
        make.Make("server", make.MakeAuthority("authority"));
    tls_ = TlsServer::Create({.cert = own.cert,
                              .key = own.key,
                              .listeners = {{"tls_client_ca", "", "h2"}}})
               .value();
  }

  Relay::Options Options() {
    Relay::Options options;
    options.new_tls = [this] { return tls_->NewSession(0); };
    return options;
  }

  // Until so many connections were cut off.
  void WaitForCuts(size_t count) {
    EXPECT_TRUE(WaitUntil([&] {
      MutexLock lock(&mu_);
      return cut_.size() >= count;
    }));
  }

  // Closes without a word: what the server sends is not taken.
  static void Reset(int fd) {
    const linger none{.l_onoff = 1, .l_linger = 0};
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &none, sizeof(none));
  }

  const testing::TempFolder folder_;
  std::unique_ptr<TlsServer> tls_;
};

TEST_F(TlsRelayTest, TellsWhoeverSpeaksWithoutTls) {
  Start(Options());
  const FileDescriptor http2 = Connect();
  Write(http2.get(), testing::Start());
  EXPECT_THAT(Read(http2.get(), 1000), HasSubstr("this port speaks TLS"));
  const FileDescriptor http = Connect();
  Write(http.get(), "GET / HTTP/1.1\r\n\r\n");
  EXPECT_THAT(Read(http.get(), 1000),
              AllOf(StartsWith("HTTP/1.1 400 "), EndsWith("instead\n")));
  WaitForCuts(2);
  MutexLock lock(&mu_);
  EXPECT_THAT(cut_, ElementsAre("not_tls", "not_tls"));
  EXPECT_THAT(server_ends_, IsEmpty());
}

TEST_F(TlsRelayTest, ClosesWhoDoesNotEndItsHandshakeInTime) {
  Relay::Options options = Options();
  options.handshake = absl::Milliseconds(200);
  Start(options);
  const FileDescriptor client = Connect();
  Write(client.get(), std::string("\x16\x03\x01\x02\x00\x01", 6));
  EXPECT_THAT(Read(client.get(), 1000), IsEmpty());
  WaitForCuts(1);
  MutexLock lock(&mu_);
  EXPECT_THAT(cut_, ElementsAre("slow_start"));
  EXPECT_THAT(server_ends_, IsEmpty());
}

TEST_F(TlsRelayTest, TellsOfWhoeverDoesNotTrustTheCertificate) {
  Start(Options());
  SSL_CTX* const context = SSL_CTX_new(TLS_client_method());
  SSL_CTX_set_verify(context, SSL_VERIFY_PEER, nullptr);  // trusts nobody
  constexpr size_t kClients = 20;
  for (size_t i = 0; i < kClients; ++i) {
    const FileDescriptor client = Connect();
    SSL* const ssl = SSL_new(context);
    SSL_set_fd(ssl, client.get());
    EXPECT_NE(SSL_connect(ssl), 1);  // its alert is on its way
    SSL_free(ssl);
    if (i % 2 == 0) Reset(client.get());
  }
  SSL_CTX_free(context);
  WaitForCuts(kClients);
  MutexLock lock(&mu_);
  EXPECT_THAT(cut_, AllOf(SizeIs(kClients), Each("tls")));
  EXPECT_THAT(server_ends_, IsEmpty());
}

TEST_F(TlsRelayTest, TellsOfWhoeverLeavesWithinItsHandshake) {
  Start(Options());
  const std::string hello("\x16\x03\x01\x02\x00\x01", 6);
  {
    const FileDescriptor client = Connect();
    Write(client.get(), hello);
    const FileDescriptor reset = Connect();
    Write(reset.get(), hello);
    Reset(reset.get());
  }
  Connect();  // and has begun none
  WaitForCuts(2);
  EXPECT_TRUE(WaitUntil([&] {
    MutexLock lock(&mu_);
    return count_ == 0;
  }));
  MutexLock lock(&mu_);
  EXPECT_THAT(cut_, ElementsAre("tls", "tls"));
}

TEST_F(TlsRelayTest, LetsAPeerShakeHandsSoOftenOnly) {
  Relay::Options options = Options();
  options.handshake = absl::Milliseconds(200);
  options.streams = {30, 0};  // the second handshake takes more than there is
  Start(options);
  for (int i = 0; i < 3; ++i) {
    const FileDescriptor client = Connect();
    Write(client.get(), "no TLS");
    EXPECT_EQ(Read(client.get(), 1000).empty(), i == 2);
  }
  WaitForCuts(3);
  MutexLock lock(&mu_);
  EXPECT_THAT(cut_, ElementsAre("not_tls", "not_tls", "slow_start"));
}

}  // namespace
}  // namespace ounce::server
