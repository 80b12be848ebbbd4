#include "hub/hub_api.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "hub/backoff.h"
#include "hub/digest.h"
#include "hub/json_fields.h"

namespace ounce::hub {
namespace {

constexpr size_t kMaxListingBytes = 32 << 20;
constexpr size_t kMaxListed = 50'000;
constexpr int64_t kMaxFileBytes = int64_t{1} << 42;
constexpr int kMostRedirects = 5;

bool IsRedirect(int code) {
  return code == 301 || code == 302 || code == 303 || code == 307 ||
         code == 308;
}

// "https://host:port" of an address.
std::string Origin(const std::string& url) {
  return url.substr(0, url.find('/', url.find("://") + 3));
}

// An ETag without what HTTP puts around it.
std::string Bare(std::string etag) {
  if (etag.starts_with("W/")) etag.erase(0, 2);
  std::erase(etag, '"');
  return etag;
}

// What the server says of an error, cut and without odd characters.
std::string Words(const HttpReply& reply) {
  constexpr size_t kMost = 300;
  std::string words = reply.Header("x-error-message");
  if (words.empty()) {
    words = TextIn(nlohmann::json::parse(reply.body, nullptr, false), "error")
                .value_or("");
  }
  if (words.size() > kMost) words.resize(kMost);
  return words.empty() ? "" : absl::StrCat(": ", absl::CHexEscape(words));
}

}  // namespace

std::string UrlEscaped(std::string_view text, bool slashes) {
  constexpr char kDigits[] = "0123456789ABCDEF";
  std::string result;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (absl::ascii_isalnum(byte) || c == '-' || c == '.' || c == '_' ||
        c == '~' || (slashes && c == '/')) {
      result += c;
    } else {
      result += '%';
      result += kDigits[byte >> 4];
      result += kDigits[byte & 15];
    }
  }
  return result;
}

HubApi::HubApi(const Environment& environment, const ModelName& name,
               const Hooks& hooks)
    : environment_(environment), name_(name), hooks_(hooks), client_(hooks) {}

absl::StatusOr<HttpReply> HubApi::Ask(HttpRequest request) {
  if (!environment_.token.empty() &&
      Origin(request.url) == Origin(environment_.endpoint)) {
    request.headers.push_back(
        absl::StrCat("Authorization: Bearer ", environment_.token));
  }
  request.headers.push_back("Accept-Encoding: identity");
  return client_.Perform(request);
}

absl::StatusOr<HttpReply> HubApi::AskPatiently(const HttpRequest& request) {
  Backoff backoff(hooks_);
  while (true) {
    absl::StatusOr<HttpReply> reply = Ask(request);
    if (reply.ok() && !MayPass(*reply)) return reply;
    if (!reply.ok() && !absl::IsUnavailable(reply.status())) return reply;
    RETURN_IF_ERROR(
        reply.ok() ? backoff.Next(Refused(*reply, "it"), reply->retry_after)
                   : backoff.Next(reply.status()));
  }
}

absl::Status HubApi::Refused(const HttpReply& reply,
                             const std::string& what) const {
  const std::string error = reply.Header("x-error-code");
  const std::string page = absl::StrCat(environment_.endpoint, "/", name_.id);
  const std::string tokens =
      absl::StrCat(environment_.endpoint, "/settings/tokens");
  const bool has_token = !environment_.token.empty();
  const std::string& from = environment_.token_from;
  if (error == "GatedRepo") {
    return absl::PermissionDeniedError(absl::StrCat(
        name_.id, " is gated: accept its conditions at ", page,
        has_token ? absl::StrCat(" with the account of the token in ", from,
                                 ", which has no access yet")
                  : absl::StrCat(", then put a token of that account, made "
                                 "at ",
                                 tokens, ", into HF_TOKEN")));
  }
  if (error == "RevisionNotFound") {
    return absl::NotFoundError(absl::StrCat(name_.id, " has no revision '",
                                            name_.revision, "': see ", page));
  }
  if (error == "EntryNotFound") {
    return absl::NotFoundError(
        absl::StrCat(name_.id, " has no file ", what, ": see ", page));
  }
  if (reply.code == 401 && has_token &&
      reply.Header("x-error-message").find("Invalid") != std::string::npos) {
    return absl::UnauthenticatedError(absl::StrCat(
        "the token in ", from, " is not valid: make one at ", tokens));
  }
  if (error == "RepoNotFound" || reply.code == 401 || reply.code == 404) {
    return absl::NotFoundError(absl::StrCat(
        environment_.endpoint, " has no model '", name_.id,
        has_token ? absl::StrCat("' that the token in ", from, " may see: ")
                  : absl::StrCat("', or it is private and needs a token of "
                                 "an account that may see it, made at ",
                                 tokens, ", in HF_TOKEN: "),
        "see ", page, Words(reply)));
  }
  const std::string said = absl::StrCat(environment_.endpoint, " answered ",
                                        reply.code, Words(reply));
  if (reply.code == 403) {
    return absl::PermissionDeniedError(
        absl::StrCat(said, "; see ", page,
                     has_token ? absl::StrCat(", and what the token in ", from,
                                              " may do at ", tokens)
                               : ", and put a token into HF_TOKEN"));
  }
  if (reply.code == 429) return absl::ResourceExhaustedError(said);
  if (reply.code >= 500) return absl::UnavailableError(said);
  return absl::FailedPreconditionError(
      absl::StrCat(said, "; asked for ", what));
}

