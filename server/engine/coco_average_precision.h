// COCO's average precision of boxes, as pycocotools' COCOeval computes it.
//
// Each detection of a picture and category, best score first (of the first
// 100), takes the object that it overlaps most (intersection over union) of
// those that are free, if that is at least a threshold. Crowds may be taken by
// any number, with the share of the detection that lies in them for an overlap;
// whatever takes one, or an object of another size than is asked for, counts
// neither as right nor as wrong; nor does what takes nothing and is of another
// size itself. Precision is made to fall, read at 101 recalls from 0 to 1 and
// averaged, over thresholds and over categories that have objects.
//
// Source: pycocotools 2.0.11, cocoeval.py (evaluateImg, accumulate, summarize).
#ifndef OUNCE_SERVER_ENGINE_COCO_AVERAGE_PRECISION_H_
#define OUNCE_SERVER_ENGINE_COCO_AVERAGE_PRECISION_H_

#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "server/scheduler/detection_evaluator.h"

namespace ounce::server {

struct CocoBox {
  double x = 0, y = 0, width = 0, height = 0;
};

struct CocoObject {
  int64_t category = 0;
  CocoBox box;
  double area =
      0;  // of what is in the box, in pixels: what its size is taken by
  bool crowd = false;
};

struct CocoDetection {
  int64_t category = 0;
  CocoBox box;
  double score = 0;
};

struct CocoPicture {
  std::vector<CocoObject> objects;
  std::vector<CocoDetection> detections;  // in any order
};

// Sizes are by an object's area in pixels: small below 32^2, large above 96^2,
// medium between; a bound belongs to both. -1 where there is no object of the
// size.
//
// Threads: any.
// Requires finite numbers.
CocoAveragePrecision ComputeCocoAveragePrecision(
    absl::Span<const CocoPicture> pictures);

}  // namespace ounce::server

#endif  // OUNCE_SERVER_ENGINE_COCO_AVERAGE_PRECISION_H_
