#include "server/net/tls.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include <algorithm>
#include <cstring>
#include <ctime>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "base/free_by.h"
#include "base/mutex.h"
#include "base/read_file.h"
#include "base/status_macros.h"

namespace ounce::server {
namespace {

constexpr size_t kRecordBytes = 16 << 10;
// Of a client's certificates together.
constexpr long kMaxClientCertificateBytes = 32 << 10;
// That a client sends after its handshake: new keys, each of which costs work.
constexpr int kMaxLaterHandshakeMessages = 32;
constexpr size_t kMaxIdentityBytes = 255;

using SslContext = std::unique_ptr<SSL_CTX, FreeBy<SSL_CTX_free>>;
using Ssl = std::unique_ptr<SSL, FreeBy<SSL_free>>;

// What OpenSSL says was wrong, in its words.
std::string Words() {
  const unsigned long error = ERR_peek_last_error();
  const char* reason = ERR_reason_error_string(error);
  std::string words = reason != nullptr ? reason : "unknown error";
  ERR_clear_error();
  return words;
}

// The name among `names` of the type, if there is one that can be shown.
std::string NameOfType(const GENERAL_NAMES* names, int type) {
  for (int i = 0; i < sk_GENERAL_NAME_num(names); ++i) {
    const GENERAL_NAME* name = sk_GENERAL_NAME_value(names, i);
    if (name->type != type) continue;
    // All three types are the same string.
    const ASN1_IA5STRING* text = name->d.ia5;
    return std::string(
        reinterpret_cast<const char*>(ASN1_STRING_get0_data(text)),
        static_cast<size_t>(ASN1_STRING_length(text)));
  }
  return "";
}

std::string CommonName(const X509* certificate) {
  X509_NAME* const subject = X509_get_subject_name(certificate);
  const int at = X509_NAME_get_index_by_NID(subject, NID_commonName, -1);
  if (at < 0) return "";
  unsigned char* text = nullptr;
  const int size = ASN1_STRING_to_UTF8(
      &text, X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, at)));
  if (size < 0) return "";
  std::string name(reinterpret_cast<char*>(text), static_cast<size_t>(size));
  OPENSSL_free(text);
  return name;
}

std::string IdentityIn(const X509* certificate) {
  std::string identity;
  if (auto* const names = static_cast<GENERAL_NAMES*>(X509_get_ext_d2i(
          certificate, NID_subject_alt_name, nullptr, nullptr));
      names != nullptr) {
    for (const int type : {GEN_URI, GEN_DNS, GEN_EMAIL}) {
      if (identity.empty()) identity = NameOfType(names, type);
    }
    GENERAL_NAMES_free(names);
  }
  if (identity.empty()) identity = CommonName(certificate);
  const bool plain = std::all_of(identity.begin(), identity.end(), [](char c) {
    return absl::ascii_isgraph(static_cast<unsigned char>(c)) || c == ' ';
  });
  return plain && identity.size() <= kMaxIdentityBytes ? identity : "";
}

class Session final : public TlsSession {
 public:
  // Takes `bytes`, a new one of Bytes().
  Session(Ssl ssl, BIO* bytes) : ssl_(std::move(ssl)) {
    BIO_set_data(bytes, this);
    BIO_set_init(bytes, 1);
    SSL_set_bio(ssl_.get(), bytes, bytes);
    SSL_set_accept_state(ssl_.get());
    SSL_set_msg_callback(ssl_.get(), &Session::OnMessage);
    SSL_set_msg_callback_arg(ssl_.get(), this);
  }

  absl::Status Decrypt(absl::string_view bytes, std::string* plain,
                       std::string* cipher) override {
    in_ = bytes;
    out_ = cipher;
    static thread_local char buffer[kRecordBytes];
    ERR_clear_error();
    int count;
    while ((count = SSL_read(ssl_.get(), buffer, sizeof(buffer))) > 0) {
      plain->append(buffer, static_cast<size_t>(count));
      established_ = true;  // also when something wrong comes behind it
    }
    established_ = established_ || SSL_is_init_finished(ssl_.get()) == 1;
    if (later_messages_ > kMaxLaterHandshakeMessages) {
      return absl::InvalidArgumentError("it asked for new keys too often");
    }
    switch (SSL_get_error(ssl_.get(), count)) {
      case SSL_ERROR_WANT_READ:
      case SSL_ERROR_ZERO_RETURN:
        return absl::OkStatus();
      default:
        return Failure();
    }
  }

