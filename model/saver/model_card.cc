#include "model/saver/model_card.h"

#include <cstdint>
#include <cstdio>
#include <map>
#include <utility>

#include "base/byte_size.h"
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

}  // namespace

std::string ModelCard(const ModelToSave& model, const SaveOptions& options,
                      const SaveFormat& format) {
  const std::string name = IsPlain(options.name) ? options.name : "";
  const std::string& plan = model.report.plan;
  std::string card = StrCat("---\ntags:\n- ounce\n- quantized\n---\n\n# ",
                            name.empty() ? "A model" : name, ", stored as `",
                            model.report.method, "`\n\n");
  StrAppend(&card, "Written by Ounce in the format `", format.name(),
            "`: ", format.summary(), "\n\n## Bytes\n\n", MethodTable(model),
            "\n");
  StrAppend(&card,
            "Bytes are those of the weights in a file, scales included, tied "
            "ones once.\n\n");
  for (const CardSection& section : options.sections) {
    StrAppend(&card, "## ", section.heading, "\n\n", section.markdown, "\n\n");
  }
  StrAppend(&card, "## Again\n\n```\nounce quantize ",
            name.empty() ? "MODEL" : name, " --plan '", plan, "'\nounce save ",
            name.empty() ? "MODEL" : name, " FOLDER --format ", format.name(),
            "\n```\n");
  return card;
}

}  // namespace ounce::model
