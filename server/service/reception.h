// Where every request comes in, whichever service it is for: read from the wire
// within limits, its sender named, and a line written when it ends badly.
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

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "base/clock.h"
#include "base/mutex.h"
#include "server/net/peer.h"
#include "server/net/token_bucket.h"
#include "server/service/heap_trimmer.h"

namespace ounce::server {

// Takes the bytes out of gRPC's buffer, which would keep them until the call
// ends, and builds the message if JudgeMessage lets it.
// Errors: as JudgeMessage; kCancelled when the call ended before its
// message came.
absl::Status ReadRequest(const grpc::ByteBuffer& bytes,
                         google::protobuf::Message* request);

// Whose call it is (server/net/peer.h).
std::string CallerOf(const grpc::CallbackServerContext& context,
                     const PeerSet& trusted_proxies);

class Reception {
 public:
  // `trusted_proxies`: who is believed when it says for whom it asks. `clock`
  // must outlive it.
  explicit Reception(const Clock& clock, PeerSet trusted_proxies = {})
      : clock_(clock),
        trusted_proxies_(std::move(trusted_proxies)),
        lines_(kLines, clock.Now()) {}

  // As ReadRequest; and gives memory back some time after a large one.
  absl::Status Read(const grpc::ByteBuffer& bytes,
                    google::protobuf::Message* request);

  std::string PeerOf(const grpc::CallbackServerContext& context) const {
    return CallerOf(context, trusted_proxies_);
  }

  // A line in the log, unless the client itself cancelled the call. At most a
  // few per second; the next one says how many there were besides. Whatever the
  // client wrote is escaped.
  void LogFailure(std::string_view method, std::string_view peer,
                  std::string_view model, const absl::Status& status);

 private:
  // How many failures went unwritten before this one; -1: so does this one.
  int64_t TakeLine();

  static constexpr TokenBucket::Rate kLines = {.burst = 20, .per_second = 5};

  const Clock& clock_;
  const PeerSet trusted_proxies_;
  HeapTrimmer trimmer_;

  Mutex mu_;
  TokenBucket lines_ ABSL_GUARDED_BY(mu_);  // that may be written now
  int64_t unwritten_ ABSL_GUARDED_BY(mu_) = 0;
};

}  // namespace ounce::server

#endif  // OUNCE_SERVER_SERVICE_RECEPTION_H_
