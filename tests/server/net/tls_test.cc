#include "server/net/tls.h"

#include <openssl/ssl.h>

#include <filesystem>
#include <fstream>

#include "absl/time/clock.h"
#include "gmock/gmock.h"
#include "tests/testing/certificates.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_folder.h"

namespace ounce::server {
namespace {

using ::testing::AllOf;
using testing::Certificate;
using testing::Certificates;
using ::testing::HasSubstr;
using testing::IsOk;
using testing::StatusIs;

// OpenSSL's client, between two buffers.
class Client {
 public:
  explicit Client(const Certificate* shown = nullptr) {
    context_ = SSL_CTX_new(TLS_client_method());
    if (shown != nullptr) {
      SSL_CTX_use_certificate_file(context_, shown->cert.c_str(),
                                   SSL_FILETYPE_PEM);
      SSL_CTX_use_PrivateKey_file(context_, shown->key.c_str(),
                                  SSL_FILETYPE_PEM);
    }
  }
  ~Client() {
    SSL_free(ssl_);
    SSL_CTX_free(context_);
  }
  SSL_CTX* context() { return context_; }

  void Begin() {
    ssl_ = SSL_new(context_);
    to_ = BIO_new(BIO_s_mem());
    from_ = BIO_new(BIO_s_mem());
    SSL_set_bio(ssl_, from_, to_);
    SSL_set_connect_state(ssl_);
  }
  // As far as it can with what it has heard; whether that was all of it.
  bool Shake() { return done_ = SSL_do_handshake(ssl_) == 1; }

  // Shakes hands with `server`; what the server says of it.
  absl::Status Connect(TlsSession& server) {
    Begin();
    absl::Status status;
    for (int round = 0; round < 10 && status.ok(); ++round) {
      Shake();
      status = Exchange(server);
      if (done_ && server.established()) break;
    }
    return status;
  }
  bool connected() const { return done_; }

  // What the client wrote goes to the server, and its answer to the client.
  absl::Status Exchange(TlsSession& server) {
    std::string answer;
    const absl::Status status = server.Decrypt(Written(), &heard_, &answer);
    Hear(answer);
    return status;
  }
  void Hear(const std::string& cipher) {
    BIO_write(from_, cipher.data(), static_cast<int>(cipher.size()));
  }
  void Write(const std::string& text) {
    SSL_write(ssl_, text.data(), static_cast<int>(text.size()));
  }
  std::string Written() {
    std::string bytes(static_cast<size_t>(BIO_ctrl_pending(to_)), '\0');
    BIO_read(to_, bytes.data(), static_cast<int>(bytes.size()));
    return bytes;
  }
  std::string Read() {
    std::string all;
    char buffer[4096];
    for (int n; (n = SSL_read(ssl_, buffer, sizeof(buffer))) > 0;) {
      all.append(buffer, static_cast<size_t>(n));
    }
    return all;
  }
  SSL* ssl() { return ssl_; }
  const std::string& heard() const { return heard_; }  // by the server

 private:
  SSL_CTX* context_;
  SSL* ssl_ = nullptr;
  BIO* to_ = nullptr;
  BIO* from_ = nullptr;
  bool done_ = false;
  std::string heard_;
};

class TlsTest : public ::testing::Test {
 protected:
  TlsTest()
      : make_(folder_.path()),
        authority_(make_.MakeAuthority("authority")),
        own_(make_.Make("server", authority_)) {}

  TlsServer::Options Options(const std::string& client_ca = "") {
    return {.cert = own_.cert,
            .key = own_.key,
            .listeners = {{"tls_client_ca", client_ca, "h2"}}};
  }

  std::string SubjectOf(SSL* ssl) {
    char name[256] = "";
    X509* const certificate = SSL_get0_peer_certificate(ssl);
    X509_NAME_oneline(X509_get_subject_name(certificate), name, sizeof(name));
    return name;
  }

