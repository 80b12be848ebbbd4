// What tests of the hub begin with: a hub on this machine, an empty cache, and
// time that passes at once.
#ifndef OUNCE_TESTS_HUB_HUB_TEST_H_
#define OUNCE_TESTS_HUB_HUB_TEST_H_

#include <cstdlib>
#include <functional>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "base/mutex.h"
#include "gtest/gtest.h"
#include "hub/environment.h"
#include "hub/hooks.h"
#include "tests/testing/hub_server.h"
#include "tests/testing/temp_folder.h"

namespace ounce::hub {

class HubTest : public ::testing::Test {
 protected:
  explicit HubTest(std::string token = "") : hub_(std::move(token)) {}

  void SetUp() override {
    setenv("no_proxy", "127.0.0.1,localhost", 1);
    environment_.endpoint = hub_.endpoint();
    environment_.token_from = "HF_TOKEN";
    environment_.cache = folder_.Path("cache");
    hooks_.wait = [this](absl::Duration duration) {
      if (on_wait_) on_wait_();
      const MutexLock lock(&mu_);
      waits_.push_back(duration);
      return absl::OkStatus();
    };
  }

  std::vector<absl::Duration> waits() {
    const MutexLock lock(&mu_);
    return waits_;
  }

  const testing::TempFolder folder_;
  testing::HubServer hub_;
  Environment environment_;
  Hooks hooks_;
  std::function<void()> on_wait_;

 private:
  Mutex mu_;
  std::vector<absl::Duration> waits_ ABSL_GUARDED_BY(mu_);
};

}  // namespace ounce::hub

#endif  // OUNCE_TESTS_HUB_HUB_TEST_H_
