#include "server/trace/trace_context.h"

#include <algorithm>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace ounce::server {
namespace {

constexpr size_t kMaxStateBytes = 512;
constexpr size_t kMaxStateMembers = 32;
constexpr size_t kMaxKeyBytes = 256;
constexpr size_t kMaxValueBytes = 256;

// "00-" + 32 + "-" + 16 + "-" + 2.
constexpr size_t kParentBytes = 55;

bool IsLower(char c) { return c >= 'a' && c <= 'z'; }
bool IsDigit(char c) { return c >= '0' && c <= '9'; }

// Lowercase digits alone, at most 16 of them.
std::optional<uint64_t> ParseHex(std::string_view text) {
  uint64_t value = 0;
  for (const char c : text) {
    if (!IsDigit(c) && (c < 'a' || c > 'f')) return std::nullopt;
    value =
        value << 4 | static_cast<uint64_t>(IsDigit(c) ? c - '0' : c - 'a' + 10);
  }
  return value;
}

bool IsStateKey(std::string_view key) {
  if (key.empty() || key.size() > kMaxKeyBytes) return false;
  if (!IsLower(key[0]) && !IsDigit(key[0])) return false;
  return std::all_of(key.begin(), key.end(), [](char c) {
    return IsLower(c) || IsDigit(c) ||
           std::string_view("_-*/@").find(c) != std::string_view::npos;
  });
}

bool IsStateValue(std::string_view value) {
  if (value.empty() || value.size() > kMaxValueBytes) return false;
  return value.back() != ' ' &&
         std::all_of(value.begin(), value.end(), [](char c) {
           return c >= ' ' && c <= '~' && c != ',' && c != '=';
         });
}

}  // namespace

std::string Hex(const TraceId& id) {
  return absl::StrCat(absl::Hex(id.high, absl::kZeroPad16),
                      absl::Hex(id.low, absl::kZeroPad16));
}

std::string Hex(SpanId id) {
  return absl::StrCat(absl::Hex(id, absl::kZeroPad16));
}

std::optional<TraceParent> ParseTraceparent(std::string_view text) {
  if (text.size() < kParentBytes || text[2] != '-' || text[35] != '-' ||
      text[52] != '-') {
    return std::nullopt;
  }
  const auto version = ParseHex(text.substr(0, 2));
  const auto high = ParseHex(text.substr(3, 16));
  const auto low = ParseHex(text.substr(19, 16));
  const auto span = ParseHex(text.substr(36, 16));
  const auto flags = ParseHex(text.substr(53, 2));
  if (!version.has_value() || !high.has_value() || !low.has_value() ||
      !span.has_value() || !flags.has_value()) {
    return std::nullopt;
  }
  // 255 is no version; later ones may go on behind a dash.
  if (*version == 0xff || (text.size() > kParentBytes &&
                           (*version == 0 || text[kParentBytes] != '-'))) {
    return std::nullopt;
  }
  TraceParent parent = {
      .trace = {*high, *low}, .span = *span, .sampled = (*flags & 1) != 0};
  if (parent.trace == TraceId() || parent.span == 0) return std::nullopt;
  return parent;
}

bool IsTracestate(std::string_view text) {
  if (text.size() > kMaxStateBytes) return false;
  std::vector<absl::string_view> keys;
  for (absl::string_view member :
       absl::StrSplit(absl::string_view(text.data(), text.size()), ',')) {
    member = absl::StripAsciiWhitespace(member);
    if (member.empty()) continue;
    const size_t equals = member.find('=');
    if (equals == absl::string_view::npos) return false;
    const absl::string_view key = member.substr(0, equals);
    const absl::string_view value = member.substr(equals + 1);
    if (!IsStateKey({key.data(), key.size()}) ||
        !IsStateValue({value.data(), value.size()}) ||
        std::find(keys.begin(), keys.end(), key) != keys.end()) {
      return false;
    }
    keys.push_back(key);
  }
  return keys.size() <= kMaxStateMembers;
}

}  // namespace ounce::server