  const testing::TempFolder folder_;
  const Certificates make_;
  const Certificate authority_;
  const Certificate own_;
};

TEST_F(TlsTest, IsEstablishedThoughSomethingWrongComesBehindTheHandshake) {
  ASSERT_OK_AND_ASSIGN(const auto server, TlsServer::Create(Options()));
  const auto session = server->NewSession(0);
  Client client;
  client.Begin();
  while (!client.connected()) {
    ASSERT_FALSE(session->established());
    std::string heard, answer;
    if (client.Shake()) break;
    ASSERT_THAT(session->Decrypt(client.Written(), &heard, &answer), IsOk());
    client.Hear(answer);
  }
  client.Write("hello");
  std::string heard, answer;
  EXPECT_THAT(session->Decrypt(client.Written() + "no record", &heard, &answer),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       ::testing::Not(HasSubstr("handshake"))));
  EXPECT_EQ(heard, "hello");
  EXPECT_TRUE(session->established());
}

TEST_F(TlsTest, CarriesBytesBothWays) {
  ASSERT_OK_AND_ASSIGN(const auto server, TlsServer::Create(Options()));
  const auto session = server->NewSession(0);
  Client client;
  EXPECT_FALSE(session->established());
  ASSERT_THAT(client.Connect(*session), IsOk());
  EXPECT_TRUE(session->established());
  EXPECT_EQ(session->identity(), "");
  const std::string question(100'000, 'q'), answer(100'000, 'a');
  client.Write(question);
  EXPECT_THAT(client.Exchange(*session), IsOk());
  EXPECT_EQ(client.heard(), question);
  std::string cipher;
  session->Encrypt(answer, &cipher);
  EXPECT_THAT(cipher, ::testing::Not(HasSubstr("aaaa")));
  client.Hear(cipher);
  EXPECT_EQ(client.Read(), answer);
  std::string end;
  session->Close(&end);
  client.Hear(end);
  EXPECT_EQ(client.Read(), "");
  EXPECT_EQ(SSL_get_shutdown(client.ssl()), SSL_RECEIVED_SHUTDOWN);
}

TEST_F(TlsTest, TakesBytesInPiecesOfAnySize) {
  ASSERT_OK_AND_ASSIGN(const auto server, TlsServer::Create(Options()));
  const auto session = server->NewSession(0);
  Client client;
  ASSERT_THAT(client.Connect(*session), IsOk());
  client.Write("one byte at a time");
  std::string plain, cipher;
  for (const char byte : client.Written()) {
    ASSERT_THAT(session->Decrypt({&byte, 1}, &plain, &cipher), IsOk());
  }
  EXPECT_EQ(plain, "one byte at a time");
}

TEST_F(TlsTest, SpeaksNothingOlderThanTls12) {
  ASSERT_OK_AND_ASSIGN(const auto server, TlsServer::Create(Options()));
  for (const int version : {TLS1_1_VERSION, TLS1_2_VERSION, TLS1_3_VERSION}) {
    const auto session = server->NewSession(0);
    Client client;
    SSL_CTX_set_security_level(client.context(), 0);
    SSL_CTX_set_min_proto_version(client.context(), TLS1_VERSION);
    SSL_CTX_set_max_proto_version(client.context(), version);
    EXPECT_EQ(client.Connect(*session).ok(), version >= TLS1_2_VERSION);
    EXPECT_EQ(session->established(), version >= TLS1_2_VERSION);
  }
}

TEST_F(TlsTest, AgreesOnItsProtocolOrNone) {
  ASSERT_OK_AND_ASSIGN(const auto server, TlsServer::Create(Options()));
  const auto offer = [&](const std::string& protocols, std::string* chosen) {
    const auto session = server->NewSession(0);
    Client client;
    SSL_CTX_set_alpn_protos(
        client.context(),
        reinterpret_cast<const unsigned char*>(protocols.data()),
        static_cast<unsigned>(protocols.size()));
    const absl::Status status = client.Connect(*session);
    const unsigned char* data = nullptr;
    unsigned size = 0;
    SSL_get0_alpn_selected(client.ssl(), &data, &size);
    *chosen = std::string(reinterpret_cast<const char*>(data), size);
    return status;
  };
  std::string chosen;
  EXPECT_THAT(offer("\x08http/1.1\x02h2", &chosen), IsOk());
  EXPECT_EQ(chosen, "h2");
  EXPECT_THAT(offer("\x08http/1.1", &chosen),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("no application protocol")));
}

TEST_F(TlsTest, AsksForACertificateAndKnowsWhomItNames) {
  ASSERT_OK_AND_ASSIGN(const auto server,
                       TlsServer::Create(Options(authority_.cert)));
  const auto identity = [&](const std::string& name, const std::string& names) {
    const Certificate shown = make_.Make(name, authority_, names);
    const auto session = server->NewSession(0);
    Client client(&shown);
    EXPECT_THAT(client.Connect(*session), IsOk());
    return session->identity();
  };
  EXPECT_EQ(identity("plain", ""), "plain");
  EXPECT_EQ(identity("dns", "DNS:batch.example"), "batch.example");
  EXPECT_EQ(identity("uri", "DNS:batch.example,URI:spiffe://example/batch"),
            "spiffe://example/batch");
}

