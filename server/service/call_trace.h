// A call as work that is traced: by OpenTelemetry's conventions for RPC and for
// generative AI, and our own names for what these have none for.
#ifndef OUNCE_SERVER_SERVICE_CALL_TRACE_H_
#define OUNCE_SERVER_SERVICE_CALL_TRACE_H_

#include <grpcpp/support/status_code_enum.h>
#include <grpcpp/support/string_ref.h>

#include <map>
#include <string>

#include "absl/time/time.h"
#include "server/service/call_record.h"
#include "server/service/request_log.h"
#include "server/trace/tracer.h"
#include "server/trace/work.h"

namespace ounce::server {

// In the trace that the call's metadata name, if they do.
TraceContext BeginTrace(
    const Tracer& tracer,
    const std::multimap<grpc::string_ref, grpc::string_ref>& metadata);

struct CallEnd {
  grpc::StatusCode code;  // as its caller sees it
  RequestLog::End words;
  absl::Time start;
  std::string authority;  // "HOST:PORT" that the caller asked for
};

// Of a record that is traced, whose phases and attributes it takes.
Work WorkOf(CallRecord& record, const CallEnd& end);

}  // namespace ounce::server

#endif  // OUNCE_SERVER_SERVICE_CALL_TRACE_H_
