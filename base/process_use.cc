#include "base/process_use.h"

#include <sys/resource.h>

#include <filesystem>
#include <fstream>
#include <system_error>

namespace ounce {
namespace {

template <class T>
std::optional<T> ReadOne(const std::filesystem::path& file) {
  std::ifstream in(file);
  T value;
  if (in >> value) return value;
  return std::nullopt;
}

}  // namespace

double ProcessCpuSeconds() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) +
           static_cast<double>(time.tv_usec) / 1e6;
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

std::optional<double> PackageJoules(const std::string& folder) {
  std::error_code error;
  std::filesystem::directory_iterator zone(folder, error);
  std::optional<double> joules;
  for (; !error && zone != end(zone); zone.increment(error)) {
    // intel-rapl:0 is a package, whoever made it; intel-rapl:0:0 a part of one,
    // and intel-rapl-mmio:0 the same package once more.
    const std::string name = zone->path().filename();
    constexpr char kPackage[] = "intel-rapl:";
    if (name.rfind(kPackage, 0) != 0 ||
        name.find(':', sizeof(kPackage) - 1) != std::string::npos) {
      continue;
    }
    const auto is = ReadOne<std::string>(zone->path() / "name");
    if (!is.has_value() || is->rfind("package", 0) != 0) continue;
    const auto microjoules = ReadOne<double>(zone->path() / "energy_uj");
    if (!microjoules.has_value()) return std::nullopt;
    joules = joules.value_or(0) + *microjoules / 1e6;
  }
  return joules;
}

}  // namespace ounce
