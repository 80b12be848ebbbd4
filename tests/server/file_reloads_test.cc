#include "server/file_reloads.h"

#include <filesystem>
#include <string>
#include <vector>

#include "absl/time/clock.h"
#include "base/mutex.h"
#include "gmock/gmock.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_folder.h"

namespace ounce::server {
namespace {

using ::testing::ElementsAre;

class FileReloadsTest : public ::testing::Test {
 protected:
  void Watch(std::vector<std::string> paths) {
    auto started = FileReloads::Start(
        {{std::move(paths),
          [this] {
            MutexLock lock(&mu_);
            return ++times_ == 1 ? absl::OkStatus()
                                 : absl::DataLossError("broken");
          },
          [this](const absl::Status& status) {
            MutexLock lock(&mu_);
            told_.push_back(status.ok());
          }}},
        absl::Milliseconds(5));
    ASSERT_OK(started.status());
    reloads_ = *std::move(started);
  }

  void WaitFor(size_t times) {
    const absl::Time deadline = absl::Now() + absl::Seconds(20);
    while (told().size() < times && absl::Now() < deadline) {
      absl::SleepFor(absl::Milliseconds(2));
    }
  }

  std::vector<bool> told() {
    MutexLock lock(&mu_);
    return told_;
  }

  const testing::TempFolder folder_;
  Mutex mu_;
  int times_ ABSL_GUARDED_BY(mu_) = 0;
  std::vector<bool> told_ ABSL_GUARDED_BY(mu_);
  std::unique_ptr<FileReloads> reloads_;  // calls the above
};

TEST_F(FileReloadsTest, ReadsFilesOnceEachTimeTheyChange) {
  const std::string a = folder_.WriteFile("a", "1");
  const std::string b = folder_.WriteFile("b", "1");
  Watch({a, "", b});
  std::filesystem::rename(folder_.WriteFile("new", "22"), b);
  WaitFor(1);
  EXPECT_THAT(told(), ElementsAre(true));
  std::filesystem::remove(a);
  WaitFor(2);
  EXPECT_THAT(told(), ElementsAre(true, false));
}

TEST_F(FileReloadsTest, SeesThatALinkLeadsElsewhere) {
  folder_.WriteFile("old/token", "1");
  folder_.WriteFile("new/token", "1");
  const std::string link = folder_.Path("now");
  std::filesystem::create_symlink("old", link);
  Watch({link + "/token"});
  // As Kubernetes does it.
  std::filesystem::create_symlink("new", link + ".new");
  std::filesystem::rename(link + ".new", link);
  WaitFor(1);
  EXPECT_THAT(told(), ElementsAre(true));
}

}  // namespace
}  // namespace ounce::server
