#include "client/tls_files.h"

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#include <memory>

#include "absl/strings/str_cat.h"
#include "base/free_by.h"

namespace ounce::client {
namespace {

constexpr char kCertificate[] = "certificate in PEM format";

using Certificate = std::unique_ptr<X509, FreeBy<X509_free>>;
using Key = std::unique_ptr<EVP_PKEY, FreeBy<EVP_PKEY_free>>;

// The first object that `read`, of OpenSSL, finds in `pem`; null: none.
template <class Object, class Read>
Object ReadPem(const std::string& pem, Read read) {
  const std::unique_ptr<BIO, FreeBy<BIO_free>> bio(
      BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size())));
  // Nobody is there to be asked for a passphrase.
  char no_passphrase[] = "";
  Object object(read(bio.get(), nullptr, nullptr, no_passphrase));
  ERR_clear_error();
  return object;
}

absl::Status Lacks(const char* flag, const TlsFile& file, const char* what) {
  return absl::InvalidArgumentError(
      absl::StrCat(flag, ": '", file.path, "' holds no ", what));
}

}  // namespace

absl::Status CheckTrusted(const TlsFile& ca) {
  if (ReadPem<Certificate>(ca.bytes, PEM_read_bio_X509_AUX) == nullptr) {
    return Lacks("--ca", ca, kCertificate);
  }
  return absl::OkStatus();
}

absl::Status CheckShown(const TlsFile& cert, const TlsFile& key) {
  const auto shown = ReadPem<Certificate>(cert.bytes, PEM_read_bio_X509_AUX);
  if (shown == nullptr) return Lacks("--cert", cert, kCertificate);
  const auto secret = ReadPem<Key>(key.bytes, PEM_read_bio_PrivateKey);
  if (secret == nullptr) {
    return Lacks("--key", key,
                 "private key in PEM format, one without a passphrase");
  }
  const bool belongs = X509_check_private_key(shown.get(), secret.get()) == 1;
  ERR_clear_error();
  if (!belongs) {
    return absl::InvalidArgumentError(
        absl::StrCat("--key: '", key.path, "' does not belong to --cert"));
  }
  return absl::OkStatus();
}

}  // namespace ounce::client
