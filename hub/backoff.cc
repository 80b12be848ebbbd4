#include "hub/backoff.h"

#include "absl/strings/str_cat.h"

namespace ounce::hub {
namespace {

constexpr int kAttempts = 6;
constexpr absl::Duration kFirstWait = absl::Seconds(1);
constexpr absl::Duration kLongestWait = absl::Minutes(5);

}  // namespace

bool MayPass(const HttpReply& reply) {
  switch (reply.code) {
    case 408:
    case 429:
    case 500:
    case 502:
    case 503:
    case 504:
      return true;
    default:
      return false;
  }
}

absl::Status Backoff::Next(const absl::Status& failure, absl::Duration asked) {
  ++num_failed_;
  if (num_failed_ == kAttempts) {
    return absl::Status(
        failure.code(),
        absl::StrCat(failure.message(), " (after ", kAttempts, " attempts)"));
  }
  if (asked > kLongestWait) {
    return absl::Status(
        failure.code(),
        absl::StrCat(failure.message(), "; the server asks to wait for ",
                     absl::FormatDuration(asked)));
  }
  return hooks_.Wait(asked > absl::ZeroDuration()
                         ? asked
                         : kFirstWait * (1 << (num_failed_ - 1)));
}

}  // namespace ounce::hub
