// From the bytes of a ModelInferRequest to what it asks of which model.
//
// Threads: any thread may call anything.
#ifndef OUNCE_SERVER_SERVICE_OIP_READER_H_
#define OUNCE_SERVER_SERVICE_OIP_READER_H_

#include <grpcpp/server_context.h>
#include <grpcpp/support/byte_buffer.h>

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "server/frontend/front_end.h"
#include "server/service/call_record.h"
#include "server/service/oip_messages.h"
#include "server/service/reception.h"

namespace ounce::server {

class OipReader {
 public:
  // Both must outlive it.
  OipReader(FrontEnd& front_end, Reception& reception)
      : front_end_(front_end), reception_(reception) {}

  FrontEnd& front_end() { return front_end_; }

  // As Reception::Read, then as ReadOipRequest. Without a request `id` is the
  // one that it has, if that could be read.
  absl::StatusOr<OipRequest> Read(const grpc::CallbackServerContext& context,
                                  const grpc::ByteBuffer& bytes,
                                  std::string* id);

  // The call of a request that came now.
  CallContext ContextOf(const grpc::CallbackServerContext& context,
                        const OipRequest& request);
  std::shared_ptr<CallRecord> RecordOf(
      const grpc::CallbackServerContext& context) {
    return reception_.calls().Of(context);
  }

 private:
  FrontEnd& front_end_;
  Reception& reception_;
};

}  // namespace ounce::server

#endif  // OUNCE_SERVER_SERVICE_OIP_READER_H_
