// Where the labels of detections go in a picture.
//
// Units: pixels of the picture, (0, 0) its upper left corner.
#ifndef OUNCE_CLIENT_LABEL_LAYOUT_H_
#define OUNCE_CLIENT_LABEL_LAYOUT_H_

#include <vector>

namespace ounce::client {

struct Rectangle {
  double left = 0;
  double top = 0;
  double right = 0;
  double bottom = 0;

  double width() const { return right - left; }
  double height() const { return bottom - top; }
};

// Of what both cover; 0 when they only touch.
double OverlapArea(const Rectangle& a, const Rectangle& b);

struct Label {
  Rectangle frame;  // of the object it belongs to, in the picture
  double width = 0;
  double height = 0;
};

// A place for each of `labels`, inside the picture: above its frame, else
// inside, below, or nearby, where it covers no label before it and little of
// other frames. The first ones choose first. Where the picture is too full,
// labels overlap as little as they can. One that is larger than the picture is
// cut to it.
std::vector<Rectangle> PlaceLabels(const std::vector<Label>& labels,
                                   double picture_width, double picture_height);

}  // namespace ounce::client

#endif  // OUNCE_CLIENT_LABEL_LAYOUT_H_
