#include "base/clock.h"

#include <chrono>

#include "absl/time/clock.h"

namespace ounce {
namespace {

class RealClock final : public Clock {
 public:
  absl::Time Now() const override {
    return start_ +
           absl::FromChrono(std::chrono::steady_clock::now() - steady_start_);
  }

 private:
  const std::chrono::steady_clock::time_point steady_start_ =
      std::chrono::steady_clock::now();
  const absl::Time start_ = absl::Now();
};

}  // namespace

const Clock& Clock::Real() {
  static const RealClock* const clock = new RealClock;
  return *clock;
}

}  // namespace ounce
