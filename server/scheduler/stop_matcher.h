// Finds the first stop string in a text that arrives in pieces.
//
// The stop is the stop string whose end comes first in the text; of several
// that end there, the longest. So where the pieces begin and end has no
// influence. Text that may still become part of a stop string is held back.
//
// One Knuth-Morris-Pratt automaton per stop string: time linear in the text.
//
// Threads: one at a time.
#ifndef OUNCE_SERVER_SCHEDULER_STOP_MATCHER_H_
#define OUNCE_SERVER_SCHEDULER_STOP_MATCHER_H_

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace ounce::server {

class StopMatcher {
 public:
  // Empty stop strings are passed over.
  explicit StopMatcher(const std::vector<std::string>& stops);

  // The text that is known to lie before any stop string and was not returned
  // yet. Valid UTF-8 if all of `text` and the stop strings are.
  std::string Push(std::string_view text);

  // A stop string is complete; Push returns nothing any more.
  bool stopped() const { return stopped_; }

  // What is still held back; call at an end that is no stop.
  std::string Finish();

 private:
  struct Automaton {
    std::string stop;
    // Length of the longest proper prefix of stop[0, i] that is also its
    // suffix, by i.
    std::vector<size_t> border;
    size_t matched = 0;  // characters of `stop` that the text ends with
  };

  std::vector<Automaton> automata_;
  std::string held_;
  bool stopped_ = false;
};

}  // namespace ounce::server

#endif  // OUNCE_SERVER_SCHEDULER_STOP_MATCHER_H_
