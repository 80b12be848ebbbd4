// What a checkpoint holds, as text for people.
#ifndef OUNCE_CLIENT_INSPECTION_H_
#define OUNCE_CLIENT_INSPECTION_H_

#include <string>

#include "ounce/v1/model_admin.pb.h"

namespace ounce::client {

// The folder and its sizes, bytes by dtype and method, and each tensor; where
// it has other codes than its method says, a mark, and below which and why.
std::string InspectionText(const v1::InspectResponse& response);

// How a tensor's values, and a method's errors, are distributed: a line for
// each part of their range, with a bar.
std::string ValuesText(const v1::TensorValues& values);

}  // namespace ounce::client

#endif  // OUNCE_CLIENT_INSPECTION_H_
