// HTTP by libcurl, through the proxies that the environment names.
#ifndef OUNCE_HUB_HTTP_CLIENT_H_
#define OUNCE_HUB_HTTP_CLIENT_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "hub/hooks.h"

namespace ounce::hub {

struct HttpReply {
  int code = 0;
  // Those of the hub's protocol that are there, by their names in lower case.
  std::map<std::string, std::string> headers;
  std::string body;
  absl::Duration retry_after;  // that the server asks for; 0: it does not

  // Empty: not there.
  std::string Header(const std::string& name) const;
};

// Bytes of an open file, as a request's body.
struct FilePart {
  int file = -1;
  int64_t offset = 0;
  int64_t size = 0;
};

struct HttpRequest {
  std::string method = "GET";  // or HEAD, POST, PUT
  std::string url;             // http:// or https://
  // "Name: value". Authorization is not sent to another host, port or scheme
  // that a redirection names.
  std::vector<std::string> headers = {};
  std::string body = {};
  std::optional<FilePart> file = {};  // in place of `body`
  bool follow = false;                // redirections; never from https to http
  size_t max_body_bytes = 1 << 20;  // of the reply; what is beyond is left out
  // Takes the body of a reply of 200 or 206, piece by piece, in place of
  // `HttpReply::body`; an error ends the request with that error.
  std::function<absl::Status(const HttpReply&, std::string_view)> on_body = {};
  // Told how many bytes of the request's body have been sent.
  std::function<void(int64_t)> on_sent = {};
};

// Keeps its connections between requests.
//
// Threads: one at a time.
class HttpClient {
 public:
  // `hooks` must outlive it.
  explicit HttpClient(const Hooks& hooks);
  ~HttpClient();

  // Asks once; any code is a reply.
  // Errors: kUnavailable for what may go better another time (no connection,
  // one that broke, or on which nothing came for a minute);
  // kFailedPrecondition for a certificate that is not trusted;
  // kInvalidArgument for an address that is none; those of the hooks;
  // kResourceExhausted without memory.
  absl::StatusOr<HttpReply> Perform(const HttpRequest& request);

 private:
  class Transfer;
  struct Handle;

  const Hooks& hooks_;
  std::unique_ptr<Handle> handle_;
};

}  // namespace ounce::hub

#endif  // OUNCE_HUB_HTTP_CLIENT_H_
