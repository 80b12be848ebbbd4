#include "model/processors/image_processor.h"

#include <algorithm>
#include <filesystem>
#include <system_error>

#include "base/status_macros.h"
#include "base/str_cat.h"
#include "model/files/json_file.h"

namespace ounce::model {

#define IMAGE_PROCESSOR(function, name) const ImageProcessorKind& function();
#include "model/processors/image_processors.def"
#undef IMAGE_PROCESSOR

absl::Span<const ImageProcessorKind* const> AllImageProcessors() {
  static const ImageProcessorKind* const kKinds[] = {
#define IMAGE_PROCESSOR(function, name) &function(),
#include "model/processors/image_processors.def"
#undef IMAGE_PROCESSOR
  };
  return kKinds;
}

namespace {

using nlohmann::json;

const ImageProcessorKind* FindKind(const json& config,
                                   std::string_view model_type) {
  for (const char* key : {"image_processor_type", "feature_extractor_type"}) {
    const auto type = config.find(key);
    if (type == config.end() || !type->is_string()) continue;
    const std::string_view name = type->get_ref<const std::string&>();
    for (const ImageProcessorKind* kind : AllImageProcessors()) {
      if (std::find(kind->types.begin(), kind->types.end(), name) !=
          kind->types.end()) {
        return kind;
      }
    }
  }
  for (const ImageProcessorKind* kind : AllImageProcessors()) {
    if (kind->model_type == model_type) return kind;
  }
  return nullptr;
}

}  // namespace

absl::StatusOr<std::shared_ptr<const ImageProcessor>> LoadImageProcessor(
    const std::string& folder, std::string_view model_type) {
  const std::string path = folder + "/preprocessor_config.json";
  json config = json::object();
  if (std::error_code ignored; std::filesystem::exists(path, ignored)) {
    ASSIGN_OR_RETURN(config, ReadJsonObject(path));
  }
  const ImageProcessorKind* kind = FindKind(config, model_type);
  if (kind == nullptr) {
    return absl::UnimplementedError(
        StrCat(path, ": no image processor is known for models of the type '",
               model_type, "'"));
  }
  auto processor = kind->make(config);
  RETURN_IF_ERROR(WithContext(processor.status(), path));
  return processor;
}

}  // namespace ounce::model
