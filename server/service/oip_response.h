// What the front end tells, as messages of the Open Inference Protocol.
#ifndef OUNCE_SERVER_SERVICE_OIP_RESPONSE_H_
#define OUNCE_SERVER_SERVICE_OIP_RESPONSE_H_

#include <string>

#include "inference/grpc_predict_v2.pb.h"
#include "server/frontend/generation.h"
#include "server/scheduler/detect_request.h"
#include "server/service/oip_request.h"

namespace ounce::server {

// A part of a text, or, with `outcome`, the last.
inference::ModelInferResponse OipText(const OipAnswer& answer, std::string text,
                                      const GenerateOutcome* outcome);
inference::ModelInferResponse OipObjects(const OipAnswer& answer,
                                         const DetectResult& result);

}  // namespace ounce::server

#endif  // OUNCE_SERVER_SERVICE_OIP_RESPONSE_H_
