#include "client/draw.h"

#include <cairo/cairo.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <numbers>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "base/status_macros.h"
#include "client/label_layout.h"
#include "client/palette.h"
#include "image/resize.h"

namespace ounce::client {
namespace {

struct CairoDeleter {
  void operator()(cairo_surface_t* surface) const {
    cairo_surface_destroy(surface);
  }
  void operator()(cairo_t* cairo) const { cairo_destroy(cairo); }
  void operator()(cairo_font_options_t* options) const {
    cairo_font_options_destroy(options);
  }
};
using Surface = std::unique_ptr<cairo_surface_t, CairoDeleter>;
using Cairo = std::unique_ptr<cairo_t, CairoDeleter>;
using FontOptions = std::unique_ptr<cairo_font_options_t, CairoDeleter>;

absl::Status ToStatus(cairo_status_t status) {
  if (status == CAIRO_STATUS_SUCCESS) return absl::OkStatus();
  const std::string message =
      absl::StrCat("drawing: ", cairo_status_to_string(status));
  return status == CAIRO_STATUS_NO_MEMORY
             ? absl::ResourceExhaustedError(message)
             : absl::InvalidArgumentError(message);
}

// All lengths of a drawing, in pixels, from the size of its picture.
struct Style {
  Style(double width, double height) {
    const double size = std::sqrt(width * height);
    line = std::clamp(size / 230, 1.5, 14.0);
    halo = std::clamp(line * 0.4, 0.8, 4.0);
    font = std::clamp(size / 38, 10.0, 72.0);
    padding_x = 0.42 * font;
    padding_y = 0.24 * font;
  }

