// Posts JSON by libcurl to one address, over a connection that it keeps. It
// goes through the proxies that the environment names for this, but never to
// this machine; it follows no redirections.
#ifndef OUNCE_SERVER_TRACE_CURL_POSTER_H_
#define OUNCE_SERVER_TRACE_CURL_POSTER_H_

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/clock.h"
#include "server/trace/span_exporter.h"

namespace ounce::server {

struct CurlPosterOptions {
  std::string url;  // http:// or https://
  std::vector<std::pair<std::string, std::string>> headers = {};
  // PEM file of those who may have signed the certificate; empty: the system's.
  std::string ca_file = {};
  absl::Duration timeout = absl::Seconds(10);  // of one post
};

// `clock` must outlive it. Errors: kResourceExhausted without memory.
absl::StatusOr<std::unique_ptr<HttpPoster>> CreateCurlPoster(
    const CurlPosterOptions& options, const Clock& clock);

}  // namespace ounce::server

#endif  // OUNCE_SERVER_TRACE_CURL_POSTER_H_