TEST_F(TlsTest, SaysWhyAClientIsRefused) {
  ASSERT_OK_AND_ASSIGN(const auto server,
                       TlsServer::Create(Options(authority_.cert)));
  const auto refuses = [&](const Certificate* shown, const std::string& why) {
    const auto session = server->NewSession(0);
    Client client(shown);
    EXPECT_THAT(client.Connect(*session),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(why)));
    EXPECT_FALSE(session->established());
  };
  refuses(nullptr, "did not return a certificate");
  const Certificate ended = make_.Make("ended", authority_, "", -1);
  refuses(&ended, "certificate has expired");
  const Certificate other = make_.MakeAuthority("other");
  const Certificate foreign = make_.Make("foreign", other, "");
  refuses(&foreign, "unable to get local issuer certificate");
}

TEST_F(TlsTest, TakesNewFilesForNewConnections) {
  ASSERT_OK_AND_ASSIGN(const auto server, TlsServer::Create(Options()));
  const auto before = server->NewSession(0);
  const absl::Time expiry = server->expiry();
  EXPECT_GT(expiry, absl::Now() + absl::Hours(24 * 29));
  EXPECT_LT(expiry, absl::Now() + absl::Hours(24 * 31));
  Certificates::Replace(own_,
                        make_.Make("renewed", authority_, "DNS:localhost", 60));
  EXPECT_THAT(server->Reload(), IsOk());
  EXPECT_GT(server->expiry(), expiry + absl::Hours(24 * 29));
  Client old_client, new_client;
  EXPECT_THAT(old_client.Connect(*before), IsOk());
  const auto after = server->NewSession(0);
  EXPECT_THAT(new_client.Connect(*after), IsOk());
  EXPECT_EQ(SubjectOf(old_client.ssl()), "/CN=server");
  EXPECT_EQ(SubjectOf(new_client.ssl()), "/CN=renewed");
}

TEST_F(TlsTest, KeepsWhatItHadWhenNewFilesAreWrong) {
  ASSERT_OK_AND_ASSIGN(const auto server, TlsServer::Create(Options()));
  const Certificate other = make_.Make("other", authority_);
  std::filesystem::copy_file(other.key, own_.key,
                             std::filesystem::copy_options::overwrite_existing);
  EXPECT_THAT(server->Reload(),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       AllOf(HasSubstr("tls_key: "),
                             HasSubstr("key values mismatch"))));
  std::ofstream(own_.cert) << "no certificate\n";
  EXPECT_THAT(server->Reload(),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("tls_cert: '" + own_.cert +
                                 "' holds no certificate in PEM format")));
  std::filesystem::remove(own_.cert);
  EXPECT_THAT(server->Reload(), StatusIs(absl::StatusCode::kInvalidArgument,
                                         "tls_cert: cannot read '" + own_.cert +
                                             "': No such file or directory"));
  const auto session = server->NewSession(0);
  Client client;
  EXPECT_THAT(client.Connect(*session), IsOk());
  EXPECT_EQ(SubjectOf(client.ssl()), "/CN=server");
}

TEST_F(TlsTest, AsksNobodyForAPassphrase) {
  ASSERT_EQ(std::system(("openssl ec -aes256 -passout pass:secret -in " +
                         own_.key + " -out " + own_.key + ".locked 2>/dev/null")
                            .c_str()),
            0);
  TlsServer::Options options = Options();
  options.key = own_.key + ".locked";
  EXPECT_THAT(TlsServer::Create(options),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("one without a passphrase")));
}

TEST_F(TlsTest, HearsNoRubbishAndNoEndlessNewKeys) {
  ASSERT_OK_AND_ASSIGN(const auto server, TlsServer::Create(Options()));
  std::string plain, cipher;
  EXPECT_FALSE(server->NewSession(0)
                   ->Decrypt(std::string("\x16\x03\x01\x00\x05hello", 10),
                             &plain, &cipher)
                   .ok());
  const auto session = server->NewSession(0);
  Client client;
  ASSERT_THAT(client.Connect(*session), IsOk());
  absl::Status status;
  for (int i = 0; i < 100 && status.ok(); ++i) {
    SSL_key_update(client.ssl(), SSL_KEY_UPDATE_REQUESTED);
    client.Write("x");
    status = client.Exchange(*session);
  }
  EXPECT_THAT(status, StatusIs(absl::StatusCode::kInvalidArgument,
                               "it asked for new keys too often"));
}

}  // namespace
}  // namespace ounce::server