  void Encrypt(absl::string_view plain, std::string* cipher) override {
    out_ = cipher;
    ERR_clear_error();
    while (!plain.empty()) {
      const int count =
          SSL_write(ssl_.get(), plain.data(),
                    static_cast<int>(std::min(plain.size(), kRecordBytes)));
      if (count <= 0) return;  // the client has broken it off
      plain.remove_prefix(static_cast<size_t>(count));
    }
  }

  void Close(std::string* cipher) override {
    if (!established_) return;
    out_ = cipher;
    SSL_shutdown(ssl_.get());
    ERR_clear_error();
  }

  bool established() const override { return established_; }

  std::string identity() const override {
    const X509* const certificate = SSL_get0_peer_certificate(ssl_.get());
    return certificate == nullptr ? "" : IdentityIn(certificate);
  }

  // Where OpenSSL reads and writes: `in_` and `out_`.
  static const BIO_METHOD* Bytes() {
    static BIO_METHOD* const kBytes = [] {
      BIO_METHOD* const bytes =
          BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "bytes");
      BIO_meth_set_read(bytes, &Session::Read);
      BIO_meth_set_write(bytes, &Session::Write);
      BIO_meth_set_ctrl(bytes, [](BIO*, int what, long, void*) -> long {
        return what == BIO_CTRL_FLUSH ? 1 : 0;
      });
      return bytes;
    }();
    return kBytes;
  }

 private:
  static int Read(BIO* bio, char* to, int size) {
    absl::string_view& in = static_cast<Session*>(BIO_get_data(bio))->in_;
    BIO_clear_retry_flags(bio);
    if (in.empty()) {
      BIO_set_retry_read(bio);
      return -1;
    }
    const size_t count = std::min(in.size(), static_cast<size_t>(size));
    std::memcpy(to, in.data(), count);
    in.remove_prefix(count);
    return static_cast<int>(count);
  }
  static int Write(BIO* bio, const char* from, int size) {
    static_cast<Session*>(BIO_get_data(bio))
        ->out_->append(from, static_cast<size_t>(size));
    return size;
  }

  static void OnMessage(int sent, int /*version*/, int type,
                        const void* /*bytes*/, size_t /*size*/, SSL*,
                        void* self) {
    auto* const session = static_cast<Session*>(self);
    if (sent == 0 && type == SSL3_RT_HANDSHAKE && session->established_) {
      ++session->later_messages_;
    }
  }

  absl::Status Failure() const {
    const long verified = SSL_get_verify_result(ssl_.get());
    const bool clients_alert =
        ERR_GET_REASON(ERR_peek_last_error()) >= SSL_AD_REASON_OFFSET;
    const std::string words = Words();
    if (verified != X509_V_OK) {
      return absl::InvalidArgumentError(
          absl::StrCat("the client's certificate is refused: ",
                       X509_verify_cert_error_string(verified)));
    }
    return absl::InvalidArgumentError(
        absl::StrCat(established_    ? ""
                     : clients_alert ? "the client broke the handshake off: "
                                     : "the handshake failed: ",
                     words));
  }

  const Ssl ssl_;
  absl::string_view in_;
  std::string* out_ = nullptr;
  bool established_ = false;
  int later_messages_ = 0;
};

// Why a file can't be used: what the system says, if it is about the file.
absl::Status FileError(const std::string& setting, const std::string& path,
                       const std::string& otherwise) {
  const std::string words = Words();
  RETURN_IF_ERROR(WithContext(ReadFile(path, 1).status(), setting));
  return absl::InvalidArgumentError(
      absl::StrCat(setting, ": '", path, "' ", otherwise, " (", words, ")"));
}

// The protocol of ALPN that a listener speaks is chosen where the client names
// any; that of a client that names none is seen in what it says.
int ChooseProtocol(SSL*, const unsigned char** chosen, unsigned char* size,
                   const unsigned char* offered, unsigned int offered_size,
                   void* protocol) {
  const std::string& own = *static_cast<const std::string*>(protocol);
  const std::string list = static_cast<char>(own.size()) + own;
  unsigned char* found = nullptr;
  if (SSL_select_next_proto(&found, size,
                            reinterpret_cast<const unsigned char*>(list.data()),
                            static_cast<unsigned int>(list.size()), offered,
                            offered_size) != OPENSSL_NPN_NEGOTIATED) {
    return SSL_TLSEXT_ERR_ALERT_FATAL;
  }
  *chosen = reinterpret_cast<const unsigned char*>(own.data());
  return SSL_TLSEXT_ERR_OK;
}

