#include "client/peer_names.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netdb.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <memory>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/clock.h"
#include "base/free_by.h"

namespace ounce::client {
namespace {

constexpr int kMaxNames = 5;
constexpr size_t kMaxNameBytes = 64;

using Certificate = std::unique_ptr<X509, FreeBy<X509_free>>;
using Context = std::unique_ptr<SSL_CTX, FreeBy<SSL_CTX_free>>;
using Ssl = std::unique_ptr<SSL, FreeBy<SSL_free>>;
using Names = std::unique_ptr<GENERAL_NAMES, FreeBy<GENERAL_NAMES_free>>;
using Addresses = std::unique_ptr<addrinfo, FreeBy<freeaddrinfo>>;

std::string TextOf(const ASN1_STRING* string) {
  return std::string(
      reinterpret_cast<const char*>(ASN1_STRING_get0_data(string)),
      static_cast<size_t>(ASN1_STRING_length(string)));
}

std::string IpText(const std::string& bytes) {
  char text[INET6_ADDRSTRLEN] = "";
  const int family = bytes.size() == 4 ? AF_INET : AF_INET6;
  if (bytes.size() != 4 && bytes.size() != 16) return "";
  return inet_ntop(family, bytes.data(), text, sizeof(text)) == nullptr ? ""
                                                                        : text;
}

std::string CommonName(const X509* certificate) {
  X509_NAME* const subject = X509_get_subject_name(certificate);
  const int at = X509_NAME_get_index_by_NID(subject, NID_commonName, -1);
  if (at < 0) return "";
  return TextOf(X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, at)));
}

// Whoever made the certificate may have written anything.
std::string Shown(std::string name) {
  for (char& c : name) {
    if (!absl::ascii_isgraph(static_cast<unsigned char>(c))) c = '?';
  }
  if (name.size() <= kMaxNameBytes) return name;
  return name.substr(0, kMaxNameBytes - 3) + "...";
}

std::string NamesIn(const X509* certificate) {
  std::vector<std::string> shown;
  int more = 0;
  const auto add = [&](const std::string& name) {
    if (name.empty()) return;
    if (static_cast<int>(shown.size()) == kMaxNames) {
      ++more;
    } else {
      shown.push_back(Shown(name));
    }
  };
  const Names names(static_cast<GENERAL_NAMES*>(
      X509_get_ext_d2i(certificate, NID_subject_alt_name, nullptr, nullptr)));
  for (int i = 0; names != nullptr && i < sk_GENERAL_NAME_num(names.get());
       ++i) {
    const GENERAL_NAME* name = sk_GENERAL_NAME_value(names.get(), i);
    if (name->type == GEN_DNS) add(TextOf(name->d.dNSName));
    if (name->type == GEN_IPADD) add(IpText(TextOf(name->d.iPAddress)));
  }
  if (shown.empty()) add(CommonName(certificate));
  return absl::StrCat(absl::StrJoin(shown, ", "),
                      more > 0 ? absl::StrCat(" and ", more, " more") : "");
}

// A socket that does not block.
class Socket {
 public:
  explicit Socket(absl::Time end) : end_(end) {}
  ~Socket() {
    if (fd_ >= 0) close(fd_);
  }
  Socket(const Socket&) = delete;
  Socket& operator=(const Socket&) = delete;
  int fd() const { return fd_; }

  bool Connect(const addrinfo& to) {
    if (fd_ >= 0) close(fd_);
    fd_ = socket(to.ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd_ < 0) return false;
    if (connect(fd_, to.ai_addr, to.ai_addrlen) == 0) return true;
    int error = 0;
    socklen_t size = sizeof(error);
    return errno == EINPROGRESS && Await(POLLOUT) &&
           getsockopt(fd_, SOL_SOCKET, SO_ERROR, &error, &size) == 0 &&
           error == 0;
  }

  // False once there is no time left.
  bool Await(short events) const {
    pollfd watched = {.fd = fd_, .events = events, .revents = 0};
    const int64_t left =
        absl::ToInt64Milliseconds(end_ - Clock::Real().Now()) + 1;
    return left > 0 && poll(&watched, 1, static_cast<int>(left)) > 0;
  }

 private:
  const absl::Time end_;
  int fd_ = -1;
};

// As far as the server's certificate at least. By buffers, since OpenSSL's own
// sockets raise SIGPIPE.
void ShakeHands(SSL* ssl, const Socket& socket) {
  BIO* const from_server = BIO_new(BIO_s_mem());
  BIO* const to_server = BIO_new(BIO_s_mem());
  SSL_set_bio(ssl, from_server, to_server);  // which owns them
  char buffer[16 << 10];
  while (true) {
    const int done = SSL_connect(ssl);
    for (int count = 0;
         (count = BIO_read(to_server, buffer, sizeof(buffer))) > 0;) {
      // It is little, and the first that the socket gets.
      if (send(socket.fd(), buffer, static_cast<size_t>(count), MSG_NOSIGNAL) !=
          count) {
        return;
      }
    }
    if (done == 1 || SSL_get_error(ssl, done) != SSL_ERROR_WANT_READ) return;
    if (!socket.Await(POLLIN)) return;
    const ssize_t count = recv(socket.fd(), buffer, sizeof(buffer), 0);
    if (count <= 0) return;
    BIO_write(from_server, buffer, static_cast<int>(count));
  }
}

}  // namespace

std::string NamesInCertificate(absl::string_view pem) {
  const std::unique_ptr<BIO, FreeBy<BIO_free>> bio(
      BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size())));
  const Certificate certificate(
      PEM_read_bio_X509(bio.get(), nullptr, nullptr, nullptr));
  ERR_clear_error();
  return certificate == nullptr ? "" : NamesIn(certificate.get());
}

std::string NamesOfPeer(const std::string& host, int port,
                        absl::Duration patience) {
  addrinfo hints = {};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  if (getaddrinfo(host.c_str(), absl::StrCat(port).c_str(), &hints, &found) !=
      0) {
    return "";
  }
  const Addresses addresses(found);
  Socket socket(Clock::Real().Now() + patience);
  const addrinfo* to = addresses.get();
  while (to != nullptr && !socket.Connect(*to)) to = to->ai_next;
  if (to == nullptr) return "";
  const Context context(SSL_CTX_new(TLS_client_method()));
  const Ssl ssl(context == nullptr ? nullptr : SSL_new(context.get()));
  if (ssl == nullptr) return "";
  // Nothing is sent over it, so nobody need be believed.
  SSL_set_verify(ssl.get(), SSL_VERIFY_NONE, nullptr);
  SSL_set_tlsext_host_name(ssl.get(), host.c_str());
  static constexpr unsigned char kHttp2[] = {2, 'h', '2'};
  SSL_set_alpn_protos(ssl.get(), kHttp2, sizeof(kHttp2));
  // A server that wants a client's certificate has shown its own by then.
  ShakeHands(ssl.get(), socket);
  ERR_clear_error();
  const X509* const certificate = SSL_get0_peer_certificate(ssl.get());
  return certificate == nullptr ? "" : NamesIn(certificate);
}

}  // namespace ounce::client
