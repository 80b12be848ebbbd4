#include "server/metrics/process_figures.h"

#include <sys/resource.h>
#include <unistd.h>

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <optional>
#include <sstream>
#include <string>
#include <system_error>
#include <vector>

#include "absl/strings/numbers.h"
#include "base/mapped_memory.h"
#include "base/process_use.h"

namespace ounce::server {
namespace {

// Fields of /proc/self/stat after the command's name, which may hold spaces:
// the first is "state", number 3 in proc(5).
std::vector<double> ReadStat() {
  std::ifstream in("/proc/self/stat");
  const std::string text((std::istreambuf_iterator<char>(in)), {});
  std::istringstream fields(text.substr(text.rfind(')') + 1));
  std::vector<double> values;
  for (std::string field; fields >> field;) {
    double value = 0;
    static_cast<void>(absl::SimpleAtod(field, &value));  // "state" is no number
    values.push_back(value);
  }
  return values;
}

// When the machine was started, in seconds since 1970.
std::optional<double> BootTime() {
  std::ifstream in("/proc/stat");
  for (std::string word; in >> word;) {
    double seconds = 0;
    if (word == "btime" && in >> seconds) return seconds;
  }
  return std::nullopt;
}

std::optional<int64_t> OpenFds() {
  std::error_code error;
  std::filesystem::directory_iterator fd("/proc/self/fd", error);
  int64_t count = -1;  // the one that reads the folder
  for (; !error && fd != end(fd); fd.increment(error)) ++count;
  if (error) return std::nullopt;
  return count;
}

}  // namespace

void SetProcessFigures(Figures& figures) {
  figures.Set(metric::kResidentBytes, {}, static_cast<double>(ResidentBytes()));
  figures.Set(metric::kPeakResidentBytes, {},
              static_cast<double>(PeakResidentBytes()));
  figures.Set(metric::kProcessResidentBytes, {},
              static_cast<double>(ResidentBytes()));

  figures.SetTotal(metric::kProcessCpuSeconds, {}, ProcessCpuSeconds());

  const std::vector<double> stat = ReadStat();
  constexpr size_t kStartTime = 22 - 3, kVirtualBytes = 23 - 3;
  if (stat.size() > kVirtualBytes) {
    if (const std::optional<double> boot = BootTime()) {
      figures.Set(
          metric::kProcessStartTime, {},
          *boot + stat[kStartTime] / static_cast<double>(sysconf(_SC_CLK_TCK)));
    }
    figures.Set(metric::kProcessVirtualBytes, {}, stat[kVirtualBytes]);
  }
  if (const std::optional<int64_t> fds = OpenFds()) {
    figures.Set(metric::kProcessOpenFds, {}, static_cast<double>(*fds));
  }
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
    figures.Set(metric::kProcessMaxFds, {},
                static_cast<double>(limit.rlim_cur));
  }
}

}  // namespace ounce::server
