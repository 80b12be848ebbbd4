// A decoded picture: rows from the top, pixels from the left, three bytes each:
// red, green, blue.
#ifndef OUNCE_IMAGE_RGB8_H_
#define OUNCE_IMAGE_RGB8_H_

#include <cstdint>

#include "absl/status/statusor.h"
#include "base/mapped_memory.h"

namespace ounce::image {

// Shapes: data() is [height, width, 3], dense, row-major; kPadding more bytes
//   may be read behind it, so that vector loads need no tail.
// Ownership: owns its pixels; movable, and a moved-from picture is 0x0.
class Rgb8 {
 public:
  static constexpr int64_t kPadding = 64;

  Rgb8() = default;
  Rgb8(Rgb8&& other) noexcept;
  Rgb8& operator=(Rgb8&& other) noexcept;

  // Black. Errors: kInvalidArgument when a side is not in [1, 2^24] or the
  // picture would have 2^40 bytes or more; kResourceExhausted when the system
  // has no memory.
  static absl::StatusOr<Rgb8> Create(int64_t height, int64_t width);

  int64_t height() const { return height_; }
  int64_t width() const { return width_; }
  int64_t num_bytes() const { return height_ * width_ * 3; }

  const uint8_t* data() const {
    return reinterpret_cast<const uint8_t*>(memory_.data());
  }
  uint8_t* data() { return reinterpret_cast<uint8_t*>(memory_.data()); }
  const uint8_t* row(int64_t y) const { return data() + y * width_ * 3; }
  uint8_t* row(int64_t y) { return data() + y * width_ * 3; }

 private:
  MappedMemory memory_;
  int64_t height_ = 0;
  int64_t width_ = 0;
};

}  // namespace ounce::image

#endif  // OUNCE_IMAGE_RGB8_H_
