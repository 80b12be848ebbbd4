// What one peer may hold of a listener, and what all may hold together.
//
// Bytes are those of requests that the server has not begun to answer: what
// HTTP/2 has to buffer. There are two accounts: *first windows*, the 64 KiB
// that any stream may send unasked, and *large messages*, what streams were
// allowed to send beyond that.
//
// Threads: one at a time; the loop of one listener owns all of it.
#ifndef OUNCE_SERVER_NET_SHARES_H_
#define OUNCE_SERVER_NET_SHARES_H_

#include <cstdint>

#include "absl/time/time.h"
#include "server/net/token_bucket.h"

namespace ounce::server {

enum class Account { kFirstWindows, kLargeMessages };

// One peer's part.
struct Peer {
  bool limited = true;  // false: only what all hold together counts
  int connections = 0;
  int64_t bytes[2] = {0, 0};  // by Account
  TokenBucket streams;        // that it opens
  TokenBucket resets;         // of streams that weren't answered yet
};

class Shares {
 public:
  struct Limit {
    int64_t peer_bytes;
    int64_t total_bytes;
  };
  struct Limits {
    Limit first_windows{int64_t{32} << 20, int64_t{128} << 20};
    Limit large_messages{int64_t{64} << 20, int64_t{128} << 20};
  };

  explicit Shares(const Limits& limits)
      : sums_{{limits.first_windows}, {limits.large_messages}} {}

  // Whether `peer` may take so many more. When all is taken, who holds less
  // than an even part of half of it still may.
  bool MayTake(const Peer& peer, Account account, int64_t bytes) const {
    const Sum& sum = sums_[Index(account)];
    const int64_t held = peer.bytes[Index(account)];
    if (sum.bytes == 0) return true;  // however large
    if (peer.limited && held > 0 && held + bytes > sum.limit.peer_bytes) {
      return false;
    }
    return sum.bytes + bytes <= sum.limit.total_bytes ||
           held + bytes <= sum.limit.total_bytes / 2 / (sum.holders + 1);
  }

  void Take(Peer& peer, Account account, int64_t bytes) {
    Sum& sum = sums_[Index(account)];
    int64_t& held = peer.bytes[Index(account)];
    if (bytes > 0 && held == 0) ++sum.holders;
    held += bytes;
    sum.bytes += bytes;
  }

  void GiveBack(Peer& peer, Account account, int64_t bytes) {
    if (bytes == 0) return;
    Sum& sum = sums_[Index(account)];
    int64_t& held = peer.bytes[Index(account)];
    held -= bytes;
    sum.bytes -= bytes;
    if (held == 0) --sum.holders;
    freed_ = true;
  }

  // Whether something came back since the last call.
  bool TakeFreed() {
    const bool freed = freed_;
    freed_ = false;
    return freed;
  }

 private:
  struct Sum {
    Limit limit;
    int64_t bytes = 0;
    int64_t holders = 0;  // peers with bytes
  };
  static size_t Index(Account account) { return static_cast<size_t>(account); }

  Sum sums_[2];
  bool freed_ = false;
};

}  // namespace ounce::server

#endif  // OUNCE_SERVER_NET_SHARES_H_
