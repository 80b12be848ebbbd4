#include "client/coco_annotations.h"

#include <cstdint>
#include <map>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/str_cat.h"

namespace ounce::client {
namespace {

using nlohmann::json;

// The list `key` of the file, empty if there is none.
const json& List(const json& file, const char* key) {
  static const json kNone = json::array();
  const auto found = file.find(key);
  return found == file.end() ? kNone : *found;
}

// Throws what nlohmann does where a field is missing or of another type.
std::vector<CocoImage> Read(const json& file) {
  std::map<int64_t, CocoImage> images;
  for (const json& image : List(file, "images")) {
    images[image.at("id").get<int64_t>()].file_name =
        image.at("file_name").get<std::string>();
  }
  std::map<int64_t, std::string> labels;
  for (const json& category : List(file, "categories")) {
    labels[category.at("id").get<int64_t>()] =
        category.at("name").get<std::string>();
  }
  for (const json& annotation : List(file, "annotations")) {
    const auto image = images.find(annotation.at("image_id").get<int64_t>());
    if (image == images.end()) continue;
    v1::AnnotatedObject object;
    object.set_label(labels.at(annotation.at("category_id").get<int64_t>()));
    const json& box = annotation.at("bbox");
    object.set_x(box.at(0).get<double>());
    object.set_y(box.at(1).get<double>());
    object.set_width(box.at(2).get<double>());
    object.set_height(box.at(3).get<double>());
    object.set_area(annotation.value("area", 0.0));
    object.set_crowd(annotation.value("iscrowd", 0) != 0);
    image->second.objects.push_back(std::move(object));
  }
  std::vector<CocoImage> result;
  result.reserve(images.size());
  for (auto& [id, image] : images) result.push_back(std::move(image));
  return result;
}

}  // namespace

absl::StatusOr<std::vector<CocoImage>> ParseCocoAnnotations(
    const std::string& name, const std::string& json_text) {
  const auto wrong = [&](const std::string& why) {
    return absl::InvalidArgumentError(absl::StrCat(
        name,
        ": must be a JSON file with the images, annotations and categories of "
        "COCO's instances: ",
        why));
  };
  const json file = json::parse(json_text, nullptr, /*allow_exceptions=*/false);
  if (!file.is_object()) return wrong("it is no JSON object");
  // The only way that nlohmann has to say which field is missing.
  try {
    std::vector<CocoImage> images = Read(file);
    if (images.empty()) return wrong("it has no images");
    return images;
  } catch (const json::exception& e) {
    return wrong(e.what());
  } catch (const std::out_of_range&) {
    return wrong("an annotation is of a category that is not listed");
  }
}

}  // namespace ounce::client
