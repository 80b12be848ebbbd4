// Counts every call of a gRPC server by method and code, those included that no
// service of ours sees: health, reflection, unknown methods, messages that
// can't be read. A message larger than gRPC takes never becomes a call.
#ifndef OUNCE_SERVER_SERVICE_RPC_METRICS_H_
#define OUNCE_SERVER_SERVICE_RPC_METRICS_H_

#include <grpcpp/server_context.h>
#include <grpcpp/support/server_interceptor.h>
#include <grpcpp/support/status.h>

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "base/clock.h"
#include "server/metrics/figures.h"

namespace ounce::server {

// Whether the caller of a call that began at `start` and ends `now` has gone
// without its answer: CANCELLED or DEADLINE_EXCEEDED.
std::optional<grpc::StatusCode> WhyGone(const grpc::ServerContextBase& context,
                                        const Clock& clock, absl::Time start,
                                        absl::Time now);

// The code that a caller sees whose server sent `sent` at last: whoever has
// gone no longer hears ours. Where the server has found why by itself
// (CANCELLED, DEADLINE_EXCEEDED), that counts, so that all who tell of the call
// say the same.
grpc::StatusCode SeenByCaller(std::optional<grpc::StatusCode> gone,
                              grpc::StatusCode sent);

// Whether "ounce.v1.Inference/Generate" is a method of our own services: names
// that callers make up are no labels.
bool IsOwnRpc(const std::string& method);

// For ServerBuilder's SetInterceptorCreators. Both must outlive the server.
std::vector<
    std::unique_ptr<grpc::experimental::ServerInterceptorFactoryInterface>>
CountRpcs(Figures& figures, const Clock& clock);

}  // namespace ounce::server

#endif  // OUNCE_SERVER_SERVICE_RPC_METRICS_H_
