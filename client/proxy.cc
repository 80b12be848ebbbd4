#include "client/proxy.h"

#include <algorithm>
#include <cstdlib>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"

namespace ounce::client {
namespace {

std::pair<const char*, std::string> FirstSet(
    std::initializer_list<const char*> names, const Environment& environment) {
  for (const char* name : names) {
    std::string value = environment(name);
    if (!value.empty()) return {name, std::move(value)};
  }
  return {"", ""};
}

bool SameBits(const IpBytes& a, const IpBytes& b, int num_bits) {
  for (int bit = 0; bit < num_bits; ++bit) {
    const int mask = 0x80 >> (bit % 8);
    if (((a[bit / 8] ^ b[bit / 8]) & mask) != 0) return false;
  }
  return true;
}

bool InRange(absl::string_view range, const std::string& host) {
  const size_t slash = range.find('/');
  const std::string first(range.substr(0, slash));
  const std::optional<IpBytes> network = ParseIp(first);
  const std::optional<IpBytes> ip = ParseIp(host);
  int num_bits = 0;
  if (!network.has_value() || !ip.has_value() ||
      !absl::SimpleAtoi(range.substr(slash + 1), &num_bits)) {
    return false;
  }
  const bool ipv6 = absl::StrContains(first, ':');
  if (num_bits < 0 || num_bits > (ipv6 ? 128 : 32)) return false;
  return SameBits(*network, *ip, ipv6 ? num_bits : 96 + num_bits);
}

// Takes the port off an entry; whether it is the address's, or there was none.
bool TakePort(absl::string_view* entry, int port) {
  const size_t colon = entry->rfind(':');
  const bool bracketed = absl::StartsWith(*entry, "[");
  const bool has_port =
      colon != absl::string_view::npos &&
      (bracketed ? colon > entry->find(']')
                 : std::count(entry->begin(), entry->end(), ':') == 1);
  bool matches = true;
  if (has_port) {
    int wanted = 0;
    matches =
        absl::SimpleAtoi(entry->substr(colon + 1), &wanted) && wanted == port;
    *entry = entry->substr(0, colon);
  }
  if (bracketed && absl::EndsWith(*entry, "]")) {
    *entry = entry->substr(1, entry->size() - 2);
  }
  return matches;
}

bool Names(absl::string_view entry, const Address& address) {
  if (entry == "*") return true;
  if (absl::StrContains(entry, '/')) return InRange(entry, address.host);
  if (!TakePort(&entry, address.port)) return false;
  const std::optional<IpBytes> ip = ParseIp(std::string(entry));
  const std::optional<IpBytes> host_ip = ParseIp(address.host);
  if (ip.has_value() || host_ip.has_value()) return ip == host_ip;
  absl::ConsumePrefix(&entry, "*");
  absl::ConsumePrefix(&entry, ".");
  absl::ConsumeSuffix(&entry, ".");
  if (entry.empty()) return false;
  absl::string_view host = address.host;
  absl::ConsumeSuffix(&host, ".");
  return absl::EqualsIgnoreCase(host, entry) ||
         absl::EndsWithIgnoreCase(host, absl::StrCat(".", entry));
}

}  // namespace

std::string EnvironmentVariable(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

bool NamedByNoProxy(const std::string& list, const Address& address) {
  for (const absl::string_view entry :
       absl::StrSplit(list, absl::ByAnyChar(", \t"), absl::SkipEmpty())) {
    if (Names(entry, address)) return true;
  }
  return false;
}

absl::StatusOr<std::optional<Proxy>> ProxyFor(const Address& address,
                                              const Environment& environment) {
  if (address.host.empty() || IsLoopback(address.host)) return std::nullopt;
  const auto [variable, value] =
      FirstSet({"grpc_proxy", "https_proxy", "http_proxy"}, environment);
  if (value.empty()) return std::nullopt;
  const std::string none =
      FirstSet({"no_grpc_proxy", "no_proxy", "NO_PROXY"}, environment).second;
  if (NamedByNoProxy(none, address)) return std::nullopt;
  absl::string_view authority = value;
  absl::ConsumePrefix(&authority, "http://");
  absl::ConsumeSuffix(&authority, "/");
  absl::string_view host_port = authority.substr(authority.rfind('@') + 1);
  if (absl::StrContains(authority, "://") || host_port.empty() ||
      absl::StrContains(host_port, '/')) {
    // Not the value, which may hold a password.
    return absl::InvalidArgumentError(
        absl::StrCat(variable,
                     ": must be the http://HOST:PORT of a proxy; "
                     "unset it, or name ",
                     address.host, " in no_proxy"));
  }
  return Proxy{.url = absl::StrCat("http://", authority),
               .shown = std::string(host_port),
               .variable = variable};
}

}  // namespace ounce::client
