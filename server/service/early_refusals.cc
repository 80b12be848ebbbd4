#include "server/service/early_refusals.h"

#include <grpcpp/support/status.h>
#include <spdlog/spdlog.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "base/guard.h"
#include "server/net/line_limit.h"
#include "server/net/token_bucket.h"
#include "server/scheduler/refusal.h"
#include "server/service/grpc_status.h"

namespace ounce::server {
namespace {

constexpr char kDetailsKey[] = "grpc-status-details-bin";
constexpr absl::string_view kIdBegins = " (request ";
constexpr absl::string_view kIdEnds = ")";
// How gRPC begins what it says of a message above its limit.
constexpr absl::string_view kTooLarge = "Received message larger than max";
// Of the log: one in five seconds.
constexpr TokenBucket::Rate kLines = {.burst = 1, .per_second = 0.2};

bool EndsAKnownCall(grpc::StatusCode code) {
  return code == grpc::OK || code == grpc::CANCELLED ||
         code == grpc::DEADLINE_EXCEEDED || code == grpc::UNAVAILABLE;
}

// Empty if there is none.
std::string IdInWords(absl::string_view words) {
  const size_t at = words.find(kIdBegins);
  if (at == absl::string_view::npos || !absl::EndsWith(words, kIdEnds)) {
    return "";
  }
  words.remove_prefix(at + kIdBegins.size());
  words.remove_suffix(kIdEnds.size());
  return std::string(words);
}

absl::Status ErrorOf(const BareTrailers& trailers) {
  if (absl::StartsWith(trailers.message, kTooLarge)) {
    return Refusal(Reason::kMessageTooLarge, trailers.message);
  }
  return {static_cast<absl::StatusCode>(trailers.code), trailers.message};
}

// As headers of this kind carry bytes: without the signs that fill up.
std::string Base64(absl::string_view bytes) {
  std::string text = absl::Base64Escape(bytes);
  while (!text.empty() && text.back() == '=') text.pop_back();
  return text;
}

class Completer {
 public:
  Completer(std::string listener, const Reception& reception, Figures* figures,
            const Clock& clock)
      : listener_(std::move(listener)),
        reception_(reception),
        figures_(figures),
        clock_(clock),
        lines_(kLines, clock.Now()) {
    for (const grpc::StatusCode code :
         {grpc::RESOURCE_EXHAUSTED, grpc::UNIMPLEMENTED}) {
      Count(code, 0);
    }
  }

  void Complete(const BareTrailers& trailers, std::string* block) {
    const auto code = static_cast<grpc::StatusCode>(trailers.code);
    if (EndsAKnownCall(code)) return;
    // Without memory they stay as they are.
    (void)Guarded([&] {
      std::string id = IdInWords(trailers.message);
      if (id.empty()) {
        id = reception_.NewRequestId();
        Count(code, 1);
        Log(code, trailers.message, id);
      }
      const grpc::Status status =
          WithRequestId(ToGrpcStatus(ErrorOf(trailers)), id);
      std::string more;
      AppendField(kDetailsKey, Base64(status.error_details()), &more);
      AppendField(kRequestIdKey, id, &more);
      block->append(more);
      return absl::OkStatus();
    });
  }

 private:
  void Count(grpc::StatusCode code, double by) {
    if (figures_ == nullptr) return;
    figures_->Add(metric::kEarlyRefusals, {listener_, CodeName(code)}, by);
  }

  void Log(grpc::StatusCode code, const std::string& words,
           const std::string& id) {
    const std::optional<int64_t> more = lines_.Take(clock_.Now());
    if (!more.has_value()) return;
    spdlog::warn("{}: refused a call: {}: {} (request {}){}", listener_,
                 CodeName(code), words, id,
                 *more > 0 ? absl::StrCat(" (and ", *more,
                                          " more since the last such line)")
                           : "");
  }

  const std::string listener_;
  const Reception& reception_;
  Figures* const figures_;
  const Clock& clock_;
  LineLimit lines_;
};

}  // namespace

CompleteTrailers CompleteRefusals(const std::string& listener,
                                  const Reception& reception, Figures* figures,
                                  const Clock& clock) {
  return [completer =
              std::make_shared<Completer>(listener, reception, figures, clock)](
             const BareTrailers& trailers, std::string* block) {
    completer->Complete(trailers, block);
  };
}

absl::Status WithRequestIdInWords(const absl::Status& status,
                                  const std::string& request_id) {
  return {status.code(),
          absl::StrCat(status.message(), kIdBegins, request_id, kIdEnds)};
}

}  // namespace ounce::server
