#include "base/mutex.h"

#include <chrono>
#include <thread>

#include "gtest/gtest.h"
#include "tests/testing/wall_clock.h"

namespace ounce {
namespace {

using std::chrono::steady_clock;

// How often WaitFor wakes in `patience` when nobody signals.
int Wakes(absl::Duration patience) {
  Mutex mu;
  CondVar changed;
  const auto end = steady_clock::now() + absl::ToChronoNanoseconds(patience);
  int wakes = 0;
  MutexLock lock(&mu);
  while (steady_clock::now() < end) {
    changed.WaitFor(&mu, absl::FromChrono(end - steady_clock::now()));
    ++wakes;
  }
  return wakes;
}

// A few for wakes without a reason: one that does not wait wakes a thousand
// times.
constexpr int kFewWakes = 10;

TEST(CondVarTest, WaitsForAsLongAsAsked) {
  EXPECT_LE(Wakes(absl::Milliseconds(50)), kFewWakes);
}

TEST(CondVarTest, WaitsByTheMonotonicClock) {
  testing::SetWallClockOffset(-absl::Hours(1));
  const int wakes = Wakes(absl::Milliseconds(50));
  testing::SetWallClockOffset(absl::ZeroDuration());
  EXPECT_LE(wakes, kFewWakes);
}

TEST(CondVarTest, WaitsWithoutEndUntilSignalled) {
  for (const absl::Duration endless :
       {absl::InfiniteDuration(), absl::Hours(int64_t{1} << 40)}) {
    Mutex mu;
    CondVar changed;
    bool done = false;
    std::thread signaller([&] {
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
      MutexLock lock(&mu);
      done = true;
      changed.SignalAll();
    });
    int wakes = 0;
    {
      MutexLock lock(&mu);
      while (!done) {
        changed.WaitFor(&mu, endless);
        ++wakes;
      }
    }
    signaller.join();
    EXPECT_LE(wakes, kFewWakes) << endless;
  }
}

TEST(CondVarTest, DoesNotWaitForATimeThatIsOver) {
  Mutex mu;
  CondVar changed;
  MutexLock lock(&mu);
  changed.WaitFor(&mu, absl::ZeroDuration());
  changed.WaitFor(&mu, -absl::Hours(1));
  changed.WaitFor(&mu, -absl::InfiniteDuration());
}

}  // namespace
}  // namespace ounce
