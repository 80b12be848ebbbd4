// Why something is refused: for people the message of an absl::Status, for
// programs a reason (reasons.def), and what of the request it is about. Inside
// they are payloads of the status; server/service/grpc_status makes
// google.rpc's details of them.
//
//   return Refusal(Reason::kQueueFull, "the queue is full: 8 requests wait");
//   return FieldError("top_p", "must be from 0 to 1, is 2");
//
// Threads: any thread may call anything.
#ifndef OUNCE_SERVER_SCHEDULER_REFUSAL_H_
#define OUNCE_SERVER_SCHEDULER_REFUSAL_H_

#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "absl/types/span.h"

namespace ounce::server {

enum class Reason {
#define REASON(id, name, code, retry_ms, quota, help) k##id,
#include "server/scheduler/reasons.def"
#undef REASON
};

struct ReasonRow {
  const char* name;
  absl::StatusCode code;
  int retry_ms;       // 0: don't come back
  const char* quota;  // whose, or ""
  const char* help;
};

// By the number of the Reason.
absl::Span<const ReasonRow> Reasons();

// Of the reason's code.
absl::Status Refusal(Reason reason, absl::string_view message);

// kInvalidArgument about one field, FIELD_INVALID: the message is
// `field: description`. `field` is a path from the request's root.
absl::Status FieldError(absl::string_view field, absl::string_view description);

// An error, with its code and message, and whatever it had besides.
absl::Status WithReason(absl::Status status, Reason reason);
absl::Status AboutField(absl::Status status, absl::string_view field);
absl::Status AboutModel(absl::Status status, absl::string_view model);

// What reading or building a checkpoint ended with: an error that says no
// reason gets the one that its code has there. OK stays OK.
absl::Status AboutCheckpoint(absl::Status status);

// kDeadlineExceeded: the deadline passed `when` ("while the request waited").
// `servers`: that of --max_request_seconds, and not the caller's.
absl::Status DeadlinePassed(bool servers, absl::string_view when);

// kUnavailable, for requests that come or still run when a scheduler drains.
absl::Status NotServedAnyMore();
// kUnavailable, for what comes when the server stops.
absl::Status ShuttingDown();

// The reason of an error; where none was given, that of its code.
Reason ReasonOf(const absl::Status& status);
const ReasonRow& RowOf(Reason reason);

// What AboutField and AboutModel said, or "".
std::string FieldOf(const absl::Status& status);
std::string ModelOf(const absl::Status& status);

// When the caller of a refused request should come back; nothing if the same
// request will never be accepted.
std::optional<absl::Duration> RetryAfter(const absl::Status& status);

// All reasons as a table in Markdown.
std::string ReasonsTable();

}  // namespace ounce::server

#endif  // OUNCE_SERVER_SCHEDULER_REFUSAL_H_
