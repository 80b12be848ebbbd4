// Pictures with what was detected in them: a rounded frame and a label ("cat
// 98%") per object, in a colour per label.
//
// Lines and letters grow with the picture. One that is too small for letters
// is enlarged by a whole factor first (DrawnZoom). The best detections are
// drawn last, on top of the others.
//
// Threads: any thread may call anything.
#ifndef OUNCE_CLIENT_DRAW_H_
#define OUNCE_CLIENT_DRAW_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "image/rgb8.h"
#include "ounce/v1/inference.pb.h"

namespace ounce::client {

// How many pixels, either way, a pixel of a picture becomes: 1 where the longer
// side has more than 320, at most 8.
int64_t DrawnZoom(int64_t width, int64_t height);

// "98%", and never rounded up to all: 0.9977 is "99.7%".
std::string ScoreText(float score);

// The bytes of a PNG file. `picture` is the upright one that the boxes are
// about; boxes that leave it are clipped, those with coordinates or scores that
// are no numbers left out. Letters are DejaVu Sans, or whatever font there is.
// Errors: kInvalidArgument for a picture that Cairo can't hold;
//   kResourceExhausted when memory is short.
absl::StatusOr<std::string> DrawDetections(
    const image::Rgb8& picture, const v1::DetectObjectsResponse& detected);

}  // namespace ounce::client

#endif  // OUNCE_CLIENT_DRAW_H_
