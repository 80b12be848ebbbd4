// How far a call is, on stderr.
#ifndef OUNCE_CLIENT_PROGRESS_LINE_H_
#define OUNCE_CLIENT_PROGRESS_LINE_H_

#include <cstdint>
#include <string>

namespace ounce::client {

// One line that changes on a terminal; else a line per stage and per tenth of
// what there is to do.
class ProgressLine {
 public:
  ProgressLine();

  // `bar` is the terminal's line.
  void Show(const std::string& bar, const std::string& stage, int64_t done,
            int64_t total);
  void End() const;

 private:
  const bool terminal_;
  int64_t next_tenth_ = 0;
  std::string stage_;
};

}  // namespace ounce::client

#endif  // OUNCE_CLIENT_PROGRESS_LINE_H_
