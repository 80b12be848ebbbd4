#include "hub/model_name.h"

#include <algorithm>
#include <cstddef>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_split.h"

namespace ounce::hub {
namespace {

constexpr size_t kMaxNameBytes = 96;  // the hub's own limit

bool IsPlainName(std::string_view text) {
  if (text.empty() || text.size() > kMaxNameBytes) return false;
  if (text.front() == '.' || text.front() == '-') return false;
  return std::all_of(text.begin(), text.end(), [](char c) {
    return absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '.' ||
           c == '_' || c == '-';
  });
}

bool ArePlainNames(const std::vector<std::string>& parts) {
  return std::all_of(parts.begin(), parts.end(), IsPlainName);
}

}  // namespace

std::optional<ModelName> ParseModelName(std::string_view text) {
  const size_t at = text.find('@');
  ModelName name;
  name.id = std::string(text.substr(0, at));
  if (at != std::string_view::npos) {
    name.revision = std::string(text.substr(at + 1));
    name.revision_given = true;
  }
  const std::vector<std::string> parts = absl::StrSplit(name.id, '/');
  const std::vector<std::string> revision = absl::StrSplit(name.revision, '/');
  if (parts.size() > 2 || !ArePlainNames(parts) || !ArePlainNames(revision)) {
    return std::nullopt;
  }
  return name;
}

bool IsCommit(std::string_view text) {
  return text.size() == 40 && std::all_of(text.begin(), text.end(), [](char c) {
           return absl::ascii_isxdigit(static_cast<unsigned char>(c));
         });
}

}  // namespace ounce::hub
