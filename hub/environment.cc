#include "hub/environment.h"

#include <algorithm>
#include <cstddef>
#include <cstdlib>
#include <filesystem>
#include <string_view>
#include <system_error>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "base/read_file.h"
#include "base/status_macros.h"

namespace ounce::hub {
namespace {

constexpr size_t kMaxTokenBytes = 4096;

std::string Variable(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

bool IsNameCharacter(char c) {
  return absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '_';
}

// As Python's expanduser and expandvars: a variable that is not set stays as it
// is written.
std::string Expanded(std::string_view path) {
  std::string result;
  if (path.starts_with("~/")) {
    result = Variable("HOME");
    path.remove_prefix(1);
  }
  while (!path.empty()) {
    const bool in_braces = path.starts_with("${");
    const size_t begin = in_braces ? 2 : 1;
    size_t end = begin;
    while (end < path.size() && IsNameCharacter(path[end])) ++end;
    if (path.front() == '$' && end > begin &&
        (!in_braces || (end < path.size() && path[end] == '}'))) {
      const std::string name(path.substr(begin, end - begin));
      if (in_braces) ++end;
      const char* value = std::getenv(name.c_str());
      result += value == nullptr ? path.substr(0, end) : value;
      path.remove_prefix(end);
    } else {
      result += path.front();
      path.remove_prefix(1);
    }
  }
  return result;
}

std::string HomeFolder() {
  if (const std::string home = Variable("HF_HOME"); !home.empty()) {
    return Expanded(home);
  }
  const std::string xdg = Variable("XDG_CACHE_HOME");
  return Expanded(xdg.empty() ? "~/.cache" : xdg) + "/huggingface";
}

// As Python's tools read a switch.
bool IsOn(const char* name) {
  const std::string value = absl::AsciiStrToUpper(Variable(name));
  return value == "1" || value == "ON" || value == "YES" || value == "TRUE";
}

absl::Status ReadToken(Environment& environment) {
  environment.token_from = "HF_TOKEN";
  environment.token = Variable("HF_TOKEN");
  if (environment.token.empty()) {
    const std::string path = Variable("HF_TOKEN_PATH");
    environment.token_from =
        path.empty() ? HomeFolder() + "/token" : Expanded(path);
    std::error_code ignored;
    if (!std::filesystem::exists(environment.token_from, ignored)) {
      return absl::OkStatus();
    }
    ASSIGN_OR_RETURN(environment.token,
                     ReadFile(environment.token_from, kMaxTokenBytes + 1));
  }
  absl::StripAsciiWhitespace(&environment.token);
  const std::string& token = environment.token;
  if (token.size() > kMaxTokenBytes ||
      !std::all_of(token.begin(), token.end(), [](char c) {
        return absl::ascii_isgraph(static_cast<unsigned char>(c));
      })) {
    return absl::InvalidArgumentError(absl::StrCat(
        environment.token_from,
        ": must be a token of the hub, which is one word, of ASCII alone"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<Environment> ReadEnvironment() {
  Environment environment;
  if (std::string endpoint = Variable("HF_ENDPOINT"); !endpoint.empty()) {
    while (endpoint.ends_with('/')) endpoint.pop_back();
    // Not shown: what stands before it may be a password.
    if (endpoint.find('@') != std::string::npos) {
      return absl::InvalidArgumentError(
          "HF_ENDPOINT: must be an address without a user and a password, so "
          "without '@': put a token of the hub into HF_TOKEN");
    }
    if (!endpoint.starts_with("https://") && !endpoint.starts_with("http://")) {
      return absl::InvalidArgumentError(
          absl::StrCat("HF_ENDPOINT: must begin with https:// or http://, is '",
                       absl::CHexEscape(endpoint), "'"));
    }
    environment.endpoint = endpoint;
  }
  environment.offline = IsOn("HF_HUB_OFFLINE") || IsOn("TRANSFORMERS_OFFLINE");
  environment.cache = CacheFolder();
  RETURN_IF_ERROR(ReadToken(environment));
  return environment;
}

std::string CacheFolder() {
  for (const char* name : {"HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"}) {
    if (const std::string cache = Variable(name); !cache.empty()) {
      return Expanded(cache);
    }
  }
  return HomeFolder() + "/hub";
}

}  // namespace ounce::hub
