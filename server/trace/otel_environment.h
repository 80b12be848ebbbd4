// What OpenTelemetry's environment variables say about tracing: those that
// operators of OpenTelemetry set for every program alike.
#ifndef OUNCE_SERVER_TRACE_OTEL_ENVIRONMENT_H_
#define OUNCE_SERVER_TRACE_OTEL_ENVIRONMENT_H_

#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"

namespace ounce::server {

using NamesAndValues = std::vector<std::pair<std::string, std::string>>;

struct OtelEnvironment {
  // Where spans go, with its path: to the endpoint that was given, else to
  // OTEL_EXPORTER_OTLP_TRACES_ENDPOINT, or OTEL_EXPORTER_OTLP_ENDPOINT with
  // /v1/traces behind it. Empty: nowhere, since none of them is set, or
  // OTEL_SDK_DISABLED is true, or OTEL_TRACES_EXPORTER none; then all else is
  // empty too.
  std::string url;
  // OTEL_EXPORTER_OTLP_TRACES_HEADERS, or OTEL_EXPORTER_OTLP_HEADERS.
  NamesAndValues headers;
  // OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE, or OTEL_EXPORTER_OTLP_CERTIFICATE.
  std::string ca_file;
  // OTEL_RESOURCE_ATTRIBUTES, and of them service.name from OTEL_SERVICE_NAME.
  NamesAndValues resource;
};

// With the path that collectors take spans at.
std::string TracesUrl(const std::string& endpoint);

// kInvalidArgument unless it is http://HOST[:PORT][/PATH] or https://...,
// without a password: it is shown. The message goes on after a name and ": ".
absl::Status CheckEndpoint(const std::string& endpoint);

// `get` is getenv; `endpoint`, of CheckEndpoint's kind or empty, goes before
// what the environment says. Errors: kInvalidArgument, naming the variable; of
// those that are used.
absl::StatusOr<OtelEnvironment> ReadOtelEnvironment(
    const std::function<const char*(const char* name)>& get,
    const std::string& endpoint = "");

}  // namespace ounce::server

#endif  // OUNCE_SERVER_TRACE_OTEL_ENVIRONMENT_H_
