#include "client/output.h"

#include <fcntl.h>
#include <pty.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_folder.h"

namespace ounce::client {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using testing::StatusIs;

TEST(OutputTest, WritesFilesWholeOrSaysWhyNot) {
  const testing::TempFolder folder;
  const std::string path = folder.Path("a");
  EXPECT_OK(WriteFile(path, std::string(100'000, 'x')));
  EXPECT_OK(WriteFile(path, "short"));
  EXPECT_EQ(std::filesystem::file_size(path), 5u);
  EXPECT_THAT(WriteFile("/dev/full", "x"),
              StatusIs(absl::StatusCode::kDataLoss,
                       AllOf(HasSubstr("'/dev/full'"),
                             HasSubstr("No space left on device"))));
  EXPECT_THAT(WriteFile(folder.Path("none/a"), "x"),
              StatusIs(absl::StatusCode::kDataLoss,
                       HasSubstr("No such file or directory")));
}

TEST(OutputTest, KnowsATerminalAndItsWidthAtTheMoment) {
  int owner = -1, terminal = -1;
  winsize size = {};
  size.ws_col = 60;
  ASSERT_EQ(openpty(&owner, &terminal, nullptr, nullptr, &size), 0);
  EXPECT_TRUE(IsTerminal(terminal));
  EXPECT_EQ(TerminalWidth(terminal), 60);
  size.ws_col = 100;
  ioctl(owner, TIOCSWINSZ, &size);
  EXPECT_EQ(TerminalWidth(terminal), 100);
  close(terminal);
  close(owner);
  const int null = open("/dev/null", O_WRONLY);
  EXPECT_FALSE(IsTerminal(null));
  EXPECT_EQ(TerminalWidth(null), 80);
  close(null);
}

TEST(OutputTest, CutsALineToTheTerminal) {
  int owner = -1, terminal = -1;
  winsize size = {};
  size.ws_col = 20;
  ASSERT_EQ(openpty(&owner, &terminal, nullptr, nullptr, &size), 0);
  const int stderr_before = dup(STDERR_FILENO);
  dup2(terminal, STDERR_FILENO);
  ShowOnTerminal(std::string(100, 'x'));
  ShowOnTerminal("caf\xc3\xa9 " + std::string(100, 'y'));
  ShowOnTerminal("");
  dup2(stderr_before, STDERR_FILENO);
  close(stderr_before);
  const std::string expected = "\r\033[K" + std::string(19, 'x') +
                               "\r\033[Kcaf\xc3\xa9 " + std::string(14, 'y') +
                               "\r\033[K";
  std::string shown;
  while (shown.size() < expected.size()) {
    char bytes[1024];
    const ssize_t num_read = read(owner, bytes, sizeof(bytes));
    ASSERT_GT(num_read, 0);
    shown.append(bytes, num_read);
  }
  EXPECT_EQ(shown, expected);
  close(terminal);
  close(owner);
}

}  // namespace
}  // namespace ounce::client
