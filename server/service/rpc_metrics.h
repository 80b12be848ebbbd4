// Counts every call of a gRPC server by method and code, those included that no
// service of ours sees: health, reflection, unknown methods, messages that
// can't be read. A message larger than gRPC takes never becomes a call.
#ifndef OUNCE_SERVER_SERVICE_RPC_METRICS_H_
#define OUNCE_SERVER_SERVICE_RPC_METRICS_H_

#include <grpcpp/server_context.h>
#include <grpcpp/support/server_interceptor.h>
#include <grpcpp/support/status.h>

#include <memory>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "base/clock.h"
#include "server/metrics/figures.h"

namespace ounce::server {

// The code that the caller of a call sees whose server sends `sent`, at its
// end: whoever has gone no longer hears ours.
grpc::StatusCode SeenByCaller(const grpc::ServerContextBase& context,
                              grpc::StatusCode sent, const Clock& clock,
                              absl::Time now);

// Whether "ounce.v1.Inference/Generate" is a method of our own services: names
// that callers make up are no labels.
bool IsOwnRpc(const std::string& method);

// For ServerBuilder's SetInterceptorCreators. Both must outlive the server.
std::vector<
    std::unique_ptr<grpc::experimental::ServerInterceptorFactoryInterface>>
CountRpcs(Figures& figures, const Clock& clock);

}  // namespace ounce::server

#endif  // OUNCE_SERVER_SERVICE_RPC_METRICS_H_
