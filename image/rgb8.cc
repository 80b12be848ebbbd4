#include "image/rgb8.h"

#include <utility>

#include "base/status_macros.h"

namespace ounce::image {

Rgb8::Rgb8(Rgb8&& other) noexcept
    : memory_(std::move(other.memory_)),
      height_(std::exchange(other.height_, 0)),
      width_(std::exchange(other.width_, 0)) {}

Rgb8& Rgb8::operator=(Rgb8&& other) noexcept {
  std::swap(memory_, other.memory_);
  std::swap(height_, other.height_);
  std::swap(width_, other.width_);
  return *this;
}

absl::StatusOr<Rgb8> Rgb8::Create(int64_t height, int64_t width) {
  constexpr int64_t kMaxSide = int64_t{1} << 24;
  constexpr int64_t kMaxPixels = (int64_t{1} << 40) / 3;
  if (height < 1 || height > kMaxSide || width < 1 || width > kMaxSide ||
      height * width > kMaxPixels) {
    return absl::InvalidArgumentError(
        absl::StrCat("a picture of ", width, "x", height, " pixels"));
  }
  Rgb8 picture;
  ASSIGN_OR_RETURN(picture.memory_,
                   MappedMemory::Create(height * width * 3 + kPadding));
  picture.height_ = height;
  picture.width_ = width;
  return picture;
}

}  // namespace ounce::image
