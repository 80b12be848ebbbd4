#include "server/engine/save_card.h"

#include <filesystem>
#include <string_view>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_replace.h"
#include "base/shell_quoted.h"

namespace ounce::server {
namespace {

// Text that somebody chose, which is to stay what it is in Markdown.
std::string Cell(const std::string& text) {
  return absl::StrReplaceAll(text, {{"\\", "\\\\"},
                                    {"|", "\\|"},
                                    {"`", "\\`"},
                                    {"*", "\\*"},
                                    {"_", "\\_"},
                                    {"[", "\\["},
                                    {"<", "&lt;"},
                                    {"&", "&amp;"}});
}

class Table {
 public:
  Table() : text_("| Figure | Value |\n|---|---:|\n") {}
  void Add(std::string_view figure, const std::string& value) {
    absl::StrAppend(&text_, "| ", std::string(figure), " | ", value, " |\n");
  }
  std::string Take() && { return std::move(text_); }

 private:
  std::string text_;
};

std::string Commands(const ModelInfo& info, const std::string& evaluate) {
  std::string name = CardName(info);
  if (!IsModelName(name)) name = "MODEL";
  return absl::StrCat("\nTo measure it again:\n\n```\nounce load ", name,
                      " CHECKPOINT --plan ", ShellQuoted(info.plan),
                      "\nounce evaluate ", name, evaluate, "\n```\n");
}

std::string Section(const ModelInfo& info, const TextQuality& quality) {
  Table table;
  table.Add("Text",
            quality.text_name.empty() ? "not named" : Cell(quality.text_name));
  table.Add("Window and stride, tokens",
            absl::StrCat(quality.window, " and ", quality.stride));
  table.Add("Tokens, and of them counted",
            absl::StrCat(quality.tokens, ", ", quality.counted_tokens));
  table.Add("Perplexity", absl::StrFormat("%.4f", quality.perplexity));
  table.Add("Bits per byte", absl::StrFormat("%.4f", quality.bits_per_byte));
  if (quality.floats.has_value()) {
    table.Add("Perplexity of the checkpoint's floats",
              absl::StrFormat("%.4f", quality.floats->float_perplexity));
    table.Add("KL divergence from them, nats a token",
              absl::StrFormat("%.3g", quality.floats->mean_kl_divergence));
    table.Add("Same token most likely",
              absl::StrFormat("%.2f%%", 100 * quality.floats->top1_agreement));
  }
  return absl::StrCat(
      std::move(table).Take(),
      "\nThe text goes through the model in windows that overlap; of each but "
      "the "
      "first its last tokens count, as many as the stride has.\n",
      Commands(info,
               absl::StrFormat(" --text FILE --window %d --stride %d%s",
                               quality.window, quality.stride,
                               quality.floats.has_value() ? " --floats" : "")));
}

std::string Section(const ModelInfo& info, const DetectionQuality& quality) {
  Table table;
  table.Add("Pictures", absl::StrCat(quality.pictures));
  if (quality.coco.has_value() && quality.coco->ap >= 0) {
    table.Add("COCO's average precision, 0.50 to 0.95",
              absl::StrFormat("%.4f", quality.coco->ap));
    table.Add("At 0.50", absl::StrFormat("%.4f", quality.coco->ap50));
    table.Add("At 0.75", absl::StrFormat("%.4f", quality.coco->ap75));
  }
  if (quality.float_detections > 0) {
    table.Add("Objects that the checkpoint's floats find",
              absl::StrCat(quality.float_detections));
    table.Add("Of them found too", absl::StrCat(quality.matched));
  }
  if (quality.matched > 0) {
    table.Add("Mean drift of their scores",
              absl::StrFormat("%.4f", quality.mean_score_drift));
    table.Add("Mean drift of their boxes, pixels",
              absl::StrFormat("%.2f", quality.mean_box_drift));
  }
  return absl::StrCat(
      std::move(table).Take(),
      Commands(
          info,
          absl::StrCat(" --pictures DIR",
                       quality.coco.has_value() ? " --annotations FILE" : "",
                       quality.coco.has_value() && quality.float_detections > 0
                           ? " --floats"
                           : "")));
}

}  // namespace

std::string CardName(const ModelInfo& info) {
  std::filesystem::path path = info.path;
  if (path.filename().empty()) path = path.parent_path();
  std::string name = path.filename().string();
  name = name.substr(0, name.find('@'));  // a revision
  return name.empty() || name.starts_with('.') ? info.name : name;
}

std::vector<model::CardSection> QualitySections(const ModelInfo& info) {
  std::vector<model::CardSection> sections;
  if (info.quality.has_value()) {
    sections.push_back({"Quality", Section(info, *info.quality)});
  }
  if (info.detection.has_value()) {
    sections.push_back({"Quality", Section(info, *info.detection)});
  }
  return sections;
}

}  // namespace ounce::server
