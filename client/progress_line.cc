#include "client/progress_line.h"

#include <unistd.h>

#include <iostream>

#include "client/output.h"

namespace ounce::client {

ProgressLine::ProgressLine() : terminal_(IsTerminal(STDERR_FILENO)) {}

void ProgressLine::Show(const std::string& bar, const std::string& stage,
                        int64_t done, int64_t total) {
  if (terminal_) {
    ShowOnTerminal(bar);
    return;
  }
  const int64_t tenth = total > 0 ? 10 * done / total : 0;
  if (stage != stage_ || tenth >= next_tenth_) {
    std::cerr << stage;
    if (total > 0) std::cerr << " " << done << "/" << total;
    std::cerr << std::endl;
    next_tenth_ = tenth + 1;
  }
  stage_ = stage;
}

void ProgressLine::End() const {
  if (terminal_) ShowOnTerminal("");
}

}  // namespace ounce::client
