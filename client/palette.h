// The colours that detections are drawn in.
#ifndef OUNCE_CLIENT_PALETTE_H_
#define OUNCE_CLIENT_PALETTE_H_

#include <cstdint>

namespace ounce::client {

// Each part 0 to 1, as sRGB encodes it.
struct Color {
  double red = 0;
  double green = 0;
  double blue = 0;
};

// The same colour for the same label, in every picture; 36 different ones, of
// which the first 12 lie furthest apart. Any id, also a negative one.
Color LabelColor(int32_t label_id);

// Near black or white: whichever reads well on `background`.
Color TextColor(const Color& background);

// (L1 + 0.05) / (L2 + 0.05) of the relative luminances, the larger first: 1 for
// equal ones, 21 for black and white. Source: WCAG 2.1.
double ContrastRatio(const Color& a, const Color& b);

}  // namespace ounce::client

#endif  // OUNCE_CLIENT_PALETTE_H_
