// The memory that pictures in flight may take, all models together: what is
// being decoded, and what waits for a model.
//
//   header read --> Reserve(the most that decoding takes) --> decoded, resized
//   --> Shrink(what is kept) --> detected --> given back
//
// Peers share it. One may have its first picture whenever that fits, and more
// as long as all of its own take at most 7 times what stays free: alone it gets
// to 7/8 of all, two such get 7/15 each, and some is always left for others.
// The peer without a name, which is the server itself, may have it all.
//
// Threads: any thread may call anything, each Reservation from one at a time.
#ifndef OUNCE_SERVER_SCHEDULER_PICTURE_MEMORY_H_
#define OUNCE_SERVER_SCHEDULER_PICTURE_MEMORY_H_

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "base/mutex.h"
#include "server/scheduler/memory_budget.h"

namespace ounce::server {

class PictureMemory {
 public:
  // Told of each change, with a lock held: must neither block nor call back.
  using OnChange = std::function<void(int64_t pictures, int64_t bytes)>;

  // What is taken is the server's memory too; `budget`, if any, must outlive
  // it.
  explicit PictureMemory(
      int64_t capacity_bytes, OnChange on_change = [](int64_t, int64_t) {},
      MemoryBudget* budget = nullptr)
      : capacity_bytes_(capacity_bytes),
        on_change_(std::move(on_change)),
        budget_(budget) {}
  PictureMemory(const PictureMemory&) = delete;
  PictureMemory& operator=(const PictureMemory&) = delete;

  // One picture's share. Ownership: given back by the destructor; the memory
  // must outlive it. Movable; an empty one holds nothing.
  class Reservation {
   public:
    Reservation() = default;
    Reservation(Reservation&& other) noexcept
        : memory_(std::exchange(other.memory_, nullptr)),
          bytes_(std::exchange(other.bytes_, 0)),
          peer_(std::move(other.peer_)) {}
    Reservation& operator=(Reservation&& other) noexcept {
      std::swap(memory_, other.memory_);
      std::swap(bytes_, other.bytes_);
      std::swap(peer_, other.peer_);
      return *this;
    }
    ~Reservation();

    int64_t bytes() const { return bytes_; }
    // Requires no more than bytes().
    void Shrink(int64_t bytes);

   private:
    friend class PictureMemory;
    Reservation(PictureMemory* memory, int64_t bytes, std::string peer)
        : memory_(memory), bytes_(bytes), peer_(std::move(peer)) {}

    PictureMemory* memory_ = nullptr;
    int64_t bytes_ = 0;
    std::string peer_;
  };

  // Errors: kResourceExhausted; refusal.h tells whether it passes.
  absl::StatusOr<Reservation> Reserve(int64_t bytes,
                                      const std::string& peer = "");

  int64_t capacity_bytes() const { return capacity_bytes_; }
  int64_t used_bytes() const {
    MutexLock lock(&mu_);
    return used_bytes_;
  }

 private:
  void GiveBack(int64_t bytes);
  struct Held {
    int64_t pictures = 0;
    int64_t bytes = 0;
  };

  void Change(const std::string& peer, int64_t pictures, int64_t bytes)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  const int64_t capacity_bytes_;
  const OnChange on_change_;
  MemoryBudget* const budget_;

  mutable Mutex mu_;
  int64_t used_bytes_ ABSL_GUARDED_BY(mu_) = 0;
  int64_t num_pictures_ ABSL_GUARDED_BY(mu_) = 0;
  std::map<std::string, Held> peers_ ABSL_GUARDED_BY(mu_);  // with pictures
};

}  // namespace ounce::server

#endif  // OUNCE_SERVER_SCHEDULER_PICTURE_MEMORY_H_
