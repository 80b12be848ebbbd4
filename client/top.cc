#include "client/top.h"

#include <algorithm>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "base/byte_size.h"
#include "base/text_table.h"
#include "client/output.h"
#include "client/report.h"

namespace ounce::client {
namespace {

constexpr int kWidestName = 32;

bool Does(const v1::Model& model, v1::Task task) {
  return std::find(model.tasks().begin(), model.tasks().end(), task) !=
         model.tasks().end();
}

const v1::Model* Find(const Look& look, const std::string& name) {
  for (const v1::Model& model : look.models.models()) {
    if (model.name() == name) return &model;
  }
  return nullptr;
}

// Of a count that only grows, for models that do `task`.
std::optional<double> PerSecond(v1::Task task,
                                int64_t (v1::Model::*count)() const,
                                const v1::Model& model, const Look& now,
                                const std::optional<Look>& before) {
  if (!before.has_value() || !Does(model, task)) return std::nullopt;
  const v1::Model* const then = Find(*before, model.name());
  const double seconds = absl::ToDoubleSeconds(now.time - before->time);
  if (then == nullptr || seconds <= 0 || (model.*count)() < (then->*count)()) {
    return std::nullopt;
  }
  return static_cast<double>((model.*count)() - (then->*count)()) / seconds;
}

std::string SpeedText(const v1::Model& model, const Look& now,
                      const std::optional<Look>& before) {
  if (const auto tokens = TokensPerSecond(model, now, before)) {
    return absl::StrFormat("%.1f tokens", *tokens);
  }
  if (const auto pictures = PicturesPerSecond(model, now, before)) {
    return absl::StrFormat("%.1f pictures", *pictures);
  }
  return "";
}

std::string KvText(const v1::Model& model) {
  if (model.kv_capacity_bytes() <= 0) return "";
  return absl::StrFormat("%s (%.0f%%)", FormatByteSize(model.kv_used_bytes()),
                         100.0 * static_cast<double>(model.kv_used_bytes()) /
                             static_cast<double>(model.kv_capacity_bytes()));
}

}  // namespace

std::optional<double> TokensPerSecond(const v1::Model& model, const Look& now,
                                      const std::optional<Look>& before) {
  return PerSecond(v1::TASK_GENERATE, &v1::Model::generated_tokens, model, now,
                   before);
}

std::optional<double> PicturesPerSecond(const v1::Model& model, const Look& now,
                                        const std::optional<Look>& before) {
  return PerSecond(v1::TASK_DETECT_OBJECTS, &v1::Model::detected_pictures,
                   model, now, before);
}

std::string TopText(const Look& now, const std::optional<Look>& before) {
  std::string text = absl::StrCat(
      "ounce-server ", Printable(now.server.version(), kWidestName), ", up ",
      absl::FormatDuration(
          absl::Seconds(static_cast<int64_t>(now.server.uptime_seconds()))),
      ", memory ", FormatByteSize(now.server.memory_used_bytes()), " of ",
      FormatByteSize(now.server.memory_limit_bytes()), "\n\n");
  TextTable table({"MODEL", "STATE", "METHOD", "-PER SECOND", "-IN MEMORY",
                   "-KV USED", "-RUNNING", "-QUEUED"});
  for (const v1::Model& model : now.models.models()) {
    table.Add({Printable(model.name(), kWidestName), StateName(model.state()),
               Printable(model.method(), kWidestName),
               SpeedText(model, now, before),
               FormatByteSize(model.resident_bytes()), KvText(model),
               absl::StrCat(model.running_requests()),
               absl::StrCat(model.queued_requests())});
  }
  absl::StrAppend(&text,
                  now.models.models().empty() ? "no models\n" : table.Text());
  return text;
}

nlohmann::ordered_json TopJson(const Look& now,
                               const std::optional<Look>& before) {
  nlohmann::ordered_json models = nlohmann::ordered_json::array();
  for (const v1::Model& model : now.models.models()) {
    nlohmann::ordered_json one = {
        {"name", model.name()},
        {"state", StateName(model.state())},
        {"method", model.method()},
        {"resident_bytes", model.resident_bytes()},
        {"kv_used_bytes", model.kv_used_bytes()},
        {"kv_cached_bytes", model.kv_cached_bytes()},
        {"kv_capacity_bytes", model.kv_capacity_bytes()},
        {"running_requests", model.running_requests()},
        {"queued_requests", model.queued_requests()}};
    if (const auto tokens = TokensPerSecond(model, now, before)) {
      one["tokens_per_second"] = *tokens;
    }
    if (const auto pictures = PicturesPerSecond(model, now, before)) {
      one["pictures_per_second"] = *pictures;
    }
    models.push_back(std::move(one));
  }
  return {{"version", now.server.version()},
          {"uptime_seconds", now.server.uptime_seconds()},
          {"memory_used_bytes", now.server.memory_used_bytes()},
          {"memory_limit_bytes", now.server.memory_limit_bytes()},
          {"models", std::move(models)}};
}

std::string Screen(const std::string& text, int columns, int rows) {
  std::vector<std::string> lines = absl::StrSplit(text, '\n');
  if (lines.back().empty()) lines.pop_back();
  // The last row stays free, for the cursor.
  const size_t fit = std::max(rows - 1, 1);
  if (lines.size() > fit) lines.resize(fit);
  std::string screen = "\033[H";
  for (const std::string& line : lines) {
    absl::StrAppend(&screen, Cut(line, columns - 1), "\033[K\n");
  }
  return screen + "\033[J";
}

}  // namespace ounce::client
