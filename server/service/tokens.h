// Bearer tokens: who may call what. A file has a line for each,
//
//   NAME SCOPES SHA-256      ci infer,admin 9f86d081884c7d65...
//
// made by `ounce token new`; '#' begins a comment. SCOPES are `infer` (calls to
// --listen) and `admin` (to --admin_listen). SHA-256 is that of the token, in
// hexadecimal: a token has 256 random bits, so nothing slower is needed. Two
// lines may have one name: an old token and the one that takes its place.
//
// Threads: any thread may call anything.
#ifndef OUNCE_SERVER_SERVICE_TOKENS_H_
#define OUNCE_SERVER_SERVICE_TOKENS_H_

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "base/mutex.h"

namespace ounce::server {

enum class Scope { kInfer, kAdmin };

class Tokens {
 public:
  // Errors: kInvalidArgument with the file and the line, beginning with
  //   "token_file: ". A line is never quoted: it may hold a token.
  static absl::StatusOr<std::unique_ptr<Tokens>> Read(const std::string& path);

  // Reads the file again.
  // Errors: as Read's; everything stays as it was then.
  absl::Status Reload();

  // Whether a call with this header, empty if it has none, may be made.
  // Errors, for the caller, without the token: kUnauthenticated when there is
  // no
  //   token, or an unknown one; kPermissionDenied for one without the scope.
  absl::Status Check(absl::string_view authorization, Scope scope) const;

  // The name of the token in this header; empty when there is none.
  std::string NameOf(absl::string_view authorization) const;

 private:
  using Hash = std::array<uint8_t, 32>;
  struct Line {
    std::string name;
    bool scopes[2] = {false, false};  // by Scope
    Hash hash;
  };

  explicit Tokens(std::string path) : path_(std::move(path)) {}
  static absl::StatusOr<Line> ParseLine(absl::string_view text);
  absl::StatusOr<Line> Find(absl::string_view authorization) const;

  const std::string path_;
  mutable Mutex mu_;
  std::vector<Line> lines_ ABSL_GUARDED_BY(mu_);
};

}  // namespace ounce::server

#endif  // OUNCE_SERVER_SERVICE_TOKENS_H_
