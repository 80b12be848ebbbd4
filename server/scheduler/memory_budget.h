// The memory that the whole server may take, and who has how much of it:
// weights of every version that is still alive, working memory, KV caches,
// pictures, tokenizers.
//
// Mappings cost nothing until they are touched, so the system never refuses
// one; it kills the process later, when a page can't be had. This refuses
// instead, before the work, and says what would be needed and what is free.
//
// There are two kinds of users. A Reservation is made once, for all that a
// version is known to need. What grows and shrinks with requests (MemoryUse)
// has a floor that is part of a reservation, so that a model can always serve
// one request, and takes what it uses above it. Of that it may keep some for
// later use that nobody needs: kept memory counts as used, but whoever asks
// gets it, at once and before anything is refused.
//
//   limit = process + weights + scratch + KV caches + pictures + tokenizers
//           + what is free
//
// Threads: any thread may call anything.
#ifndef OUNCE_SERVER_SCHEDULER_MEMORY_BUDGET_H_
#define OUNCE_SERVER_SCHEDULER_MEMORY_BUDGET_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/mutex.h"
#include "base/system_memory.h"

namespace ounce::server {

enum class MemoryShare {
  kWeights,
  kScratch,
  kKvCache,
  kPictures,
  kTokenizers,
};
inline constexpr size_t kNumMemoryShares = 5;

// "weights", "scratch", "kv_cache", "pictures", "tokenizers"; goes into
// metrics.
const char* MemoryShareName(MemoryShare share);

// Bytes by share.
struct MemoryNeed {
  std::array<int64_t, kNumMemoryShares> bytes = {};

  int64_t& operator[](MemoryShare share) {
    return bytes[static_cast<size_t>(share)];
  }
  int64_t operator[](MemoryShare share) const {
    return bytes[static_cast<size_t>(share)];
  }
  int64_t total() const;
  MemoryNeed Plus(const MemoryNeed& other) const;
  MemoryNeed Minus(const MemoryNeed& other) const;
  // The larger of each.
  MemoryNeed Max(const MemoryNeed& other) const;
  // "1.24 GiB: 0.71 GiB of weights, 12 MiB of scratch".
  std::string ToString() const;
};

class MemoryUse;

class MemoryBudget {
 public:
  static constexpr int64_t kNoLimit = std::numeric_limits<int64_t>::max();

  struct Options {
    // What the server may take in all; kNoLimit: nothing is ever refused.
    int64_t limit_bytes = kNoLimit;
    // Set aside for all that is not counted here: code, heap, messages, stacks.
    int64_t process_bytes = 0;
    // What the server takes now and what it could take on top of that, asked
    // before each reservation, for there may be others on the machine. Empty:
    // the limit alone counts.
    std::function<int64_t()> attainable_bytes = nullptr;
  };

  struct State {
    int64_t limit_bytes = 0;
    int64_t process_bytes = 0;
    MemoryNeed used;
    MemoryNeed kept;  // of `used`
    // Of `used`: by versions that no longer serve and have not ended.
    int64_t ending_bytes = 0;
    // By model: versions whose weights are in memory, one being built included.
    std::map<std::string, int64_t> versions;

    // What is taken, by name: the shares without what is kept, then "kept" and
    // "process".
    std::vector<std::pair<const char*, int64_t>> taken() const;
    int64_t free_bytes() const {
      return limit_bytes - process_bytes - used.total();
    }
    // What whoever asks may get.
    int64_t attainable_bytes() const { return free_bytes() + kept.total(); }
  };

  // One user's share. Ownership: given back by the destructor; the budget must
  // outlive it. Movable; an empty one holds nothing. Threads: one at a time.
  class Reservation {
   public:
    Reservation() = default;
    Reservation(Reservation&& other) noexcept { *this = std::move(other); }
    Reservation& operator=(Reservation&& other) noexcept {
      std::swap(budget_, other.budget_);
      std::swap(need_, other.need_);
      std::swap(version_of_, other.version_of_);
      std::swap(ending_, other.ending_);
      return *this;
    }
    ~Reservation();

    const MemoryNeed& need() const { return need_; }

    // Gives back what is above `need`; less than was reserved of every share.
    void ShrinkTo(const MemoryNeed& need);

    // A part of it, as a reservation of its own.
    Reservation Split(const MemoryNeed& part);

    // It is for a version of `model` from now on.
    void CountAsVersionOf(const std::string& model);

    // The version no longer serves: what it holds comes back some time.
    void MarkEnding();

   private:
    friend class MemoryBudget;
    Reservation(MemoryBudget* budget, const MemoryNeed& need)
        : budget_(budget), need_(need) {}

