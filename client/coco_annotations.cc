#include "client/coco_annotations.h"

#include <cmath>
#include <cstddef>
#include <map>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "base/status_macros.h"

namespace ounce::client {
namespace {

using nlohmann::json;

// What is there instead of what must be, in few characters.
std::string Found(const json& value) {
  constexpr size_t kMost = 60;
  const std::string text = value.dump(-1, ' ', /*ensure_ascii=*/true,
                                      json::error_handler_t::replace);
  return text.size() <= kMost ? text : text.substr(0, kMost) + "...";
}

// Entry `index` of the list `list` of the file.
class Entry {
 public:
  Entry(const char* list, size_t index, const json& value)
      : list_(list), index_(index), value_(value) {}

  absl::StatusOr<int64_t> Id(const char* key) const {
    ASSIGN_OR_RETURN(const json* value, Field(key, "a whole number"));
    if (value->is_number_integer()) return value->get<int64_t>();
    if (value->is_number_float()) {  // as some tools write them
      constexpr double kExact = int64_t{1} << 53;
      const auto number = value->get<double>();
      if (std::abs(number) < kExact && number == std::floor(number)) {
        return static_cast<int64_t>(number);
      }
    }
    return Wrong(key, "a whole number", Found(*value));
  }

  absl::StatusOr<std::string> Text(const char* key) const {
    ASSIGN_OR_RETURN(const json* value, Field(key, "a text"));
    if (value->is_string()) return value->get<std::string>();
    return Wrong(key, "a text", Found(*value));
  }

  // 0 if it is not there.
  absl::StatusOr<double> NumberIfAny(const char* key) const {
    if (!value_.is_object() || !value_.contains(key)) return 0.0;
    const json& value = value_[key];
    if (value.is_number()) return value.get<double>();
    if (value.is_boolean()) return value.get<bool>() ? 1.0 : 0.0;
    return Wrong(key, "a number", Found(value));
  }

  absl::Status ReadBox(v1::AnnotatedObject* object) const {
    constexpr char kBox[] = "bbox";
    constexpr char kMust[] = "four numbers, [x, y, width, height]";
    ASSIGN_OR_RETURN(const json* box, Field(kBox, kMust));
    bool is_box = box->is_array() && box->size() == 4;
    if (is_box) {
      for (const json& number : *box) is_box &= number.is_number();
    }
    if (!is_box) return Wrong(kBox, kMust, Found(*box));
    object->set_x((*box)[0].get<double>());
    object->set_y((*box)[1].get<double>());
    object->set_width((*box)[2].get<double>());
    object->set_height((*box)[3].get<double>());
    return absl::OkStatus();
  }

  // "annotations[3].bbox must be ..., is ...".
  absl::Status Wrong(const char* key, const char* must,
                     const std::string& is) const {
    return absl::InvalidArgumentError(absl::StrCat(
        list_, "[", index_, "].", key, " must be ", must, ", is ", is));
  }

 private:
  absl::StatusOr<const json*> Field(const char* key, const char* must) const {
    if (!value_.is_object() || !value_.contains(key)) {
      return Wrong(key, must, "missing");
    }
    return &value_[key];
  }

  const char* list_;
  size_t index_;
  const json& value_;
};

// Calls take(entry), which returns a status, for each of the list `key`; there
// may be none.
template <class Take>
absl::Status ForEach(const json& file, const char* key, Take take) {
  const auto list = file.find(key);
  if (list == file.end()) return absl::OkStatus();
  if (!list->is_array()) {
    return absl::InvalidArgumentError(
        absl::StrCat(key, " must be a list, is ", Found(*list)));
  }
  for (size_t i = 0; i < list->size(); ++i) {
    RETURN_IF_ERROR(take(Entry(key, i, (*list)[i])));
  }
  return absl::OkStatus();
}

absl::StatusOr<CocoAnnotations> Read(const json& file) {
  std::map<int64_t, CocoImage> images;
  RETURN_IF_ERROR(
      ForEach(file, "images", [&](const Entry& image) -> absl::Status {
        ASSIGN_OR_RETURN(const int64_t id, image.Id("id"));
        ASSIGN_OR_RETURN(images[id].file_name, image.Text("file_name"));
        return absl::OkStatus();
      }));
  std::map<int64_t, std::string> labels;
  RETURN_IF_ERROR(
      ForEach(file, "categories", [&](const Entry& category) -> absl::Status {
        ASSIGN_OR_RETURN(const int64_t id, category.Id("id"));
        ASSIGN_OR_RETURN(labels[id], category.Text("name"));
        return absl::OkStatus();
      }));
  CocoAnnotations result;
  RETURN_IF_ERROR(ForEach(
      file, "annotations", [&](const Entry& annotation) -> absl::Status {
        ASSIGN_OR_RETURN(const int64_t image_id, annotation.Id("image_id"));
        const auto image = images.find(image_id);
        if (image == images.end()) {
          if (result.num_unlisted == 0) result.first_unlisted = image_id;
          ++result.num_unlisted;
          return absl::OkStatus();
        }
        ASSIGN_OR_RETURN(const int64_t category, annotation.Id("category_id"));
        const auto label = labels.find(category);
        if (label == labels.end()) {
          return annotation.Wrong("category_id", "the id of a category",
                                  absl::StrCat(category,
                                               ", a category that is not "
                                               "listed"));
        }
        v1::AnnotatedObject object;
        object.set_label(label->second);
        RETURN_IF_ERROR(annotation.ReadBox(&object));
        ASSIGN_OR_RETURN(const double area, annotation.NumberIfAny("area"));
        object.set_area(area);
        ASSIGN_OR_RETURN(const double crowd, annotation.NumberIfAny("iscrowd"));
        object.set_crowd(crowd != 0);
        image->second.objects.push_back(std::move(object));
        return absl::OkStatus();
      }));
  result.images.reserve(images.size());
  for (auto& [id, image] : images) result.images.push_back(std::move(image));
  return result;
}

}  // namespace

absl::StatusOr<CocoAnnotations> ParseCocoAnnotations(
    const std::string& name, const std::string& json_text) {
  const auto wrong = [&](absl::string_view why) {
    return absl::InvalidArgumentError(absl::StrCat(
        name,
        ": must be a JSON file with the images, annotations and categories of "
        "COCO's instances: ",
        why));
  };
  const json file = json::parse(json_text, nullptr, /*allow_exceptions=*/false);
  if (!file.is_object()) return wrong("it is no JSON object");
  absl::StatusOr<CocoAnnotations> read = Read(file);
  if (!read.ok()) return wrong(read.status().message());
  if (read->images.empty()) return wrong("it has no images");
  return read;
}

}  // namespace ounce::client
