#include "client/command.h"

#include <unistd.h>

#include <cerrno>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "base/clock.h"
#include "base/mutex.h"
#include "client/report.h"

namespace ounce::client {
namespace {

// For a question after a call that ended badly.
constexpr absl::Duration kShortTimeout = absl::Seconds(5);

}  // namespace

std::string PrintableLines(absl::string_view text) {
  constexpr int kMaxCharacters = 10'000;
  std::vector<std::string> lines;
  for (const absl::string_view line : absl::StrSplit(text, '\n')) {
    lines.push_back(Printable(std::string(line), kMaxCharacters));
  }
  return absl::StrJoin(lines, "\n");
}

int ExitCode(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kOk:
      return 0;
    case absl::StatusCode::kInvalidArgument:
    case absl::StatusCode::kNotFound:
    case absl::StatusCode::kAlreadyExists:
    case absl::StatusCode::kPermissionDenied:
    case absl::StatusCode::kUnauthenticated:
    case absl::StatusCode::kResourceExhausted:
    case absl::StatusCode::kFailedPrecondition:
    case absl::StatusCode::kAborted:
    case absl::StatusCode::kOutOfRange:
    case absl::StatusCode::kUnimplemented:
      return kRefused;
    default:
      return kFailed;
  }
}

int Report(const absl::Status& status) {
  if (!status.ok()) {
    const bool terminal = IsTerminal(STDERR_FILENO);
    // "cancelled" says it all.
    const std::string code =
        absl::IsCancelled(status)
            ? ""
            : absl::StrCat(absl::StatusCodeToString(status.code()), ": ");
    std::cerr << (terminal ? "\033[31m" : "") << "ounce: " << code
              << PrintableLines(status.message()) << (terminal ? "\033[0m" : "")
              << std::endl;
  }
  return ExitCode(status);
}

absl::StatusOr<std::string> TextOrStdin(const std::string& argument,
                                        const std::string& what) {
  if (argument != "-") return argument;
  if (isatty(STDIN_FILENO)) {
    std::cerr << "reading the " << what
              << " from this terminal; end it with Ctrl-D on a line of its own"
              << std::endl;
  }
  constexpr size_t kChunk = 64 << 10;
  constexpr size_t kMaxBytes = 64 << 20;
  std::string text;
  while (true) {
    const size_t so_far = text.size();
    text.resize(so_far + kChunk);
    const ssize_t num_read = read(STDIN_FILENO, text.data() + so_far, kChunk);
    const int error = errno;
    text.resize(so_far + (num_read > 0 ? num_read : 0));
    if (num_read == 0) return text;
    if (text.size() > kMaxBytes) {
      return absl::ResourceExhaustedError(
          absl::StrCat("the ", what,
                       " from stdin is larger than 64 MiB, which no server "
                       "takes"));
    }
    if (num_read < 0 && error != EINTR) {
      return absl::ErrnoToStatus(error, "cannot read stdin");
    }
  }
}

std::string StillServes(const Client& client, const std::string& model) {
  v1::GetModelRequest request;
  request.set_name(model);
  const absl::StatusOr<v1::Model> now =
      client.WithTimeout(kShortTimeout)->GetModel(request);
  if (!now.ok() || now->version() == 0) return "";
  return absl::StrCat("; ", model, " still serves version ", now->version(),
                      " (", now->method(), ")");
}

void Wait(absl::Duration duration) {
  const absl::Time end = Clock::Real().Now() + duration;
  Mutex mu;
  CondVar never;
  const MutexLock lock(&mu);
  while (Clock::Real().Now() < end) {
    never.WaitFor(&mu, end - Clock::Real().Now());
  }
}

void WaitAMoment() { Wait(absl::Milliseconds(20)); }

}  // namespace ounce::client
