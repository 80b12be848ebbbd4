// The standard reflection service, under both of its names (v1 and v1alpha): it
// tells generic clients such as grpcurl what the services are and what their
// messages look like. Debian's plugin knows v1alpha alone, and no descriptor of
// grpc.health.v1.
//
// Threads: const once made.
#ifndef OUNCE_SERVER_SERVICE_REFLECTION_SERVICE_H_
#define OUNCE_SERVER_SERVICE_REFLECTION_SERVICE_H_

#include <grpcpp/impl/service_type.h>

#include <memory>
#include <string>
#include <vector>

namespace ounce::server {

// One gRPC service per name, which tell of `services`, of health and of
// themselves.
std::vector<std::unique_ptr<grpc::Service>> CreateReflectionServices(
    std::vector<std::string> services);

}  // namespace ounce::server

#endif  // OUNCE_SERVER_SERVICE_REFLECTION_SERVICE_H_
