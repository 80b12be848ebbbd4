#include "server/process.h"

#include <cstdio>
#include <cstdlib>

#include "absl/synchronization/mutex.h"
#include "gtest/gtest.h"

namespace ounce::server {
namespace {

// Whoever notes in which order mutexes are taken ends the process here.
void TakeTwoMutexesInBothOrders() {
  absl::Mutex a, b;
  { absl::MutexLock first(&a), second(&b); }
  absl::MutexLock first(&b), second(&a);
}

TEST(ProcessTest, KeepsNoMemoryOfTheOrderInWhichMutexesAreTaken) {
  EXPECT_EXIT(
      {
        SetUpProcess();
        TakeTwoMutexesInBothOrders();
        std::fputs("took both", stderr);
        std::exit(0);
      },
      ::testing::ExitedWithCode(0), "took both");
}

}  // namespace
}  // namespace ounce::server
