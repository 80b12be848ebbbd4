#include "client/comparison.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <filesystem>
#include <system_error>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "base/byte_size.h"
#include "base/status_macros.h"
#include "base/text_table.h"
#include "client/input_file.h"
#include "client/json.h"
#include "client/output.h"
#include "client/report.h"

namespace ounce::client {
namespace {

constexpr char kResultsJson[] = "results.json";

std::string Bytes(double value) {
  return FormatByteSize(static_cast<int64_t>(value));
}
std::string Fixed2(double value) { return absl::StrFormat("%.2f", value); }
std::string Fixed3(double value) { return absl::StrFormat("%.3f", value); }
std::string Fixed4(double value) { return absl::StrFormat("%.4f", value); }
std::string Small(double value) { return absl::StrFormat("%.3g", value); }
std::string Whole(double value) { return absl::StrFormat("%.0f", value); }
std::string Rate(double value) {
  return value < 100 ? absl::StrFormat("%.1f", value)
                     : absl::StrFormat("%.0f", value);
}
std::string Milliseconds(double value) {
  return absl::StrFormat("%.3g ms", 1e3 * value);
}

// The figures of a result, in the order in which tables show them.
struct Figure {
  const char* key;
  const char* title;
  std::string (*text)(double);
};
constexpr Figure kFigures[] = {
    {"stored_bytes", "stored", Bytes},
    {"resident_bytes", "in memory", Bytes},
    {"bits_per_weight", "bits/weight", Fixed3},
    {"weight_error", "weight error", Small},
    {"perplexity", "perplexity", Fixed4},
    {"bits_per_byte", "bits/byte", Fixed4},
    {"kl_divergence", "KL", Small},
    {"top1_agreement", "top-1", Percent},
    {"float_objects", "float objects", Whole},
    {"objects", "objects", Whole},
    {"matched", "matched", Whole},
    {"score_drift", "score drift", Fixed4},
    {"box_drift", "box drift px", Fixed2},
    {"tokens_per_second", "tok/s", Rate},
    {"tokens_per_second_of_8", "tok/s of 8", Rate},
    {"first_token_seconds", "first token", Milliseconds},
    {"cpu_seconds_per_token", "CPU/token", Milliseconds},
    {"joules_per_token", "J/token", Small},
    {"seconds_per_picture", "picture", Milliseconds},
    {"cpu_seconds_per_picture", "CPU/picture", Milliseconds},
    {"joules_per_picture", "J/picture", Small},
    {"quantize_seconds", "quantized in s", Fixed2},
};

std::string Text(const Json& value) {
  return value.is_string() ? value.get<std::string>() : value.dump();
}

// Empty if there is none.
std::string TextOf(const Json& object, const char* key) {
  const auto found = object.find(key);
  return found == object.end() ? "" : Text(*found);
}

std::string SpecOf(const Json& result) { return TextOf(result, "spec"); }

std::string ErrorOf(const Json& result) {
  return result.contains("error") ? TextOf(result["error"], "message") : "";
}

std::optional<double> Value(const Json& result, const char* key) {
  const auto found = result.find(key);
  if (found == result.end() || !found->is_number()) return std::nullopt;
  return found->get<double>();
}

std::vector<Figure> FiguresOf(const Json& comparison) {
  std::vector<Figure> shown;
  for (const Figure& figure : kFigures) {
    for (const Json& result : comparison["results"]) {
      if (!Value(result, figure.key).has_value()) continue;
      shown.push_back(figure);
      break;
    }
  }
  return shown;
}

std::vector<std::string> Cells(const Json& result,
                               const std::vector<Figure>& figures) {
  std::vector<std::string> cells = {SpecOf(result)};
  for (const Figure& figure : figures) {
    const std::optional<double> value = Value(result, figure.key);
    cells.push_back(value.has_value() ? figure.text(*value) : "");
  }
  return cells;
}

// Which codes tensors have instead of those that their spec says: how many of
// them, by why. A table has no room for each.
std::vector<std::string> Notes(const Json& result) {
  const auto tensors = result.find("tensors");
  if (tensors == result.end() || !tensors->is_array()) return {};
  std::vector<std::pair<std::string, int>> counts;  // in the tensors' order
  int num_chosen = 0;
  for (const Json& tensor : *tensors) {
    if (!tensor.is_object()) continue;
    if (tensor.value("chosen", Json()) == true) ++num_chosen;
    const std::string note = TextOf(tensor, "note");
    if (note.empty()) continue;
    const auto found =
        std::find_if(counts.begin(), counts.end(),
                     [&](const auto& count) { return count.first == note; });
    if (found != counts.end()) {
      ++found->second;
    } else {
      counts.emplace_back(note, 1);
    }
  }
  std::vector<std::string> notes;
  notes.reserve(counts.size());
  for (const auto& [note, count] : counts) {
    notes.push_back(absl::StrCat(count, " of ", num_chosen, " tensors ", note));
  }
  return notes;
}

// What is below a table: other codes than a spec says, what failed, and notes.
std::vector<std::string> Remarks(const Json& comparison) {
  std::vector<std::string> remarks;
  for (const Json& result : comparison["results"]) {
    for (const std::string& note : Notes(result)) {
      remarks.push_back(
          absl::StrCat(SpecOf(result), ": ", Printable(note, 10'000)));
    }
    if (result.contains("saved")) {
      remarks.push_back(
          absl::StrCat(SpecOf(result), ": saved in ",
                       Printable(TextOf(result["saved"], "folder"), 4096), " (",
                       Printable(TextOf(result["saved"], "format"), 100), ")"));
    }
    if (!result.contains("error")) continue;
    remarks.push_back(
        absl::StrCat(SpecOf(result), ": ", Printable(ErrorOf(result), 10'000)));
  }
  for (const Json& note : comparison["notes"]) {
    remarks.push_back(Text(note));
  }
  return remarks;
}

std::string MarkdownRow(std::vector<std::string> cells) {
  for (std::string& cell : cells) {
    cell = absl::StrReplaceAll(cell, {{"|", "\\|"}, {"\n", " "}});
  }
  return absl::StrCat("| ", absl::StrJoin(cells, " | "), " |\n");
}

std::string Quoted(const std::string& text) {
  if (text.find_first_of(",\"\n\r") == std::string::npos) return text;
  return absl::StrCat("\"", absl::StrReplaceAll(text, {{"\"", "\"\""}}), "\"");
}

// "window is 512 there and 1024 now": the first difference, if there is one.
std::optional<std::string> Difference(const Json& before, const Json& now) {
  const auto text = [](const Json& object, const std::string& key) {
    const auto found = object.find(key);
    return found == object.end() ? "none" : found->dump();
  };
  for (const auto& [key, value] : now.items()) {
    if (before.find(key) != before.end() && before[key] == value) continue;
    return absl::StrCat(key, " is ", text(before, key), " there and ",
                        text(now, key), " now");
  }
  for (const auto& [key, value] : before.items()) {
    if (now.find(key) != now.end()) continue;
    return absl::StrCat(key, " is ", text(before, key), " there and none now");
  }
  return std::nullopt;
}

}  // namespace

void AddReport(const v1::QuantizeReport& report, Json* result) {
  (*result)["plan"] = report.plan();
  (*result)["stored_bytes"] = report.stored_bytes_after();
  (*result)["resident_bytes"] = report.resident_bytes_after();
  Json tensors = Json::array();
  double weights = 0, bits = 0, error = 0;
  for (const v1::TensorReport& tensor : report.tensors()) {
    if (tensor.method().empty()) continue;
    Json entry = {{"name", tensor.name()},
                  {"shape", Json::array()},
                  {"method", tensor.method()},
                  {"bytes", tensor.bytes_after()}};
    double elements = 1;
    for (const int64_t extent : tensor.shape()) {
      entry["shape"].push_back(extent);
      elements *= static_cast<double>(extent);
    }
    if (tensor.has_relative_l2_error()) {
      entry["weight_error"] = tensor.relative_l2_error();
    }
    if (!tensor.note().empty()) entry["note"] = tensor.note();
    // What the plan left alone is not the method's.
    const bool chosen =
        tensor.kind() != v1::TENSOR_KIND_VECTOR && tensor.left_alone().empty();
    entry["chosen"] = chosen;
    tensors.push_back(std::move(entry));
    if (!chosen) continue;
    weights += elements;
    bits += 8.0 * static_cast<double>(tensor.bytes_after());
    error += elements * tensor.relative_l2_error() * tensor.relative_l2_error();
  }
  if (weights > 0) {
    (*result)["bits_per_weight"] = bits / weights;
    (*result)["weight_error"] = std::sqrt(error / weights);
  }
  if (report.has_detection()) {
    const v1::DetectionQuality& detection = report.detection();
    (*result)["float_objects"] = detection.float_detections();
    (*result)["objects"] = detection.quantized_detections();
    (*result)["matched"] = detection.matched();
    if (detection.matched() > 0) {
      (*result)["score_drift"] = detection.mean_score_drift();
      (*result)["box_drift"] = detection.mean_box_drift();
    }
  }
  (*result)["quantize_seconds"] = report.seconds();
  (*result)["tensors"] = std::move(tensors);
}

std::string ComparisonTable(const Json& comparison) {
  const std::vector<Figure> figures = FiguresOf(comparison);
  std::vector<std::string> headers = {"SPEC"};
  for (const Figure& figure : figures) {
    headers.push_back(absl::StrCat("-", figure.title));
  }
  TextTable table(headers);
  for (const Json& result : comparison["results"]) {
    if (result.contains("error")) continue;
    std::vector<std::string> cells = Cells(result, figures);
    cells[0] = Printable(cells[0], 60);
    table.Add(std::move(cells));
  }
  std::string text = table.Text();
  for (const std::string& remark : Remarks(comparison)) {
    absl::StrAppend(&text, remark, "\n");
  }
  return text;
}

std::string ComparisonMarkdown(const Json& comparison) {
  const std::vector<Figure> figures = FiguresOf(comparison);
  std::string text =
      absl::StrCat("# ", TextOf(comparison, "model"), " by its methods\n\n");
  std::vector<std::string> titles = {"spec"}, rules = {"---"};
  for (const Figure& figure : figures) {
    titles.emplace_back(figure.title);
    rules.emplace_back("---:");
  }
  absl::StrAppend(&text, MarkdownRow(titles), MarkdownRow(rules));
  for (const Json& result : comparison["results"]) {
    if (result.contains("error")) continue;
    std::vector<std::string> cells = Cells(result, figures);
    cells[0] = absl::StrCat("`", cells[0], "`");
    absl::StrAppend(&text, MarkdownRow(cells));
  }
  absl::StrAppend(&text, "\n");
  for (const std::string& remark : Remarks(comparison)) {
    absl::StrAppend(&text, "- ", remark, "\n");
  }
  absl::StrAppend(&text, "\nMeasured with:\n\n");
  for (const auto& [key, value] : comparison["settings"].items()) {
    absl::StrAppend(&text, "- ", key, ": ", Text(value), "\n");
  }
  return text;
}

std::string ComparisonCsv(const Json& comparison) {
  const std::vector<Figure> figures = FiguresOf(comparison);
  std::vector<std::string> header = {"spec"};
  for (const Figure& figure : figures) header.emplace_back(figure.key);
  header.emplace_back("error");
  std::string text = absl::StrCat(absl::StrJoin(header, ","), "\n");
  for (const Json& result : comparison["results"]) {
    std::vector<std::string> cells = {Quoted(SpecOf(result))};
    for (const Figure& figure : figures) {
      cells.push_back(Value(result, figure.key).has_value()
                          ? result[figure.key].dump()
                          : "");
    }
    cells.push_back(Quoted(ErrorOf(result)));
    absl::StrAppend(&text, absl::StrJoin(cells, ","), "\n");
  }
  return text;
}

absl::StatusOr<std::optional<Json>> ReadComparison(const std::string& folder,
                                                   const Json& now) {
  const std::string path = absl::StrCat(folder, "/", kResultsJson);
  const absl::StatusOr<std::string> text =
      ReadInput(path, {.what = "comparison",
                       .advice = "give another folder as --out",
                       .max_bytes = int64_t{1} << 30});
  if (absl::IsNotFound(text.status())) return std::nullopt;
  RETURN_IF_ERROR(text.status());
  const Json before = Json::parse(*text, nullptr, /*allow_exceptions=*/false);
  if (!before.is_object() || !before.contains("settings") ||
      !before["settings"].is_object() || !before.contains("results") ||
      !before["results"].is_array() || !before.contains("notes") ||
      !before["notes"].is_array()) {
    return absl::DataLossError(absl::StrCat(
        "'", path,
        "' is no comparison; remove it, or give another folder as --out"));
  }
  for (const Json& result : before["results"]) {
    if (result.is_object() && result.contains("spec")) continue;
    return absl::DataLossError(absl::StrCat(
        "'", path,
        "' has a result without its spec; remove it, or give another folder "
        "as --out"));
  }
  const bool any_measured =
      std::any_of(before["results"].begin(), before["results"].end(),
                  [](const Json& result) { return !result.contains("error"); });
  if (!any_measured) return std::nullopt;
  const std::optional<std::string> difference =
      Difference(before["settings"], now["settings"]);
  if (difference.has_value()) {
    return absl::FailedPreconditionError(absl::StrCat(
        "'", path, "' holds what was measured otherwise: ", *difference,
        "; give another folder as --out, or remove it to begin again"));
  }
  return before;
}

absl::Status WriteComparison(const std::string& folder,
                             const Json& comparison) {
  const std::pair<const char*, std::string> files[] = {
      {kResultsJson,
       comparison.dump(1, ' ', false, Json::error_handler_t::replace) + "\n"},
      {"results.csv", ComparisonCsv(comparison)},
      {"results.md", ComparisonMarkdown(comparison)}};
  for (const auto& [name, text] : files) {
    const std::string path = absl::StrCat(folder, "/", name);
    const std::string unfinished = absl::StrCat(path, ".new");
    RETURN_IF_ERROR(WriteFile(unfinished, text));
    std::error_code error;
    std::filesystem::rename(unfinished, path, error);
    if (error) {
      return absl::DataLossError(
          absl::StrCat("cannot write to '", path, "': ", error.message()));
    }
  }
  return absl::OkStatus();
}

}  // namespace ounce::client
