#include "server/service/tokens.h"

#include <openssl/crypto.h>
#include <openssl/sha.h>

#include <algorithm>
#include <cstring>
#include <iterator>
#include <optional>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "base/name.h"
#include "base/read_file.h"
#include "base/status_macros.h"

namespace ounce::server {
namespace {

constexpr const char* kScopes[] = {"infer", "admin"};  // by Scope
constexpr size_t kMaxFileBytes = 1 << 20;
constexpr size_t kMaxTokenBytes = 1024;

}  // namespace

absl::StatusOr<std::unique_ptr<Tokens>> Tokens::Read(const std::string& path) {
  std::unique_ptr<Tokens> tokens(new Tokens(path));
  RETURN_IF_ERROR(tokens->Reload());
  return tokens;
}

absl::StatusOr<Tokens::Line> Tokens::ParseLine(absl::string_view text) {
  const std::vector<absl::string_view> words =
      absl::StrSplit(text, absl::ByAnyChar(" \t"), absl::SkipEmpty());
  if (words.size() != 3) {
    return absl::InvalidArgumentError(
        absl::StrCat("must be NAME SCOPES SHA-256, has ", words.size(),
                     words.size() == 1 ? " word" : " words",
                     "; 'ounce token new' prints a line"));
  }
  Line line;
  line.name = std::string(words[0]);
  if (!IsName(line.name)) {
    return absl::InvalidArgumentError(
        "the name must be 1 to 64 letters, digits, '.', '_' and '-'");
  }
  for (const absl::string_view scope : absl::StrSplit(words[1], ',')) {
    const auto* const found =
        std::find(std::begin(kScopes), std::end(kScopes), scope);
    if (found == std::end(kScopes)) {
      return absl::InvalidArgumentError(
          "the scopes must be infer, admin or infer,admin");
    }
    line.scopes[found - kScopes] = true;
  }
  const bool hex = std::all_of(words[2].begin(), words[2].end(), [](char c) {
    return absl::ascii_isxdigit(static_cast<unsigned char>(c));
  });
  if (words[2].size() != 2 * line.hash.size() || !hex) {
    return absl::InvalidArgumentError(
        "the SHA-256 must be 64 hexadecimal digits; write no token here");
  }
  const std::string bytes = absl::HexStringToBytes(words[2]);
  std::memcpy(line.hash.data(), bytes.data(), line.hash.size());
  return line;
}

absl::Status Tokens::Reload() {
  const auto error = [&](const auto&... words) {
    return absl::InvalidArgumentError(absl::StrCat("token_file: ", words...));
  };
  const absl::StatusOr<std::string> text = ReadFile(path_, kMaxFileBytes + 1);
  if (!text.ok()) return error(text.status().message());
  if (text->size() > kMaxFileBytes) {
    return error("'", path_, "' is larger than 1 MiB");
  }
  std::vector<Line> lines;
  int number = 0;
  for (absl::string_view each : absl::StrSplit(*text, '\n')) {
    ++number;
    each = absl::StripAsciiWhitespace(each.substr(0, each.find('#')));
    if (each.empty()) continue;
    absl::StatusOr<Line> line = ParseLine(each);
    if (!line.ok()) {
      return error("'", path_, "', line ", number, ": ",
                   line.status().message());
    }
    lines.push_back(*std::move(line));
  }
  // Half a file, rather than nobody who may call.
  if (lines.empty()) return error("'", path_, "' holds no token");
  MutexLock lock(&mu_);
  lines_ = std::move(lines);
  return absl::OkStatus();
}

absl::StatusOr<Tokens::Line> Tokens::Find(
    absl::string_view authorization) const {
  if (authorization.empty()) {
    return absl::UnauthenticatedError(
        "a token is needed: send it as 'authorization: Bearer TOKEN' (ounce "
        "takes it from --token_file or OUNCE_TOKEN)");
  }
  constexpr absl::string_view kBearer = "bearer ";
  absl::string_view token = authorization;
  if (!absl::StartsWithIgnoreCase(token, kBearer)) {
    return absl::UnauthenticatedError(
        "authorization: must be 'Bearer TOKEN', is of another kind");
  }
  token = absl::StripAsciiWhitespace(token.substr(kBearer.size()));
  Hash hash{};
  if (token.size() <= kMaxTokenBytes) {
    SHA256(reinterpret_cast<const unsigned char*>(token.data()), token.size(),
           hash.data());
  }
  std::optional<Line> found;
  MutexLock lock(&mu_);
  // All of them, each in the same time.
  for (const Line& line : lines_) {
    if (CRYPTO_memcmp(line.hash.data(), hash.data(), hash.size()) == 0) {
      found = line;
    }
  }
  if (found.has_value()) return *std::move(found);
  return absl::UnauthenticatedError(
      "the token is not known here; has it been replaced by another?");
}

absl::Status Tokens::Check(absl::string_view authorization, Scope scope) const {
  ASSIGN_OR_RETURN(const Line line, Find(authorization));
  const auto index = static_cast<size_t>(scope);
  if (line.scopes[index]) return absl::OkStatus();
  return absl::PermissionDeniedError(
      absl::StrCat("the token '", line.name, "' lacks the scope ",
                   kScopes[index], ", which this call needs"));
}

std::string Tokens::NameOf(absl::string_view authorization) const {
  const absl::StatusOr<Line> line = Find(authorization);
  return line.ok() ? line->name : "";
}

}  // namespace ounce::server
