#include "server/scheduler/stop_matcher.h"

#include <algorithm>
#include <utility>

namespace ounce::server {

StopMatcher::StopMatcher(const std::vector<std::string>& stops) {
  for (const std::string& stop : stops) {
    if (stop.empty()) continue;
    Automaton automaton{stop, std::vector<size_t>(stop.size(), 0), 0};
    for (size_t i = 1, length = 0; i < stop.size(); ++i) {
      while (length > 0 && stop[i] != stop[length]) {
        length = automaton.border[length - 1];
      }
      if (stop[i] == stop[length]) ++length;
      automaton.border[i] = length;
    }
    automata_.push_back(std::move(automaton));
  }
}

std::string StopMatcher::Push(std::string_view text) {
  if (stopped_) return "";
  if (automata_.empty()) return std::string(text);
  size_t longest = 0;
  for (const char c : text) {
    held_ += c;
    longest = 0;
    size_t longest_stop = 0;
    for (Automaton& a : automata_) {
      while (a.matched > 0 && a.stop[a.matched] != c) {
        a.matched = a.border[a.matched - 1];
      }
      if (a.stop[a.matched] == c) ++a.matched;
      longest = std::max(longest, a.matched);
      if (a.matched == a.stop.size()) {
        longest_stop = std::max(longest_stop, a.stop.size());
      }
    }
    if (longest_stop > 0) {
      stopped_ = true;
      held_.resize(held_.size() - longest_stop);
      return std::exchange(held_, "");
    }
  }
  if (text.empty()) return "";
  std::string result = held_.substr(0, held_.size() - longest);
  held_.erase(0, result.size());
  return result;
}

std::string StopMatcher::Finish() { return std::exchange(held_, ""); }

}  // namespace ounce::server
