// What people have marked in pictures, in the form of COCO's files of
// instances.
#ifndef OUNCE_CLIENT_COCO_ANNOTATIONS_H_
#define OUNCE_CLIENT_COCO_ANNOTATIONS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "ounce/v1/model_admin.pb.h"

namespace ounce::client {

struct CocoImage {
  std::string file_name;
  std::vector<v1::AnnotatedObject> objects;  // without the picture's index
};

struct CocoAnnotations {
  std::vector<CocoImage> images;  // by their ids
  // Annotations of images that the file does not list: they count nowhere, as
  // with pycocotools, since files are made smaller by their images alone. The
  // image of the first of them.
  int64_t num_unlisted = 0;
  int64_t first_unlisted = 0;
};

// Of the JSON text `json`. `name` is its file's, for messages.
// Errors: kInvalidArgument with the name, and which part of it is not what it
//   must be.
absl::StatusOr<CocoAnnotations> ParseCocoAnnotations(const std::string& name,
                                                     const std::string& json);

}  // namespace ounce::client

#endif  // OUNCE_CLIENT_COCO_ANNOTATIONS_H_
