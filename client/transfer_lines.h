// How far a download or an upload is, on stderr.
#ifndef OUNCE_CLIENT_TRANSFER_LINES_H_
#define OUNCE_CLIENT_TRANSFER_LINES_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "base/clock.h"
#include "hub/progress.h"

namespace ounce::client {

// A bar for each file that is under way, as many as fit `max_lines`, and one
// for all of them, with the speed so far and the time that the rest will take.
std::vector<std::string> TransferText(const hub::Progress& progress,
                                      absl::Duration elapsed, int max_lines);

// On a terminal these lines, ten times a second at most; else a line for each
// tenth.
//
// Threads: one at a time.
class TransferLines {
 public:
  explicit TransferLines(const Clock& clock = Clock::Real());

  void Show(const hub::Progress& progress);
  // Takes the terminal's lines away.
  void End();

 private:
  const Clock& clock_;
  const bool terminal_;
  absl::Time begin_;
  absl::Time next_;         // when to draw again
  int64_t next_tenth_ = 0;  // where it is no terminal
  int lines_ = 0;           // that are on the terminal
};

}  // namespace ounce::client

#endif  // OUNCE_CLIENT_TRANSFER_LINES_H_
