// A queue that its peers share: each has a line of its own, and the first of
// each line come in turn. So whoever puts much in waits long, and nobody waits
// for him.
//
// Threads: none of its own.
#ifndef OUNCE_SERVER_SCHEDULER_FAIR_QUEUE_H_
#define OUNCE_SERVER_SCHEDULER_FAIR_QUEUE_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <iterator>
#include <list>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace ounce::server {

// What becomes of an item whose turn it is.
enum class Turn {
  kTake,
  kPass,  // the next peer's first comes before it, this once
  kWait,  // and everybody after it does too
};

// `T` has an `id`, the order of arrival, and a `peer()`.
template <class T>
class FairQueue {
 public:
  using Item = std::unique_ptr<T>;

  int64_t size() const { return size_; }
  bool empty() const { return size_ == 0; }

  int64_t SizeOf(const std::string& peer) const {
    const Line* const line = Find(lines_, peer);
    return line == nullptr ? 0 : static_cast<int64_t>(line->size());
  }

  // The first of its line; null if there is none.
  const T* FirstOf(const std::string& peer) const {
    const Line* const line = Find(lines_, peer);
    return line == nullptr ? nullptr : line->front().get();
  }

  // Into its peer's line, by order of arrival; a peer without a line gets the
  // last turn. If it throws, nothing has changed: `item` is still the caller's.
  void Push(Item&& item) {
    std::list<Line> first;
    Line* line = Find(lines_, item->peer());
    if (line == nullptr) line = &first.emplace_back();
    auto place = line->end();
    while (place != line->begin() && (*std::prev(place))->id > item->id) {
      --place;
    }
    *line->insert(place, nullptr) = std::move(item);
    lines_.splice(lines_.end(), first);
    ++size_;
  }

  // The same for a queue that is full with `max_size`, in which a place is made
  // at the cost of whoever has most: the last of the longest line goes, if that
  // would still be no shorter than this peer's, and may_go(const T&) is true.
  // Returns whether `item` has a place now, and leaves in it what has none: the
  // newcomer, or the one that went, or nothing.
  template <class MayGo>
  bool PushWithin(int64_t max_size, Item& item, const MayGo& may_go) {
    Line* longest = nullptr;
    if (size_ >= max_size) {
      for (Line& line : lines_) {
        if (longest == nullptr || line.size() > longest->size()) {
          longest = &line;
        }
      }
      if (longest == nullptr ||
          static_cast<int64_t>(longest->size()) < SizeOf(item->peer()) + 2 ||
          !may_go(std::as_const(*longest->back()))) {
        return false;
      }
    }
    Push(std::move(item));
    if (longest != nullptr) {
      item = std::move(longest->back());
      longest->pop_back();
      --size_;
    }
    return true;
  }
  bool PushWithin(int64_t max_size, Item& item) {
    return PushWithin(max_size, item, [](const T&) { return true; });
  }

  // Asks choose(const T&) of the first of each line, in turn; takes the first
  // for which it says so, whose peer then has the last turn. Null if there is
  // none.
  template <class Choose>
  Item TakeNext(const Choose& choose) {
    for (auto line = lines_.begin(); line != lines_.end(); ++line) {
      switch (choose(std::as_const(*line->front()))) {
        case Turn::kPass:
          continue;
        case Turn::kWait:
          return nullptr;
        case Turn::kTake:
          break;
      }
      Item item = std::move(line->front());
      line->pop_front();
      --size_;
      if (line->empty()) {
        lines_.erase(line);
      } else {
        lines_.splice(lines_.end(), lines_, line);
      }
      return item;
    }
    return nullptr;
  }
  Item TakeNext() {
    return TakeNext([](const T&) { return Turn::kTake; });
  }

  // Takes all for which wanted(T&) is true.
  template <class Wanted>
  std::vector<Item> TakeIf(const Wanted& wanted) {
    std::vector<Item> taken;
    for (Line& line : lines_) {
      for (Item& item : line) {
        if (wanted(*item)) taken.push_back(std::move(item));
      }
      std::erase(line, nullptr);
    }
    std::erase_if(lines_, [](const Line& line) { return line.empty(); });
    size_ -= static_cast<int64_t>(taken.size());
    return taken;
  }

  // visit(const T&) of those that come before a newcomer of this peer, whatever
  // else comes: all of its line, and of each other one as many.
  template <class Visit>
  void ForEachAhead(const std::string& peer, const Visit& visit) const {
    const auto own = static_cast<size_t>(SizeOf(peer));
    for (const Line& line : lines_) {
      for (size_t place = 0; place < std::min(own, line.size()); ++place) {
        visit(std::as_const(*line[place]));
      }
    }
  }

  // visit(const T&) of all, in the order in which TakeNext() takes them, until
  // it returns false.
  template <class Visit>
  void ForEach(const Visit& visit) const {
    int64_t left = size_;
    for (size_t place = 0; left > 0; ++place) {
      for (const Line& line : lines_) {
        if (place >= line.size()) continue;
        if (!visit(std::as_const(*line[place]))) return;
        --left;
      }
    }
  }

 private:
  using Line = std::deque<Item>;  // never empty, of one peer

  template <class Lines>
  static auto Find(Lines& lines, const std::string& peer)
      -> decltype(&lines.front()) {
    for (auto& line : lines) {
      if (line.front()->peer() == peer) return &line;
    }
    return nullptr;
  }

  std::list<Line> lines_;  // in turn
  int64_t size_ = 0;
};

}  // namespace ounce::server

#endif  // OUNCE_SERVER_SCHEDULER_FAIR_QUEUE_H_
