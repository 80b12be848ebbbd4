// By what the hub names a file's bytes: git's SHA-1 of a blob, or SHA-256 of
// what lies in its large storage.
#ifndef OUNCE_HUB_DIGEST_H_
#define OUNCE_HUB_DIGEST_H_

#include <openssl/evp.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "base/free_by.h"
#include "hub/hooks.h"

namespace ounce::hub {

// Whether bytes can be held against it: 40 or 64 hexadecimal digits, in lower
// case.
bool IsDigest(std::string_view etag);

class Digest {
 public:
  // For an etag of 64 digits SHA-256; of 40, SHA-1 of "blob SIZE\0" and the
  // bytes.
  Digest(std::string_view etag, int64_t size);

  void Add(std::string_view bytes);
  // In hexadecimal digits; ends it.
  std::string Finish();

 private:
  std::unique_ptr<EVP_MD_CTX, FreeBy<EVP_MD_CTX_free>> context_;
};

// Adds the first `size` bytes of an open file.
// Errors: kDataLoss if they can't be read, naming `path`; those of the hooks.
absl::Status AddFile(Digest& digest, int file, int64_t size,
                     const std::string& path, const Hooks& hooks);

// The SHA-256 of a file, which has `size` bytes.
// Errors: kDataLoss if it can't be read; those of the hooks.
absl::StatusOr<std::string> Sha256OfFile(const std::string& path, int64_t size,
                                         const Hooks& hooks);

// Git's SHA-1 of it as a blob. Errors: the same.
absl::StatusOr<std::string> GitHashOfFile(const std::string& path, int64_t size,
                                          const Hooks& hooks);

// Whether the file is there and has these bytes.
// Errors: as Sha256OfFile's.
absl::StatusOr<bool> HasDigest(const std::string& path, std::string_view etag,
                               int64_t size, const Hooks& hooks);

}  // namespace ounce::hub

#endif  // OUNCE_HUB_DIGEST_H_
