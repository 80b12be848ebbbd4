#include "server/process.h"

#include <malloc.h>
#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>

#include <random>

namespace ounce::server {

void SetUpProcess() {
  // Few heaps, and large blocks outside of them.
  mallopt(M_ARENA_MAX, 2);
  mallopt(M_MMAP_THRESHOLD, 256 << 10);
  mallopt(M_TRIM_THRESHOLD, 1 << 20);
  spdlog::set_default_logger(spdlog::stderr_color_mt("ounce"));
}

uint64_t DrawSeed() {
  std::random_device device;  // 32 bits at a time
  return uint64_t{device()} << 32 | device();
}

}  // namespace ounce::server
