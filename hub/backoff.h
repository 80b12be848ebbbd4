// When something that went wrong is tried again.
#ifndef OUNCE_HUB_BACKOFF_H_
#define OUNCE_HUB_BACKOFF_H_

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "hub/hooks.h"
#include "hub/http_client.h"

namespace ounce::hub {

// Whether another time may go better: 408, 429, 500, 502, 503 and 504.
bool MayPass(const HttpReply& reply);

// Six attempts, after 1, 2, 4, 8 and 16 seconds, or as long as the server asks.
class Backoff {
 public:
  // `hooks` must outlive it.
  explicit Backoff(const Hooks& hooks) : hooks_(hooks) {}

  // Waits until the next attempt, `asked` long if that is not 0.
  // Errors: `failure`, with how often it was tried, after the last attempt, and
  // where the server asks for more than five minutes; those of the hooks.
  absl::Status Next(const absl::Status& failure,
                    absl::Duration asked = absl::ZeroDuration());

  // Something went well: the next failure is a first one again.
  void Reset() { num_failed_ = 0; }

 private:
  const Hooks& hooks_;
  int num_failed_ = 0;
};

}  // namespace ounce::hub

#endif  // OUNCE_HUB_BACKOFF_H_
