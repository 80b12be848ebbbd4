// TLS of the listeners, by OpenSSL: certificates from files, which may be
// replaced while it runs, and the encryption of one connection as a
// transformation of bytes, which knows no socket.
//
//   client --ciphertext--> Decrypt() --> plain text
//   client <--ciphertext-- Encrypt() <-- plain text
//
// TLS 1.2 and 1.3, without renegotiation, compression, tickets and resumption:
// what a new connection is asked for is what the files say now.
#ifndef OUNCE_SERVER_NET_TLS_H_
#define OUNCE_SERVER_NET_TLS_H_

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace ounce::server {

// One connection's TLS, on the server's side.
//
// Threads: one at a time.
class TlsSession {
 public:
  virtual ~TlsSession() = default;

  // Takes what came from the client; appends what it said to `plain`, and what
  // TLS has to answer to `cipher`.
  // Errors: kInvalidArgument, for the log: what is wrong with the handshake or
  //   with what came. The connection is over once `cipher` has gone out.
  virtual absl::Status Decrypt(absl::string_view bytes, std::string* plain,
                               std::string* cipher) = 0;

  // Appends to `cipher`. Only once it is established.
  virtual void Encrypt(absl::string_view plain, std::string* cipher) = 0;

  // Tells the client that nothing more will come.
  virtual void Close(std::string* cipher) = 0;

  // Whether the handshake is over, and well.
  virtual bool established() const = 0;

  // Whom the client's certificate names: its first URI, else DNS name, else
  // e-mail address among the alternative names, else its common name. Empty
  // without a certificate.
  virtual std::string identity() const = 0;
};

using NewTlsSession = std::function<std::unique_ptr<TlsSession>()>;

// The certificate, and what its listeners ask of clients.
//
// Threads: any thread may call anything.
class TlsServer {
 public:
  // What one listener does with TLS.
  struct Listener {
    std::string setting;    // of `client_ca`, for messages
    std::string client_ca;  // PEM file; empty: clients need no certificate
    std::string protocol;   // by ALPN: "h2"
  };
  struct Options {
    std::string cert;  // PEM files: the certificate, and those above it
    std::string key;
    std::vector<Listener> listeners;
  };

  // Errors: kInvalidArgument, beginning with the setting: "tls_key: ...".
  static absl::StatusOr<std::unique_ptr<TlsServer>> Create(Options options);
  virtual ~TlsServer() = default;

  // Reads all files again; new connections get what they say.
  // Errors: as Create's; everything stays as it was then.
  virtual absl::Status Reload() = 0;

  // For a new connection to options.listeners[listener]. Null without memory.
  virtual std::unique_ptr<TlsSession> NewSession(size_t listener) = 0;

  // When the certificate ends, by the system's clock.
  virtual absl::Time expiry() const = 0;
};

}  // namespace ounce::server

#endif  // OUNCE_SERVER_NET_TLS_H_