  double line;  // width of a frame's colour
  double halo;  // of the dark seam on either side of it
  double font;
  double padding_x, padding_y;  // between a label's text and its border
};

struct Drawn {
  Rectangle frame;  // the middle of its line
  std::string text;
  Color color;
  double font = 0;      // less than the style's where the picture is narrow
  double baseline = 0;  // from the label's top
  Rectangle label;
};

Surface ToSurface(const image::Rgb8& picture) {
  const int64_t width = picture.width(), height = picture.height();
  Surface surface(cairo_image_surface_create(
      CAIRO_FORMAT_RGB24, static_cast<int>(width), static_cast<int>(height)));
  if (cairo_surface_status(surface.get()) != CAIRO_STATUS_SUCCESS) {
    return surface;
  }
  cairo_surface_flush(surface.get());
  unsigned char* const data = cairo_image_surface_get_data(surface.get());
  const int64_t stride = cairo_image_surface_get_stride(surface.get());
  for (int64_t y = 0; y < height; ++y) {
    const uint8_t* from = picture.row(y);
    auto* to = reinterpret_cast<uint32_t*>(data + y * stride);
    for (int64_t x = 0; x < width; ++x, from += 3) {
      to[x] = uint32_t{from[0]} << 16 | uint32_t{from[1]} << 8 | from[2];
    }
  }
  cairo_surface_mark_dirty(surface.get());
  return surface;
}

void AddRoundedRectangle(cairo_t* cairo, const Rectangle& r, double radius) {
  constexpr double kPi = std::numbers::pi;
  radius = std::min({radius, r.width() / 2, r.height() / 2});
  cairo_new_sub_path(cairo);
  cairo_arc(cairo, r.right - radius, r.top + radius, radius, -kPi / 2, 0);
  cairo_arc(cairo, r.right - radius, r.bottom - radius, radius, 0, kPi / 2);
  cairo_arc(cairo, r.left + radius, r.bottom - radius, radius, kPi / 2, kPi);
  cairo_arc(cairo, r.left + radius, r.top + radius, radius, kPi, 1.5 * kPi);
  cairo_close_path(cairo);
}

void SetColor(cairo_t* cairo, const Color& color) {
  cairo_set_source_rgb(cairo, color.red, color.green, color.blue);
}

void SetSeam(cairo_t* cairo) {
  cairo_set_source_rgba(cairo, 0.04, 0.05, 0.08, 0.55);
}

// The box, moved in at the picture's border so that its whole line can be seen,
// and never so small that there is none.
Rectangle FrameOf(const v1::BoundingBox& box, double zoom, double width,
                  double height, const Style& style) {
  const double inset = style.line / 2 + style.halo;
  const auto side = [&](double from, double to, double length, double* low,
                        double* high) {
    const double most = std::max(length / 2, length - inset);
    const double least = length - most;
    *low = std::clamp(from * zoom, least, most);
    *high = std::clamp(to * zoom, *low, most);
    const double wanted = std::min(2 * style.line, most - least);
    if (*high - *low < wanted) {
      const double middle =
          std::clamp((*low + *high) / 2, least + wanted / 2, most - wanted / 2);
      *low = middle - wanted / 2;
      *high = middle + wanted / 2;
    }
  };
  Rectangle frame;
  side(box.x_min(), box.x_max(), width, &frame.left, &frame.right);
  side(box.y_min(), box.y_max(), height, &frame.top, &frame.bottom);
  return frame;
}

bool IsDrawable(const v1::Detection& detection) {
  const v1::BoundingBox& box = detection.box();
  return std::isfinite(box.x_min()) && std::isfinite(box.y_min()) &&
         std::isfinite(box.x_max()) && std::isfinite(box.y_max()) &&
         std::isfinite(detection.score());
}

// Measures the text, smaller where the picture is too narrow for it.
void MeasureLabel(cairo_t* cairo, const Style& style, double picture_width,
                  Drawn* drawn, Label* label) {
  cairo_text_extents_t text;
  cairo_font_extents_t line;
  const auto measure = [&](double font) {
    cairo_set_font_size(cairo, font);
    cairo_text_extents(cairo, drawn->text.c_str(), &text);
    cairo_font_extents(cairo, &line);
    drawn->font = font;
  };
  measure(style.font);
  const double room = picture_width - 2 * style.padding_x;
  if (text.x_advance > room && room > 0) {
    measure(std::max(6.0, style.font * room / text.x_advance));
  }
  label->width = text.x_advance + 2 * style.padding_x;
  // Capital letters in the middle; what hangs below them has the padding.
  const double capitals = 0.73 * drawn->font;
  label->height = capitals + 2 * (style.padding_y + 0.08 * drawn->font);
  drawn->baseline = (label->height + capitals) / 2;
}

void DrawFrame(cairo_t* cairo, const Style& style, const Drawn& drawn) {
  const double shorter = std::min(drawn.frame.width(), drawn.frame.height());
  AddRoundedRectangle(cairo, drawn.frame,
                      std::min(2.2 * style.line, shorter / 3));
  cairo_set_line_width(cairo, style.line + 2 * style.halo);
  SetSeam(cairo);
  cairo_stroke_preserve(cairo);
  cairo_set_line_width(cairo, style.line);
  SetColor(cairo, drawn.color);
  cairo_stroke(cairo);
}

void DrawLabel(cairo_t* cairo, const Style& style, const Drawn& drawn) {
  // The seam takes the outermost part of the place.
  const Rectangle& place = drawn.label;
  const double radius = 0.32 * style.font;
  AddRoundedRectangle(cairo, place, radius);
  SetSeam(cairo);
  cairo_fill(cairo);
  const Rectangle inner = {place.left + style.halo, place.top + style.halo,
                           place.right - style.halo, place.bottom - style.halo};
  AddRoundedRectangle(cairo, inner, std::max(0.0, radius - style.halo));
  SetColor(cairo, drawn.color);
  cairo_fill_preserve(cairo);
  cairo_save(cairo);
  cairo_clip(cairo);
  SetColor(cairo, TextColor(drawn.color));
  cairo_set_font_size(cairo, drawn.font);
  cairo_move_to(cairo, place.left + style.padding_x,
                place.top + drawn.baseline);
  cairo_show_text(cairo, drawn.text.c_str());
  cairo_restore(cairo);
}

void SetFont(cairo_t* cairo) {
  cairo_select_font_face(cairo, "DejaVu Sans", CAIRO_FONT_SLANT_NORMAL,
                         CAIRO_FONT_WEIGHT_BOLD);
  // Fractions of pixels count, so that text scales evenly.
  const FontOptions options(cairo_font_options_create());
  cairo_font_options_set_antialias(options.get(), CAIRO_ANTIALIAS_GRAY);
  cairo_font_options_set_hint_style(options.get(), CAIRO_HINT_STYLE_NONE);
  cairo_font_options_set_hint_metrics(options.get(), CAIRO_HINT_METRICS_OFF);
  cairo_set_font_options(cairo, options.get());
}

cairo_status_t Append(void* png, const unsigned char* bytes,
                      unsigned int num_bytes) {
  static_cast<std::string*>(png)->append(reinterpret_cast<const char*>(bytes),
                                         num_bytes);
  return CAIRO_STATUS_SUCCESS;
}

}  // namespace

int64_t DrawnZoom(int64_t width, int64_t height) {
  constexpr int64_t kReadable = 640;
  return std::clamp<int64_t>(kReadable / std::max<int64_t>({1, width, height}),
                             1, 8);
}

std::string ScoreText(float score) {
  const double percent = 100.0 * std::clamp(score, 0.0f, 1.0f);
  if (percent < 99.5 || percent == 100) {
    return absl::StrFormat("%.0f%%", percent);
  }
  return absl::StrFormat("%.1f%%", std::floor(10 * percent) / 10);
}

absl::StatusOr<std::string> DrawDetections(
    const image::Rgb8& picture, const v1::DetectObjectsResponse& detected) {
  const int64_t zoom = DrawnZoom(picture.width(), picture.height());
  Surface surface;
  if (zoom == 1) {
    surface = ToSurface(picture);
  } else {
    ASSIGN_OR_RETURN(const image::Rgb8 enlarged,
                     image::Resize(picture, picture.height() * zoom,
                                   picture.width() * zoom));
    surface = ToSurface(enlarged);
  }
  RETURN_IF_ERROR(ToStatus(cairo_surface_status(surface.get())));
  const Cairo owned(cairo_create(surface.get()));
  cairo_t* const cairo = owned.get();
  SetFont(cairo);

  const auto width = static_cast<double>(picture.width() * zoom);
  const auto height = static_cast<double>(picture.height() * zoom);
  const Style style(width, height);
  std::vector<Drawn> all;  // best first, as they come
  std::vector<Label> labels;
  for (const v1::Detection& detection : detected.detections()) {
    if (!IsDrawable(detection)) continue;
    Drawn drawn;
    drawn.frame = FrameOf(detection.box(), static_cast<double>(zoom), width,
                          height, style);
    drawn.color = LabelColor(detection.label_id());
    drawn.text =
        absl::StrCat(detection.label(), " ", ScoreText(detection.score()));
    const double reach = style.line / 2 + style.halo;
    Label label;
    label.frame = {drawn.frame.left - reach, drawn.frame.top - reach,
                   drawn.frame.right + reach, drawn.frame.bottom + reach};
    MeasureLabel(cairo, style, width, &drawn, &label);
    all.push_back(std::move(drawn));
    labels.push_back(label);
  }
  const std::vector<Rectangle> places = PlaceLabels(labels, width, height);
  for (size_t i = 0; i < all.size(); ++i) all[i].label = places[i];

  // Labels lie above all frames: a line through a text hides more than a text
  // on a line.
  for (auto drawn = all.rbegin(); drawn != all.rend(); ++drawn) {
    DrawFrame(cairo, style, *drawn);
  }
  for (auto drawn = all.rbegin(); drawn != all.rend(); ++drawn) {
    DrawLabel(cairo, style, *drawn);
  }
  RETURN_IF_ERROR(ToStatus(cairo_status(cairo)));
  std::string png;
  RETURN_IF_ERROR(
      ToStatus(cairo_surface_write_to_png_stream(surface.get(), Append, &png)));
  return png;
}

}  // namespace ounce::client
