#include "server/trace/otel_environment.h"

#include <algorithm>
#include <initializer_list>
#include <optional>
#include <string_view>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "base/status_macros.h"

namespace ounce::server {
namespace {

constexpr char kServiceName[] = "service.name";

// %41 as A; nothing of what is no such text.
std::optional<std::string> Unescaped(absl::string_view text) {
  std::string result;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      result += text[i];
      continue;
    }
    const absl::string_view digits = text.substr(i + 1, 2);
    if (digits.size() < 2 || !absl::ascii_isxdigit(digits[0]) ||
        !absl::ascii_isxdigit(digits[1])) {
      return std::nullopt;
    }
    result += absl::HexStringToBytes(digits);
    i += 2;
  }
  return result;
}

bool IsHeaderName(const std::string& name) {
  return !name.empty() && std::all_of(name.begin(), name.end(), [](char c) {
    return absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '-' ||
           c == '_' || c == '.';
  });
}

bool IsPrintable(const std::string& text) {
  return std::none_of(text.begin(), text.end(), [](char c) {
    return absl::ascii_iscntrl(static_cast<unsigned char>(c));
  });
}

// "a=1,b=2", with %-escapes. Its values may be secrets: no error repeats them.
absl::StatusOr<NamesAndValues> ParseList(const std::string& text) {
  NamesAndValues list;
  for (const absl::string_view part :
       absl::StrSplit(text, ',', absl::SkipWhitespace())) {
    const std::pair<absl::string_view, absl::string_view> pair =
        absl::StrSplit(part, absl::MaxSplits('=', 1));
    const auto name = Unescaped(absl::StripAsciiWhitespace(pair.first));
    const auto value = Unescaped(absl::StripAsciiWhitespace(pair.second));
    if (!absl::StrContains(part, '=') || !name.has_value() || name->empty() ||
        !value.has_value()) {
      return absl::InvalidArgumentError(
          "must be NAME=VALUE with commas between them, and %-escapes for "
          "commas and other special characters");
    }
    list.emplace_back(*name, *value);
  }
  return list;
}

absl::StatusOr<NamesAndValues> ParseHeaders(const std::string& text) {
  ASSIGN_OR_RETURN(NamesAndValues headers, ParseList(text));
  for (const auto& [name, value] : headers) {
    if (!IsHeaderName(name) || !IsPrintable(value)) {
      return absl::InvalidArgumentError("is no list of HTTP's headers");
    }
  }
  return headers;
}

class Environment {
 public:
  explicit Environment(const std::function<const char*(const char*)>& get)
      : get_(get) {}

  // The first that is set; empty is not.
  std::string Text(std::initializer_list<const char*> names,
                   std::string* which = nullptr) const {
    for (const char* name : names) {
      const char* const value = get_(name);
      if (value == nullptr || *value == '\0') continue;
      if (which != nullptr) *which = name;
      return value;
    }
    return "";
  }

 private:
  const std::function<const char*(const char*)>& get_;
};

// Where spans go; empty: nowhere.
absl::StatusOr<std::string> UrlIn(const Environment& environment) {
  std::string name;
  std::string url = environment.Text(
      {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"},
      &name);
  if (url.empty() ||
      absl::EqualsIgnoreCase(environment.Text({"OTEL_SDK_DISABLED"}), "true") ||
      environment.Text({"OTEL_TRACES_EXPORTER"}) == "none") {
    return "";
  }
  RETURN_IF_ERROR(WithContext(CheckEndpoint(url), name));
  return name == "OTEL_EXPORTER_OTLP_ENDPOINT" ? TracesUrl(url) : url;
}

}  // namespace

std::string TracesUrl(const std::string& endpoint) {
  return absl::StrCat(endpoint, absl::EndsWith(endpoint, "/") ? "" : "/",
                      "v1/traces");
}

absl::Status CheckEndpoint(const std::string& endpoint) {
  const size_t scheme_end = endpoint.find("://");
  const std::string_view scheme =
      std::string_view(endpoint).substr(0, scheme_end);
  std::string_view host;
  if (scheme == "http" || scheme == "https") {
    host = std::string_view(endpoint).substr(scheme_end + 3);
    host = host.substr(0, host.find('/'));
  }
  const bool is_url = !host.empty() && host[0] != ':';
  if (is_url && host.find('@') != std::string_view::npos) {
    return absl::InvalidArgumentError(
        "must hold no user or password; headers for the collector go into "
        "OTEL_EXPORTER_OTLP_HEADERS");
  }
  const bool is_plain = std::all_of(
      endpoint.begin(), endpoint.end(),
      [](char c) { return c > ' ' && c <= '~' && c != '?' && c != '#'; });
  if (is_url && is_plain) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      "must be http://HOST:PORT or https://HOST:PORT, is '", endpoint, "'"));
}

absl::StatusOr<OtelEnvironment> ReadOtelEnvironment(
    const std::function<const char*(const char* name)>& get,
    const std::string& endpoint) {
  const Environment environment(get);
  OtelEnvironment result;
  if (!endpoint.empty()) {
    result.url = TracesUrl(endpoint);
  } else {
    ASSIGN_OR_RETURN(result.url, UrlIn(environment));
  }
  if (result.url.empty()) return result;
  std::string name;
  const std::string headers = environment.Text(
      {"OTEL_EXPORTER_OTLP_TRACES_HEADERS", "OTEL_EXPORTER_OTLP_HEADERS"},
      &name);
  absl::StatusOr<NamesAndValues> parsed = ParseHeaders(headers);
  RETURN_IF_ERROR(WithContext(parsed.status(), name));
  result.headers = *std::move(parsed);
  result.ca_file = environment.Text({"OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE",
                                     "OTEL_EXPORTER_OTLP_CERTIFICATE"});
  parsed = ParseList(environment.Text({"OTEL_RESOURCE_ATTRIBUTES"}));
  RETURN_IF_ERROR(WithContext(parsed.status(), "OTEL_RESOURCE_ATTRIBUTES"));
  result.resource = *std::move(parsed);
  const std::string service = environment.Text({"OTEL_SERVICE_NAME"});
  const auto named =
      std::find_if(result.resource.begin(), result.resource.end(),
                   [](const auto& pair) { return pair.first == kServiceName; });
  if (named == result.resource.end()) {
    result.resource.emplace_back(kServiceName,
                                 service.empty() ? "ounce" : service);
  } else if (!service.empty()) {
    named->second = service;
  }
  return result;
}

}  // namespace ounce::server
