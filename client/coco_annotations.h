// What people have marked in pictures, in the form of COCO's files of
// instances.
#ifndef OUNCE_CLIENT_COCO_ANNOTATIONS_H_
#define OUNCE_CLIENT_COCO_ANNOTATIONS_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "ounce/v1/model_admin.pb.h"

namespace ounce::client {

struct CocoImage {
  std::string file_name;
  std::vector<v1::AnnotatedObject> objects;  // without the picture's index
};

// The images of the JSON text `json`, by their ids, and what they show. `name`
// is its file's, for messages.
// Errors: kInvalidArgument with the name, and where it is not what it must be.
absl::StatusOr<std::vector<CocoImage>> ParseCocoAnnotations(
    const std::string& name, const std::string& json);

}  // namespace ounce::client

#endif  // OUNCE_CLIENT_COCO_ANNOTATIONS_H_
