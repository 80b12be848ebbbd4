// Holds every call of a gRPC server to its token before anything of it is read:
// before its message, and whether there is such a method or not. Only health
// stays open.
#ifndef OUNCE_SERVER_SERVICE_TOKEN_CHECK_H_
#define OUNCE_SERVER_SERVICE_TOKEN_CHECK_H_

#include <grpcpp/security/auth_metadata_processor.h>

#include <memory>
#include <string>

#include "server/metrics/figures.h"
#include "server/service/reception.h"
#include "server/service/tokens.h"

namespace ounce::server {

// Of one server, all of whose calls need `scope`. What it points to must
// outlive the server.
struct TokenCheck {
  const Tokens* tokens = nullptr;  // null: nothing is checked
  Scope scope = Scope::kInfer;
  std::string listener = "";   // for the log and the count
  Figures* figures = nullptr;  // where refusals are counted; null: nowhere
  const Reception* reception = nullptr;  // null: refusals have no request id
};

// Logs refusals too, a line every few seconds at most. gRPC sends code and
// words of a refusal alone; early_refusals.h adds what else callers are to
// have.
std::shared_ptr<grpc::AuthMetadataProcessor> CheckTokens(TokenCheck check);

}  // namespace ounce::server

#endif  // OUNCE_SERVER_SERVICE_TOKEN_CHECK_H_
