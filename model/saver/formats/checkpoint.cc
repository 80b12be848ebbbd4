// The checkpoint's own files, byte by byte: of a model of which nothing has
// been changed, whatever its format is.
#include <filesystem>
#include <string>
#include <vector>

#include "base/status_macros.h"
#include "model/saver/save_format.h"
#include "nlohmann/json.hpp"

namespace ounce::model {
namespace {

struct Source {
  std::string path;
  std::string name;  // below the folder
  int64_t bytes = 0;
};

class Copies final : public WeightFiles {
 public:
  Copies(std::vector<Source> sources, std::optional<nlohmann::json> config)
      : sources_(std::move(sources)), config_(std::move(config)) {}

  int64_t bytes() const override {
    int64_t bytes = 0;
    for (const Source& source : sources_) bytes += source.bytes;
    return bytes;
  }
  std::optional<nlohmann::json> config() const override { return config_; }
  absl::Status Write(NewFolder& folder,
                     const SavedTensorDone& done) const override {
    for (const Source& source : sources_) {
      RETURN_IF_ERROR(folder.Copy(source.name, source.path,
                                  [&] { return done(source.name, 0); }));
      RETURN_IF_ERROR(done(source.name, source.bytes));
    }
    return absl::OkStatus();
  }

 private:
  const std::vector<Source> sources_;
  const std::optional<nlohmann::json> config_;
};

class CheckpointCopy final : public SaveFormat {
 public:
  std::string_view name() const override { return "checkpoint"; }
  std::string_view summary() const override {
    return "The checkpoint's own files; of models that are kept as it has "
           "them.";
  }

  absl::StatusOr<std::unique_ptr<const WeightFiles>> LayOut(
      const ModelToSave& model) const override {
    for (const StoredTensorView& tensor : model.tensors) {
      if (tensor.report->counted->kept) continue;
      return model.CannotHold(name(), tensor,
                              "it is not as the checkpoint has it");
    }
    namespace fs = std::filesystem;
    const fs::path root(model.checkpoint.folder());
    std::error_code error;
    const bool is_folder = fs::is_directory(root, error);
    std::vector<Source> sources;
    for (const std::string& path : model.checkpoint.files()) {
      const fs::path file(path);
      const std::string below = is_folder
                                    ? file.lexically_relative(root).string()
                                    : file.filename().string();
      const auto bytes = static_cast<int64_t>(fs::file_size(file, error));
      if (error) return absl::DataLossError(path + ": " + error.message());
      sources.push_back({path, below, bytes});
    }
    std::optional<nlohmann::json> config;
    if (is_folder) config = nlohmann::json::object();
    for (const char* index :
         {"model.safetensors.index.json", "pytorch_model.bin.index.json"}) {
      const fs::path path = root / index;
      if (sources.size() > 1 && is_folder && fs::exists(path, error)) {
        sources.push_back({path.string(), index,
                           static_cast<int64_t>(fs::file_size(path, error))});
      }
    }
    return std::make_unique<const Copies>(std::move(sources),
                                          std::move(config));
  }
};

}  // namespace

const SaveFormat& CheckpointSaveFormat() {
  static const CheckpointCopy format;
  return format;
}

}  // namespace ounce::model
