// How much memory a lossless WebP makes its decoder take, which its size in
// pixels does not tell.
#ifndef OUNCE_IMAGE_WEBP_LOSSLESS_H_
#define OUNCE_IMAGE_WEBP_LOSSLESS_H_

#include <cstdint>
#include <optional>
#include <string_view>

namespace ounce::image {

// Upper bound of the Huffman tables' bytes in libwebp, for a VP8L stream. Each
// tile of 4x4 pixels or more may name a set of five tables of its own, at most
// 65,536 of some 13 kB; how many it is stands behind the transforms, so those
// are read, too, without being kept. Nothing when the stream cannot be read,
// which libwebp finds out as well, or when that would take long: a header of a
// few bytes can announce images of millions of pixels.
std::optional<int64_t> LosslessTableBytes(std::string_view stream);

// The same for the worst stream of that size.
int64_t MaxLosslessTableBytes(int64_t width, int64_t height);

}  // namespace ounce::image

#endif  // OUNCE_IMAGE_WEBP_LOSSLESS_H_
