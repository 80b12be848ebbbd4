#include "server/announce.h"

#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_folder.h"

namespace ounce::server {
namespace {

using ::ounce::testing::StatusIs;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

const Addresses kAddresses = {"a:1", "b:2", "c:3"};

ModelInfo Model(const std::string& name, ModelState state,
                std::vector<Task> tasks) {
  ModelInfo info;
  info.name = name;
  info.state = state;
  info.tasks = std::move(tasks);
  return info;
}

std::string Announced(const std::vector<ModelInfo>& models) {
  ::testing::internal::CaptureStdout();
  AnnounceModels(models);
  return ::testing::internal::GetCapturedStdout();
}

TEST(AnnounceTest, SaysWhatIsServedAndNothingOfWhatIsNotServedYet) {
  const std::vector<ModelInfo> models = {
      Model("writer", ModelState::kReady, {Task::kGenerate}),
      Model("finder", ModelState::kQuantizing, {Task::kDetectObjects}),
      Model("coming", ModelState::kLoading, {}),
      Model("going", ModelState::kUnloading, {Task::kGenerate})};
  EXPECT_THAT(Announced(models),
              AllOf(HasSubstr("serving writer: , Generate,"),
                    HasSubstr("serving finder: , DetectObjects,"),
                    Not(HasSubstr("coming")), Not(HasSubstr("going")),
                    HasSubstr("ready")));
}

class PortsFileTest : public ::testing::Test {
 protected:
  static std::string Read(const std::string& path) {
    std::ifstream in(path);
    return std::string(std::istreambuf_iterator<char>(in), {});
  }

  void ExpectRefused(const std::string& path, const std::string& words) {
    PortsFile ports(path);
    EXPECT_THAT(ports.Prepare(kAddresses),
                StatusIs(absl::StatusCode::kFailedPrecondition,
                         AllOf(HasSubstr(path), HasSubstr(words))));
  }

  const testing::TempFolder folder_;
};

TEST_F(PortsFileTest, IsThereWhileTheServerIsReady) {
  const std::string path = folder_.WriteFile("ports", "of a server before");
  {
    PortsFile ports(path);
    ASSERT_OK(ports.Prepare(kAddresses));
    EXPECT_FALSE(std::filesystem::exists(path)) << "stale";
    ASSERT_OK(ports.Publish());
    EXPECT_EQ(
        Read(path),
        "{\"inference\": \"a:1\", \"admin\": \"b:2\", \"metrics\": \"c:3\"}\n");
  }
  EXPECT_TRUE(std::filesystem::is_empty(folder_.path()));
}

TEST_F(PortsFileTest, ReplacesNothingThatIsNoRegularFile) {
  const std::string fifo = folder_.Path("fifo");
  ASSERT_EQ(mkfifo(fifo.c_str(), 0600), 0);
  for (const auto& [name, target] : {std::pair("null", "/dev/null"),
                                     {"folder", "/tmp"},
                                     {"to", "nowhere"}}) {
    std::filesystem::create_symlink(target, folder_.Path(name));
  }
  ExpectRefused(fifo, "is no regular file");
  ExpectRefused(folder_.Path("null"), "is no regular file");
  ExpectRefused(folder_.Path("folder"), "is a folder");
  ExpectRefused(folder_.Path("to"), "leads nowhere");
  ExpectRefused("/dev/null", "is no regular file");
  ExpectRefused(folder_.path(), "is a folder");
  EXPECT_TRUE(std::filesystem::is_fifo(fifo));
  EXPECT_TRUE(std::filesystem::is_symlink(folder_.Path("null")));
  EXPECT_TRUE(std::filesystem::is_symlink(folder_.Path("to")));
  EXPECT_TRUE(std::filesystem::is_character_file("/dev/null"));
}

TEST_F(PortsFileTest, SaysBeforeModelsAreLoadedWhatCannotBeWritten) {
  ExpectRefused(folder_.Path("no/ports"), "No such file or directory");
}

TEST_F(PortsFileTest, LeavesNoDraftOnAFullDisk) {
  signal(SIGXFSZ, SIG_IGN);
  rlimit before = {};
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &before), 0);
  const rlimit small = {10, before.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &small), 0);
  ExpectRefused(folder_.Path("ports"), "File too large");
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &before), 0);
  EXPECT_TRUE(std::filesystem::is_empty(folder_.path()));
}

TEST_F(PortsFileTest, OfAnEmptyNameThereIsNone) {
  PortsFile ports("");
  ASSERT_OK(ports.Prepare(kAddresses));
  ASSERT_OK(ports.Publish());
}

}  // namespace
}  // namespace ounce::server
