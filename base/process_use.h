// What this process, and the machine under it, have used so far.
#ifndef OUNCE_BASE_PROCESS_USE_H_
#define OUNCE_BASE_PROCESS_USE_H_

#include <optional>
#include <string>

namespace ounce {

// CPU time of all its threads, of user and system together.
double ProcessCpuSeconds();

// Joules that the CPU packages have taken, all processes together, by the
// counters of Linux' powercap (RAPL). They count from some moment and begin
// again at 0 after some hours, so only differences mean something, and not the
// negative ones. Absent where the machine has no such counters or does not let
// this process read them.
std::optional<double> PackageJoules(
    const std::string& folder = "/sys/class/powercap");

}  // namespace ounce

#endif  // OUNCE_BASE_PROCESS_USE_H_
