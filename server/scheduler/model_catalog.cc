#include "server/scheduler/model_catalog.h"

#include <algorithm>
#include <cstddef>

#include "absl/strings/ascii.h"

namespace ounce::server {

bool IsModelName(std::string_view name) {
  constexpr size_t kMaxBytes = 64;
  return !name.empty() && name.size() <= kMaxBytes &&
         std::all_of(name.begin(), name.end(), [](char c) {
           return absl::ascii_isalnum(static_cast<unsigned char>(c)) ||
                  c == '.' || c == '_' || c == '-';
         });
}

}  // namespace ounce::server
