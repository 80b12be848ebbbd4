#include "client/report.h"

#include <algorithm>
#include <functional>
#include <numeric>
#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "base/byte_size.h"
#include "base/shell_quoted.h"
#include "base/text_table.h"
#include "base/utf8.h"
#include "client/footnotes.h"

namespace ounce::client {
namespace {

constexpr char kVectors[] = "norms and biases";
constexpr int kLongestPlan = 2000;  // characters
constexpr char kNoModels[] = "no models\n";

template <class Model>
std::string TaskNames(const Model& model) {
  std::vector<std::string> names;
  for (const int task : model.tasks()) {
    names.emplace_back(task == v1::TASK_GENERATE         ? "generate"
                       : task == v1::TASK_DETECT_OBJECTS ? "detect"
                                                         : "unknown");
  }
  return absl::StrJoin(names, ",");
}

std::string Score(double score) {
  const std::string text = absl::StrFormat("%.4f", score);
  return score < 1 && text == "1.0000" ? "0.9999" : text;
}

// A method or plan in the width of a table.
std::string InATable(const std::string& method) {
  constexpr int kWidest = 32;
  return Printable(method, kWidest);
}

std::string MethodText(const v1::Model& model) {
  std::string text = InATable(model.method());
  // Servers that know no plans say beside the method what it was for.
  if (!model.plan().empty()) return text;
  if (model.convolutions()) text += " +convolutions";
  if (!model.include().empty()) text += " +include";
  if (!model.exclude().empty()) text += " +exclude";
  return text;
}

std::string Saved(int64_t before, int64_t after) {
  if (before <= 0) return "";
  return Percent(1 - static_cast<double>(after) / static_cast<double>(before));
}

// "layer2.11.conv1.weight" -> "layer*.*.conv*.weight".
std::string Kind(const std::string& name) {
  std::string kind;
  for (const char c : name) {
    if (!absl::ascii_isdigit(c)) {
      kind += c;
    } else if (!absl::EndsWith(kind, "*")) {
      kind += '*';
    }
  }
  return kind;
}

// The two ends of a name that would fill the line, cut between its parts.
std::string Shortened(const std::string& name) {
  constexpr size_t kLongest = 42, kHead = 14;
  if (name.size() <= kLongest) return name;
  const size_t head = name.rfind('.', kHead);
  const size_t tail = name.find('.', name.size() - (kLongest - kHead - 3) - 1);
  if (head == std::string::npos || tail == std::string::npos) return name;
  return absl::StrCat(name.substr(0, head), "...", name.substr(tail + 1));
}

// Of the line that a tensor shares with others of its kind: the glob of their
// modules, as --include takes it.
std::string GroupName(const v1::TensorReport& tensor) {
  if (tensor.kind() == v1::TENSOR_KIND_VECTOR) return kVectors;
  return Kind(std::string(absl::StripSuffix(tensor.name(), ".weight")));
}

// A line of the tensor table: one tensor, or several of a kind.
struct Group {
  std::string name;
  std::string shape;
  std::string method;
  std::string remark;
  int64_t count = 0;
  int64_t bytes_before = 0;
  int64_t bytes_after = 0;
  std::optional<double> worst_error = std::nullopt;
  std::optional<double> worst_snr = std::nullopt;
  std::optional<double> worst_output_error = std::nullopt;
  std::optional<double> worst_clamp_rate = std::nullopt;
  std::optional<double> worst_computed_error = std::nullopt;
  // Of the tensors that say how many of their weights are zero.
  double zeros = 0;
  double may_be_zero = 0;
};

void Worsen(double error, std::optional<double>* worst) {
  *worst = std::max(worst->value_or(0), error);
}

std::vector<Group> Groups(const v1::QuantizeReport& report, bool all) {
  std::vector<Group> groups;
  for (const v1::TensorReport& tensor : report.tensors()) {
    const std::string name = all ? tensor.name() : GroupName(tensor);
    const std::string shape = absl::StrJoin(tensor.shape(), "x");
    const std::string& remark =
        tensor.left_alone().empty() ? tensor.note() : tensor.left_alone();
    auto group =
        std::find_if(groups.begin(), groups.end(), [&](const Group& other) {
          return !all && other.name == name &&
                 other.method == tensor.method() && other.remark == remark;
        });
    if (group == groups.end()) {
      groups.push_back({.name = name,
                        .shape = shape,
                        .method = tensor.method(),
                        .remark = remark});
      group = groups.end() - 1;
    }
    if (group->shape != shape) group->shape = "various";
    ++group->count;
    group->bytes_before += tensor.bytes_before();
    group->bytes_after += tensor.bytes_after();
    if (tensor.has_relative_l2_error()) {
      Worsen(tensor.relative_l2_error(), &group->worst_error);
    }
    if (tensor.has_relative_l2_output_error()) {
      Worsen(tensor.relative_l2_output_error(), &group->worst_output_error);
    }
    if (tensor.has_clamp_rate()) {
      Worsen(tensor.clamp_rate(), &group->worst_clamp_rate);
    }
    if (tensor.has_computed_relative_l2_error()) {
      Worsen(tensor.computed_relative_l2_error(), &group->worst_computed_error);
    }
    if (tensor.has_sparsity()) {
      const double elements =
          std::accumulate(tensor.shape().begin(), tensor.shape().end(), 1.0,
                          std::multiplies<>());
      group->zeros += tensor.sparsity() * elements;
      group->may_be_zero += elements;
    }
    if (tensor.has_snr_db()) {
      group->worst_snr = group->worst_snr.has_value()
                             ? std::min(*group->worst_snr, tensor.snr_db())
                             : tensor.snr_db();
    }
  }
  return groups;
}

// 1234567 -> "1,234,567".
std::string Exact(int64_t bytes) {
  const std::string digits = absl::StrCat(bytes);
  const size_t num_digits = digits.size() - (bytes < 0 ? 1 : 0);
  std::string text;
  for (size_t i = 0; i < digits.size(); ++i) {
    const size_t left = digits.size() - i;
    if (left % 3 == 0 && left < num_digits) text += ',';
    text += digits[i];
  }
  return text;
}

std::string NameCell(const Group& group, bool all) {
  return Printable(all ? group.name : Shortened(group.name), 200);
}

std::string ErrorCell(const std::optional<double>& error) {
  return error.has_value() ? absl::StrFormat("%.5f", *error) : "";
}

// Where weights may lie beyond what codes reach: how many do, and what scales
// that follow from the weights would do where others were given.
std::string ClampedText(const std::vector<Group>& groups, bool all) {
  TextTable table({all ? "TENSOR" : "MODULES (WORST)", "METHOD", "-CLAMPED",
                   "-ERROR", "-ERROR OF COMPUTED SCALES"});
  bool any = false;
  for (const Group& group : groups) {
    if (!group.worst_clamp_rate.has_value()) continue;
    any = true;
    table.Add({NameCell(group, all), group.method,
               absl::StrFormat("%.3f%%", 100 * *group.worst_clamp_rate),
               ErrorCell(group.worst_error),
               ErrorCell(group.worst_computed_error)});
  }
  return any ? table.Text() : "";
}

// Of all groups; below it, as notes, what was left alone or has other codes.
std::string TensorsText(const std::vector<Group>& groups, bool all) {
  const bool outputs = std::any_of(
      groups.begin(), groups.end(),
      [](const Group& group) { return group.worst_output_error.has_value(); });
  const bool any_zeros =
      std::any_of(groups.begin(), groups.end(),
                  [](const Group& group) { return group.may_be_zero > 0; });
  // A line has room for one of them, and the error says what the ratio does.
  std::vector<std::string> headers = {all ? "TENSOR" : "MODULES (WORST ERRORS)",
                                      "-COUNT",
                                      "SHAPE",
                                      "METHOD",
                                      "-BEFORE",
                                      "-AFTER",
                                      "-ERROR",
                                      outputs ? "-OUTPUT" : "-SNR"};
  if (any_zeros) headers.emplace_back("-ZEROS");
  headers.emplace_back("NOTE");
  TextTable tensors(headers);
  Footnotes footnotes;
  for (const Group& group : groups) {
    const std::string ratio = group.worst_snr.has_value()
                                  ? absl::StrFormat("%.1f dB", *group.worst_snr)
                                  : "";
    std::vector<std::string> cells = {
        NameCell(group, all),
        absl::StrCat(group.count),
        group.shape,
        group.method,
        FormatByteSize(group.bytes_before),
        FormatByteSize(group.bytes_after),
        ErrorCell(group.worst_error),
        outputs ? ErrorCell(group.worst_output_error) : ratio};
    if (any_zeros) {
      cells.push_back(group.may_be_zero > 0
                          ? Percent(group.zeros / group.may_be_zero)
                          : "");
    }
    cells.push_back(footnotes.Mark(group.remark));
    tensors.Add(cells);
  }
  std::string text = tensors.Text() + footnotes.Text();
  if (any_zeros) {
    absl::StrAppend(&text,
                    "\nzeros of pruning are stored as other weights are: they "
                    "save no bytes\n");
  }
  return text;
}

// Bytes of each kind, as in the checkpoint and now; nothing where all are of
// one kind.
std::string KindsText(const v1::QuantizeReport& report) {
  constexpr std::pair<v1::TensorKind, const char*> kKinds[] = {
      {v1::TENSOR_KIND_LINEAR, "linear layers"},
      {v1::TENSOR_KIND_CONVOLUTION, "convolutions"},
      {v1::TENSOR_KIND_EMBEDDING, "embeddings"},
      {v1::TENSOR_KIND_HEAD, "heads"},
      {v1::TENSOR_KIND_VECTOR, kVectors},
      {v1::TENSOR_KIND_UNSPECIFIED, "others"},
  };
  TextTable table(
      {"BYTES BY KIND", "-TENSORS", "-CHECKPOINT", "-AFTER", "-SAVED"});
  int num_kinds = 0;
  for (const auto& [kind, name] : kKinds) {
    int64_t count = 0, before = 0, after = 0;
    for (const v1::TensorReport& tensor : report.tensors()) {
      if (tensor.kind() != kind || tensor.method().empty()) continue;
      ++count;
      before += tensor.bytes_before();
      after += tensor.bytes_after();
    }
    if (count == 0) continue;
    ++num_kinds;
    table.Add({name, absl::StrCat(count), Exact(before), Exact(after),
               Saved(before, after)});
  }
  if (num_kinds < 2) return "";
  table.Add({"together", "", Exact(report.checkpoint_bytes()),
             Exact(report.stored_bytes_after()),
             Percent(report.saved_ratio())});
  return table.Text();
}

// What a plan would save, by all ways to count it.
std::string FootprintsText(const v1::QuantizeReport& report) {
  TextTable table(
      {"COUNTED BY", "-CHECKPOINT", "-AFTER", "-SAVED", "WHICH COUNTS"});
  for (const v1::Footprint& footprint : report.footprints()) {
    table.Add({footprint.rule(), Exact(footprint.bytes_before()),
               Exact(footprint.bytes_after()), Percent(footprint.saved_ratio()),
               footprint.help()});
  }
  return table.Text();
}

std::string QualityText(const v1::DetectionQuality& quality) {
  TextTable table({"-PICTURES", "-FLOAT OBJECTS", "-AFTER", "-MATCHED",
                   "-SCORE DRIFT", "-BOX DRIFT"});
  const bool any = quality.matched() > 0;
  table.Add({absl::StrCat(quality.pictures()),
             absl::StrCat(quality.float_detections()),
             absl::StrCat(quality.quantized_detections()),
             absl::StrCat(quality.matched()),
             any ? absl::StrFormat("%.4f", quality.mean_score_drift()) : "",
             any ? absl::StrFormat("%.2f px", quality.mean_box_drift()) : ""});
  return table.Text();
}

// What was found, and how it was measured.
std::string PerplexityText(const v1::TextQuality& quality) {
  return absl::StrFormat(
      "perplexity %.4f, %.4f bits per byte\n"
      "%d of %d tokens count, in windows of %d, one every %d",
      quality.perplexity(), quality.bits_per_byte(), quality.counted_tokens(),
      quality.tokens(), quality.window(), quality.stride());
}

// Nothing if they were not compared with.
std::string FloatsText(const v1::TextQuality& quality) {
  if (!quality.has_floats()) return "";
  const v1::FloatComparison& floats = quality.floats();
  return absl::StrFormat(
      "floats: perplexity %.4f; KL divergence from them %.6f nats a token, "
      "the same token first %s of the time\n",
      floats.perplexity(), floats.mean_kl_divergence(),
      Percent(floats.top1_agreement()));
}

std::string CocoText(const v1::CocoAveragePrecision& coco) {
  const auto cell = [](bool given, double value) {
    return given ? Score(value) : "none";
  };
  TextTable table(
      {"-AP 0.50:0.95", "-AP 0.50", "-AP 0.75", "-SMALL", "-MEDIUM", "-LARGE"});
  table.Add({cell(coco.has_ap(), coco.ap()), cell(coco.has_ap50(), coco.ap50()),
             cell(coco.has_ap75(), coco.ap75()),
             cell(coco.has_ap_small(), coco.ap_small()),
             cell(coco.has_ap_medium(), coco.ap_medium()),
             cell(coco.has_ap_large(), coco.ap_large())});
  return absl::StrCat(table.Text(),
                      coco.absent_because().empty() ? "" : "none: ",
                      Printable(coco.absent_because(), 200),
                      coco.absent_because().empty() ? "" : "\n");
}

// What becomes of what, on the report's first line.
std::string HeaderText(const v1::QuantizeReport& report,
                       const std::string& source) {
  const std::string version =
      report.version() > 0 ? absl::StrCat("version ", report.version())
      : !report.refused().empty()
          ? "refused: nothing that is served has changed"
          : "dry run: nothing that is served has changed";
  if (report.model() != source) {
    return absl::StrFormat("%s -> %s: %s, %s, +%s in memory, %.2f s", source,
                           report.model(), InATable(report.method()), version,
                           FormatByteSize(report.resident_bytes_after()),
                           report.seconds());
  }
  return absl::StrFormat("%s: %s -> %s, %s, %.2f s", report.model(),
                         InATable(report.method_before()),
                         InATable(report.method()), version, report.seconds());
}

std::string SizesText(const v1::QuantizeReport& report,
                      const std::string& source) {
  constexpr char kStored[] = "stored (parameters and buffers)";
  constexpr char kInMemory[] = "in memory (packed)";
  const std::string in_memory = FormatByteSize(report.resident_bytes_after());
  const std::vector<std::string> against_checkpoint = {
      FormatByteSize(report.checkpoint_bytes()),
      FormatByteSize(report.stored_bytes_after()),
      Percent(report.saved_ratio())};
  const auto row = [](const char* name, std::vector<std::string> cells) {
    cells.insert(cells.begin(), name);
    return cells;
  };
  if (report.model() != source) {  // it replaces nothing
    TextTable table({"", "-CHECKPOINT", "-NEW", "-SAVED"});
    table.Add(row(kStored, against_checkpoint));
    table.Add({kInMemory, "", in_memory, ""});
    return table.Text();
  }
  TextTable table({"", "-BEFORE", "-AFTER", "-SAVED"});
  table.Add({kStored, FormatByteSize(report.stored_bytes_before()),
             FormatByteSize(report.stored_bytes_after()),
             Saved(report.stored_bytes_before(), report.stored_bytes_after())});
  table.Add(
      {kInMemory, FormatByteSize(report.resident_bytes_before()), in_memory,
       Saved(report.resident_bytes_before(), report.resident_bytes_after())});
  table.Add(row("stored, against the checkpoint", against_checkpoint));
  return table.Text();
}

void AppendParameter(const v1::MethodParameter& parameter, std::string* text) {
  std::string range;
  if (!parameter.choices().empty()) {
    range = absl::StrJoin(parameter.choices(), "|");
  } else if (parameter.has_min() && parameter.has_max()) {
    range = absl::StrCat(parameter.min(), " to ", parameter.max());
  } else if (parameter.has_lowest() && parameter.has_highest()) {
    range = absl::StrCat(parameter.lowest(), " to ", parameter.highest());
  }
  absl::StrAppend(text, "  ", parameter.name(), "=", parameter.default_value(),
                  range.empty() ? "" : absl::StrCat(" (", range, ")"), "  ",
                  parameter.help(), "\n");
}

// Of a method or a stage.
void AppendMethod(const v1::Method& method, std::string* text) {
  absl::StrAppend(text, method.name(), "  ", method.summary(), "\n");
  for (const v1::MethodParameter& parameter : method.parameters()) {
    AppendParameter(parameter, text);
  }
}

// "[######......]"
std::string BarAlone(int64_t done, int64_t total) {
  constexpr int64_t kWidth = 24;
  const double share = static_cast<double>(done) /
                       static_cast<double>(std::max<int64_t>(1, total));
  const int64_t filled = std::clamp<int64_t>(
      static_cast<int64_t>(static_cast<double>(kWidth) * share), 0, kWidth);
  return absl::StrCat("[", std::string(filled, '#'),
                      std::string(kWidth - filled, '.'), "]");
}

// "[######......] 1/2"
std::string Bar(int64_t done, int64_t total) {
  return absl::StrCat(BarAlone(done, total), " ", done, "/", total);
}

}  // namespace

std::string Percent(double ratio) {
  const std::string text = absl::StrFormat("%.2f%%", 100 * ratio);
  return ratio < 1 && text == "100.00%" ? "99.99%" : text;
}

std::string Printable(const std::string& text, int max_characters) {
  const auto moves = [](char32_t c) {
    return c < 0x20 || (c >= 0x7f && c < 0xa0) ||
           (c >= 0x2028 && c <= 0x202e) ||  // breaks and directions
           (c >= 0x2066 && c <= 0x2069);
  };
  absl::string_view left = text;
  std::string printable;
  for (int i = 0; !left.empty(); ++i) {
    if (i == max_characters) return printable + "...";
    const Utf8Sequence next = FirstUtf8Sequence({left.data(), left.size()});
    if (next.kind != Utf8Sequence::kWhole || moves(next.code_point)) {
      printable += "\xef\xbf\xbd";
    } else {
      absl::StrAppend(&printable, left.substr(0, next.length));
    }
    left.remove_prefix(next.length);
  }
  return printable;
}

std::string ModelsText(const v1::ListModelsResponse& response) {
  if (response.models().empty()) return kNoModels;
  const bool has_kv = std::any_of(
      response.models().begin(), response.models().end(),
      [](const v1::Model& model) { return model.kv_capacity_bytes() > 0; });
  TextTable service({"MODEL", "TASK", "STATE", "-VERSION", "METHOD", "COMPUTE",
                     "-RUNNING", "-QUEUED"});
  std::vector<std::string> headers = {"MODEL",   "-PARAMETERS", "-CHECKPOINT",
                                      "-STORED", "-SAVED",      "-IN MEMORY"};
  if (has_kv) headers.insert(headers.end(), {"-KV USED", "-KV LIMIT"});
  TextTable weights(headers);
  bool any_loaded = false;
  for (const v1::Model& model : response.models()) {
    service.Add({model.name(), TaskNames(model), StateName(model.state()),
                 absl::StrCat(model.version()), MethodText(model),
                 model.compute(), absl::StrCat(model.running_requests()),
                 absl::StrCat(model.queued_requests())});
    if (model.version() == 0) continue;
    any_loaded = true;
    std::vector<std::string> cells = {
        model.name(),
        absl::StrFormat("%.2f M",
                        static_cast<double>(model.parameters()) / 1e6),
        FormatByteSize(model.checkpoint_bytes()),
        FormatByteSize(model.stored_bytes()),
        Saved(model.checkpoint_bytes(), model.stored_bytes()),
        FormatByteSize(model.resident_bytes())};
    if (has_kv) {
      const bool kv = model.kv_capacity_bytes() > 0;
      cells.push_back(kv ? FormatByteSize(model.kv_used_bytes()) : "");
      cells.push_back(kv ? FormatByteSize(model.kv_capacity_bytes()) : "");
    }
    weights.Add(cells);
  }
  return absl::StrCat(service.Text(), any_loaded ? "\n" : "",
                      any_loaded ? weights.Text() : "");
}

std::string ServedModelsText(const v1::ListServedModelsResponse& response) {
  if (response.models().empty()) return kNoModels;
  TextTable table(
      {"MODEL", "TASK", "STATE", "-VERSION", "METHOD", "ARCHITECTURE"});
  for (const v1::ServedModel& model : response.models()) {
    table.Add({model.name(), TaskNames(model), StateName(model.state()),
               absl::StrCat(model.version()), model.method(),
               model.architecture()});
  }
  return table.Text();
}

std::string MethodsText(const v1::ListMethodsResponse& response) {
  std::string text;
  for (const v1::Method& method : response.methods()) {
    AppendMethod(method, &text);
  }
  if (!response.stages().empty()) {
    absl::StrAppend(
        &text,
        "\nstages, which stand before a method: ", response.stages(0).name(),
        "+",
        response.methods_size() > 0 ? response.methods(0).name() : "METHOD",
        "\n");
  }
  for (const v1::Method& stage : response.stages()) AppendMethod(stage, &text);
  if (!response.rule_keys().empty()) {
    absl::StrAppend(&text,
                    "\nkeys of a plan's rules, behind the parameters of a "
                    "method\n");
  }
  for (const v1::MethodParameter& key : response.rule_keys()) {
    AppendParameter(key, &text);
  }
  if (!response.save_formats().empty()) {
    absl::StrAppend(&text,
                    "\nformats of ounce save, the first that can hold a "
                    "model where none is asked for\n");
  }
  for (const v1::SaveFormat& format : response.save_formats()) {
    absl::StrAppend(&text, format.name(), "  ", format.summary(), "\n");
  }
  return text;
}

std::string SavedText(const v1::SaveModelReport& report) {
  std::string text = absl::StrFormat(
      "%s v%d (%s) saved in the format %s, %.1f s\n\n", report.model(),
      report.version(), Printable(report.plan(), 60), report.format(),
      report.seconds());
  TextTable table({"FILE", "-BYTES"});
  int64_t bytes = 0;
  for (const v1::SavedFile& file : report.files()) {
    table.Add({Printable(file.name(), 200), FormatByteSize(file.bytes())});
    bytes += file.bytes();
  }
  table.Add({"all", FormatByteSize(bytes)});
  const std::string folder = Printable(report.folder(), 4096);
  absl::StrAppend(&text, table.Text(), "\nin ", folder, "; ounce load NAME ",
                  ShellQuoted(folder), " serves it\n");
  return text;
}

std::string ReportText(const v1::QuantizeReport& report,
                       const std::string& source, bool all) {
  std::string text = absl::StrCat(HeaderText(report, source), "\n\n",
                                  SizesText(report, source), "\n");
  // Unless the header says it.
  if (!report.plan().empty() && report.plan() != InATable(report.method())) {
    absl::StrAppend(&text, "plan: ", Printable(report.plan(), kLongestPlan),
                    "\n\n");
  }
  if (report.has_quality()) {
    absl::StrAppend(&text, PerplexityText(report.quality()), "\n",
                    FloatsText(report.quality()), "\n");
  }
  if (report.has_detection()) {
    absl::StrAppend(&text, QualityText(report.detection()), "\n");
  }
  if (!report.refused().empty()) {
    absl::StrAppend(&text, Printable(report.refused(), 1000), "\n\n");
  }
  const std::vector<Group> groups = Groups(report, all);
  const std::string clamped = ClampedText(groups, all);
  if (!clamped.empty()) absl::StrAppend(&text, clamped, "\n");
  const bool is_dry_run = report.version() == 0;
  if (is_dry_run && !report.footprints().empty()) {
    absl::StrAppend(&text, FootprintsText(report), "\n");
  }
  const std::string kinds = KindsText(report);
  if (!kinds.empty()) absl::StrAppend(&text, kinds, "\n");
  return text + TensorsText(groups, all);
}

std::string DetectionsText(const v1::DetectObjectsResponse& response,
                           std::optional<float> threshold) {
  constexpr float kDefaultThreshold = 0.9f;  // inference.proto
  if (response.detections().empty()) {
    return absl::StrFormat("no objects with a score above %g\n",
                           threshold.value_or(kDefaultThreshold));
  }
  TextTable table({"LABEL", "-SCORE", "-X MIN", "-Y MIN", "-X MAX", "-Y MAX"});
  const auto pixels = [](float x) { return absl::StrFormat("%.1f", x); };
  for (const v1::Detection& detection : response.detections()) {
    const v1::BoundingBox& box = detection.box();
    table.Add({Printable(detection.label(), 60), Score(detection.score()),
               pixels(box.x_min()), pixels(box.y_min()), pixels(box.x_max()),
               pixels(box.y_max())});
  }
  return table.Text();
}

std::string DetectionUsageText(const std::string& model,
                               const v1::DetectObjectsResponse& response) {
  return absl::StrFormat(
      "[%dx%d pixels, %.0f ms decoding, %.0f ms in the model, %.0f ms waiting; "
      "%s v%d %s]",
      response.image_width(), response.image_height(),
      1e3 * response.decode_seconds(), 1e3 * response.model_seconds(),
      1e3 * response.queue_seconds(), model, response.model_version(),
      response.method());
}

std::string UsageText(const std::string& model,
                      const v1::GenerateResponse& last) {
  const v1::Usage& usage = last.usage();
  const double decoding =
      usage.total_seconds() - usage.time_to_first_token_seconds();
  std::string speed;
  // What is over sooner says nothing: one pause of a thread changes it
  // manyfold.
  constexpr double kLeastSeconds = 0.02;
  if (usage.new_tokens() > 1 && decoding >= kLeastSeconds) {
    speed = absl::StrFormat(
        "%.1f tok/s, ", static_cast<double>(usage.new_tokens() - 1) / decoding);
  }
  const char* reason =
      last.finish_reason() == v1::FINISH_REASON_EOS    ? "end of text"
      : last.finish_reason() == v1::FINISH_REASON_STOP ? "stop string"
                                                       : "length";
  // Nothing from servers that do not say it.
  const std::string cached =
      usage.cached_tokens() > 0
          ? absl::StrFormat(" (%d cached)", usage.cached_tokens())
          : "";
  const float temperature = last.sampling().temperature();
  const std::string drawn = !last.has_sampling() ? ""
                            : temperature > 0
                                ? absl::StrCat("; temperature ", temperature)
                                : "; greedy";
  return absl::StrFormat(
      "[%d prompt%s + %d new tokens, %sfirst after %.0f ms; %s v%d %s%s%s; %s]",
      usage.prompt_tokens(), cached, usage.new_tokens(), speed,
      1e3 * usage.time_to_first_token_seconds(), model, last.model_version(),
      last.method(), drawn,
      last.has_seed() ? absl::StrCat("; seed ", last.seed()) : "", reason);
}

std::string ProgressBar(const v1::QuantizeProgress& progress) {
  if (progress.stage() == v1::QUANTIZE_STAGE_EVALUATING) {
    return absl::StrCat(Bar(progress.samples_done(), progress.samples_total()),
                        " ", StageName(progress.stage()));
  }
  return absl::StrFormat(
      "%s %s %s", Bar(progress.tensors_done(), progress.tensors_total()),
      StageName(progress.stage()), Printable(progress.tensor(), 30));
}

std::string ProgressBar(const v1::EvaluateProgress& progress) {
  if (progress.pictures_total() > 0) {
    return absl::StrCat(
        Bar(progress.pictures_done(), progress.pictures_total()), " pictures");
  }
  return absl::StrCat(Bar(progress.tokens_done(), progress.tokens_total()),
                      " tokens");
}

std::string ProgressBar(const v1::SaveModelProgress& progress) {
  return absl::StrCat(BarAlone(progress.bytes_done(), progress.bytes_total()),
                      " ", FormatByteSize(progress.bytes_done()), " of ",
                      FormatByteSize(progress.bytes_total()), " ",
                      Printable(progress.tensor(), 30));
}

std::string EvaluationText(const v1::EvaluateReport& report) {
  if (report.has_detection()) {
    const v1::DetectionQuality& detection = report.detection();
    std::string text = absl::StrFormat(
        "%s v%d %s: %d pictures, %.1f s\n", report.model(), detection.version(),
        detection.method(), detection.pictures(), report.seconds());
    if (detection.has_coco()) {
      absl::StrAppend(&text, "\n", CocoText(detection.coco()));
    }
    if (detection.float_detections() > 0 || !detection.has_coco()) {
      absl::StrAppend(&text, "\n", QualityText(detection));
    }
    return text;
  }
  const v1::TextQuality& quality = report.quality();
  const v1::WorstToken& worst = quality.worst_token();
  return absl::StrCat(
      absl::StrFormat("%s v%d %s: ", report.model(), quality.version(),
                      quality.method()),
      PerplexityText(quality),
      absl::StrFormat(
          "; %s; %.1f s\n"
          "worst: '%s' at %d, with %.2f nats where the mean is %.4f\n",
          quality.bos().empty()
              ? "no special token before the text"
              : absl::StrCat(Printable(quality.bos(), 30), " before the text"),
          report.seconds(), Printable(absl::Utf8SafeCEscape(worst.token()), 40),
          worst.index(), worst.negative_log_likelihood(),
          quality.mean_negative_log_likelihood()),
      FloatsText(quality));
}

std::string StateName(v1::ModelState state) {
  switch (state) {
    case v1::MODEL_STATE_LOADING:
      return "loading";
    case v1::MODEL_STATE_READY:
      return "ready";
    case v1::MODEL_STATE_QUANTIZING:
      return "quantizing";
    case v1::MODEL_STATE_UNLOADING:
      return "unloading";
    default:
      return "unknown";
  }
}

std::string StageName(v1::QuantizeStage stage) {
  switch (stage) {
    case v1::QUANTIZE_STAGE_READING:
      return "reading";
    case v1::QUANTIZE_STAGE_WAITING:
      return "waiting for memory";
    case v1::QUANTIZE_STAGE_QUANTIZING:
      return "quantizing";
    case v1::QUANTIZE_STAGE_EVALUATING:
      return "evaluating";
    case v1::QUANTIZE_STAGE_SWAPPING:
      return "swapping";
    case v1::QUANTIZE_STAGE_DONE:
      return "done";
    default:
      return "";
  }
}

}  // namespace ounce::client
