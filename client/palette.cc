#include "client/palette.h"

#include <algorithm>
#include <cmath>
#include <iterator>

namespace ounce::client {
namespace {

constexpr Color FromHex(uint32_t rgb) {
  return {((rgb >> 16) & 255) / 255.0, ((rgb >> 8) & 255) / 255.0,
          (rgb & 255) / 255.0};
}

// Bright enough for dark pictures, deep enough for light ones; neighbours in
// the list are far apart in hue.
constexpr Color kColors[] = {
    FromHex(0x3B82F6),  // blue
    FromHex(0xEF4444),  // red
    FromHex(0x22C55E),  // green
    FromHex(0xF59E0B),  // amber
    FromHex(0xA855F7),  // purple
    FromHex(0x06B6D4),  // cyan
    FromHex(0xEC4899),  // pink
    FromHex(0x84CC16),  // lime
    FromHex(0xEA580C),  // orange
    FromHex(0x0D9488),  // teal
    FromHex(0xFDE047),  // yellow
    FromHex(0xA16207),  // brown
};
constexpr int64_t kNumColors = std::size(kColors);

Color Mix(const Color& a, const Color& b, double part_of_b) {
  const auto mix = [&](double from, double to) {
    return from + part_of_b * (to - from);
  };
  return {mix(a.red, b.red), mix(a.green, b.green), mix(a.blue, b.blue)};
}

double Luminance(const Color& color) {
  const auto linear = [](double part) {
    return part <= 0.04045 ? part / 12.92
                           : std::pow((part + 0.055) / 1.055, 2.4);
  };
  return 0.2126 * linear(color.red) + 0.7152 * linear(color.green) +
         0.0722 * linear(color.blue);
}

}  // namespace

Color LabelColor(int32_t label_id) {
  const int64_t id = std::abs(int64_t{label_id});
  const Color& color = kColors[id % kNumColors];
  switch (id / kNumColors % 3) {
    case 0:
      return color;
    case 1:
      return Mix(color, {1, 1, 1}, 0.45);
    default:
      return Mix(color, {0, 0, 0}, 0.3);
  }
}

double ContrastRatio(const Color& a, const Color& b) {
  const double la = Luminance(a), lb = Luminance(b);
  return (std::max(la, lb) + 0.05) / (std::min(la, lb) + 0.05);
}

Color TextColor(const Color& background) {
  constexpr Color kWhite = {1, 1, 1};
  constexpr Color kInk = {0.07, 0.07, 0.09};
  // Bold white reads well on colour from 3 : 1 on, and looks better there.
  return ContrastRatio(kWhite, background) >= 3 ? kWhite : kInk;
}

}  // namespace ounce::client
