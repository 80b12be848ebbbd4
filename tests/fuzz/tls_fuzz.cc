// A client of OpenSSL's whose bytes are changed, cut and mixed with others on
// their way to a listener with TLS: what comes out of the session is the
// beginning of what the client has said and nothing else, none of it before the
// handshake is over, and no name but that of the client's own certificate.
#include <fuzzer/FuzzedDataProvider.h>
#include <openssl/ssl.h>

#include <memory>
#include <string>

#include "base/check.h"
#include "server/net/tls.h"
#include "tests/testing/certificates.h"
#include "tests/testing/temp_folder.h"

namespace {

using ounce::server::TlsServer;
using ounce::server::TlsSession;

constexpr char kClientName[] = "client.test";

// Made once: certificates take a while.
class Ends {
 public:
  Ends() {
    const ounce::testing::TempFolder folder;
    const ounce::testing::Certificates make(folder.path());
    const auto authority = make.MakeAuthority("authority");
    const auto own = make.Make("server", authority);
    const auto shown =
        make.Make("client", authority, std::string("DNS:") + kClientName);
    server_ = *TlsServer::Create(
        {.cert = own.cert,
         .key = own.key,
         .listeners = {{"tls_client_ca", "", "h2"},
                       {"admin_tls_client_ca", authority.cert, "h2"}}});
    client_ = SSL_CTX_new(TLS_client_method());
    OUNCE_CHECK(SSL_CTX_use_certificate_file(client_, shown.cert.c_str(),
                                             SSL_FILETYPE_PEM) == 1 &&
                    SSL_CTX_use_PrivateKey_file(client_, shown.key.c_str(),
                                                SSL_FILETYPE_PEM) == 1,
                "the client has a certificate");
  }

  std::unique_ptr<TlsSession> NewSession(bool asks_for_certificate) {
    return server_->NewSession(asks_for_certificate ? 1 : 0);
  }
  SSL* NewClient() { return SSL_new(client_); }

 private:
  std::unique_ptr<TlsServer> server_;
  SSL_CTX* client_;
};

class Client {
 public:
  Client(SSL* ssl, int version) : ssl_(ssl) {
    SSL_set_max_proto_version(ssl_, version);
    SSL_set_bio(ssl_, from_, to_);
    SSL_set_connect_state(ssl_);
  }
  ~Client() { SSL_free(ssl_); }

  bool connected() const { return SSL_is_init_finished(ssl_) == 1; }
  // What it has for the server by now.
  std::string Written() {
    if (!connected()) SSL_do_handshake(ssl_);
    std::string bytes(static_cast<size_t>(BIO_ctrl_pending(to_)), '\0');
    BIO_read(to_, bytes.data(), static_cast<int>(bytes.size()));
    return bytes;
  }
  void Hear(const std::string& cipher) {
    BIO_write(from_, cipher.data(), static_cast<int>(cipher.size()));
    char buffer[256];
    while (connected() && SSL_read(ssl_, buffer, sizeof(buffer)) > 0) {
    }
  }
  bool Say(const std::string& text) {
    return SSL_write(ssl_, text.data(), static_cast<int>(text.size())) > 0;
  }
  void NewKeys() { SSL_key_update(ssl_, SSL_KEY_UPDATE_REQUESTED); }

 private:
  SSL* const ssl_;
  BIO* const to_ = BIO_new(BIO_s_mem());  // both are ssl_'s
  BIO* const from_ = BIO_new(BIO_s_mem());
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static Ends& ends = *new Ends();
  FuzzedDataProvider input(data, size);
  const bool asks = input.ConsumeBool();
  const auto session = ends.NewSession(asks);
  Client client(ends.NewClient(),
                input.ConsumeBool() ? TLS1_2_VERSION : TLS1_3_VERSION);
  std::string said, heard, on_its_way;
  bool over = false;
  while (input.remaining_bytes() > 0 && !over) {
    on_its_way += client.Written();
    size_t arrive = 0;
    switch (input.ConsumeIntegralInRange(0, 5)) {
      case 0:
        on_its_way += input.ConsumeRandomLengthString(1024);
        break;
      case 1:
        arrive = on_its_way.size();
        break;
      case 2:
        arrive = input.ConsumeIntegralInRange<size_t>(0, on_its_way.size());
        break;
      case 3:
        if (on_its_way.empty()) break;
        on_its_way[input.ConsumeIntegralInRange<size_t>(
            0, on_its_way.size() - 1)] ^= input.ConsumeIntegral<char>();
        break;
      case 4: {
        const std::string text = input.ConsumeRandomLengthString(1024);
        if (client.connected() && !text.empty() && client.Say(text)) {
          said += text;
        }
        break;
      }
      default:
        if (client.connected()) client.NewKeys();
    }
    if (arrive == 0) continue;
    std::string answer;
    over =
        !session->Decrypt(on_its_way.substr(0, arrive), &heard, &answer).ok();
    on_its_way.erase(0, arrive);
    if (!over && session->established()) session->Encrypt("answer", &answer);
    client.Hear(answer);
    OUNCE_CHECK(said.starts_with(heard), "only what the client said");
    OUNCE_CHECK(session->established() || heard.empty(), "after the handshake");
    const std::string name = session->established() ? session->identity() : "";
    OUNCE_CHECK(name == (asks && session->established() ? kClientName : ""),
                "the client's own name");
  }
  std::string end;
  session->Close(&end);
  return 0;
}
