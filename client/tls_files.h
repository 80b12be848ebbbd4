// Whether the files of TLS that a client was given hold what they should.
#ifndef OUNCE_CLIENT_TLS_FILES_H_
#define OUNCE_CLIENT_TLS_FILES_H_

#include <string>

#include "absl/status/status.h"

namespace ounce::client {

struct TlsFile {
  const std::string& path;  // for messages
  const std::string& bytes;
};

// Errors, of both: kInvalidArgument, with the flag and the file.

// Of --ca: a certificate.
absl::Status CheckTrusted(const TlsFile& ca);

// Of --cert and --key: a certificate, and the key that belongs to it.
absl::Status CheckShown(const TlsFile& cert, const TlsFile& key);

}  // namespace ounce::client

#endif  // OUNCE_CLIENT_TLS_FILES_H_
