// The hub's HTTP API, for one model: what it has, and where.
#ifndef OUNCE_HUB_HUB_API_H_
#define OUNCE_HUB_HUB_API_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "hub/environment.h"
#include "hub/hooks.h"
#include "hub/http_client.h"
#include "hub/model_name.h"

namespace ounce::hub {

struct Listing {
  std::string commit;              // 40 digits
  std::vector<std::string> paths;  // as the hub says them: any text
};

struct RemoteFile {
  std::string path;  // in the repository; safe (files.h)
  std::string etag;  // of its bytes (digest.h)
  int64_t size = 0;
  std::string url;  // where to get it, with the token
};

// `text` percent-encoded but for letters, digits and "-._~", and for '/' if
// `slashes`.
std::string UrlEscaped(std::string_view text, bool slashes);

// Threads: one at a time; each has its own connections.
class HubApi {
 public:
  // All must outlive it.
  HubApi(const Environment& environment, const ModelName& name,
         const Hooks& hooks);

  const Environment& environment() const { return environment_; }
  const ModelName& name() const { return name_; }
  const Hooks& hooks() const { return hooks_; }

  // Asks once; the hub itself with the token if there is one, nobody else.
  // Errors: HttpClient::Perform's.
  absl::StatusOr<HttpReply> Ask(HttpRequest request);

  // Asks until there is an answer that counts, whatever its code.
  // Errors: Ask's; those of the hooks; kResourceExhausted for 429 and
  // kUnavailable for 5xx after the last attempt.
  absl::StatusOr<HttpReply> AskPatiently(const HttpRequest& request);

  // What a reply that is none of 2xx means, and what to do: kUnauthenticated,
  // kPermissionDenied with the page to visit, kNotFound, kResourceExhausted,
  // kUnavailable, kFailedPrecondition. `what` is what was asked for.
  absl::Status Refused(const HttpReply& reply, const std::string& what) const;

  // The files of the revision. Errors: Refused's, AskPatiently's; kDataLoss for
  // an answer that is none of the hub's.
  absl::StatusOr<Listing> List();

  // One file. Errors: the same; kFailedPrecondition for one whose bytes could
  // not be held against its ETag, or that is larger than 4 TiB.
  absl::StatusOr<RemoteFile> Look(const std::string& commit,
                                  const std::string& path);

 private:
  const Environment& environment_;
  const ModelName& name_;
  const Hooks& hooks_;
  HttpClient client_;
};

}  // namespace ounce::hub

#endif  // OUNCE_HUB_HUB_API_H_
