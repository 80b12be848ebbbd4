#include "model/loader/glob.h"

#include <string>

#include "base/str_cat.h"
#include "model/files/byte_source.h"

namespace ounce::model {
namespace {

constexpr size_t kNone = std::string_view::npos;

// What stands between '[' and ']'.
struct Class {
  bool negated = false;
  std::string_view members;  // characters and ranges
  size_t end = kNone;        // behind the ']'; kNone: there is none
};

// Of the '[' at `open`.
Class ClassAt(std::string_view glob, size_t open) {
  Class found;
  size_t first = open + 1;
  if (first < glob.size() && (glob[first] == '!' || glob[first] == '^')) {
    found.negated = true;
    ++first;
  }
  const size_t close = glob.find(']', first + 1);
  if (close == kNone) return found;
  found.members = glob.substr(first, close - first);
  found.end = close + 1;
  return found;
}

// Calls fn(low, high) for each character or range; a '-' at either end is a
// character. Stops when fn returns true, and returns whether it did.
template <class Fn>
bool AnyRange(std::string_view members, Fn fn) {
  for (size_t i = 0; i < members.size(); ++i) {
    const char low = members[i];
    if (i + 2 < members.size() && members[i + 1] == '-') {
      i += 2;
    }
    if (fn(static_cast<unsigned char>(low),
           static_cast<unsigned char>(members[i]))) {
      return true;
    }
  }
  return false;
}

bool Contains(const Class& found, char c) {
  const auto value = static_cast<unsigned char>(c);
  return AnyRange(found.members, [&](unsigned char low, unsigned char high) {
           return low <= value && value <= high;
         }) != found.negated;
}

// Where the glob goes on behind its one-character wildcard or literal at `g`,
// if that matches `c`; kNone if it does not.
size_t MatchOne(std::string_view glob, size_t g, char c) {
  if (glob[g] == '?') return g + 1;
  if (glob[g] == '[') {
    const Class found = ClassAt(glob, g);
    return found.end != kNone && Contains(found, c) ? found.end : kNone;
  }
  return glob[g] == c ? g + 1 : kNone;
}

}  // namespace

bool GlobMatches(std::string_view glob, std::string_view name) {
  // On a mismatch, the last `*` swallows one character more.
  size_t g = 0, n = 0;
  size_t star = kNone, star_name = 0;
  while (n < name.size()) {
    if (g < glob.size() && glob[g] == '*') {
      star = g++;
      star_name = n;
      continue;
    }
    const size_t next = g < glob.size() ? MatchOne(glob, g, name[n]) : kNone;
    if (next != kNone) {
      g = next;
      ++n;
    } else if (star != kNone) {
      g = star + 1;
      n = ++star_name;
    } else {
      return false;
    }
  }
  while (g < glob.size() && glob[g] == '*') ++g;
  return g == glob.size();
}

absl::Status CheckGlob(std::string_view glob) {
  for (size_t g = 0; g < glob.size(); ++g) {
    if (glob[g] != '[') continue;
    const Class found = ClassAt(glob, g);
    if (found.end == kNone) {
      return absl::InvalidArgumentError(
          StrCat("glob ", Quoted(glob), " has a '[' without its ']'"));
    }
    const bool reversed = AnyRange(
        found.members,
        [](unsigned char low, unsigned char high) { return low > high; });
    if (reversed) {
      return absl::InvalidArgumentError(
          StrCat("glob ", Quoted(glob), " has a range that goes down: [",
                 glob.substr(g + 1, found.end - g - 2), "]"));
    }
    g = found.end - 1;
  }
  return absl::OkStatus();
}

}  // namespace ounce::model
