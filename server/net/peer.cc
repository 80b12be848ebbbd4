#include "server/net/peer.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/un.h>

#include <algorithm>
#include <cstring>
#include <optional>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

namespace ounce::server {
namespace {

using Bytes = std::array<uint8_t, 16>;

constexpr Bytes kMapped = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
constexpr int kMappedBits = 96;
constexpr int kPeerBits = 64;  // of IPv6
constexpr char kRelay[] = "ounce/";

bool SameNetwork(const Bytes& a, const Bytes& b, int bits) {
  const int whole = bits / 8;
  if (std::memcmp(a.data(), b.data(), static_cast<size_t>(whole)) != 0) {
    return false;
  }
  const int rest = bits % 8;
  return rest == 0 || (a[whole] >> (8 - rest)) == (b[whole] >> (8 - rest));
}

std::optional<Bytes> ParseAddress(absl::string_view text) {
  const std::string address(text.substr(0, text.find('%')));  // no zone
  Bytes bytes = kMapped;
  if (inet_pton(AF_INET, address.c_str(), bytes.data() + 12) == 1 ||
      inet_pton(AF_INET6, address.c_str(), bytes.data()) == 1) {
    return bytes;
  }
  return std::nullopt;
}

std::string Text(const Bytes& bytes) {
  char text[INET6_ADDRSTRLEN] = "";
  if (SameNetwork(bytes, kMapped, kMappedBits)) {
    inet_ntop(AF_INET, bytes.data() + 12, text, sizeof(text));
  } else {
    inet_ntop(AF_INET6, bytes.data(), text, sizeof(text));
  }
  return text;
}

std::string PercentDecoded(absl::string_view text) {
  std::string decoded;
  for (size_t i = 0; i < text.size(); ++i) {
    const absl::string_view digits = text.substr(i + 1, 2);
    if (text[i] == '%' && digits.size() == 2 &&
        absl::ascii_isxdigit(digits[0]) && absl::ascii_isxdigit(digits[1])) {
      decoded += absl::HexStringToBytes(digits);
      i += 2;
    } else {
      decoded += text[i];
    }
  }
  return decoded;
}

// "[::1]:80", "1.2.3.4:80" or "1.2.3.4" without the port and the brackets.
absl::string_view WithoutPort(absl::string_view text) {
  if (absl::ConsumePrefix(&text, "[")) return text.substr(0, text.find(']'));
  const size_t colon = text.find(':');
  // More than one: IPv6 without brackets, and so without a port.
  return colon == text.rfind(':') ? text.substr(0, colon) : text;
}

std::string AddressInRelayName(absl::string_view name) {
  if (!absl::ConsumePrefix(&name, kRelay)) return "";
  const auto bytes = ParseAddress(name.substr(name.rfind('/') + 1));
  return bytes.has_value() ? Text(*bytes) : "";
}

}  // namespace

absl::StatusOr<PeerSet> PeerSet::Parse(absl::string_view text) {
  PeerSet set;
  for (absl::string_view part : absl::StrSplit(text, ',')) {
    part = absl::StripAsciiWhitespace(part);
    if (part.empty()) continue;
    const size_t slash = part.find('/');
    const auto address = ParseAddress(part.substr(0, slash));
    const bool v4 =
        address.has_value() && SameNetwork(*address, kMapped, kMappedBits);
    const int most = v4 ? 32 : 128;
    int bits = most;
    if (!address.has_value() ||
        (slash != absl::string_view::npos &&
         (!absl::SimpleAtoi(part.substr(slash + 1), &bits) || bits < 0 ||
          bits > most))) {
      return absl::InvalidArgumentError(absl::StrCat(
          "'", part, "' is not an IP address or a network such as 10.0.0.0/8"));
    }
    set.networks_.push_back({*address, bits + (v4 ? kMappedBits : 0)});
  }
  return set;
}

bool PeerSet::Contains(absl::string_view address) const {
  const auto bytes = ParseAddress(address);
  return bytes.has_value() &&
         std::any_of(networks_.begin(), networks_.end(), [&](const auto& one) {
           return SameNetwork(*bytes, one.address, one.bits);
         });
}

std::string AddressText(const sockaddr_storage& address) {
  Bytes bytes = kMapped;
  if (address.ss_family == AF_INET) {
    const auto& v4 = reinterpret_cast<const sockaddr_in&>(address);
    std::memcpy(bytes.data() + 12, &v4.sin_addr, 4);
  } else if (address.ss_family == AF_INET6) {
    const auto& v6 = reinterpret_cast<const sockaddr_in6&>(address);
    std::memcpy(bytes.data(), &v6.sin6_addr, 16);
  } else if (address.ss_family == AF_UNIX) {
    const auto& name = reinterpret_cast<const sockaddr_un&>(address);
    const char* const abstract = name.sun_path + 1;  // zeros behind it
    return AddressInRelayName(
        {abstract, strnlen(abstract, sizeof(name.sun_path) - 1)});
  } else {
    return "";
  }
  return Text(bytes);
}

std::string PeerOfAddress(absl::string_view address) {
  auto bytes = ParseAddress(address);
  if (!bytes.has_value()) return "";
  if (SameNetwork(*bytes, kMapped, kMappedBits)) return Text(*bytes);
  std::fill(bytes->begin() + kPeerBits / 8, bytes->end(), uint8_t{0});
  return absl::StrCat(Text(*bytes), "/", kPeerBits);
}

std::string RelayNameOfUri(absl::string_view uri) {
  const std::string decoded = PercentDecoded(uri);
  absl::string_view text = decoded;
  if (!absl::ConsumePrefix(&text, "unix-abstract:") ||
      !absl::StartsWith(text, kRelay)) {
    return "";
  }
  return std::string(text);
}

std::string AddressOfUri(absl::string_view uri) {
  if (absl::StartsWith(uri, "unix-abstract:")) {
    return AddressInRelayName(RelayNameOfUri(uri));
  }
  const std::string decoded = PercentDecoded(uri);
  absl::string_view text = decoded;
  if (!absl::ConsumePrefix(&text, "ipv4:") &&
      !absl::ConsumePrefix(&text, "ipv6:")) {
    return "";
  }
  text = WithoutPort(text);
  const auto bytes = ParseAddress(text);
  return bytes.has_value() ? Text(*bytes) : "";
}

std::string PeerOf(absl::string_view uri, absl::string_view forwarded_for,
                   const PeerSet& trusted_proxies) {
  const std::string address = AddressOfUri(uri);
  if (!forwarded_for.empty() && trusted_proxies.Contains(address)) {
    const absl::string_view last = absl::StripAsciiWhitespace(
        forwarded_for.substr(forwarded_for.rfind(',') + 1));
    const std::string peer = PeerOfAddress(WithoutPort(last));
    if (!peer.empty()) return peer;
  }
  return PeerOfAddress(address);
}

std::string RelayName(absl::string_view address, absl::string_view unique) {
  return absl::StrCat(kRelay, unique, "/", address);
}

}  // namespace ounce::server
