#include "server/scheduler/refusal.h"

#include <cstddef>
#include <iterator>
#include <utility>

#include "absl/strings/cord.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "base/check.h"

namespace ounce::server {
namespace {

constexpr ReasonRow kRows[] = {
#define REASON(id, name, code, retry_ms, quota, help) \
  {name, absl::StatusCode::code, retry_ms, quota, help},
#include "server/scheduler/reasons.def"
#undef REASON
};

// Payloads: the reason's number, the field's path, the model's name.
constexpr char kReason[] = "ounce/reason";
constexpr char kField[] = "ounce/field";
constexpr char kModel[] = "ounce/model";

absl::Status With(absl::Status status, const char* payload,
                  absl::string_view text) {
  if (!status.ok()) status.SetPayload(payload, absl::Cord(text));
  return status;
}

std::string TextOf(const absl::Status& status, const char* payload) {
  const auto value = status.GetPayload(payload);
  return value.has_value() ? std::string(*value) : "";
}

std::optional<Reason> GivenReason(const absl::Status& status) {
  const std::string text = TextOf(status, kReason);
  int number = 0;
  if (text.empty() || !absl::SimpleAtoi(text, &number)) return std::nullopt;
  return static_cast<Reason>(number);
}

}  // namespace

absl::Span<const ReasonRow> Reasons() { return kRows; }

const ReasonRow& RowOf(Reason reason) {
  const auto index = static_cast<size_t>(reason);
  OUNCE_CHECK(index < std::size(kRows), "a reason has a row");
  return kRows[index];
}

absl::Status WithReason(absl::Status status, Reason reason) {
  return With(std::move(status), kReason,
              absl::StrCat(static_cast<int>(reason)));
}

absl::Status AboutField(absl::Status status, absl::string_view field) {
  if (!GivenReason(status).has_value()) {
    status = WithReason(std::move(status), Reason::kFieldInvalid);
  }
  return With(std::move(status), kField, field);
}

absl::Status AboutModel(absl::Status status, absl::string_view model) {
  return With(std::move(status), kModel, model);
}

absl::Status Refusal(Reason reason, absl::string_view message) {
  return WithReason(absl::Status(RowOf(reason).code, message), reason);
}

absl::Status FieldError(absl::string_view field,
                        absl::string_view description) {
  return AboutField(
      absl::InvalidArgumentError(absl::StrCat(field, ": ", description)),
      field);
}

absl::Status AboutCheckpoint(absl::Status status) {
  if (status.ok() || GivenReason(status).has_value()) return status;
  for (const Reason reason :
       {Reason::kCheckpointNotFound, Reason::kCheckpointNotReadable,
        Reason::kCheckpointDamaged, Reason::kCheckpointInvalid,
        Reason::kCheckpointNotSupported}) {
    if (RowOf(reason).code == status.code()) {
      return WithReason(std::move(status), reason);
    }
  }
  return status;
}

absl::Status DeadlinePassed(bool servers, absl::string_view when) {
  return servers ? Refusal(Reason::kRequestTooLong,
                           absl::StrCat("the time that a request may take here "
                                        "passed ",
                                        when, ": ask for less at a time"))
                 : absl::DeadlineExceededError(
                       absl::StrCat("the deadline passed ", when));
}

absl::Status NotServedAnyMore() {
  return Refusal(Reason::kModelStopping,
                 "the model is being unloaded, or the server is shutting down");
}

absl::Status ShuttingDown() {
  return Refusal(Reason::kShuttingDown, "the server is shutting down");
}

Reason ReasonOf(const absl::Status& status) {
  if (const auto given = GivenReason(status)) return *given;
  for (size_t i = 0; i < std::size(kRows); ++i) {
    if (kRows[i].code == status.code() &&
        absl::StatusCodeToString(status.code()) == kRows[i].name) {
      return static_cast<Reason>(i);
    }
  }
  return Reason::kUnknown;
}

std::string FieldOf(const absl::Status& status) {
  return TextOf(status, kField);
}

std::string ModelOf(const absl::Status& status) {
  return TextOf(status, kModel);
}

std::optional<absl::Duration> RetryAfter(const absl::Status& status) {
  if (status.ok()) return std::nullopt;
  const int retry_ms = RowOf(ReasonOf(status)).retry_ms;
  if (retry_ms == 0) return std::nullopt;
  return absl::Milliseconds(retry_ms);
}

std::string ReasonsTable() {
  std::string table =
      "| Reason | Code | Try again | Whose limit | What it means, what to do "
      "|\n|---|---|---|---|---|\n";
  for (const ReasonRow& row : kRows) {
    absl::StrAppend(
        &table, "| `", row.name, "` | ", absl::StatusCodeToString(row.code),
        " | ",
        row.retry_ms == 0
            ? "–"
            : absl::StrCat("in ", absl::FormatDuration(
                                      absl::Milliseconds(row.retry_ms))),
        " | ", *row.quota == '\0' ? "–" : row.quota, " | ", row.help, " |\n");
  }
  return table;
}

}  // namespace ounce::server
