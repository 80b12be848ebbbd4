// The only place where an absl::Status becomes a grpc::Status.
//
// What each code means, in the whole tree:
//   kInvalidArgument    the request is wrong; don't retry
//   kNotFound           no such model, file or tensor
//   kAlreadyExists      the name is taken
//   kFailedPrecondition the model can't do this
//   kPermissionDenied   the server may not read that file
//   kAborted            something else is being done to that model
//   kResourceExhausted  full; retry later if RetryInfo is given
//   kUnavailable        loading or shutting down; try again or elsewhere
//   kDeadlineExceeded   the time that the client gave is over
//   kCancelled          the client is gone
//   kUnimplemented      well-formed, but not supported (another architecture)
//   kDataLoss           a file could not be read as it was, or to its end
//   kInternal           our bug
//
// Details travel as google.rpc messages: every error has ErrorInfo with its
// reason (server/scheduler/refusal.h); BadRequest names the field, RetryInfo
// says when to come back, QuotaFailure whose limit it is, ResourceInfo which
// model.
#ifndef OUNCE_SERVER_SERVICE_GRPC_STATUS_H_
#define OUNCE_SERVER_SERVICE_GRPC_STATUS_H_

#include <grpcpp/support/status.h>

#include <string>

#include "absl/status/status.h"
#include "server/scheduler/refusal.h"

namespace ounce::server {

// Of ErrorInfo.
inline constexpr char kErrorDomain[] = "ounce";
// Of ResourceInfo.
inline constexpr char kModelResource[] = "ounce.v1.Model";

// Does not throw: without the memory it is kResourceExhausted, "out of memory".
grpc::Status ToGrpcStatus(const absl::Status& status);

// `status`, an error, with google.rpc.RequestInfo; one without details, which
// gRPC itself made, gets the reason of its code too.
grpc::Status WithRequestId(const grpc::Status& status,
                           const std::string& request_id);

// The same error; but one of INTERNAL, UNKNOWN or DATA_LOSS that has no closer
// reason than its code with words that tell nothing of the server.
grpc::Status WithoutUnforeseenWords(const grpc::Status& status);

// The reason in its ErrorInfo, or "".
std::string ReasonIn(const grpc::Status& status);

// "NOT_FOUND"; "UNKNOWN" of what is no code.
std::string CodeName(grpc::StatusCode code);

}  // namespace ounce::server

#endif  // OUNCE_SERVER_SERVICE_GRPC_STATUS_H_
