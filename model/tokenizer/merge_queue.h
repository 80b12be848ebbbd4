// What of a word may be merged, the merge that comes first in the list first,
// the leftmost of equals: for short words a heap, and for long ones a list per
// rank, which is sorted when its turn comes. A heap of a long word is all over
// the memory; a list is walked from left to right, as the word lies there.
//
// Both give the same merges in the same order.
//
// Threads: one at a time.
#ifndef OUNCE_MODEL_TOKENIZER_MERGE_QUEUE_H_
#define OUNCE_MODEL_TOKENIZER_MERGE_QUEUE_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <vector>

namespace ounce::model {

class HeapMergeQueue {
 public:
  struct Entry {
    uint32_t rank = 0;
    uint32_t at = 0;
  };

  void Clear() { heap_.clear(); }
  // All that is there at first, then Start; then Push and Pop.
  void PushFirst(uint32_t rank, uint32_t at) { heap_.push_back(Key(rank, at)); }
  void Start() { std::make_heap(heap_.begin(), heap_.end(), std::greater<>()); }
  void Push(uint32_t rank, uint32_t at) {
    heap_.push_back(Key(rank, at));
    std::push_heap(heap_.begin(), heap_.end(), std::greater<>());
  }
  bool Pop(Entry& entry) {
    if (heap_.empty()) return false;
    std::pop_heap(heap_.begin(), heap_.end(), std::greater<>());
    entry = {static_cast<uint32_t>(heap_.back() >> 32),
             static_cast<uint32_t>(heap_.back())};
    heap_.pop_back();
    return true;
  }
  bool empty() const { return heap_.empty(); }
  // The least (rank, at); requires that it is not empty.
  uint64_t least() const { return heap_.front(); }
  static uint64_t Key(uint32_t rank, uint32_t at) {
    return uint64_t{rank} << 32 | at;
  }

 private:
  std::vector<uint64_t> heap_;
};

class ListMergeQueue {
 public:
  using Entry = HeapMergeQueue::Entry;

  // Of ranks below `num_ranks`.
  void Clear(size_t num_ranks) {
    lists_.assign(num_ranks, List());
    entries_.clear();
    free_ = kNone;
    current_.clear();
    done_ = 0;
    next_rank_ = 0;
    early_.Clear();
  }
  void PushFirst(uint32_t rank, uint32_t at) { Append(rank, at); }
  void Start() {}
  void Push(uint32_t rank, uint32_t at) {
    // Merges that are trained come after those that made their parts, but a
    // list may have any order.
    if (rank < next_rank_) {
      early_.Push(rank, at);
    } else {
      Append(rank, at);
    }
  }
  bool Pop(Entry& entry) {
    for (;;) {
      const bool has_current = done_ < current_.size();
      if (!early_.empty() &&
          (!has_current ||
           early_.least() <
               HeapMergeQueue::Key(next_rank_ - 1, current_[done_]))) {
        return early_.Pop(entry);
      }
      if (has_current) {
        entry = {next_rank_ - 1, current_[done_++]};
        return true;
      }
      if (next_rank_ == lists_.size()) return false;
      TakeList(lists_[next_rank_++]);
    }
  }

 private:
  static constexpr uint32_t kNone = std::numeric_limits<uint32_t>::max();
  struct List {
    uint32_t first = kNone;
    uint32_t last = kNone;
  };
  struct Link {
    uint32_t at = 0;
    uint32_t next = kNone;
  };

  void Append(uint32_t rank, uint32_t at) {
    uint32_t link = free_;
    if (link == kNone) {
      link = static_cast<uint32_t>(entries_.size());
      entries_.emplace_back();
    } else {
      free_ = entries_[link].next;
    }
    entries_[link] = {at, kNone};
    List& list = lists_[rank];
    if (list.first == kNone) {
      list.first = link;
    } else {
      entries_[list.last].next = link;
    }
    list.last = link;
  }

  void TakeList(const List& list) {
    current_.clear();
    done_ = 0;
    if (list.first == kNone) return;
    for (uint32_t link = list.first; link != kNone;
         link = entries_[link].next) {
      current_.push_back(entries_[link].at);
    }
    entries_[list.last].next = free_;
    free_ = list.first;
    if (!std::is_sorted(current_.begin(), current_.end())) {
      std::sort(current_.begin(), current_.end());
    }
  }

  std::vector<List> lists_;        // by rank
  std::vector<Link> entries_;      // of all lists
  uint32_t free_ = kNone;          // entries of none
  std::vector<uint32_t> current_;  // those of the rank before next_rank_
  size_t done_ = 0;                // of them
  uint32_t next_rank_ = 0;
  HeapMergeQueue early_;  // of ranks before next_rank_, pushed too late
};

}  // namespace ounce::model

#endif  // OUNCE_MODEL_TOKENIZER_MERGE_QUEUE_H_
