#include "client/new_token.h"

#include <openssl/rand.h>
#include <openssl/sha.h>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "base/name.h"

namespace ounce::client {
namespace {

constexpr size_t kTokenBytes = 32;
// By which programs that look for leaked secrets know it.
constexpr char kPrefix[] = "ounce_";

absl::string_view View(const unsigned char* bytes, size_t size) {
  return {reinterpret_cast<const char*>(bytes), size};
}

}  // namespace

absl::StatusOr<NewToken> MakeToken(const std::string& name,
                                   const std::string& scopes) {
  if (!IsName(name)) {
    return absl::InvalidArgumentError(
        absl::StrCat("--name: must be 1 to 64 letters, digits, '.', '_' and "
                     "'-', is '",
                     name, "'"));
  }
  if (scopes != "infer" && scopes != "admin" && scopes != "infer,admin") {
    return absl::InvalidArgumentError(absl::StrCat(
        "--scope: must be infer, admin or infer,admin, is '", scopes, "'"));
  }
  unsigned char bits[kTokenBytes];
  if (RAND_bytes(bits, sizeof(bits)) != 1) {
    return absl::InternalError("the system has no random bits");
  }
  NewToken made;
  made.token = absl::StrCat(
      kPrefix, absl::WebSafeBase64Escape(View(bits, sizeof(bits))));
  unsigned char hash[SHA256_DIGEST_LENGTH];
  SHA256(reinterpret_cast<const unsigned char*>(made.token.data()),
         made.token.size(), hash);
  made.line = absl::StrCat(name, " ", scopes, " ",
                           absl::BytesToHexString(View(hash, sizeof(hash))));
  return made;
}

}  // namespace ounce::client
