// Watches every call of a gRPC server from its beginning to its end, whichever
// service it is for, also those that no service sees (unknown methods): gives
// it a request id, puts that into what the caller gets, and tells the log how
// it ended, and the tracer, if there is one, of all but health and reflection.
//
// The id is that of the call's metadata `x-request-id` where that is 1 to 64
// characters of printable ASCII, else 128 random bits in hexadecimal. It comes
// back in the trailing metadata of the same name, and in google.rpc.RequestInfo
// of an error.
//
// What the server did not foresee (exceptions, files that can't be read) may
// have words of anything, paths of its files too: strangers get other words,
// and the log has those.
#ifndef OUNCE_SERVER_SERVICE_CALL_WATCH_H_
#define OUNCE_SERVER_SERVICE_CALL_WATCH_H_

#include <grpcpp/support/server_interceptor.h>

#include <memory>

#include "base/clock.h"
#include "server/service/reception.h"

namespace ounce::server {

enum class Callers { kStrangers, kOperators };

// For ServerBuilder's SetInterceptorCreators. `reception` and `clock` must
// outlive the server.
std::unique_ptr<grpc::experimental::ServerInterceptorFactoryInterface>
WatchCalls(Callers callers, Reception& reception, const Clock& clock);

}  // namespace ounce::server

#endif  // OUNCE_SERVER_SERVICE_CALL_WATCH_H_
