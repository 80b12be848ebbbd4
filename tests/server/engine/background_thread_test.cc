#include "server/engine/background_thread.h"

#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <thread>

#include "gtest/gtest.h"

namespace ounce::server {
namespace {

int NiceOfThisThread() {
  return getpriority(PRIO_PROCESS, static_cast<id_t>(gettid()));
}

TEST(BackgroundThreadTest, WorksWithLowPriorityAndLeavesTheCallersAlone) {
  const int before = NiceOfThisThread();
  const auto caller = std::this_thread::get_id();
  int inside = 0;
  std::thread::id worker;
  RunInBackground([&] {
    inside = NiceOfThisThread();
    worker = std::this_thread::get_id();
  });
  EXPECT_EQ(inside, std::min(before + 10, 19));
  EXPECT_NE(worker, caller);
  EXPECT_EQ(NiceOfThisThread(), before);
}

}  // namespace
}  // namespace ounce::server
