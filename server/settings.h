// The server's settings, a row each: the flags, the fields of the file of
// --config, --help and the table in docs/operations.md all come from here.
//
// A new setting is a member of Config, a row in settings.cc, and a field of the
// row's name in server_config.proto: in ServerConfig, or in its Limits. A field
// is `optional` where 0 (or "") says something else than its absence.
// tests/server/settings_test holds the three together.
#ifndef OUNCE_SERVER_SETTINGS_H_
#define OUNCE_SERVER_SETTINGS_H_

#include <cstdint>
#include <limits>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "server/config.h"

namespace ounce::v1 {
class ServerConfig;
}

namespace ounce::server {

enum class SettingType {
  kText,
  kCount,
  kBytes,  // on the command line with a unit: 512MiB
  kSeconds,
  kRatio,   // 0 to 1
  kFlag,    // true or false
  kChoice,  // one of a few words
  kList,    // of texts: the flag may be given several times
};

struct Setting {
  // The member of Config that it sets; of a choice perhaps what sets it.
  using Target =
      std::variant<std::string& (*)(Config&), int64_t& (*)(Config&),
                   absl::Duration& (*)(Config&), double& (*)(Config&),
                   bool& (*)(Config&), std::vector<std::string>& (*)(Config&),
                   void (*)(Config&, const std::string&)>;

  std::string_view name;  // of the flag and of the field
  SettingType type = SettingType::kText;
  Target to;
  // Numbers: the range, both ends included.
  int64_t min = 0;
  int64_t max = std::numeric_limits<int64_t>::max();
  std::vector<std::string> choices = {};
  // Texts: what they are, e.g. HOST:PORT, and what else is asked of each (the
  // message goes on after "NAME: ").
  std::string_view form = {};
  absl::Status (*check)(const std::string& text) = nullptr;
  // Where the member's initial value does not say it.
  std::string_view default_words = {};
  std::string_view help = {};  // a sentence without a full stop
};

absl::Span<const Setting> Settings();

// Puts the values of a flag into the setting's field, which they replace.
// Errors: kInvalidArgument, beginning with the flag.
absl::Status SetField(const Setting& setting,
                      const std::vector<std::string>& texts,
                      v1::ServerConfig* file);

// Sets what `file` sets, but for its models; the rest stays.
// Errors: kInvalidArgument, beginning with the field.
absl::Status ApplyFields(const v1::ServerConfig& file, Config* config);

// For --help: "N", and "Compute threads (0 to 1024) [one per CPU]".
std::string FormOf(const Setting& setting);
std::string HelpOf(const Setting& setting);

// The settings as a table in Markdown.
std::string SettingsTable();

}  // namespace ounce::server

#endif  // OUNCE_SERVER_SETTINGS_H_
