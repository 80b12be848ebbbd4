// Counts every call of a gRPC server by method and code, those included that no
// service of ours sees: health, reflection, unknown methods, messages that
// can't be read. A message larger than gRPC takes never becomes a call.
#ifndef OUNCE_SERVER_SERVICE_RPC_METRICS_H_
#define OUNCE_SERVER_SERVICE_RPC_METRICS_H_

#include <grpcpp/support/server_interceptor.h>

#include <memory>
#include <vector>

#include "base/clock.h"
#include "server/metrics/figures.h"

namespace ounce::server {

// For ServerBuilder's SetInterceptorCreators. Both must outlive the server.
std::vector<
    std::unique_ptr<grpc::experimental::ServerInterceptorFactoryInterface>>
CountRpcs(Figures& figures, const Clock& clock);

}  // namespace ounce::server

#endif  // OUNCE_SERVER_SERVICE_RPC_METRICS_H_
