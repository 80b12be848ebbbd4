// The one field of EXIF that matters to pixels.
#ifndef OUNCE_IMAGE_EXIF_H_
#define OUNCE_IMAGE_EXIF_H_

#include <string>
#include <string_view>

namespace ounce::image {

// The orientation, 1 to 8, of an EXIF block: TIFF in either byte order, with or
// without "Exif\0\0" before it. 1, upright, when it says nothing that can be
// used: as in Pillow, broken EXIF does not make a picture unusable.
int ExifOrientation(std::string_view exif);

// EXIF as ImageMagick puts it into texts of a PNG ("Raw profile type exif"):
// after three ends of line, hexadecimal digits with white space between. What
// follows anything else is left out, so a text that was cut gives its
// beginning.
std::string ExifOfRawProfile(std::string_view text);

}  // namespace ounce::image

#endif  // OUNCE_IMAGE_EXIF_H_
