// Where every request comes in, whichever service it is for: read from the wire
// within limits, its sender and its id named, and a line written when it ends
// badly.
//
// Requests are read here and not in gRPC's generated code, which builds a
// message of anything, and answers a string that is not UTF-8 by UNIMPLEMENTED
// without a word. So the services are "raw" callback services, whose methods
// see ByteBuffers.
//
// Threads: any thread may call anything.
#ifndef OUNCE_SERVER_SERVICE_RECEPTION_H_
#define OUNCE_SERVER_SERVICE_RECEPTION_H_

#include <google/protobuf/message.h>
#include <grpcpp/server_context.h>
#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/status.h>
#include <grpcpp/support/string_ref.h>

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "base/clock.h"
#include "server/frontend/requests.h"
#include "server/net/identities.h"
#include "server/net/line_limit.h"
#include "server/net/peer.h"
#include "server/net/token_bucket.h"
#include "server/service/call_record.h"
#include "server/service/heap_trimmer.h"
#include "server/service/request_log.h"
#include "server/service/tokens.h"
#include "server/trace/tracer.h"

namespace ounce::server {

inline constexpr char kRequestIdKey[] = "x-request-id";

// Takes the bytes out of gRPC's buffer, which would keep them until the call
// ends, and builds the message if JudgeMessage lets it.
// Errors: as JudgeMessage; kCancelled when the call ended before its
// message came.
absl::Status ReadRequest(const grpc::ByteBuffer& bytes,
                         google::protobuf::Message* request);

// The name of the model that a request is about, or nothing.
std::string ModelNamedIn(const google::protobuf::Message& request);

// Whose call it is (server/net/peer.h).
std::string CallerOf(const grpc::ServerContextBase& context,
                     const PeerSet& trusted_proxies);

class Reception {
 public:
  struct Options {
    // Who is believed when it says for whom it asks.
    PeerSet trusted_proxies = {};
    // Of clients' certificates, and the tokens that they send; must outlive it.
    // Null: there are none.
    const Identities* identities = nullptr;
    const Tokens* tokens = nullptr;
    RequestLog::Options request_log = {};
    // Told of calls that are traced; must outlive it. Null: none is.
    const Tracer* tracer = nullptr;
    // Random bits for ids; called on any thread.
    std::function<uint64_t()> draw = nullptr;
  };

  // `clock` must outlive it. Without `draw` ids are all the same.
  explicit Reception(const Clock& clock) : Reception(clock, Options()) {}
  Reception(const Clock& clock, Options options)
      : clock_(clock),
        options_(std::move(options)),
        request_log_(options_.request_log, clock),
        lines_(kLines, clock.Now()) {}

  // As ReadRequest, but kDeadlineExceeded when the call's deadline has passed;
  // notes the model that the request names, and gives memory
  // back some time after a large one.
  absl::Status Read(const grpc::ServerContextBase& context,
                    const grpc::ByteBuffer& bytes,
                    google::protobuf::Message* request);

  // Who asks, as one name for all that is counted, limited or shared fairly:
  // "token:NAME" of a call with a token (tokens.h), else "cert:NAME" of a
  // client that has shown a certificate (tls.h), else the peer (peer.h). As a
  // call begins: of one that was cancelled, only its record knows.
  std::string PeerOf(const grpc::ServerContextBase& context) const;

  // 128 random bits in hexadecimal.
  std::string NewRequestId() const;
  // The id that a call has by its metadata: what the caller chose, if it may be
  // one; else a new one.
  std::string RequestIdIn(
      const std::multimap<grpc::string_ref, grpc::string_ref>& metadata) const;

  CallRecords& calls() { return calls_; }
  RequestLog& request_log() { return request_log_; }
  const Tracer* tracer() const { return options_.tracer; }  // or null

  // Whose call it is, and for how long. `context` must outlive all use of the
  // result.
  CallContext ContextOf(const grpc::CallbackServerContext& context);

  // A line in the log, unless the client itself cancelled the call. At most a
  // few per second; the next one says how many there were besides. Whatever the
  // client wrote is escaped; of an error about files, which an operator's call
  // has named, there is the reason alone.
  void LogFailure(const CallRecord& call, const grpc::Status& status);

 private:
  static constexpr TokenBucket::Rate kLines = {.burst = 20, .per_second = 5};

  const Clock& clock_;
  const Options options_;
  HeapTrimmer trimmer_;
  CallRecords calls_;
  RequestLog request_log_;
  LineLimit lines_;
};

}  // namespace ounce::server

#endif  // OUNCE_SERVER_SERVICE_RECEPTION_H_
