// From the bytes of a ModelInferRequest to what it asks of which model, and to
// the front end that does it.
//
// Threads: any thread may call anything.
#ifndef OUNCE_SERVER_SERVICE_OIP_READER_H_
#define OUNCE_SERVER_SERVICE_OIP_READER_H_

#include <grpcpp/server_context.h>
#include <grpcpp/support/byte_buffer.h>

#include <memory>
#include <string>
#include <variant>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "server/frontend/detection.h"
#include "server/frontend/front_end.h"
#include "server/frontend/generation.h"
#include "server/service/call_record.h"
#include "server/service/oip_request.h"
#include "server/service/reception.h"

namespace ounce::server {

// What the front end does of a request: one of the two, or nothing yet.
struct OipRun {
  std::shared_ptr<Generation> text;
  std::shared_ptr<Detection> objects;

  // As those of the one that it is.
  void Cancel() const;
  void Wake() const;
  void Release() const;
};

class OipReader {
 public:
  // Both must outlive it.
  OipReader(FrontEnd& front_end, Reception& reception)
      : front_end_(front_end), reception_(reception) {}

  // As Reception::Read, then as ReadOipRequest. Without a request `id` is the
  // one that it has, if that could be read.
  absl::StatusOr<OipRequest> Read(const grpc::CallbackServerContext& context,
                                  const grpc::ByteBuffer& bytes,
                                  std::string* id);

  // The call of a request that came now.
  CallContext ContextOf(const grpc::CallbackServerContext& context,
                        const OipRequest& request);

  // As FrontEnd's: first the one, then the other. `sink` is both kinds of one.
  template <class Sink>
  OipRun Begin(const OipRequest& request, const std::shared_ptr<Sink>& sink) {
    if (std::holds_alternative<GenerateRequest>(request.request)) {
      return {.text = front_end_.BeginGenerate(sink), .objects = nullptr};
    }
    return {.text = nullptr, .objects = front_end_.BeginDetect(sink)};
  }
  void Run(CallContext call, OipRequest request, const OipRun& run);

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
