#include "client/variant_names.h"

#include <algorithm>
#include <set>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"

namespace ounce::client {
namespace {

// A rule's spec: "linear" of "*.mlp.*=linear". In front of a method's
// parameters no '=' is one of theirs.
absl::string_view SpecOf(absl::string_view rule) {
  const size_t equals = rule.find('=');
  const size_t colon = rule.find(':');
  const bool has_selector = equals != rule.npos && equals < colon;
  return has_selector ? rule.substr(equals + 1) : rule;
}

bool Is8BitLinear(absl::string_view spec) {
  const std::vector<absl::string_view> parts = absl::StrSplit(spec, ':');
  if (parts[0] != "linear") return false;
  if (parts.size() == 1) return true;
  for (const absl::string_view parameter : absl::StrSplit(parts[1], ',')) {
    if (absl::StartsWith(parameter, "bits=")) return parameter == "bits=8";
  }
  return true;
}

// As it is published; empty for none of these.
std::string PublishedName(const std::string& spec) {
  if (spec == "keep") return "original";
  if (spec == "bnb-int8") return "8bit";
  if (spec == "bnb-nf4") return "nf4";
  bool any_kept = false, any_linear = false;
  for (const absl::string_view rule : absl::StrSplit(spec, ' ')) {
    const absl::string_view stored = SpecOf(rule);
    const bool is_linear = Is8BitLinear(stored);
    if (!is_linear && stored != "keep") return "";
    any_linear |= is_linear;
    any_kept |= !is_linear;
  }
  if (!any_linear) return "";
  return any_kept ? "selective_8bit" : "quantized_8bit";
}

// "mlp.-linear_bits-4_linear" of "*.mlp.*=linear:bits=4 linear".
std::string NameOf(const std::string& spec) {
  constexpr size_t kLongest = 100;
  std::string name;
  for (const char c : spec) {
    if (absl::ascii_isalnum(c) || c == '.' || c == '-') {
      name += c;
    } else if (c == '=') {
      name += '-';
    } else if (!name.empty() && name.back() != '_') {
      name += '_';
    }
  }
  // It begins with a letter or a digit.
  const auto begin = std::find_if(
      name.begin(), name.end(), [](char c) { return absl::ascii_isalnum(c); });
  name.erase(name.begin(), begin);
  if (name.size() > kLongest) name.resize(kLongest);
  return name.empty() ? "variant" : name;
}

}  // namespace

std::vector<std::string> VariantNames(const std::vector<std::string>& specs) {
  std::set<std::string> taken;
  std::vector<std::string> names;
  for (const std::string& spec : specs) {
    std::string name = PublishedName(spec);
    if (name.empty() || taken.contains(name)) name = NameOf(spec);
    const std::string first = name;
    for (int i = 2; taken.contains(name); ++i) {
      name = absl::StrCat(first, "_", i);
    }
    taken.insert(name);
    names.push_back(name);
  }
  return names;
}

}  // namespace ounce::client
