#include "client/transfer_lines.h"

#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <iostream>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "base/byte_size.h"
#include "client/output.h"
#include "client/report.h"

namespace ounce::client {
namespace {

constexpr absl::Duration kPause = absl::Milliseconds(100);
constexpr int kMaxLines = 9;
constexpr int kMaxNameCharacters = 40;

std::string Bar(int64_t done, int64_t total) {
  constexpr int64_t kWidth = 24;
  const double share =
      total > 0 ? static_cast<double>(done) / static_cast<double>(total) : 1;
  const auto filled =
      std::clamp<int64_t>(static_cast<int64_t>(kWidth * share), 0, kWidth);
  return absl::StrFormat("[%s%s] %3d%%",
                         std::string(static_cast<size_t>(filled), '#'),
                         std::string(static_cast<size_t>(kWidth - filled), '.'),
                         static_cast<int>(100 * share));
}

std::string FileLine(const hub::FileProgress& file) {
  return absl::StrCat(Bar(file.bytes_done, file.bytes), " ",
                      Printable(file.path, kMaxNameCharacters),
                      file.waits
                          ? ": waits for another process that fetches it"
                          : absl::StrCat(" of ", FormatByteSize(file.bytes)));
}

std::string TotalLine(const hub::Progress& progress, absl::Duration elapsed) {
  std::string line = absl::StrCat(Bar(progress.bytes_done, progress.bytes), " ",
                                  FormatByteSize(progress.bytes_done), " of ",
                                  FormatByteSize(progress.bytes));
  int64_t moved = progress.bytes_done;
  for (const hub::FileProgress& file : progress.files) {
    if (file.was_there) moved -= file.bytes;
  }
  const double seconds = absl::ToDoubleSeconds(elapsed);
  if (seconds < 1 || moved <= 0) return line;
  const double speed = static_cast<double>(moved) / seconds;
  const absl::Duration left = absl::Seconds(
      static_cast<double>(progress.bytes - progress.bytes_done) / speed);
  absl::StrAppend(&line, ", ", FormatByteSize(static_cast<int64_t>(speed)),
                  "/s");
  if (left >= absl::Seconds(1)) {
    absl::StrAppend(&line, ", ",
                    absl::FormatDuration(absl::Trunc(left, absl::Seconds(1))),
                    " left");
  }
  return line;
}

}  // namespace

std::vector<std::string> TransferText(const hub::Progress& progress,
                                      absl::Duration elapsed, int max_lines) {
  std::vector<std::string> lines;
  for (const hub::FileProgress& file : progress.files) {
    const bool under_way =
        file.waits || (file.bytes_done > 0 && file.bytes_done < file.bytes);
    if (under_way && static_cast<int>(lines.size()) < max_lines - 1) {
      lines.push_back(FileLine(file));
    }
  }
  lines.push_back(TotalLine(progress, elapsed));
  return lines;
}

TransferLines::TransferLines(const Clock& clock)
    : clock_(clock),
      terminal_(IsTerminal(STDERR_FILENO)),
      begin_(clock.Now()),
      next_(begin_) {}

void TransferLines::Show(const hub::Progress& progress) {
  const absl::Time now = clock_.Now();
  if (!terminal_) {
    const int64_t tenth =
        progress.bytes > 0
            ? static_cast<int64_t>(10.0 *
                                   static_cast<double>(progress.bytes_done) /
                                   static_cast<double>(progress.bytes))
            : 10;
    if (tenth < next_tenth_) return;
    next_tenth_ = tenth + 1;
    std::cerr << FormatByteSize(progress.bytes_done) << " of "
              << FormatByteSize(progress.bytes) << std::endl;
    return;
  }
  if (now < next_) return;
  next_ = now + kPause;
  End();
  const int width = TerminalWidth(STDERR_FILENO) - 1;
  for (const std::string& line :
       TransferText(progress, now - begin_, kMaxLines)) {
    std::cerr << (lines_ > 0 ? "\n" : "") << Cut(line, width);
    ++lines_;
  }
  std::cerr << std::flush;
}

void TransferLines::End() {
  if (lines_ == 0) return;
  if (lines_ > 1) std::cerr << "\033[" << lines_ - 1 << "A";
  std::cerr << "\r\033[J" << std::flush;
  lines_ = 0;
}

}  // namespace ounce::client
