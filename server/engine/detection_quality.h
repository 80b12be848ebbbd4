// How far a quantized detector's detections are from those of its floats.
#ifndef OUNCE_SERVER_ENGINE_DETECTION_QUALITY_H_
#define OUNCE_SERVER_ENGINE_DETECTION_QUALITY_H_

#include <vector>

#include "absl/types/span.h"
#include "server/scheduler/detect_request.h"
#include "server/scheduler/detection_evaluator.h"

namespace ounce::server {

using Detections = std::vector<DetectedObject>;  // of one picture

// Detections with a higher score are compared.
inline constexpr float kQualityThreshold = 0.5f;

// Those that are compared, of some found with any score.
Detections AboveQualityThreshold(const Detections& found);

// Pairs within each picture: of the same label, with an intersection over union
// of at least a half, best overlap first (equal ones in the order of the
// lists), each detection in one pair at most.
//
// Requires as many pictures in one list as in the other.
DetectionQuality CompareDetections(absl::Span<const Detections> floats,
                                   absl::Span<const Detections> quantized);

}  // namespace ounce::server

#endif  // OUNCE_SERVER_ENGINE_DETECTION_QUALITY_H_
