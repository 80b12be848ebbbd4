// A queue that its peers share: each has a line of its own, and the first of
// each line come in turn. So whoever puts much in waits long, and nobody waits
// for him.
//
// Threads: none of its own.
#ifndef OUNCE_SERVER_SCHEDULER_FAIR_QUEUE_H_
#define OUNCE_SERVER_SCHEDULER_FAIR_QUEUE_H_

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

  // Into its peer's line, by order of arrival; a peer without a line gets the
  // last turn.
  void Push(Item item) {
    Line* line = Find(item->peer());
    if (line == nullptr) line = &lines_.emplace_back();
    auto place = line->end();
    while (place != line->begin() && (*std::prev(place))->id > item->id) {
      --place;
    }
    line->insert(place, std::move(item));
    ++size_;
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

  // Makes room for one more of `peer` at the cost of whoever has most: takes
  // the last of the longest line, if that would still be no shorter than this
  // peer's, and may_go(const T&) is true. Else null.
  template <class MayGo>
  Item Displace(const std::string& peer, const MayGo& may_go) {
    Line* longest = nullptr;
    for (Line& line : lines_) {
      if (longest == nullptr || line.size() > longest->size()) longest = &line;
    }
    const Line* const own = Find(peer);
    const size_t size = own == nullptr ? 0 : own->size();
    if (longest == nullptr || longest->size() < size + 2 ||
        !may_go(std::as_const(*longest->back()))) {
      return nullptr;
    }
    Item item = std::move(longest->back());
    longest->pop_back();
    --size_;
    return item;
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

  Line* Find(const std::string& peer) {
    for (Line& line : lines_) {
      if (line.front()->peer() == peer) return &line;
    }
    return nullptr;
  }

  std::list<Line> lines_;  // in turn
  int64_t size_ = 0;
};

}  // namespace ounce::server

#endif  // OUNCE_SERVER_SCHEDULER_FAIR_QUEUE_H_
