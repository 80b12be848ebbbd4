#include "model/saver/model_card.h"

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <fstream>
#include <iterator>
#include <map>
#include <utility>

#include "base/byte_size.h"
#include "base/shell_quoted.h"
#include "base/str_cat.h"

namespace ounce::model {
namespace {

struct Row {
  int64_t tensors = 0;
  int64_t elements = 0;
  int64_t before = 0;
  int64_t after = 0;
};

std::string BitsPerWeight(const Row& row) {
  char text[32];
  std::snprintf(
      text, sizeof text, "%.2f",
      8.0 * static_cast<double>(row.after) / static_cast<double>(row.elements));
  return text;
}

std::string_view RoleOf(const TensorReport& tensor) {
  return tensor.is_vector ? "norms and biases" : RoleName(tensor.role);
}

std::string MethodTable(const ModelToSave& model) {
  std::map<std::pair<std::string, std::string>, Row> rows;
  for (const StoredTensorView& tensor : model.tensors) {
    const TensorReport& report = *tensor.report;
    Row& row = rows[{std::string(RoleOf(report)), report.method}];
    ++row.tensors;
    row.elements += tensor.rows() * tensor.cols();
    row.before += report.checkpoint_bytes;
    row.after += report.stored_bytes;
  }
  std::string text =
      "| Weights | Stored as | Tensors | Checkpoint | Here | Bits per weight "
      "|\n|---|---|---:|---:|---:|---:|\n";
  Row all;
  for (const auto& [key, row] : rows) {
    StrAppend(&text, "| ", key.first, " | `", key.second, "` | ", row.tensors,
              " | ", FormatByteSize(row.before), " | ",
              FormatByteSize(row.after), " | ", BitsPerWeight(row), " |\n");
    all.tensors += row.tensors;
    all.elements += row.elements;
    all.before += row.before;
    all.after += row.after;
  }
  StrAppend(&text, "| **all** | | ", all.tensors, " | ",
            FormatByteSize(all.before), " | ", FormatByteSize(all.after), " | ",
            BitsPerWeight(all), " |\n");
  return text;
}

// Whether a name, which may be anything, means itself in Markdown and in a
// shell.
bool IsPlain(std::string_view name) {
  return !name.empty() && name[0] != '-' &&
         name.find_first_not_of(
             "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
             "abcdefghijklmnopqrstuvwxyz0123456789-.:/") ==
             std::string_view::npos;
}

// Of the YAML in front of another card: what is as true of this one.
std::string KeptLines(const std::string& path) {
  constexpr size_t kMostBytes = 1 << 20;
  constexpr std::string_view kKept[] = {
      "license:",      "license_name:", "license_link:", "language:",
      "pipeline_tag:", "library_name:", "base_model:"};
  std::ifstream file(path);
  std::string line, kept;
  if (!std::getline(file, line) || line != "---") return "";
  bool keeps = false;
  while (std::getline(file, line) && line != "---") {
    const bool goes_on = line.starts_with(" ") || line.starts_with("-");
    keeps = goes_on ? keeps
                    : std::any_of(std::begin(kKept), std::end(kKept),
                                  [&](std::string_view key) {
                                    return line.starts_with(key);
                                  });
    if (keeps) StrAppend(&kept, line, "\n");
    if (kept.size() > kMostBytes) return "";
  }
  return file ? kept : "";  // no end: no YAML
}

bool IsQuantized(const ModelToSave& model) {
  return std::any_of(model.tensors.begin(), model.tensors.end(),
                     [](const auto& tensor) { return !tensor.is_float(); });
}

}  // namespace

std::string ModelCard(const ModelToSave& model, const SaveOptions& options,
                      const SaveFormat& format, int64_t weight_bytes) {
  const std::string& plan = model.report.plan;
  std::string card =
      StrCat("---\n", KeptLines(model.checkpoint.folder() + "/README.md"),
             "tags:\n- ounce\n", IsQuantized(model) ? "- quantized\n" : "",
             "---\n\n# ", IsPlain(options.name) ? options.name : "A model",
             ", stored as `", model.report.method, "`\n\n");
  StrAppend(&card, "Written by Ounce in the format `", format.name(),
            "`: ", format.summary(), "\n\n## Bytes\n\n", MethodTable(model),
            "\n");
  StrAppend(&card,
            "Bytes are those of codes and scales as Ounce serves them, tied "
            "weights once. The files of weights take ",
            weight_bytes, " bytes in this format.\n\n");
  for (const CardSection& section : options.sections) {
    StrAppend(&card, "## ", section.heading, "\n\n", section.markdown, "\n\n");
  }
  StrAppend(
      &card,
      "## Use\n\n`ounce load NAME FOLDER` serves it, under a name of your "
      "choice, from the folder that it lies in.\n\n## Again\n\nOf the "
      "checkpoint that it was made of:\n\n```\nounce load NAME CHECKPOINT "
      "--plan ",
      ShellQuoted(plan), "\nounce save NAME FOLDER --format ", format.name(),
      "\n```\n");
  return card;
}

}  // namespace ounce::model
