#include "server/config_file.h"

#include <google/protobuf/io/tokenizer.h>
#include <google/protobuf/text_format.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <regex>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "base/byte_size.h"
#include "base/read_file.h"
#include "base/status_macros.h"

namespace ounce::server {
namespace {

constexpr absl::string_view kByteOrderMark = "\xEF\xBB\xBF";  // editors' habit
constexpr size_t kMaxBytes = size_t{1} << 20;  // /dev/zero has no end

class FirstError final : public google::protobuf::io::ErrorCollector {
 public:
  void AddError(int line, int column, const std::string& message) override {
    if (!text_.empty()) return;
    text_ = absl::StrCat(line + 1, ":", column + 1, ": ",
                         absl::StripSuffix(message, "."));
    line_ = static_cast<size_t>(line);
  }
  const std::string& text() const { return text_; }
  size_t line() const { return line_; }  // from 0

 private:
  std::string text_;
  size_t line_ = 0;
};

absl::StatusOr<std::string> ReadAll(const std::string& path) {
  struct stat status = {};
  if (stat(path.c_str(), &status) != 0) {
    return absl::NotFoundError(
        absl::StrCat("cannot read '", path, "': ", std::strerror(errno)));
  }
  if (S_ISDIR(status.st_mode)) {
    return absl::InvalidArgumentError(
        absl::StrCat("'", path, "' is a folder; give the file in it"));
  }
  absl::StatusOr<std::string> text = ReadFile(path, kMaxBytes + 1);
  if (!text.ok()) return absl::NotFoundError(text.status().message());
  if (text->size() > kMaxBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("'", path, "' has more than 1 MiB of settings"));
  }
  return text;
}

// What it is instead, judged by its first characters; "" if it may be right.
// Most of YAML's `key: value` is protobuf text too.
std::string OtherFormat(const std::string& text) {
  for (const absl::string_view whole : absl::StrSplit(text, '\n')) {
    const absl::string_view line = absl::StripAsciiWhitespace(whole);
    if (line.empty() || line[0] == '#') continue;
    if (line[0] == '{') return "JSON";
    if (absl::StartsWith(line, "---") || absl::StartsWith(line, "- ")) {
      return "YAML";
    }
  }
  return "";
}

// "; " and what to do about a field that its message does not have.
std::string FieldHint(const std::string& message, const std::string& field) {
  const bool in_limits = message == "Limits";
  const auto* other =
      in_limits ? v1::ServerConfig::descriptor() : v1::Limits::descriptor();
  if (other->FindFieldByName(field) == nullptr) {
    return "; ounce-server --help lists the settings";
  }
  return in_limits ? absl::StrCat("; write ", field, " outside limits { }")
                   : absl::StrCat("; write limits { ", field, ": ... }");
}

// What to write instead, where protobuf's words alone don't tell it; else "".
std::string Hint(const std::string& text, const FirstError& error) {
  static const std::regex* const kSize =
      new std::regex("([0-9.]+)\\s*([KMGT]iB)\\b");
  static const std::regex* const kField = new std::regex(
      "\"ounce\\.v1\\.(ServerConfig|Limits)\" has no field named \"(\\w+)\"");
  const std::vector<std::string> lines = absl::StrSplit(text, '\n');
  std::string line = lines[std::min(error.line(), lines.size() - 1)];
  line.resize(std::min(line.find('#'), line.size()));
  std::smatch match;
  if (std::regex_search(line, match, *kSize)) {
    if (const auto bytes = ParseByteSize(match[1].str() + match[2].str());
        bytes.ok()) {
      return absl::StrCat("; sizes are plain bytes here: write ", *bytes,
                          " for ", match[0].str());
    }
  }
  if (std::regex_search(error.text(), match, *kField)) {
    return FieldHint(match[1].str(), match[2].str());
  }
  if (absl::StrContains(error.text(), "Need space between number")) {
    return "; numbers have no unit here";
  }
  for (const char* unquoted : {"Expected string", "Already saw decimal"}) {
    if (absl::StrContains(error.text(), unquoted)) {
      return "; texts need quotes, like listen: \"127.0.0.1:8500\"";
    }
  }
  return "";
}

}  // namespace

absl::StatusOr<v1::ServerConfig> ReadConfigFile(const std::string& path) {
  absl::StatusOr<std::string> text = ReadAll(path);
  if (!text.ok()) return WithContext(text.status(), "--config");
  if (absl::StartsWith(*text, kByteOrderMark)) {
    text->erase(0, kByteOrderMark.size());
  }
  v1::ServerConfig config;
  google::protobuf::TextFormat::Parser parser;
  FirstError error;
  parser.RecordErrorsTo(&error);
  if (!parser.ParseFromString(*text, &config)) {
    const std::string other = OtherFormat(*text);
    if (!other.empty()) {
      return absl::InvalidArgumentError(absl::StrCat(
          path, " is ", other,
          "; write it in protobuf text format, like models { name: \"code\" "
          "path: \"/models/code\" }"));
    }
    return absl::InvalidArgumentError(
        absl::StrCat(path, ":", error.text(), " (in an ounce.v1.ServerConfig)",
                     Hint(*text, error)));
  }
  if (config.ByteSizeLong() == 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("--config: '", path,
                     "' sets nothing: is it the file that "
                     "was meant?"));
  }
  return config;
}

}  // namespace ounce::server
