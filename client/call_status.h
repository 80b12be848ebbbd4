// How a call ended, in our words.
#ifndef OUNCE_CLIENT_CALL_STATUS_H_
#define OUNCE_CLIENT_CALL_STATUS_H_

#include <grpcpp/support/status.h>

#include <optional>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "client/endpoint.h"

namespace ounce::client {

// The server's code and message, with what its details add, and the details as
// payloads (client.h); where no server was reached, what is wrong with the
// connection to `endpoint`, and what to do.
absl::Status ToAbslStatus(const grpc::Status& status, const Endpoint& endpoint);

// After which the server would take the same call, if it says so.
std::optional<absl::Duration> RetryDelay(const grpc::Status& status);

}  // namespace ounce::client

#endif  // OUNCE_CLIENT_CALL_STATUS_H_