absl::StatusOr<Listing> HubApi::List() {
  HttpRequest request;
  request.url = absl::StrCat(environment_.endpoint, "/api/models/", name_.id,
                             "/revision/", UrlEscaped(name_.revision, false));
  request.follow = true;
  request.max_body_bytes = kMaxListingBytes;
  ASSIGN_OR_RETURN(const HttpReply reply, AskPatiently(request));
  if (reply.code != 200) return Refused(reply, "its list of files");
  const auto json = nlohmann::json::parse(reply.body, nullptr, false);
  const absl::Status malformed = absl::DataLossError(
      absl::StrCat(request.url, ": the answer is no list of a model's files"));
  const auto* const siblings = ListIn(json, "siblings");
  Listing listing;
  listing.commit = TextIn(json, "sha").value_or("");
  if (!IsCommit(listing.commit) || siblings == nullptr ||
      siblings->size() > kMaxListed) {
    return malformed;
  }
  for (const auto& sibling : *siblings) {
    std::optional<std::string> path = TextIn(sibling, "rfilename");
    if (!path) return malformed;
    listing.paths.push_back(*std::move(path));
  }
  return listing;
}

absl::StatusOr<RemoteFile> HubApi::Look(const std::string& commit,
                                        const std::string& path) {
  RemoteFile file;
  file.path = path;
  file.url = absl::StrCat(environment_.endpoint, "/", name_.id, "/resolve/",
                          commit, "/", UrlEscaped(path, true));
  HttpReply reply;
  for (int i = 0; i <= kMostRedirects; ++i) {
    HttpRequest request;
    request.method = "HEAD";
    request.url = file.url;
    ASSIGN_OR_RETURN(reply, AskPatiently(request));
    // Only what the hub itself says of the file counts, so redirections to
    // where its bytes lie are not followed; those to another name of it are.
    const std::string location = reply.Header("location");
    if (!IsRedirect(reply.code) || !location.starts_with('/') ||
        location.starts_with("//")) {
      break;
    }
    file.url = Origin(file.url) + location;
  }
  if (reply.code != 200 && !IsRedirect(reply.code)) {
    return Refused(reply, path);
  }
  file.etag = Bare(reply.Header("x-linked-etag"));
  std::string size = reply.Header("x-linked-size");
  if (file.etag.empty()) file.etag = Bare(reply.Header("etag"));
  if (size.empty()) size = reply.Header("content-length");
  // May be what the server led to.
  const std::string url = absl::CHexEscape(file.url);
  if (!IsDigest(file.etag)) {
    return absl::FailedPreconditionError(
        absl::StrCat(url, ": its ETag, '", absl::CHexEscape(file.etag),
                     "', is no hash that the file could be held against"));
  }
  if (!absl::SimpleAtoi(size, &file.size) || file.size < 0 ||
      file.size > kMaxFileBytes) {
    return absl::FailedPreconditionError(
        absl::StrCat(url, ": its size is not known, or too large: '",
                     absl::CHexEscape(size), "'"));
  }
  return file;
}

}  // namespace ounce::hub
