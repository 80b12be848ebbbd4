#include "base/standard_files.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>

#include "gtest/gtest.h"

namespace ounce {
namespace {

// In a process of its own, whose stderr gtest needs until the end.
TEST(StandardFilesDeathTest, NothingElseGetsTheNumbersOfThoseThatAreClosed) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_EXIT(
      {
        close(STDIN_FILENO);
        close(STDOUT_FILENO);
        TakeStandardFiles();
        if (open("/dev/null", O_RDWR) <= STDERR_FILENO) _exit(1);
        char byte = 0;
        if (read(STDIN_FILENO, &byte, 1) != -1 || errno != EBADF) _exit(2);
        if (write(STDOUT_FILENO, "a", 1) != -1 || errno != EBADF) _exit(3);
        if (write(STDERR_FILENO, "still there", 11) != 11) _exit(4);
        _exit(0);
      },
      ::testing::ExitedWithCode(0), "still there");
}

TEST(StandardFilesDeathTest, WhatIsOpenStaysAsItIs) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_EXIT(
      {
        int ends[2];
        if (pipe(ends) != 0 || dup2(ends[1], STDOUT_FILENO) < 0) _exit(1);
        TakeStandardFiles();
        char byte = 0;
        if (write(STDOUT_FILENO, "a", 1) != 1) _exit(2);
        _exit(read(ends[0], &byte, 1) == 1 && byte == 'a' ? 0 : 3);
      },
      ::testing::ExitedWithCode(0), "");
}

}  // namespace
}  // namespace ounce
