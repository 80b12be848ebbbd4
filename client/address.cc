#include "client/address.h"

#include <arpa/inet.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"

namespace ounce::client {
namespace {

constexpr size_t kMappedIpv4 =
    12;  // bytes of an IpBytes before an IPv4 address

bool IsMappedIpv4(const IpBytes& ip) {
  return std::all_of(ip.begin(), ip.begin() + 10,
                     [](uint8_t byte) { return byte == 0; }) &&
         ip[10] == 0xff && ip[11] == 0xff;
}

absl::Status MustBe(absl::string_view what, const std::string& text) {
  return absl::InvalidArgumentError(
      absl::StrCat("must be ", what, ", is '", text, "'"));
}

}  // namespace

absl::StatusOr<Address> ParseAddress(const std::string& text) {
  if (text.empty()) {
    return absl::InvalidArgumentError("must be HOST:PORT, is empty");
  }
  if (absl::StartsWith(text, "unix:")) {
    return Address{.host = "", .port = 0, .target = text};
  }
  if (absl::StartsWithIgnoreCase(text, "https://")) {
    return absl::InvalidArgumentError(
        absl::StrCat("must be HOST:PORT, and --tls for TLS, is '", text, "'"));
  }
  absl::string_view rest = text;
  absl::ConsumePrefix(&rest, "http://");
  absl::ConsumeSuffix(&rest, "/");
  const size_t colon = rest.rfind(':');
  const bool bracketed = absl::StartsWith(rest, "[");
  const size_t host_end = bracketed ? rest.find(']') : colon;
  if (bracketed && host_end == absl::string_view::npos) {
    return MustBe("[IPv6 ADDRESS]:PORT", text);
  }
  if (colon == absl::string_view::npos || (bracketed && colon < host_end)) {
    return absl::InvalidArgumentError(
        absl::StrCat("must be HOST:PORT, is '", text, "', which has no port"));
  }
  if (!bracketed && std::count(rest.begin(), rest.end(), ':') > 1) {
    return MustBe("[IPv6 ADDRESS]:PORT, with the brackets", text);
  }
  Address address;
  address.host = std::string(bracketed ? rest.substr(1, host_end - 1)
                                       : rest.substr(0, host_end));
  const absl::string_view port = rest.substr(colon + 1);
  const bool host_is_one =
      !address.host.empty() &&
      std::none_of(address.host.begin(), address.host.end(), [](char c) {
        return absl::ascii_isspace(static_cast<unsigned char>(c)) ||
               absl::ascii_iscntrl(static_cast<unsigned char>(c)) || c == '/' ||
               c == '@';
      });
  if (!host_is_one || (bracketed && colon != host_end + 1)) {
    return MustBe("HOST:PORT", text);
  }
  if (!absl::SimpleAtoi(port, &address.port) || address.port < 1 ||
      address.port > 65535) {
    return MustBe("HOST:PORT with a port from 1 to 65535", text);
  }
  address.target = absl::StrCat(
      bracketed ? absl::StrCat("[", address.host, "]") : address.host, ":",
      address.port);
  return address;
}

std::optional<IpBytes> ParseIp(const std::string& host) {
  IpBytes ip = {};
  if (inet_pton(AF_INET6, host.c_str(), ip.data()) == 1) return ip;
  ip[10] = ip[11] = 0xff;
  if (inet_pton(AF_INET, host.c_str(), ip.data() + kMappedIpv4) == 1) return ip;
  return std::nullopt;
}

bool IsLoopback(const std::string& host) {
  const std::optional<IpBytes> ip = ParseIp(host);
  if (!ip.has_value()) {
    absl::string_view name = host;
    absl::ConsumeSuffix(&name, ".");
    return absl::EqualsIgnoreCase(name, "localhost") ||
           absl::EndsWithIgnoreCase(name, ".localhost");
  }
  if (IsMappedIpv4(*ip)) {
    const uint8_t* ipv4 = ip->data() + kMappedIpv4;
    constexpr uint8_t kEvery[4] = {};
    return ipv4[0] == 127 || std::memcmp(ipv4, kEvery, sizeof(kEvery)) == 0;
  }
  // ::1 and ::
  return std::all_of(ip->begin(), ip->end() - 1,
                     [](uint8_t byte) { return byte == 0; }) &&
         ip->back() <= 1;
}

}  // namespace ounce::client
