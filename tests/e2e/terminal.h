// A program on a terminal of its own, as a person would start it.
#ifndef OUNCE_TESTS_E2E_TERMINAL_H_
#define OUNCE_TESTS_E2E_TERMINAL_H_

#include <fcntl.h>
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "base/check.h"

namespace ounce::testing {

// Ownership: the destructor kills the program if it still runs.
class Terminal {
 public:
  // args[0] is the program, found by PATH. The terminal has `columns`.
  Terminal(const std::vector<std::string>& args, int columns) {
    winsize size = {};
    size.ws_col = static_cast<uint16_t>(columns);
    size.ws_row = 50;
    char name[64];
    int program_end = -1;
    OUNCE_CHECK(openpty(&end_, &program_end, name, nullptr, &size) == 0,
                "there is a terminal to be had");
    std::vector<char*> argv;
    for (const std::string& arg : args) {
      argv.push_back(const_cast<char*>(arg.c_str()));
    }
    argv.push_back(nullptr);
    // A session's leader that opens a terminal has it as its own, and gets its
    // signals.
    posix_spawnattr_t attributes;
    posix_spawnattr_init(&attributes);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSID);
    posix_spawn_file_actions_t files;
    posix_spawn_file_actions_init(&files);
    posix_spawn_file_actions_addopen(&files, 0, name, O_RDWR, 0);
    posix_spawn_file_actions_adddup2(&files, 0, 1);
    posix_spawn_file_actions_adddup2(&files, 0, 2);
    posix_spawn_file_actions_addclose(&files, end_);
    const int error = posix_spawnp(&pid_, args[0].c_str(), &files, &attributes,
                                   argv.data(), environ);
    posix_spawn_file_actions_destroy(&files);
    posix_spawnattr_destroy(&attributes);
    close(program_end);
    OUNCE_CHECK(error == 0, "the program could not be started");
  }

  ~Terminal() {
    if (!code_.has_value()) {
      kill(pid_, SIGKILL);
      waitpid(pid_, nullptr, 0);
    }
    close(end_);
  }
  Terminal(const Terminal&) = delete;
  Terminal& operator=(const Terminal&) = delete;

  // "\x03" is Ctrl-C, "\x04" Ctrl-D.
  void Type(const std::string& text) {
    OUNCE_CHECK(write(end_, text.data(), text.size()) ==
                    static_cast<ssize_t>(text.size()),
                "a terminal takes a few bytes");
  }

  // Reads until the screen holds `text`; false when a minute has passed or the
  // program has ended.
  bool Shows(const std::string& text) {
    return ReadUntil([&] { return screen_.find(text) != std::string::npos; });
  }

  // Reads to the end. The exit status, 128 + signal, or -1 after a minute.
  int Wait() {
    ReadUntil([] { return false; });
    const absl::Time deadline = absl::Now() + absl::Minutes(1);
    int status = 0;
    while (waitpid(pid_, &status, WNOHANG) != pid_) {
      if (absl::Now() > deadline) return -1;
      absl::SleepFor(absl::Milliseconds(2));
    }
    code_ = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    return *code_;
  }

  // All that was written so far, line ends as "\r\n".
  const std::string& screen() const { return screen_; }

 private:
  bool ReadUntil(const std::function<bool()>& done) {
    const absl::Time deadline = absl::Now() + absl::Minutes(1);
    while (!done()) {
      pollfd readable = {.fd = end_, .events = POLLIN, .revents = 0};
      if (absl::Now() > deadline || poll(&readable, 1, 1000) < 0) return false;
      if (readable.revents == 0) continue;
      char bytes[4096];
      const ssize_t num_read = read(end_, bytes, sizeof(bytes));
      if (num_read <= 0) return done();  // EIO: the program has closed it
      screen_.append(bytes, num_read);
    }
    return true;
  }

  int end_ = -1;
  pid_t pid_ = -1;
  std::string screen_;
  std::optional<int> code_;
};

}  // namespace ounce::testing

#endif  // OUNCE_TESTS_E2E_TERMINAL_H_
