// A small HTTP port for those who watch: Prometheus, health checks, browsers.
// Every reply forbids browsers to keep it, to show it in a frame, and to run or
// load anything that does not come from this port.
//
// One thread serves all connections, none of which it waits for. Each answers
// one request and has a few seconds for it; where there are too many, the
// oldest one of the peer that holds most has to go. So neither idle nor slow
// connections keep anybody from an answer.
//
// A page from elsewhere may have its own name lead here, and then read this
// port through the browser that shows it (DNS rebinding). The name is in what
// the browser sends: there is a list of those that are answered.
//
// Threads: any thread may call anything.
#ifndef OUNCE_SERVER_METRICS_HTTP_ENDPOINT_H_
#define OUNCE_SERVER_METRICS_HTTP_ENDPOINT_H_

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/clock.h"
#include "server/net/file_descriptor.h"
#include "server/net/listen_socket.h"

namespace ounce::server {

struct HttpReply {
  int code = 200;
  std::string body;
  std::string content_type = "text/plain; charset=utf-8";
};

class HttpEndpoint {
 public:
  struct Options {
    size_t max_connections = 64;
    size_t max_connections_of_peer = 16;
    absl::Duration request_time = absl::Seconds(5);  // until it is here
    absl::Duration reply_time = absl::Seconds(10);   // until it is taken
    // Names that requests may give as their host, besides IP addresses and
    // localhost. Absent: any.
    std::optional<std::vector<std::string>> hosts = std::nullopt;
  };

  // Answers GET and HEAD of the path with `answer`, which is called on the
  // endpoint's thread and makes all others wait. `clock` must outlive it.
  // `socket`: where connections come from; without one, from Add alone.
  // Errors: kResourceExhausted without a thread or descriptors.
  static absl::StatusOr<std::unique_ptr<HttpEndpoint>> Start(
      ListenSocket socket, const Options& options, const Clock& clock,
      std::function<HttpReply(const std::string& path)> answer);

  // Hangs up, and waits for a call of `answer` that runs.
  virtual ~HttpEndpoint() = default;

  // A connection that somebody else accepted, whose socket does not block.
  virtual void Add(FileDescriptor connection) = 0;
};

}  // namespace ounce::server

#endif  // OUNCE_SERVER_METRICS_HTTP_ENDPOINT_H_