    MemoryBudget* budget_ = nullptr;
    MemoryNeed need_;
    std::string version_of_;
    bool ending_ = false;
  };

  explicit MemoryBudget(Options options) : options_(std::move(options)) {}
  MemoryBudget() : MemoryBudget(Options()) {}
  MemoryBudget(const MemoryBudget&) = delete;
  MemoryBudget& operator=(const MemoryBudget&) = delete;

  // All of it or none. `who` begins the message of a refusal: "quantizing
  // 'code'".
  // Errors: kResourceExhausted, with the figures; with a word about trying
  //   again (refusal.h) if what is used now and may come back would make room.
  absl::StatusOr<Reservation> Reserve(const MemoryNeed& need,
                                      const std::string& who);

  // Takes `bytes` of a share for what comes and goes with requests; false, and
  // nothing is taken, if so much is not free.
  bool Take(MemoryShare share, int64_t bytes);
  void GiveBack(MemoryShare share, int64_t bytes);

  // The most that a user of `fixed` may have for itself: the limit, less what
  // is set aside for the process.
  int64_t usable_bytes() const;

  State state() const;

  // Returns when something was given back, or after `timeout`.
  void AwaitRelease(absl::Duration timeout);

 private:
  friend class MemoryUse;

  void Add(const MemoryNeed& need, int64_t sign)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // So much more, or less, of a share comes and goes.
  void Pass(MemoryShare share, int64_t bytes)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // Of used_: kept, and there for whoever asks.
  MemoryNeed Kept() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void SetUse(MemoryUse& use, int64_t needed, int64_t kept)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // What `limit` leaves when all that is kept is given up.
  int64_t FreeUnder(int64_t limit) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // Has users give up what they keep until all fits `limit` or nothing is kept,
  // `first` (may be null) before the others.
  void GiveUpKept(int64_t limit, MemoryUse* first)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  const Options options_;
  mutable Mutex mu_;
  CondVar released_;

  MemoryNeed used_ ABSL_GUARDED_BY(mu_);
  // Of used_: taken, not reserved; and reserved by versions that end.
  int64_t passing_bytes_ ABSL_GUARDED_BY(mu_) = 0;
  int64_t ending_bytes_ ABSL_GUARDED_BY(mu_) = 0;
  std::map<std::string, int64_t> versions_ ABSL_GUARDED_BY(mu_);
  std::vector<MemoryUse*> uses_ ABSL_GUARDED_BY(mu_);
};

// What one user has of a share that comes and goes: a floor that is reserved
// already, and what it takes above, needed or kept.
//
// Ownership: gives back what it took. Threads: any; Resize one at a time.
class MemoryUse {
 public:
  // Forgets so many bytes of what is kept, more if it comes in larger pieces,
  // all if there is less, and says how many. Called on any thread with the
  // budget locked: must not call it.
  using GiveUp = std::function<int64_t(int64_t bytes)>;

  MemoryUse(MemoryBudget& budget, MemoryShare share, int64_t floor_bytes);
  ~MemoryUse();
  MemoryUse(const MemoryUse&) = delete;
  MemoryUse& operator=(const MemoryUse&) = delete;

  // `bytes` are needed from now on; false, and nothing changes, if there is not
  // so much. Never false for less than before, or up to the floor.
  bool Resize(int64_t bytes);

  // How others get what is kept; null, as at first: not at all. After it
  // returns the one before is not called any more.
  void SetGiveUp(GiveUp give_up);
  // So many bytes more are kept, or fewer, but for those given up. If there is
  // not so much, some are given up before it returns.
  void ChangeKept(int64_t bytes);

 private:
  friend class MemoryBudget;
  // With the budget locked: what it has above its floor; of that, kept and to
  // be had.
  int64_t Taken() const;
  int64_t TakenToKeep() const;

  MemoryBudget& budget_;
  const MemoryShare share_;
  const int64_t floor_bytes_;
  // Guarded by the budget's lock.
  int64_t needed_bytes_ = 0;
  int64_t kept_bytes_ = 0;
  GiveUp give_up_;
};

// The budget of a server on this machine: `limit_bytes`, or, when that is 0,
// what the machine and its control groups allow (base/system_memory.h), of
// which others may have taken something.
MemoryBudget::Options MemoryOfThisMachine(
    int64_t limit_bytes, const std::function<SystemMemory()>& read = [] {
      return ReadSystemMemory();
    });

}  // namespace ounce::server

#endif  // OUNCE_SERVER_SCHEDULER_MEMORY_BUDGET_H_
