#include "base/read_file.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>

#include "absl/strings/str_cat.h"

namespace ounce {

absl::StatusOr<std::string> ReadFile(const std::string& path, size_t most) {
  constexpr size_t kChunk = 64 << 10;
  errno = 0;
  std::ifstream in(path, std::ios::binary);
  std::string bytes;
  while (in.good() && bytes.size() < most) {
    const size_t so_far = bytes.size();
    bytes.resize(so_far + std::min(kChunk, most - so_far));
    in.read(bytes.data() + so_far,
            static_cast<std::streamsize>(bytes.size() - so_far));
    bytes.resize(so_far + static_cast<size_t>(in.gcount()));
  }
  if (!in.is_open() || in.bad()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "cannot read '", path,
        "': ", errno != 0 ? std::strerror(errno) : "is it a file?"));
  }
  return bytes;
}

}  // namespace ounce
