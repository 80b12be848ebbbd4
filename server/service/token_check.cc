#include "server/service/token_check.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <optional>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "base/clock.h"
#include "base/guard.h"
#include "server/net/line_limit.h"
#include "server/net/token_bucket.h"
#include "server/service/early_refusals.h"
#include "server/service/grpc_status.h"

namespace ounce::server {
namespace {

constexpr absl::string_view kOpen = "/grpc.health.v1.Health/";
// Of the log: one in five seconds.
constexpr TokenBucket::Rate kLines = {.burst = 1, .per_second = 0.2};
constexpr size_t kMaxShownBytes = 128;

class Processor final : public grpc::AuthMetadataProcessor {
 public:
  explicit Processor(TokenCheck check) : check_(std::move(check)) {
    if (check_.figures == nullptr) return;
    for (const absl::StatusCode code : {absl::StatusCode::kUnauthenticated,
                                        absl::StatusCode::kPermissionDenied}) {
      Count(code, 0);
    }
  }

  bool IsBlocking() const override { return false; }

  grpc::Status Process(const InputMetadata& metadata, grpc::AuthContext*,
                       OutputMetadata*, OutputMetadata*) override {
    return ToGrpcStatus(Guarded([&] { return Judge(metadata); }));
  }

 private:
  absl::Status Judge(const InputMetadata& metadata) {
    const absl::string_view path = Only(metadata, ":path");
    if (absl::StartsWith(path, kOpen)) return absl::OkStatus();
    absl::Status status =
        check_.tokens->Check(Only(metadata, "authorization"), check_.scope);
    if (status.ok()) return status;
    if (check_.reception != nullptr) {
      status =
          WithRequestIdInWords(status, check_.reception->RequestIdIn(metadata));
    }
    if (check_.figures != nullptr) Count(status.code(), 1);
    Log(path, status);
    return status;
  }

  void Count(absl::StatusCode code, double by) {
    check_.figures->Add(metric::kTokenRefusals,
                        {check_.listener, absl::StatusCodeToString(code)}, by);
  }

  void Log(absl::string_view path, const absl::Status& status) {
    const std::optional<int64_t> more = lines_.Take(Clock::Real().Now());
    if (!more.has_value()) return;
    // What the caller wrote is shown if it may be a method.
    const bool shown =
        path.size() <= kMaxShownBytes &&
        std::all_of(path.begin(), path.end(), [](char c) {
          return absl::ascii_isgraph(static_cast<unsigned char>(c));
        });
    spdlog::warn("{}: refused a call of {}: {}{}", check_.listener,
                 shown ? std::string(path) : "an unknown method",
                 std::string(status.message()),
                 *more > 0 ? absl::StrCat(" (and ", *more,
                                          " more since the last such line)")
                           : "");
  }

  // The value of a header that is there once; else nothing.
  static absl::string_view Only(const InputMetadata& metadata,
                                const char* name) {
    const auto [first, last] = metadata.equal_range(name);
    if (first == last || std::next(first) != last) return "";
    return {first->second.data(), first->second.size()};
  }

  const TokenCheck check_;
  LineLimit lines_{kLines, Clock::Real().Now()};
};

}  // namespace

std::shared_ptr<grpc::AuthMetadataProcessor> CheckTokens(TokenCheck check) {
  return std::make_shared<Processor>(std::move(check));
}

}  // namespace ounce::server