absl::Status UseCertificate(const TlsServer::Options& options,
                            SSL_CTX* context) {
  if (SSL_CTX_use_certificate_chain_file(context, options.cert.c_str()) != 1) {
    return FileError("tls_cert", options.cert,
                     "holds no certificate in PEM format");
  }
  if (SSL_CTX_use_PrivateKey_file(context, options.key.c_str(),
                                  SSL_FILETYPE_PEM) != 1) {
    return FileError(
        "tls_key", options.key,
        "holds no private key in PEM format, one without a passphrase, that "
        "belongs to tls_cert");
  }
  return absl::OkStatus();
}

absl::StatusOr<SslContext> NewContext(const TlsServer::Options& options,
                                      const TlsServer::Listener& listener) {
  SslContext context(SSL_CTX_new(TLS_server_method()));
  if (context == nullptr) {
    return absl::ResourceExhaustedError(
        absl::StrCat("tls_cert: OpenSSL cannot start: ", Words()));
  }
  SSL_CTX* const raw = context.get();
  SSL_CTX_set_min_proto_version(raw, TLS1_2_VERSION);
  SSL_CTX_set_options(raw, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_TICKET |
                               SSL_OP_NO_COMPRESSION |
                               SSL_OP_CIPHER_SERVER_PREFERENCE);
  SSL_CTX_set_num_tickets(raw, 0);
  SSL_CTX_set_session_cache_mode(raw, SSL_SESS_CACHE_OFF);
  // Of TLS 1.2, what HTTP/2 does not forbid.
  SSL_CTX_set_cipher_list(raw, "ECDHE+AESGCM:ECDHE+CHACHA20");
  SSL_CTX_set_mode(raw, SSL_MODE_RELEASE_BUFFERS);
  // Nobody is there to be asked for a passphrase.
  SSL_CTX_set_default_passwd_cb(raw, [](char*, int, int, void*) { return -1; });
  SSL_CTX_set_alpn_select_cb(raw, &ChooseProtocol,
                             const_cast<std::string*>(&listener.protocol));
  RETURN_IF_ERROR(UseCertificate(options, raw));
  if (listener.client_ca.empty()) return context;
  STACK_OF(X509_NAME)* const names =
      SSL_load_client_CA_file(listener.client_ca.c_str());
  if (names == nullptr ||
      SSL_CTX_load_verify_file(raw, listener.client_ca.c_str()) != 1) {
    sk_X509_NAME_pop_free(names, X509_NAME_free);
    return FileError(listener.setting, listener.client_ca,
                     "holds no certificate in PEM format");
  }
  SSL_CTX_set_client_CA_list(raw, names);  // and owns them
  SSL_CTX_set_max_cert_list(raw, kMaxClientCertificateBytes);
  SSL_CTX_set_verify(raw, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT,
                     nullptr);
  return context;
}

absl::Time ExpiryOf(const SSL_CTX* context) {
  std::tm end{};
  if (ASN1_TIME_to_tm(X509_get0_notAfter(SSL_CTX_get0_certificate(context)),
                      &end) != 1) {
    return absl::InfinitePast();
  }
  return absl::FromTM(end, absl::UTCTimeZone());
}

class Server final : public TlsServer {
 public:
  explicit Server(Options options) : options_(std::move(options)) {}

  absl::Status Reload() override {
    std::vector<SslContext> contexts;
    for (const Listener& listener : options_.listeners) {
      ASSIGN_OR_RETURN(SslContext context, NewContext(options_, listener));
      contexts.push_back(std::move(context));
    }
    MutexLock lock(&mu_);
    contexts_ = std::move(contexts);
    return absl::OkStatus();
  }

  std::unique_ptr<TlsSession> NewSession(size_t listener) override {
    MutexLock lock(&mu_);
    Ssl ssl(SSL_new(contexts_[listener].get()));  // which it keeps alive
    BIO* const bytes = BIO_new(Session::Bytes());
    if (ssl == nullptr || bytes == nullptr) return nullptr;
    return std::make_unique<Session>(std::move(ssl), bytes);
  }

  absl::Time expiry() const override {
    MutexLock lock(&mu_);
    return ExpiryOf(contexts_.front().get());
  }

 private:
  const Options options_;  // whose protocols the contexts point to
  mutable Mutex mu_;
  std::vector<SslContext> contexts_ ABSL_GUARDED_BY(mu_);  // by listener
};

}  // namespace

absl::StatusOr<std::unique_ptr<TlsServer>> TlsServer::Create(Options options) {
  auto server = std::make_unique<Server>(std::move(options));
  RETURN_IF_ERROR(server->Reload());
  return server;
}

}  // namespace ounce::server
