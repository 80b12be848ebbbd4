#include "client/report.h"

#include <algorithm>
#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "base/byte_size.h"
#include "base/text_table.h"

namespace ounce::client {
namespace {

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

std::string Percent(double ratio) {
  return absl::StrFormat("%.2f %%", 100 * ratio);
}

std::string Saved(int64_t before, int64_t after) {
  if (before <= 0) return "";
  return Percent(1 - static_cast<double>(after) / static_cast<double>(before));
}

// "transformer.h.11.attn.weight" -> "transformer.h.*.attn.weight".
std::string Kind(const std::string& name) {
  std::vector<std::string> parts;
  std::string part;
  const auto end_part = [&] {
    const bool number =
        !part.empty() && std::all_of(part.begin(), part.end(), [](char c) {
          return absl::ascii_isdigit(c);
        });
    parts.push_back(number ? "*" : part);
    part.clear();
  };
  for (const char c : name) {
    if (c == '.') {
      end_part();
    } else {
      part += c;
    }
  }
  end_part();
  return absl::StrJoin(parts, ".");
}

// A line of the tensor table: one tensor, or several of a kind.
struct Group {
  std::string name;
  std::string shape;
  std::string method;
  std::string left_alone;
  int64_t count = 0;
  int64_t bytes_before = 0;
  int64_t bytes_after = 0;
  std::optional<double> worst_error = std::nullopt;
  std::optional<double> worst_snr = std::nullopt;
};

std::vector<Group> Groups(const v1::QuantizeReport& report, bool all) {
  std::vector<Group> groups;
  for (const v1::TensorReport& tensor : report.tensors()) {
    const std::string name = all ? tensor.name() : Kind(tensor.name());
    const std::string shape = absl::StrJoin(tensor.shape(), "x");
    auto group =
        std::find_if(groups.begin(), groups.end(), [&](const Group& other) {
          return !all && other.name == name && other.shape == shape &&
                 other.method == tensor.method() &&
                 other.left_alone == tensor.left_alone();
        });
    if (group == groups.end()) {
      groups.push_back({.name = name,
                        .shape = shape,
                        .method = tensor.method(),
                        .left_alone = tensor.left_alone()});
      group = groups.end() - 1;
    }
    ++group->count;
    group->bytes_before += tensor.bytes_before();
    group->bytes_after += tensor.bytes_after();
    if (tensor.has_relative_l2_error()) {
      group->worst_error =
          std::max(group->worst_error.value_or(0), tensor.relative_l2_error());
    }
    if (tensor.has_snr_db()) {
      group->worst_snr = group->worst_snr.has_value()
                             ? std::min(*group->worst_snr, tensor.snr_db())
                             : tensor.snr_db();
    }
  }
  return groups;
}

}  // namespace

std::string ShortSpec(const std::string& spec,
                      const v1::ListMethodsResponse& methods) {
  const std::pair<std::string, std::string> parts =
      absl::StrSplit(spec, absl::MaxSplits(':', 1));
  // Clang 14 can't capture a structured binding.
  const std::string& name = parts.first;
  const std::string& parameters = parts.second;
  const auto method = std::find_if(
      methods.methods().begin(), methods.methods().end(),
      [&](const v1::Method& known) { return known.name() == name; });
  if (method == methods.methods().end()) return spec;
  std::vector<std::string> shown;
  for (const absl::string_view parameter :
       absl::StrSplit(parameters, ',', absl::SkipEmpty())) {
    const bool is_default =
        std::any_of(method->parameters().begin(), method->parameters().end(),
                    [&](const v1::MethodParameter& known) {
                      return parameter == absl::StrCat(known.name(), "=",
                                                       known.default_value());
                    });
    if (!is_default) shown.emplace_back(parameter);
  }
  return absl::StrCat(name, shown.empty() ? "" : ":",
                      absl::StrJoin(shown, ","));
}

std::string ModelsText(const v1::ListModelsResponse& response,
                       const v1::ListMethodsResponse& methods) {
  if (response.models().empty()) return "no models\n";
  TextTable table({"MODEL", "STATE", "-VERSION", "METHOD", "-PARAMETERS",
                   "-CHECKPOINT", "-STORED", "-SAVED", "-IN MEMORY", "-KV USED",
                   "-RUNNING", "-QUEUED"});
  for (const v1::Model& model : response.models()) {
    const bool loaded = model.version() > 0;
    table.Add(
        {model.name(), StateName(model.state()), absl::StrCat(model.version()),
         ShortSpec(model.method(), methods),
         loaded ? absl::StrFormat("%.2f M",
                                  static_cast<double>(model.parameters()) / 1e6)
                : "",
         loaded ? FormatByteSize(model.checkpoint_bytes()) : "",
         loaded ? FormatByteSize(model.stored_bytes()) : "",
         loaded ? Saved(model.checkpoint_bytes(), model.stored_bytes()) : "",
         loaded ? FormatByteSize(model.resident_bytes()) : "",
         loaded ? FormatByteSize(model.kv_used_bytes()) : "",
         absl::StrCat(model.running_requests()),
         absl::StrCat(model.queued_requests())});
  }
  return table.Text();
}

std::string MethodsText(const v1::ListMethodsResponse& response) {
  std::string text;
  for (const v1::Method& method : response.methods()) {
    absl::StrAppend(&text, method.name(), "  ", method.summary(), "\n");
    for (const v1::MethodParameter& parameter : method.parameters()) {
      std::string range;
      if (!parameter.choices().empty()) {
        range = absl::StrJoin(parameter.choices(), "|");
      } else if (parameter.has_min() && parameter.has_max()) {
        range = absl::StrCat(parameter.min(), " to ", parameter.max());
      }
      absl::StrAppend(&text, "  ", parameter.name(), "=",
                      parameter.default_value(),
                      range.empty() ? "" : absl::StrCat(" (", range, ")"), "  ",
                      parameter.help(), "\n");
    }
  }
  return text;
}

std::string ReportText(const v1::QuantizeReport& report,
                       const v1::ListMethodsResponse& methods, bool all) {
  std::string text = absl::StrFormat(
      "%s: %s -> %s, %s, %.2f s\n\n", report.model(), report.method_before(),
      report.method(),
      report.version() > 0 ? absl::StrCat("version ", report.version())
                           : "dry run, nothing served has changed",
      report.seconds());
  TextTable sizes({"", "-BEFORE", "-AFTER", "-SAVED"});
  sizes.Add({"stored (parameters and buffers)",
             FormatByteSize(report.stored_bytes_before()),
             FormatByteSize(report.stored_bytes_after()),
             Saved(report.stored_bytes_before(), report.stored_bytes_after())});
  sizes.Add(
      {"in memory (packed)", FormatByteSize(report.resident_bytes_before()),
       FormatByteSize(report.resident_bytes_after()),
       Saved(report.resident_bytes_before(), report.resident_bytes_after())});
  sizes.Add({"stored, against the checkpoint",
             FormatByteSize(report.checkpoint_bytes()),
             FormatByteSize(report.stored_bytes_after()),
             Percent(report.saved_ratio())});
  absl::StrAppend(&text, sizes.Text(), "\n");

  TextTable tensors({all ? "TENSOR" : "TENSORS", "-COUNT", "SHAPE", "METHOD",
                     "-BEFORE", "-AFTER", all ? "-ERROR" : "-WORST ERROR",
                     all ? "-SNR" : "-WORST SNR", "LEFT ALONE"});
  std::vector<std::string> reasons;
  const auto note = [&](const std::string& reason) -> std::string {
    if (reason.empty()) return "";
    auto found = std::find(reasons.begin(), reasons.end(), reason);
    if (found == reasons.end()) found = reasons.insert(found, reason);
    return absl::StrCat("[", found - reasons.begin() + 1, "]");
  };
  for (const Group& group : Groups(report, all)) {
    tensors.Add({group.name, absl::StrCat(group.count), group.shape,
                 ShortSpec(group.method, methods),
                 FormatByteSize(group.bytes_before),
                 FormatByteSize(group.bytes_after),
                 group.worst_error.has_value()
                     ? absl::StrFormat("%.5f", *group.worst_error)
                     : "",
                 group.worst_snr.has_value()
                     ? absl::StrFormat("%.1f dB", *group.worst_snr)
                     : "",
                 note(group.left_alone)});
  }
  absl::StrAppend(&text, tensors.Text(), reasons.empty() ? "" : "\n");
  for (size_t i = 0; i < reasons.size(); ++i) {
    absl::StrAppend(&text, "[", i + 1, "] ", reasons[i], "\n");
  }
  return text;
}

std::string UsageText(const std::string& model,
                      const v1::GenerateResponse& last) {
  const v1::Usage& usage = last.usage();
  const double decoding =
      usage.total_seconds() - usage.time_to_first_token_seconds();
  std::string speed;
  if (usage.new_tokens() > 1 && decoding > 0) {
    speed = absl::StrFormat(
        "%.1f tok/s, ", static_cast<double>(usage.new_tokens() - 1) / decoding);
  }
  const char* reason =
      last.finish_reason() == v1::FINISH_REASON_EOS    ? "end of text"
      : last.finish_reason() == v1::FINISH_REASON_STOP ? "stop string"
                                                       : "length";
  return absl::StrFormat(
      "[%d prompt + %d new tokens, %sfirst after %.0f ms; %s v%d %s; %s]",
      usage.prompt_tokens(), usage.new_tokens(), speed,
      1e3 * usage.time_to_first_token_seconds(), model, last.model_version(),
      last.method().substr(0, last.method().find(':')), reason);
}

std::string ProgressBar(const v1::QuantizeProgress& progress) {
  constexpr int64_t kWidth = 24;
  const int64_t total = std::max<int64_t>(1, progress.tensors_total());
  const int64_t filled =
      std::clamp<int64_t>(kWidth * progress.tensors_done() / total, 0, kWidth);
  return absl::StrFormat("[%s%s] %d/%d %s %.30s", std::string(filled, '#'),
                         std::string(kWidth - filled, '.'),
                         progress.tensors_done(), progress.tensors_total(),
                         StageName(progress.stage()), progress.tensor());
}

std::string StageName(v1::QuantizeStage stage) {
  switch (stage) {
    case v1::QUANTIZE_STAGE_READING:
      return "reading";
    case v1::QUANTIZE_STAGE_QUANTIZING:
      return "quantizing";
    case v1::QUANTIZE_STAGE_SWAPPING:
      return "swapping";
    case v1::QUANTIZE_STAGE_DONE:
      return "done";
    default:
      return "";
  }
}

}  // namespace ounce::client
