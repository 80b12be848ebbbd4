#include "server/config_file.h"

#include <google/protobuf/io/tokenizer.h>
#include <google/protobuf/text_format.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstring>
#include <string_view>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "base/read_file.h"
#include "base/status_macros.h"

namespace ounce::server {
namespace {

constexpr size_t kMaxBytes = size_t{1} << 20;  // /dev/zero has no end

class FirstError final : public google::protobuf::io::ErrorCollector {
 public:
  void AddError(int line, int column, const std::string& message) override {
    if (!text_.empty()) return;
    text_ = absl::StrCat(line + 1, ":", column + 1, ": ", message);
  }
  const std::string& text() const { return text_; }

 private:
  std::string text_;
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

}  // namespace

absl::StatusOr<v1::ServerConfig> ReadConfigFile(const std::string& path) {
  absl::StatusOr<std::string> text = ReadAll(path);
  if (!text.ok()) return WithContext(text.status(), "--config");
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
    return absl::InvalidArgumentError(absl::StrCat(
        path, ":", error.text(), " (in an ounce.v1.ServerConfig)"));
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
