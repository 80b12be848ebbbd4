#include "model/saver/saver.h"

#include <algorithm>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <system_error>
#include <utility>

#include "base/status_macros.h"
#include "base/str_cat.h"
#include "model/files/gguf_file.h"
#include "model/loader/loader.h"
#include "model/saver/model_card.h"
#include "model/saver/new_folder.h"
#include "model/saver/save_format.h"
#include "nlohmann/json.hpp"

namespace ounce::model {
namespace {

using nlohmann::json;
namespace fs = std::filesystem;

// Of a config and a card.
constexpr int64_t kCardBytes = int64_t{1} << 20;

// A batch norm that is folded into codes stays in floats that are made of
// them, and no file could say so.
absl::Status CheckUnfolded(const Checkpoint& checkpoint,
                           const StoredTensorView& tensor) {
  const auto& stored = tensor.report->stored_as;
  if (!stored.has_value() || !tensor.is_float()) return absl::OkStatus();
  const TensorInfo& info = checkpoint.tensors().at(stored->tensor);
  if (info.coded == nullptr || !info.coded->folded) return absl::OkStatus();
  return absl::FailedPreconditionError(
      StrCat("tensor '", tensor.name(),
             "' is floats made of codes that have its batch norm folded in, "
             "which no format holds; keep its codes, or give it a method that "
             "makes codes"));
}

// Errors: kFailedPrecondition for a tensor that is stored twice, or that no
// file can say all of.
absl::StatusOr<ModelToSave> ModelOf(const Checkpoint& checkpoint,
                                    const LoadReport& report,
                                    const SaveOptions& options) {
  ModelToSave model = {.checkpoint = checkpoint,
                       .report = report,
                       .max_shard_bytes = options.max_shard_bytes,
                       .name = options.name};
  std::map<std::string, StoredTensorView> by_name;
  for (const TensorReport& tensor : report.tensors) {
    if (!tensor.counted.has_value()) continue;
    StoredTensorView view = {.report = &tensor, .spec = tensor.counted->spec};
    view.spec.stages.clear();
    ASSIGN_OR_RETURN(view.format, view.spec.Format(tensor.counted->rows,
                                                   tensor.counted->cols,
                                                   tensor.counted->dtype));
    RETURN_IF_ERROR(CheckUnfolded(checkpoint, view));
    if (!by_name.emplace(tensor.name, std::move(view)).second) {
      return absl::FailedPreconditionError(
          StrCat("tensor '", tensor.name,
                 "' is stored twice, once for each use of it, and a file has "
                 "it once; give both uses one method"));
    }
  }
  for (auto& [name, view] : by_name) model.tensors.push_back(std::move(view));
  return model;
}

absl::StatusOr<const SaveFormat*> FindFormat(const std::string& name) {
  std::string known;
  for (const SaveFormat* format : AllSaveFormats()) {
    if (format->name() == name) return format;
    StrAppend(&known, known.empty() ? "" : ", ", format->name());
  }
  return absl::InvalidArgumentError(
      StrCat("format must be one of ", known, ", is '", name, "'"));
}

// Files beside the weights come out of the checkpoint's folder, which a GGUF
// file does not have.
absl::Status CheckBeside(const ModelToSave& model, const SaveFormat& format,
                         const WeightFiles& files) {
  if (!files.config().has_value() || !IsGgufFile(model.checkpoint.folder())) {
    return absl::OkStatus();
  }
  return absl::FailedPreconditionError(
      StrCat("format '", format.name(),
             "' wants a folder with a config and a "
             "tokenizer, and those of ",
             model.checkpoint.folder(),
             " lie in it; save it as it is, with plan keep and the format "
             "'checkpoint'"));
}

absl::StatusOr<std::unique_ptr<const WeightFiles>> LayOut(
    const ModelToSave& model, const SaveFormat& format) {
  ASSIGN_OR_RETURN(auto files, format.LayOut(model));
  RETURN_IF_ERROR(CheckBeside(model, format, *files));
  return files;
}

struct Chosen {
  const SaveFormat* format = nullptr;
  std::unique_ptr<const WeightFiles> files;
};

absl::StatusOr<Chosen> Choose(const ModelToSave& model,
                              const std::string& name) {
  if (!name.empty()) {
    ASSIGN_OR_RETURN(const SaveFormat* format, FindFormat(name));
    ASSIGN_OR_RETURN(auto files, LayOut(model, *format));
    return Chosen{format, std::move(files)};
  }
  absl::Status last;
  for (const SaveFormat* format : AllSaveFormats()) {
    auto files = LayOut(model, *format);
    if (files.ok()) return Chosen{format, *std::move(files)};
    last = files.status();
    if (last.code() != absl::StatusCode::kFailedPrecondition) break;
  }
  return last;
}

// `is_copy`: codes are as they were, and so is what says how they were made.
bool IsCarriedAlong(const fs::path& file, bool is_copy) {
  const std::string name = file.filename().string();
  if (name == "config.json" || name.ends_with(".index.json")) return false;
  for (const char* made_by : {"quantize_config.json", "quant_config.json",
                              "quantization_config.json"}) {
    if (name == made_by) return is_copy;
  }
  const std::string extension = file.extension().string();
  for (const char* wanted : {".json", ".txt", ".model", ".jinja"}) {
    if (extension == wanted) return true;
  }
  return name.starts_with("LICENSE");
}

// Names below `source`, of files in it and of chat templates beside the first.
absl::StatusOr<std::vector<std::string>> FilesBeside(const fs::path& source,
                                                     bool is_copy) {
  std::vector<std::string> names;
  for (const char* below : {"", "additional_chat_templates"}) {
    std::error_code error;
    const fs::path folder = source / below;
    if (*below != '\0' && !fs::is_directory(folder, error)) continue;
    for (fs::directory_iterator it(folder, error), end; !error && it != end;
         it.increment(error)) {
      std::error_code unknown;
      if (!it->is_regular_file(unknown) ||
          !IsCarriedAlong(it->path(), is_copy)) {
        continue;
      }
      names.push_back((fs::path(below) / it->path().filename()).string());
    }
    if (error) {
      return absl::DataLossError(
          StrCat(folder.string(), ": cannot be listed: ", error.message()));
    }
  }
  return names;
}

// Bytes of what is carried along.
int64_t BytesBeside(const fs::path& source,
                    const std::vector<std::string>& names) {
  int64_t bytes = 0;
  for (const std::string& name : names) {
    std::error_code unknown;
    const auto size = fs::file_size(source / name, unknown);
    if (!unknown) bytes += static_cast<int64_t>(size);
  }
  return bytes;
}

// Config, tokenizer and what else lies beside the weights.
absl::Status WriteBeside(const ModelToSave& model, const json& changes,
                         const std::vector<std::string>& names,
                         NewFolder& folder) {
  const fs::path source(model.checkpoint.folder());
  if (changes.empty()) {
    RETURN_IF_ERROR(folder.Copy("config.json", source / "config.json"));
  } else {
    json config = model.checkpoint.config();
    config.erase("quantization_config");
    for (const auto& [key, value] : changes.items()) {
      if (value.is_null()) {
        config.erase(key);
      } else {
        config[key] = value;
      }
    }
    RETURN_IF_ERROR(folder.Write("config.json", config.dump(2) + "\n"));
  }
  for (const std::string& name : names) {
    RETURN_IF_ERROR(folder.Copy(name, source / name));
  }
  return absl::OkStatus();
}

// Where the two names of a weight are stored apart, config.json must not tie
// them.
void Untie(const ModelToSave& model, json& changes) {
  for (const StoredTensorView& tensor : model.tensors) {
    if (tensor.report->counted->is_second) {
      changes["tie_word_embeddings"] = false;
    }
  }
}

absl::StatusOr<std::vector<SavedFile>> ListFiles(const fs::path& folder) {
  std::vector<SavedFile> files;
  std::error_code error;
  for (fs::recursive_directory_iterator it(folder, error), end;
       !error && it != end; it.increment(error)) {
    if (!it->is_regular_file(error)) continue;
    files.push_back({it->path().lexically_relative(folder).string(),
                     static_cast<int64_t>(it->file_size(error))});
  }
  if (error) {
    return absl::DataLossError(
        StrCat(folder.string(), ": cannot be listed: ", error.message()));
  }
  std::sort(
      files.begin(), files.end(),
      [](const SavedFile& a, const SavedFile& b) { return a.name < b.name; });
  return files;
}

}  // namespace

std::vector<SaveFormatInfo> SaveFormats() {
  std::vector<SaveFormatInfo> formats;
  for (const SaveFormat* format : AllSaveFormats()) {
    formats.push_back({format->name(), format->summary()});
  }
  return formats;
}

absl::StatusOr<SaveReport> SaveModel(const Checkpoint& checkpoint,
                                     const SaveOptions& options) {
  LoadOptions load;
  load.plan = options.plan;
  ASSIGN_OR_RETURN(const ModelPlan plan, PlanModel(checkpoint, load));
  ASSIGN_OR_RETURN(const ModelToSave model,
                   ModelOf(checkpoint, plan.report, options));
  ASSIGN_OR_RETURN(const Chosen chosen, Choose(model, options.format));
  SaveProgress progress = {.bytes_total = chosen.files->bytes()};
  std::optional<json> changes = chosen.files->config();
  std::vector<std::string> beside;
  if (changes.has_value()) {
    ASSIGN_OR_RETURN(beside,
                     FilesBeside(checkpoint.folder(), changes->empty()));
  }
  ASSIGN_OR_RETURN(
      const auto folder,
      NewFolder::Make(options.folder,
                      progress.bytes_total + kCardBytes +
                          BytesBeside(checkpoint.folder(), beside)));
  const auto done = [&](const std::string& name, int64_t bytes) {
    progress.bytes_done += bytes;
    progress.tensor = name;
    return options.progress ? options.progress(progress) : absl::OkStatus();
  };
  RETURN_IF_ERROR(chosen.files->Write(*folder, done));
  if (changes.has_value()) {
    Untie(model, *changes);
    RETURN_IF_ERROR(WriteBeside(model, *changes, beside, *folder));
  }
  RETURN_IF_ERROR(folder->Write(
      "README.md",
      ModelCard(model, options, *chosen.format, progress.bytes_total)));
  SaveReport report = {.format = std::string(chosen.format->name()),
                       .weight_bytes = progress.bytes_total};
  ASSIGN_OR_RETURN(report.files, ListFiles(folder->hidden_path()));
  if (options.check) RETURN_IF_ERROR(options.check());
  RETURN_IF_ERROR(folder->Finish());
  return report;
}

}  // namespace ounce::model
